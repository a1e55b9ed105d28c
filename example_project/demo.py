"""The whole demo with one command: python3 example_project/demo.py

Only the standard library, and only what Python 3.6 can read as far as the search for a newer one.
"""

import glob
import hashlib
import os
import shutil
import subprocess
import sys

EXAMPLE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(EXAMPLE)
VENV = os.path.join(ROOT, ".venv-demo")
VENV_PYTHON = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin", "python")
STAMP = os.path.join(VENV, "demo-stamp")
REQUIREMENTS = os.path.join(EXAMPLE, "requirements.txt")

SUITABLE = "import ensurepip, sqlite3, sys, venv; sys.exit(sys.version_info < (3, 11))"
NO_PYTHON = (
    "The demo needs Python 3.11 or newer with its venv module, and none was found.\n"
    "On Debian or Ubuntu: apt install python3 python3-venv."
)


def is_suitable(python):
    try:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.call([python, "-c", SUITABLE], **quiet) == 0
    except OSError:
        return False


def newer_pythons():
    names = ["python3.{}".format(minor) for minor in range(19, 10, -1)]  # noqa: UP032
    yield from filter(None, map(shutil.which, names))
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for name in names:
        yield from glob.glob(os.path.join(pyenv, "versions", "*", "bin", name))


def go_on_with_a_suitable_python():
    if is_suitable(sys.executable):
        return
    for python in newer_pythons():
        if is_suitable(python):
            replace_process(python, __file__)
    sys.exit(NO_PYTHON)


def replace_process(python, script):
    sys.stdout.flush()
    os.execv(python, [python, script])


def wanted_stamp():
    # Of the folder too: a virtual environment does not survive a move.
    digest = hashlib.sha256(ROOT.encode())
    for name in (os.path.join(ROOT, "pyproject.toml"), REQUIREMENTS):
        with open(name, "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_up_to_date():
    try:
        with open(STAMP) as file:
            return file.read() == wanted_stamp() and is_suitable(VENV_PYTHON)
    except OSError:
        return False


def make_venv():
    version = "{}.{}".format(*sys.version_info[:2])
    print(f"Making {VENV} with Python {version}. This happens once.", flush=True)
    pip = [VENV_PYTHON, "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    try:
        subprocess.check_call([sys.executable, "-m", "venv", "--clear", VENV])
        subprocess.check_call([*pip, "--editable", ROOT, "--requirement", REQUIREMENTS])
    except subprocess.CalledProcessError:
        sys.exit("The demo could not be installed: see the message above. Is there a network?")
    with open(os.path.join(VENV, ".gitignore"), "w") as file:
        file.write("*\n")
    with open(STAMP, "w") as file:
        file.write(wanted_stamp())


def main():
    go_on_with_a_suitable_python()
    import serve

    serve.free_ports()
    if not is_up_to_date():
        make_venv()
    replace_process(VENV_PYTHON, os.path.join(EXAMPLE, "serve.py"))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)

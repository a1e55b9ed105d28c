"""Migrate, seed and serve the demo's two sites, with the Python that runs this file.

What the sites keep (databases, keys, secrets) lies in var/ and is found again by the next run.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parent
SITES = ("lms", "tool")
DEFAULT_PORTS = {"DEMO_LMS_PORT": 8001, "DEMO_TOOL_PORT": 8000}
START_SECONDS = 60
STOP_SECONDS = 5


def free_ports():
    """Return the ports of the LMS and the tool, or leave with a sentence that says why not."""
    lms, tool = (read_port(name, default) for name, default in DEFAULT_PORTS.items())
    if lms == tool:
        sys.exit("DEMO_LMS_PORT and DEMO_TOOL_PORT must differ.")
    for name, port in zip(DEFAULT_PORTS, (lms, tool), strict=True):
        if is_taken(port):
            sys.exit(
                f"Port {port} is taken by another program. Stop it, or choose another port: "
                f"{name}={port + 100} make demo"
            )
    return lms, tool


def read_port(name, default):
    text = os.environ.get(name) or str(default)
    if text.isascii() and text.isdigit() and 0 < int(text) < 65536:
        return int(text)
    sys.exit(f"{name} must be a port number between 1 and 65535, not {text!r}.")


def is_taken(port):
    # A browser that looks up "localhost" may try ::1 first, so nobody else may answer there.
    if answers("::1", port):
        return True
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def answers(host, port):
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def environment(lms_port, tool_port):
    var = Path(os.environ.get("DEMO_VAR") or EXAMPLE / "var").resolve()
    var.mkdir(parents=True, exist_ok=True)
    keep_secrets(var / "demo.env")
    return os.environ | {
        "DEMO_VAR": str(var),
        "LMS_URL": f"http://127.0.0.1:{lms_port}/",
        "TOOL_URL": f"http://localhost:{tool_port}/lti/",
    }


def keep_secrets(file):
    file.touch(mode=0o600)
    kept = file.read_text()
    names = {line.partition("=")[0] for line in kept.splitlines()}
    made = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "LMS_SECRET_KEY": secrets.token_urlsafe(48),
        "DEMO_CLIENT_ID": secrets.token_hex(8),
        "DEMO_ACCOUNTS_CLIENT_ID": secrets.token_hex(8),
        "DEMO_LTI_KEY": f"harbour-campus-{secrets.token_hex(4)}",
        "DEMO_LTI_SECRET": secrets.token_hex(24),
        "DEMO_ACCOUNTS_LTI_KEY": f"harbour-campus-accounts-{secrets.token_hex(4)}",
        "DEMO_ACCOUNTS_LTI_SECRET": secrets.token_hex(24),
    }
    missing = [f"{name}={value}\n" for name, value in made.items() if name not in names]
    file.write_text(kept + "".join(missing))


def manage(site, *arguments):
    return [sys.executable, str(EXAMPLE / site / "manage.py"), *arguments]


def prepare(site, env):
    for command in (["migrate", "--verbosity=0"], ["seed_demo"]):
        if subprocess.run(manage(site, *command), env=env).returncode:
            sys.exit(f"The demo's {site} could not be set up: see the message above.")


def start(site, port, env):
    command = manage(site, "runserver", "--noreload", "--insecure", f"127.0.0.1:{port}")
    # runserver greets on standard output; what matters goes to standard error.
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)


def start_deliverer(env):
    command = manage("tool", "lti_deliver", "--loop", "--interval", "1")
    return subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)


def wait_until_served(child, port):
    give_up = time.monotonic() + START_SECONDS
    while not answers("127.0.0.1", port):
        if child.poll() is not None or time.monotonic() > give_up:
            sys.exit("A site of the demo did not start: see the message above.")
        time.sleep(0.1)


def wait_for_end(children):
    while all(child.poll() is None for child in children):
        time.sleep(0.3)
    sys.exit("A site of the demo has ended, so the other one is stopped too.")


def stop(children):
    for name in ("SIGINT", "SIGTERM"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    for child in children:
        child.terminate()
    for child in children:
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def greet(lms_port, tool_port):
    password = os.environ.get("DEMO_ADMIN_PASSWORD") or "admin"
    print(
        f"""
  Demo LMS    http://127.0.0.1:{lms_port}/
  The tool    http://localhost:{tool_port}/
  Its admin   http://localhost:{tool_port}/admin/   sign in as admin, password {password}
              launch log and consumers are under "LTI Provider"

Start at the demo LMS. Ctrl-C stops both.
""",
        flush=True,
    )


def interrupt(number, frame):
    raise KeyboardInterrupt


def main():
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), interrupt)
    children = []
    try:
        ports = dict(zip(SITES, free_ports(), strict=True))
        env = environment(ports["lms"], ports["tool"])
        print("Setting up the two sites …", flush=True)
        for site in SITES:
            prepare(site, env)
        for site in SITES:
            children += [start(site, ports[site], env)]
        for site, child in zip(SITES, list(children), strict=True):
            wait_until_served(child, ports[site])
        children += [start_deliverer(env)]
        greet(ports["lms"], ports["tool"])
        wait_for_end(children)
    except KeyboardInterrupt:
        # The terminal may be gone.
        with contextlib.suppress(OSError):
            print("\nStopped.", flush=True)
    finally:
        stop(children)


if __name__ == "__main__":
    main()

"""The example's two sites, served as ``make demo`` serves them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import PATIENCE, free_port

ROOT = Path(__file__).resolve().parent.parent
SERVE = ROOT / "example_project" / "serve.py"
READY = "Start at the demo LMS."


def demo_environment(var: Path) -> dict[str, str]:
    # Nothing of the caller's: its DATABASE_URL or settings module are not the demo's.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    ports = {name: str(free_port()) for name in ("DEMO_LMS_PORT", "DEMO_TOOL_PORT")}
    return kept | ports | {"DEMO_VAR": str(var), "PYTHONPATH": str(ROOT)}


def start(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SERVE)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if READY in line:
            return printed
    pytest.fail(f"The demo did not start:\n{printed}")


@contextmanager
def serving(env: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The addresses of the LMS and of the tool, until the demo is stopped as Ctrl-C would."""
    process = start(env)
    try:
        printed = wait_until_ready(process)
        lms = f"http://127.0.0.1:{env['DEMO_LMS_PORT']}/"
        tool = f"http://localhost:{env['DEMO_TOOL_PORT']}/"
        assert lms in printed
        assert tool in printed
        yield lms, tool
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest
    assert "Stopped." in rest
    assert "Traceback" not in rest

"""Waiting for what other threads and processes do, on a machine that may be busy.

Wait for what stays true, never for a state that passes: a grade is sent while nobody looks.
"""

import random
import socket
import time
from collections.abc import Callable

#: Seconds. Far more than anything takes, so that only what never comes is waited for in vain.
PATIENCE = 120


def wait_until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Ask until it holds; fail if it never does."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "This was waited for in vain."
        time.sleep(0.05)


def free_port() -> int:
    """A port of 127.0.0.1 for a server that cannot choose its own.

    Not one that the system gives to whoever asks for any: it could be gone before it is used.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port

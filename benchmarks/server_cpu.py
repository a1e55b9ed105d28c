"""The CPU of the database server: of the process or thread that answers this connection."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from django.db import DatabaseError, connection

# PostgreSQL has a process for each connection; MariaDB has a thread, which MySQL does not tell.
QUESTIONS = {
    "postgresql": "SELECT pg_backend_pid()",
    "mysql": "SELECT TID FROM information_schema.PROCESSLIST WHERE ID = CONNECTION_ID()",
}
SERVERS = {"postgres", "mariadbd", "mysqld"}


def read_server_cpu() -> int:
    """Nanoseconds until now; always 0 where there is no server or it cannot be read."""
    counter, _said = find_counter()
    return int(counter.read_text().split()[0]) if counter else 0


def find_counter() -> tuple[Path | None, str]:
    """The kernel's counter, and a sentence about it."""
    connection.ensure_connection()
    return _find_counter(connection.vendor, connection.connection)


@cache
def _find_counter(vendor: str, _connected: object) -> tuple[Path | None, str]:
    if vendor not in QUESTIONS:
        return None, "The database works within the site's thread: all CPU is counted."
    try:
        with connection.cursor() as cursor:
            cursor.execute(QUESTIONS[vendor])
            (thread,) = cursor.fetchone()
        counter = Path(f"/proc/{thread}/task/{thread}/schedstat")
        counter.read_text()
        name = Path(f"/proc/{thread}/comm").read_text().strip()
    except (DatabaseError, OSError) as error:
        return None, _say_unread(str(error))
    if name not in SERVERS:
        return None, _say_unread(f"process {thread} of this machine is {name}, not the server")
    return counter, f"The server's CPU is counted: {name}, {counter}."


def _say_unread(reason: str) -> str:
    return f"THE SERVER'S CPU IS NOT COUNTED, only the site's: {reason}."

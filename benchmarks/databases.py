"""Runs a benchmark on an empty database of SQLite, then of PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
POSTGRESQL = "postgres://postgres@127.0.0.1:5432/lti_provider_benchmark"


def on_each(run: Callable[[], None]) -> None:
    """Call ``run`` on the server that DATABASE_URL names, or in a process for each database."""
    sys.path.insert(0, str(ROOT))
    if "DATABASE_URL" in os.environ:
        on_configured(run)
        return
    with tempfile.TemporaryDirectory() as directory:
        for url in (f"sqlite:///{directory}/benchmark.sqlite3", POSTGRESQL):
            # A process has one default database.
            environment = {**os.environ, "DATABASE_URL": url}
            subprocess.run([sys.executable, *sys.argv], env=environment, check=False)


def on_configured(run: Callable[[], None]) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    import django
    from django.db import DatabaseError, connection

    django.setup()
    given = connection.settings_dict["NAME"]
    try:
        connection.creation.create_test_db(verbosity=0, autoclobber=True)
    except (DatabaseError, SystemExit):
        print(f"\n{connection.vendor} did not answer")
        return
    print(f"\n{connection.display_name}, Django {django.__version__}, {sys.version.split()[0]}")
    try:
        run()
    finally:
        connection.creation.destroy_test_db(given, verbosity=0)

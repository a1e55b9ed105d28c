import json
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from lti_provider import __version__

ROOT = Path(__file__).parent.parent
DUMPS = sorted(Path(__file__).with_name("upgrades").glob("*.sql"))


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
def test_a_database_of_this_version_goes_on(dump, tmp_path):
    database = tmp_path / "site.sqlite3"
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(dump.read_text())
    done = subprocess.run(
        [sys.executable, "-m", "tests.upgrades.look"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.upgrades.settings",
            "DATABASE_URL": f"sqlite:///{database}",
        },
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "consumers": ["Campus", "Evening school", "University"],
        "refused": ["invalid_signature"],
        "people": ["kim", "robin", "sam"],
        "waiting": ["0.800000"],
        "first secret": True,
        "second secret": True,
        "delivered": {"robin": "0.8"},
        "connected account": True,
        "by LTI 1.3": True,
    }


def test_every_version_has_its_dump():
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert {__version__, *released} <= {dump.stem for dump in DUMPS}

"""Write the database of a small site that ran this version: tests/upgrades/<version>.sql.

Before a version is tagged, with the oldest Django that it supports:
DATABASE_URL=sqlite:////tmp/small.sqlite3 python -m tests.upgrades.dump
"""

import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import django

FAR = datetime(2100, 1, 1, tzinfo=UTC)

if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.upgrades.settings"
    django.setup()

    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.db import connection
    from django.test import Client

    from lti_provider import __version__
    from lti_provider.testing import FakeLms, FakePlatform
    from tests.connecting import PASSWORD, connect

    call_command("migrate", verbosity=0)
    campus = FakeLms.create(
        "canvas", consumer_name="Campus", consumer_key="campus", consumer_secret="first secret"
    )
    robin = Client()
    page = campus.launch(robin, "/content/", user_id="robin")
    page.wsgi_request.lti.submit_score(8, 10)
    campus.consumer.consumer_secret = "wrong secret"
    campus.post(Client(), "/content/", user_id="robin")
    campus.consumer.refresh_from_db()
    campus.consumer.rotate_secret(FAR, "second secret")

    evening = FakeLms.create(
        "moodle",
        consumer_name="Evening school",
        consumer_key="evening",
        consumer_secret="third secret",
        require_user_account=True,
    )
    address = evening.fields["lis_person_contact_email_primary"]
    get_user_model().objects.create_user("kim", address, PASSWORD)
    connect(evening, "kim", user_id="kim")

    university = FakePlatform.create("moodle", consumer_name="University")
    university.launch(Client(), "/content/", sub="sam")

    connection.close()
    with sqlite3.connect(connection.settings_dict["NAME"]) as database:
        lines = "\n".join(database.iterdump())
    Path(__file__).with_name(f"{__version__}.sql").write_text(f"{lines}\n")

"""A site's Celery application, as the README shows it."""

import json
import os

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

if "LTI_TEST_DATABASE" in os.environ:
    from django.conf import settings
    from django.db import connection

    connection.settings_dict["NAME"] = os.environ["LTI_TEST_DATABASE"]
    for name, value in json.loads(os.environ["LTI_TEST_SETTINGS"]).items():
        setattr(settings, name, value)

app = Celery("site", broker=os.environ.get("LTI_TEST_BROKER", "memory://"))
app.conf.task_default_queue = os.environ.get("LTI_TEST_QUEUE", "celery")
app.conf.broker_connection_retry_on_startup = False
app.autodiscover_tasks(["lti_provider"])

"""The test site with the user model and backend that the environment names, in memory."""

import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

INSTALLED_APPS = [
    *(app for app in INSTALLED_APPS if app != "django.contrib.admin"),
    "tests.custom_users",
]
ROOT_URLCONF = "tests.custom_users.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
AUTH_USER_MODEL = f"custom_users.{os.environ['CUSTOM_USER_MODEL']}"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    os.environ.get("CUSTOM_USER_BACKEND", "lti_provider.backends.LtiBackend"),
]

"""Checks a wheel from a clean environment: its files, then a site that uses it.

check_wheel.py WHEEL LIST: LIST names the package's files, one a line, as they are in git. Building
adds the compiled translations.
"""

import sys
from pathlib import Path
from zipfile import ZipFile

import django
from django.conf import settings
from django.contrib import admin
from django.core.management import call_command
from django.test import Client
from django.urls import include, path
from django.utils import translation

import lti_provider
from lti_provider.exceptions import LaunchRefused

wheel, expected = map(Path, sys.argv[1:])
inside = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
listed = set(expected.read_text().split())
catalogs = {name.removesuffix(".po") for name in listed if name.endswith(".po")}
wanted = listed | {f"{catalog}.mo" for catalog in catalogs}
if inside != wanted:
    sys.exit(f"Missing: {sorted(wanted - inside)}. Too much: {sorted(inside - wanted)}.")
if f"-{lti_provider.__version__}-" not in wheel.name:
    sys.exit(f"{wheel.name} is not version {lti_provider.__version__}.")
if not Path(lti_provider.__file__).is_relative_to(sys.prefix):
    sys.exit(f"{lti_provider.__file__} is not the installed package.")

settings.configure(
    SECRET_KEY="wheel",
    ALLOWED_HOSTS=["testserver"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "wheel.sqlite3"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=[
        "django.contrib.admin",
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.messages",
        "django.contrib.sessions",
        "lti_provider",
    ],
    MIDDLEWARE=[
        "lti_provider.middleware.LtiFrameMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    AUTHENTICATION_BACKENDS=["lti_provider.backends.LtiBackend"],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ],
            },
        },
    ],
)
django.setup()
urlpatterns = [path("admin/", admin.site.urls), path("lti/", include("lti_provider.urls"))]
call_command("check", fail_level="WARNING")
call_command("migrate", verbosity=0)

answer = Client().get("/lti/launch/")
if not (answer.status_code < 500 and answer.content):
    sys.exit(f"GET of the launch URL answered {answer.status_code}.")
english = {str(kind.public_text) for kind in LaunchRefused.by_code().values()}
for language in (catalog.split("/")[2] for catalog in catalogs):
    with translation.override(language):
        if english == {str(kind.public_text) for kind in LaunchRefused.by_code().values()}:
            sys.exit(f"Nothing is translated into {language}.")
print(f"{wheel.name}: {len(inside)} files; a site with it migrates and answers.")

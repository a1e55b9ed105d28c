"""The site that is measured: what ``startproject`` makes, with the app installed."""

from __future__ import annotations

import os

import environ

SECRET_KEY = "benchmark"
DEBUG = False
ALLOWED_HOSTS = ["tool.example"]
ROOT_URLCONF = "benchmarks.floor"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "lti_provider",
]

MIDDLEWARE = [
    "lti_provider.middleware.LtiFrameMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "lti_provider.backends.LtiBackend",
]

# A launch is two requests and FLOOR is one: connecting anew for each would measure connecting.
DATABASES = {
    "default": {**environ.Env.db_url_config(os.environ["DATABASE_URL"]), "CONN_MAX_AGE": None}
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["default"] |= {
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL",
        },
        # Django's test databases are in memory unless they have a name.
        "TEST": {"NAME": DATABASES["default"]["NAME"]},
    }

LTI_PROVIDER_LAUNCHABLE_PATHS = ["/content/"]

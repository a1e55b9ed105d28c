"""An ordinary Django site with the app installed by the README's steps."""

import os
import tempfile
from pathlib import Path

import environ

env = environ.Env()

SECRET_KEY = "tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "lti_provider",
]

MIDDLEWARE = [
    "lti_provider.middleware.LtiFrameMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
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
]

DATABASES = {"default": env.db("DATABASE_URL", default="sqlite:///db.sqlite3")}
DATABASE_EXTRAS = {
    "django.db.backends.sqlite3": {
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF",
        },
        # A file, unlike Django's default in memory, can be opened by further threads and
        # processes; its name lets several test runs share a machine.
        "TEST": {"NAME": Path(tempfile.gettempdir(), f"lti_provider-{os.getpid()}.sqlite3")},
    },
    "django.db.backends.mysql": {
        "OPTIONS": {"charset": "utf8mb4"},
        "TEST": {"CHARSET": "utf8mb4"},
    },
}
if isolation := env("LTI_ISOLATION", default=""):
    # What the drivers take.
    levels = {"serializable": 4, "repeatable-read": "repeatable read"}
    extras = DATABASE_EXTRAS.setdefault(DATABASES["default"]["ENGINE"], {})
    extras.setdefault("OPTIONS", {})["isolation_level"] = levels[isolation]
DATABASES["default"].update(DATABASE_EXTRAS.get(DATABASES["default"]["ENGINE"], {}))

AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "lti_provider.backends.LtiBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LOGIN_REDIRECT_URL = "/content/"

LANGUAGE_CODE = "en-us"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True
STATIC_URL = "static/"

LTI_PROVIDER_LAUNCHABLE_PATHS = ["/content/"]

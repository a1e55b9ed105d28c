"""Night Sky, a small course site. The lines marked "LTI" are all that made it launchable."""

from pathlib import Path

import environ
from django.utils.translation import gettext_lazy as _

SITE = Path(__file__).resolve().parent.parent

env = environ.Env()
VAR = Path(env("DEMO_VAR", default=str(SITE.parent / "var")))
env.read_env(str(VAR / "demo.env"))

SECRET_KEY = env("SECRET_KEY")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1"])

DATABASES = {"default": env.db_url("DATABASE_URL", default=f"sqlite:///{VAR / 'tool.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"].setdefault("OPTIONS", {}).update(transaction_mode="IMMEDIATE", timeout=30)

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "lti_provider",  # LTI, step 1
    "course",
]
MIDDLEWARE = [
    "lti_provider.middleware.LtiFrameMiddleware",  # LTI, step 2
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "lti_provider.backends.LtiBackend",  # LTI, step 3
]
# LTI, step 4, is in urls.py.
LTI_PROVIDER_LAUNCHABLE_PATHS = ["/lessons/"]  # LTI, step 5
LTI_PROVIDER_DEFAULT_TARGET = "/lessons/"
LTI_PROVIDER_CARTRIDGE = {
    "title": "Night Sky",
    "description": "Lessons on the stars, with a quiz each",
    "icon": "/static/course/icon.svg",
}
LTI_PROVIDER_GRADE_TIMEOUT = 5  # somebody is watching

ROOT_URLCONF = "nightsky.urls"
WSGI_APPLICATION = "nightsky.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [SITE / "templates"],
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

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "course:lessons"
LOGOUT_REDIRECT_URL = "course:home"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German"))]
LOCALE_PATHS = [SITE / "locale"]
TIME_ZONE = env("TIME_ZONE", default="UTC")
USE_TZ = True
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "[tool] {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
        "django.server": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}

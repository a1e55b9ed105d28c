"""The demo LMS: it knows the tool by key, secret and URL, and imports nothing of it."""

from pathlib import Path

import environ

SITE = Path(__file__).resolve().parent.parent

env = environ.Env()
VAR = Path(env("DEMO_VAR", default=str(SITE.parent / "var")))
env.read_env(str(VAR / "demo.env"))

SECRET_KEY = env("LMS_SECRET_KEY")
DEBUG = env.bool("DEBUG", default=False)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["127.0.0.1", "localhost"])

DATABASES = {"default": env.db_url("LMS_DATABASE_URL", default=f"sqlite:///{VAR / 'lms.sqlite3'}")}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"].setdefault("OPTIONS", {}).update(transaction_mode="IMMEDIATE", timeout=30)

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "courses",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "campus.urls"
WSGI_APPLICATION = "campus.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "courses.people.people",
            ],
        },
    },
]

# A name of its own: cookies do not tell the ports of one host apart.
SESSION_COOKIE_NAME = "campus_session"
CSRF_COOKIE_NAME = "campus_csrftoken"

# Django's default, same-origin, would make the browser send "Origin: null" with a launch.
SECURE_REFERRER_POLICY = "strict-origin-when-cross-origin"

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = env("TIME_ZONE", default="UTC")
USE_TZ = True
STATIC_URL = "static/"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "[lms] {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
        "django.server": {"handlers": ["stderr"], "level": "ERROR", "propagate": False},
    },
}

# What the demo LMS holds about the tool until somebody types in something else.
TOOL_LAUNCH_URL = env("TOOL_LAUNCH_URL", default="http://localhost:8000/lti/launch/")
TOOL_KEYS_AND_SECRETS = {
    "open": (env("DEMO_LTI_KEY"), env("DEMO_LTI_SECRET")),
    "accounts": (env("DEMO_ACCOUNTS_LTI_KEY"), env("DEMO_ACCOUNTS_LTI_SECRET")),
}

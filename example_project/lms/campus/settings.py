"""The demo LMS: it knows the tool by what its administrator entered, and imports nothing of it."""

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

# An issuer is a name: nobody looks it up, and it stays the same wherever the LMS is served.
ISSUER = "https://lms.campus.example"

# What the demo LMS holds about the tool until somebody types in something else.
TOOL_URL = env("TOOL_URL", default="http://localhost:8000/lti/")
TOOL_URLS = {
    "launch_url": f"{TOOL_URL}launch/",
    "login_url": f"{TOOL_URL}login/",
    "redirect_uri": f"{TOOL_URL}launch/",
    "key_set_url": f"{TOOL_URL}jwks/",
}
DEMO_TOOLS = {
    ("1.3", "open"): {
        **TOOL_URLS,
        "client_id": env("DEMO_CLIENT_ID"),
        "deployment_id": "1",
    },
    ("1.3", "accounts"): {
        **TOOL_URLS,
        "client_id": env("DEMO_ACCOUNTS_CLIENT_ID"),
        "deployment_id": "2",
    },
    ("1.1", "open"): {
        "launch_url": TOOL_URLS["launch_url"],
        "consumer_key": env("DEMO_LTI_KEY"),
        "shared_secret": env("DEMO_LTI_SECRET"),
    },
    ("1.1", "accounts"): {
        "launch_url": TOOL_URLS["launch_url"],
        "consumer_key": env("DEMO_ACCOUNTS_LTI_KEY"),
        "shared_secret": env("DEMO_ACCOUNTS_LTI_SECRET"),
    },
}

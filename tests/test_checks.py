import re
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.checks import Tags, run_checks

ROOT = Path(__file__).parent.parent
SOURCE = (ROOT / "lti_provider/checks.py").read_text()
IDS = re.findall(r'id="(lti_provider\.[EW]\d{3})"', SOURCE)
FIRST = "lti_provider.middleware.LtiFrameMiddleware"
SESSION = "django.contrib.sessions.middleware.SessionMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
OTHERS = [name for name in django_settings.MIDDLEWARE if name != FIRST]
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
MEMORY = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
SAFE_DEPLOYMENT = {
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    "LTI_PROVIDER_ENCRYPTION_KEYS": [KEY],
}

# What a site set, and what is said about it.
CASES = [
    ({"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]}, "E001"),
    ({"MIDDLEWARE": OTHERS}, "E002"),
    ({"MIDDLEWARE": [*OTHERS, FIRST]}, "E003"),
    ({"MIDDLEWARE": [SESSION, FIRST, *OTHERS[2:]]}, "E003"),
    ({"MIDDLEWARE": ["tests.test_checks.SubclassedCsp", FIRST, *OTHERS]}, "E003"),
    ({"MIDDLEWARE": [FIRST, *(name for name in OTHERS if name != SESSION)]}, "E004"),
    ({"MIDDLEWARE": [FIRST, *(name for name in OTHERS if name != AUTH)]}, "E004"),
    ({"LTI_PROVIDER_TIMESTAMP_WINDOW": "300"}, "E005"),
    ({"LTI_PROVIDER_TIMESTAMP_WINDOW": True}, "E005"),
    ({"LTI_PROVIDER_ENTER_LIFETIME": 0}, "E005"),
    ({"LTI_PROVIDER_SESSION_LAUNCHES": None}, "E005"),
    ({"LTI_PROVIDER_LAUNCH_RETENTION_DAYS": -1}, "E005"),
    ({"LTI_PROVIDER_REFUSALS_KEPT": 1.5}, "E005"),
    ({"LTI_PROVIDER_DEFAULT_TARGET": ""}, "E005"),
    ({"LTI_PROVIDER_LAUNCHABLE_PATHS": "/content/"}, "E005"),
    ({"LTI_PROVIDER_GUEST_RETENTION_DAYS": 0}, "E005"),
    ({"LTI_PROVIDER_ENCRYPTION_KEYS": KEY}, "E005"),
    ({"LTI_PROVIDER_LAUNCHABLE_PATHS": ["content/"]}, "E006"),
    ({"LTI_PROVIDER_LAUNCHABLE_PATHS": ["https://tool.example/content/"]}, "E006"),
    ({"LTI_PROVIDER_LAUNCHABLE_PATHS": ["/content/?x=1"]}, "E006"),
    ({"LTI_PROVIDER_CARTRIDGE": [("title", "Stars")]}, "E005"),
    ({"LTI_PROVIDER_CARTRIDGE": {"name": "Stars"}}, "E020"),
    ({"LTI_PROVIDER_CARTRIDGE": {"title": None}}, "E021"),
    ({"LTI_PROVIDER_CARTRIDGE": {"custom": {"course": 1}}}, "E021"),
    ({"LTI_PROVIDER_CARTRIDGE": {"custom": [("course", "stars")]}}, "E021"),
    ({"LTI_PROVIDER_CARTRIDGE": {"privacy_level": "all"}}, "E021"),
    ({"LTI_PROVIDER_CARTRIDGE": {"placements": {"course_navigation": True}}}, "E021"),
    ({"LTI_PROVIDER_CARTRIDGE": {"placements": {"course_navigation": {"url": None}}}}, "E021"),
    ({"LTI_PROVIDER_CARTRIDGE": {"placements": ["course_navigation"]}}, "E021"),
    ({"SESSION_COOKIE_NAME": "__Host-session", "SESSION_COOKIE_PATH": "/app/"}, "E007"),
    ({"CSRF_COOKIE_NAME": "__Host-csrf", "CSRF_COOKIE_DOMAIN": "tool.example"}, "E007"),
    ({"LTI_PROVIDER_ENCRYPTION_KEYS": [KEY, "not a key"]}, "E008"),
    ({"LTI_PROVIDER_ENCRYPTION_KEYS": [KEY, ""]}, "E008"),
    ({"SESSION_COOKIE_SAMESITE": "None"}, "W001"),
    ({"SESSION_COOKIE_SAMESITE": "Strict"}, "W002"),
    ({"X_FRAME_OPTIONS": "ALLOW-FROM https://lms.example"}, "W003"),
    ({"X_FRAME_OPTIONS": "ALLOWALL"}, "W003"),
    ({"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}, "W004"),
    ({**SAFE_DEPLOYMENT, "SESSION_COOKIE_SECURE": False}, "W005"),
    ({**SAFE_DEPLOYMENT, "CSRF_COOKIE_SECURE": False}, "W005"),
    ({**SAFE_DEPLOYMENT, "SECURE_PROXY_SSL_HEADER": None}, "W006"),
    ({"SESSION_COOKIE_DOMAIN": ".school.example"}, "W007"),
    ({"SESSION_ENGINE": "django.contrib.sessions.backends.cache"}, "W008"),
    ({"DATABASES": {"default": MEMORY}}, "W009"),
    ({"LTI_PROVIDER_LAUNCHABLE_PATH": ["/content/"]}, "W010"),
    ({**SAFE_DEPLOYMENT, "LTI_PROVIDER_ENCRYPTION_KEYS": []}, "W011"),
]


class SubclassedCsp:
    """Stands for a site's own subclass; made one in the test that Django has the base for."""


def said(**options):
    return [
        message
        for message in run_checks(tags=[Tags.security], **options)
        if message.id.startswith("lti_provider.")
    ]


def test_a_site_installed_by_the_readme_hears_nothing():
    assert said() == []


def test_a_safe_deployment_hears_nothing(settings):
    for name, value in SAFE_DEPLOYMENT.items():
        setattr(settings, name, value)
    assert said(include_deployment_checks=True) == []
    settings.SECURE_PROXY_SSL_HEADER = None
    settings.SECURE_SSL_REDIRECT = True
    assert said(include_deployment_checks=True) == []


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.parametrize(("changed", "expected"), CASES)
def test_each_check_speaks_alone(settings, changed, expected):
    if "tests.test_checks.SubclassedCsp" in changed.get("MIDDLEWARE", ()):
        csp = pytest.importorskip("django.middleware.csp")
        globals()["SubclassedCsp"] = type(
            "SubclassedCsp", (csp.ContentSecurityPolicyMiddleware,), {}
        )
    for name, value in {**SAFE_DEPLOYMENT, **changed}.items():
        setattr(settings, name, value)
    messages = said(include_deployment_checks=True)
    assert {message.id for message in messages} == {f"lti_provider.{expected}"}
    assert all(message.hint for message in messages)


def test_a_cartridge_that_can_be_written_is_not_spoken_of(settings):
    settings.LTI_PROVIDER_CARTRIDGE = {
        "title": "Stars",
        "privacy_level": "email_only",
        "custom": {"course": "$Context.id"},
        "placements": {"course_navigation": {"text": "Stars", "enabled": True}},
    }
    assert said() == []


def test_a_subclass_of_the_backend_is_one(settings):
    settings.AUTHENTICATION_BACKENDS = ["tests.test_checks.SiteBackend"]
    assert said() == []


def test_what_cannot_be_imported_is_djangos_to_report(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "no.such.Middleware"]
    assert said() == []


def test_a_site_that_follows_the_old_advice_hears_what_to_change(settings):
    settings.SESSION_COOKIE_SAMESITE = "None"
    settings.X_FRAME_OPTIONS = "ALLOW-FROM https://lms.example"
    settings.MIDDLEWARE = OTHERS
    assert {message.id[-4:] for message in said()} == {"E002", "W001", "W003"}


def test_ids_are_unique_tested_and_documented():
    assert sorted(IDS) == sorted(set(IDS))
    assert {f"lti_provider.{expected}" for _changed, expected in CASES} == set(IDS)
    documented = re.findall(r"`(lti_provider\.[EW]\d{3})`", (ROOT / "docs/checks.md").read_text())
    assert sorted(documented) == sorted(IDS)


def __getattr__(name):
    if name == "SiteBackend":
        from lti_provider.backends import LtiBackend

        return type("SiteBackend", (LtiBackend,), {})
    raise AttributeError(name)

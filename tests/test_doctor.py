import json
import os
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import ProtectedError
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import include, path
from django.utils import timezone

from lti_provider.doctor import FrontDoor, deployment
from lti_provider.doctor.deployment import compare_clocks
from lti_provider.lti11.trial_launch import TrialLaunch
from lti_provider.models import (
    LtiConsumer,
    LtiContext,
    LtiLaunch,
    LtiResourceLink,
    LtiUser,
)
from lti_provider.testing import FakeLms
from tests.front import Proxy
from tests.waiting import PATIENCE

# Its one question that depends on the database is asked by .ci/run by name.
pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
SAFE = {
    "SESSION_COOKIE_SECURE": True,
    "CSRF_COOKIE_SECURE": True,
    "SECURE_SSL_REDIRECT": False,
    "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    "LTI_PROVIDER_ENCRYPTION_KEYS": [Fernet.generate_key().decode()],
}


class Report(dict):
    """Findings by name, and the exit status."""

    def __init__(self, status: int, findings: list[dict[str, str]]) -> None:
        super().__init__({finding["name"]: finding for finding in findings})
        self.status = status

    @property
    def bad(self) -> set[str]:
        return {name for name, found in self.items() if found["level"] in ("warning", "error")}


def doctor(**options) -> Report:
    out = StringIO()
    status = 0
    try:
        call_command("lti_doctor", json=True, stdout=out, **options)
    except SystemExit as ended:
        status = ended.code
    told = json.loads(out.getvalue())
    assert told["status"] == status
    return Report(status, told["findings"])


@pytest.fixture
def sound_site(settings):
    """What a deployed site has set."""
    for name, value in SAFE.items():
        setattr(settings, name, value)


# From inside


@pytest.mark.django_db
def test_a_sound_deployment_is_told_so(sound_site):
    LtiConsumer.objects.create(consumer_name="Campus")
    report = doctor()
    assert report.status == 0
    assert not report.bad
    assert {"checks", "database"} <= set(report)


@pytest.mark.django_db
def test_people_read_it_as_lines(sound_site):
    LtiConsumer.objects.create(consumer_name="Campus", consumer_secret="")
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("lti_doctor", stdout=out, no_color=True)
    assert ended.value.code == 2
    assert "ok: checks: The system checks find nothing." in out.getvalue()
    assert "error: no_secret: “Campus”: Consumer: It has no secret" in out.getvalue()


@pytest.mark.django_db
def test_hints_stand_below(settings):
    out = StringIO()
    settings.X_FRAME_OPTIONS = "ALLOW-FROM https://lms.example"
    with pytest.raises(SystemExit):
        call_command("lti_doctor", stdout=out, no_color=True)
    assert "lti_provider.W003" in out.getvalue()
    assert "\n  Use 'DENY'." in out.getvalue()


@pytest.mark.django_db
def test_the_checks_are_run_as_for_a_deployment(settings):
    report = doctor()
    assert report.status == 1
    assert {"lti_provider.W005", "lti_provider.W006"} <= report.bad
    settings.DEBUG = True
    assert not doctor().bad


@pytest.mark.django_db
def test_an_error_of_the_checks_is_one(sound_site, settings):
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    report = doctor()
    assert report.status == 2
    assert report["lti_provider.E002"]["level"] == "error"


@pytest.mark.django_db
def test_without_consumers_there_is_nothing_to_launch(sound_site):
    report = doctor()
    assert report.status == 0
    assert report["no_consumer"]["level"] == "note"


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("consumer", "name", "level", "status"),
    [
        ({"is_active": False}, "inactive", "note", 0),
        ({"consumer_secret": ""}, "no_secret", "error", 2),
    ],
)
def test_consumers_that_cannot_launch_are_named(sound_site, consumer, name, level, status):
    LtiConsumer.objects.create(consumer_name="Campus", **consumer)
    report = doctor()
    assert (report[name]["level"], report.status) == (level, status)
    assert "“Campus”" in report[name]["text"]


@pytest.mark.django_db
def test_a_consumer_whose_launches_are_refused_is_named(sound_site, client):
    lms = FakeLms.create("moodle", consumer_name="Campus")
    lms.consumer.consumer_secret = "typed wrong"
    lms.post(client, "/content/")
    report = doctor()
    assert report.bad == {"last_refusal"}
    assert "invalid_signature" in report["last_refusal"]["text"]


@pytest.mark.django_db
def test_a_site_with_very_many_consumers_is_not_read_whole(sound_site, monkeypatch):
    for number in range(3):
        LtiConsumer.objects.create(consumer_name=f"School {number}", consumer_secret="")
    monkeypatch.setattr(deployment, "_CONSUMERS_READ", 2)
    report = doctor()
    assert "Only the first 2" in report["many_consumers"]["text"]


@pytest.mark.django_db
def test_a_database_that_does_not_answer_ends_it(sound_site):
    def unreachable(execute, sql, params, many, context):
        raise OperationalError("password for db.internal")

    # Django asks SQLite once and keeps the answer, for the other tests too.
    assert connection.features.supports_json_field
    with connection.execute_wrapper(unreachable):
        report = doctor(url="http://localhost:1/")
    assert report.status == 2
    assert report.bad == {"no_database"}
    assert "db.internal" not in str(report)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("app", "name", "status"), [("lti_provider", "no_tables", 2), ("sessions", "migrations", 1)]
)
def test_pending_migrations_are_told(sound_site, app, name, status):
    MigrationRecorder.Migration.objects.filter(app=app).delete()
    report = doctor()
    assert report.status == status
    assert report[name]["text"] == f"Migrations of {app} are pending."


@pytest.mark.parametrize(
    ("off", "expected"), [(0, []), (4, []), (-30, ["warning"]), (30, ["warning"]), (200, ["error"])]
)
def test_clocks_that_differ_are_told(time_machine, off, expected):
    time_machine.move_to("2026-10-01T12:00:00Z", tick=False)
    at = timezone.now().timestamp() + off
    levels = [str(found.level) for found in compare_clocks("site_clock", "the site's", at)]
    assert levels == expected


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor == "sqlite", reason="it has the clock of this machine")
def test_the_databases_clock_is_asked(sound_site, time_machine):
    assert "database_clock" not in doctor()
    time_machine.move_to(timezone.now() + timedelta(minutes=1))
    assert doctor()["database_clock"]["level"] == "warning"


# Through the front door


@pytest.fixture
def site(sound_site, live_server):
    return live_server.url.replace("127.0.0.1", "localhost")


def visit(url, **options):
    return doctor(url=url, **options)


def test_a_launch_through_a_sound_door_arrives(site):
    report = visit(site)
    assert report.status == 0, report
    assert {"framed_launch", "window_launch"} <= set(report)
    assert "arrives at /content/" in report["framed_launch"]["text"]


@pytest.mark.parametrize("address", ["/", "", "/lti/launch/", "/lti/launch"])
def test_the_sites_address_or_the_launch_url_is_given(site, address):
    assert visit(site + address).status == 0


def test_nothing_is_left_behind(site):
    assert visit(site).status == 0
    left = [LtiConsumer, LtiUser, LtiLaunch, LtiContext, LtiResourceLink, Session]
    assert {model.__name__: model.objects.count() for model in left if model.objects.exists()} == {}
    assert not get_user_model().objects.exists()


def test_what_a_killed_visit_left_behind_goes_later(site):
    old, young, school = (
        LtiConsumer.objects.create(consumer_name="x", consumer_key=key)
        for key in ("lti-doctor-1", "lti-doctor-2", "lti-3")
    )
    LtiConsumer.objects.exclude(pk=young.pk).update(created_at=timezone.now() - timedelta(days=1))
    visit(site)
    assert set(LtiConsumer.objects.all()) == {young, school}
    assert old not in LtiConsumer.objects.all()


def test_an_account_that_the_site_holds_on_to_is_left_without_a_key(site, monkeypatch):
    def hold_on(queryset):
        raise ProtectedError("a profile", set())

    monkeypatch.setattr(type(LtiUser.objects.all()), "delete", hold_on)
    assert visit(site).status == 0
    assert not LtiConsumer.objects.get().is_active


def test_an_existing_consumer_is_launched_as_it_is(site):
    lms = FakeLms.create("moodle", instance_guid="lms.example", frame_origins="https://lms.example")
    report = visit(site, consumer=lms.consumer.consumer_key)
    assert report.status == 0, report
    kept = LtiConsumer.objects.get()
    assert (kept.is_active, kept.instance_guid) == (True, "lms.example")
    assert LtiUser.objects.get().lti_user_id.startswith("lti_doctor Learner ")
    assert not Session.objects.exists()


def test_an_existing_consumers_own_pages_are_launched(site):
    consumer = LtiConsumer.objects.create(consumer_name="C", launch_targets="/content/b/")
    report = visit(site, consumer=consumer.consumer_key)
    assert "arrives at /content/b/" in report["framed_launch"]["text"]


@pytest.mark.parametrize(
    ("consumer", "name", "level"),
    [
        ({"is_active": False}, "refused", "error"),
        ({"require_user_account": True}, "sign_in_asked", "note"),
        ({"minimum_signature_method": "HMAC-SHA256"}, "window_launch", "ok"),
    ],
)
def test_an_existing_consumers_own_rules_hold(site, consumer, name, level):
    made = LtiConsumer.objects.create(consumer_name="Campus", **consumer)
    assert visit(site, consumer=made.consumer_key)[name]["level"] == level


def test_a_page_to_launch_can_be_named(site):
    assert "arrives at /content/b/" in visit(site, target="/content/b/")["window_launch"]["text"]


def test_the_default_target_is_launched_first(site, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/home/"
    assert "arrives at /content/home/" in visit(site)["window_launch"]["text"]


def test_without_a_page_to_launch_that_is_said(site, settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = []
    assert visit(site).bad == {"no_target"}


def test_a_cookie_that_is_not_secure_is_told(sound_site, live_server, settings):
    settings.SESSION_COOKIE_SECURE = False

    def as_https(method, path, headers):
        headers["X-Forwarded-Proto"] = "https"

    with Proxy(live_server.url, before=as_https) as proxy:
        door = FrontDoor(url=proxy.url, consumer=LtiConsumer(), tls=None)
        assert door.launch_url.endswith("/lti/launch/")
        report = visit(proxy.url)
    assert "proxy_scheme" in report.bad


# Doors that are not


def hit(method, path, reply):
    status, headers, body = reply
    return status, [*headers, ("X-Cache", "HIT")] if method == "GET" else headers, body


def without(*names):
    def strip(method, path, reply):
        status, headers, body = reply
        return status, [pair for pair in headers if pair[0] not in names], body

    return strip


def edited(name, edit):
    def change(method, path, reply):
        status, headers, body = reply
        return status, [(key, edit(text) if key == name else text) for key, text in headers], body

    return change


def adding(*pairs):
    def add(method, path, reply):
        status, headers, body = reply
        return status, [*headers, *pairs], body

    return add


def answering(status, *headers, body=b"", when=lambda method, path: True):
    def answer(method, path, request_headers):
        return (status, list(headers), body) if when(method, path) else None

    return answer


def sending(**changed):
    def change(method, path, headers):
        for name, value in changed.items():
            headers.pop(name, None)
            if value is not None:
                headers[name] = value

    return change


def redirecting(edit, status=301):
    def redirect(method, path, headers):
        return status, [("Location", edit(f"http://{headers['Host']}{path}"))], b""

    return redirect


def replaying(only):
    """A cache that keeps the first answer to each address."""
    kept = {}

    def before(method, path, headers):
        return kept.get((method, path))

    def after(method, path, reply):
        if only(method, path):
            kept.setdefault((method, path), reply)
        return reply

    return before, after


def is_enter(method, path):
    return "/enter/" in path


def is_page(method, path):
    return path.startswith("/content/")


DOORS = {
    # Requests that are changed on the way.
    "host": ({"before": sending(Host="internal.example:8000")}, "proxy_host"),
    "scheme": ({"before": sending(**{"X-Forwarded-Proto": "https"})}, "proxy_scheme"),
    "host and scheme": (
        {"before": sending(Host="internal", **{"X-Forwarded-Proto": "https"})},
        "proxy_host",
    ),
    "request cookies": ({"before": sending(Cookie=None)}, "cookies_not_sent"),
    # Answers that are changed on the way.
    "cookies": ({"after": without("Set-Cookie")}, "cookies_stripped"),
    "session cookie": (
        {
            "after": lambda method, path, reply: (
                without("Set-Cookie")(method, path, reply) if is_enter(method, path) else reply
            )
        },
        "cookies_stripped",
    ),
    "partitioned": (
        {"after": edited("Set-Cookie", lambda text: text.replace("; Partitioned", ""))},
        "cookie_attributes",
    ),
    "same site": (
        {"after": edited("Set-Cookie", lambda text: text.replace("SameSite=None", "SameSite=Lax"))},
        "cookie_attributes",
    ),
    "frame options": ({"after": adding(("X-Frame-Options", "SAMEORIGIN"))}, "frame_options"),
    "policy": (
        {"after": adding(("Content-Security-Policy", "frame-ancestors 'self'"))},
        "frame_ancestors",
    ),
    "no policy": ({"after": without("Content-Security-Policy")}, "frame_ancestors"),
    "cache control": ({"after": without("Cache-Control")}, "headers_stripped"),
    "location": (
        {"after": edited("Location", lambda text: f"http://internal.example{text}")},
        "location_changed",
    ),
    "no date": ({"after": without("Date")}, "framed_launch"),
    "date": (
        {"after": edited("Date", lambda text: "Thu, 01 Oct 2026 12:00:00 GMT")},
        "site_clock",
    ),
    # Redirects that lose the form.
    "https": (
        {"before": redirecting(lambda url: url.replace("http:", "https:"))},
        "redirect_scheme",
    ),
    "www": ({"before": redirecting(lambda url: url.replace("//", "//www."))}, "redirect_host"),
    "slash": ({"before": redirecting(lambda url: f"{url}/")}, "redirect_slash"),
    "loop": ({"before": redirecting(lambda url: url, status=302)}, "proxy_scheme"),
    "elsewhere": ({"before": redirecting(lambda url: "/welcome/")}, "redirect"),
    "sign-in": (
        {"before": redirecting(lambda url: "/accounts/login/?next=/", status=302)},
        "sign_in_required",
    ),
    # Somebody else answers.
    "bad request": ({"before": answering(400)}, "host_refused"),
    "password": ({"before": answering(401)}, "sign_in_required"),
    "firewall": ({"before": answering(403)}, "forbidden"),
    "no such page": ({"before": answering(404)}, "not_found"),
    "no posts": ({"before": answering(405)}, "forbidden"),
    "no large posts": ({"before": answering(413)}, "forbidden"),
    "other site": ({"before": answering(200, body=b"Welcome")}, "not_launched"),
    "no upstream": ({"before": answering(502)}, "server_error"),
    "error at enter": ({"before": answering(500, when=is_enter)}, "server_error"),
    "session lost": (
        {"before": answering(302, ("Location", "/accounts/login/"), when=is_page)},
        "session_lost",
    ),
    "page": ({"before": answering(500, when=is_page)}, "page"),
    # Caches.
    "hit": ({"after": hit}, "cached"),
    "kept answers": (
        dict(zip(("before", "after"), replaying(is_enter), strict=True)),
        "cached",
    ),
    "kept posts": (
        dict(
            zip(
                ("before", "after"),
                replaying(lambda method, path: method == "POST"),
                strict=True,
            )
        ),
        "replay",
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_what_a_proxy_does_is_named(sound_site, live_server, settings, door):
    settings.ALLOWED_HOSTS = ["*"]
    mischief, expected = DOORS[door]
    with Proxy(live_server.url, **mischief) as proxy:
        report = visit(proxy.url)
    assert expected in report, report
    if expected != "framed_launch":
        assert expected in report.bad
        assert report[expected]["hint"]
        assert report.status == {"warning": 1, "error": 2}[report[expected]["level"]]
    assert not LtiConsumer.objects.exists()
    # What nobody has the key of cannot be found; its account is gone.
    assert not Session.objects.exists() or door == "session cookie"


def test_a_fetching_scanner_is_named(sound_site, live_server):
    with Proxy(live_server.url) as proxy:

        def fetch(method, path, reply):
            location = dict(reply[1]).get("Location", "")
            if method == "POST" and is_enter("GET", location):
                cookies = [text.split(";")[0] for name, text in reply[1] if name == "Set-Cookie"]
                headers = {"Host": proxy.host, "Cookie": "; ".join(cookies)}
                proxy.ask("GET", location, headers, b"")
            return reply

        proxy.after = fetch
        assert "used_before" in visit(proxy.url).bad


def test_a_body_that_is_changed_is_named(site, monkeypatch):
    sign = TrialLaunch.sign

    def changed(self, url):
        return tuple(
            (name, "changed" if name == "roles" else value) for name, value in sign(self, url)
        )

    monkeypatch.setattr(TrialLaunch, "sign", changed)
    report = visit(site)
    assert report.bad == {"body_changed"}


def test_a_path_that_is_changed_is_named(sound_site, live_server):
    with Proxy(live_server.url) as proxy:
        ask = proxy.ask

        def mounted(method, path, headers, body):
            return ask(method, path.removeprefix("/app"), headers, body)

        proxy.ask = mounted
        assert "proxy_path" in visit(f"{proxy.url}/app/").bad


def test_another_database_is_named(site):
    lms = FakeLms.create("moodle")

    def forget(method, path, headers):
        # As in another database, the site does not know the consumer.
        LtiConsumer.objects.all().delete()

    with Proxy(site, before=forget) as proxy:
        report = visit(proxy.url, consumer=lms.consumer.consumer_key)
    assert report.bad == {"other_database"}


def test_a_form_that_is_accepted_twice_is_named(site):
    def forget(method, path, headers):
        if method == "POST":
            LtiLaunch.objects.update(nonce_digest=None)

    with Proxy(site, before=forget) as proxy:
        report = visit(proxy.url)
    assert report.bad == {"replay"}


def test_a_page_that_redirects_is_followed(site, settings):
    settings.ROOT_URLCONF = __name__
    report = visit(site, target="/content/moved/")
    assert report.status == 0, report
    assert "page" not in report
    report = visit(site, target="/content/loop/")
    assert "page" not in report.bad


def test_a_very_large_page_is_read_in_part(site, settings):
    settings.ROOT_URLCONF = __name__
    report = visit(site, target="/content/large/")
    assert report.status == 0, report


def test_a_page_that_leads_away_takes_no_cookie_along(site, settings):
    settings.ROOT_URLCONF = __name__
    asked = []

    def answer(method, path, headers):
        asked.append(headers)
        return 200, [("Content-Security-Policy", "frame-ancestors *")], b"elsewhere"

    with Proxy(site, before=answer) as stranger:
        settings.STRANGER = stranger.url.replace("localhost", "127.0.0.1") + "/content/"
        visit(site, target="/content/away/")
    assert asked
    assert not [headers for headers in asked if "Cookie" in headers]


@pytest.mark.parametrize(
    ("domain", "comes_back"), [(".localhost", True), ("stranger.example", False), ("host", False)]
)
def test_a_cookie_goes_to_its_domain_only(site, settings, domain, comes_back):
    settings.SESSION_COOKIE_DOMAIN = domain
    settings.SESSION_COOKIE_NAME = "session_of_the_site"
    pages = []

    def look(method, path, headers):
        if is_page(method, path):
            pages.append("session_of_the_site" in headers["Cookie"])

    with Proxy(site, before=look) as proxy:
        visit(proxy.url)
    # By both dialects, in a frame and in a window.
    assert pages == [comes_back] * 4


def test_an_address_where_nobody_is_is_named(sound_site, db):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        report = visit(f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert report.bad == {"unreachable"}


def test_plain_http_is_told(sound_site, db):
    report = visit("http://lti-doctor.invalid/", timeout=2.0)
    assert {"plain_http", "unreachable"} <= report.bad
    assert "gaierror" in report["unreachable"]["text"]


@pytest.mark.parametrize(
    "url", ["http://localhost/a b/", "http://user@localhost/", "http://é.example/"]
)
def test_an_address_that_no_lms_can_post_to_is_named(sound_site, db, url):
    report = visit(url)
    assert "not a plain http or https address" in report["unreachable"]["text"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "site.example"}, "--url takes an address"),
        (
            {"url": "http://localhost/", "consumer": "nobody's"},
            "There is no LTI consumer",
        ),
        ({"url": "http://localhost/", "ca_file": "/no/such.pem"}, "There is no file"),
    ],
)
def test_what_cannot_be_asked_is_said(sound_site, options, said):
    with pytest.raises(CommandError, match=said):
        call_command("lti_doctor", stdout=StringIO(), **options)
    assert not LtiConsumer.objects.exists()


def test_a_visit_that_is_ended_tidies_up(site, transactional_db):
    reached = []

    def wait(method, path, headers):
        reached.append(path)
        os.kill(process.pid, signal.SIGTERM)
        process.wait(timeout=PATIENCE)

    with Proxy(site, before=wait) as proxy:
        name = str(connection.settings_dict["NAME"])
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.doctor_process", name, proxy.url],
            cwd=ROOT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert process.wait(timeout=PATIENCE) == 128 + signal.SIGTERM
    assert reached
    assert not LtiConsumer.objects.exists()


def moved(request):
    return HttpResponseRedirect("/content/new/")


def away(request):
    return HttpResponseRedirect(settings.STRANGER)


def large(request):
    return HttpResponse("x" * 2_000_000)


def looping(request):
    return HttpResponseRedirect(request.get_full_path())


def page(request, page=""):
    return HttpResponse(urlsplit(request.path).path)


urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("content/moved/", moved),
    path("content/loop/", looping),
    path("content/away/", away),
    path("content/large/", large),
    path("content/<path:page>", page),
    path("accounts/login/", page),
]

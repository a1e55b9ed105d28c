"""The doctor launches by LTI 1.3, and looks at the keys of both sides."""

from datetime import timedelta
from io import StringIO
from urllib.parse import parse_qsl, urlencode

import pytest
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db.models import ProtectedError
from django.utils import timezone

from lti_provider.doctor import key_sets
from lti_provider.lti13.keys import rotate_key
from lti_provider.models import LtiConsumer, LtiDeployment, LtiLaunch, LtiRegistration, LtiUser
from tests.front import Proxy
from tests.key_server import KeyServer, to_jwk, to_set
from tests.test_doctor import (
    DOORS,
    answering,
    doctor,
    edited,
    replaying,
    site,
    sound_site,
    visit,
    without,
)

__all__ = ["site", "sound_site"]

pytestmark = pytest.mark.once

ARRIVED = {"framed_launch_lti13", "window_launch_lti13"}
ISSUER = "https://lms.example"


@pytest.fixture
def mute(db) -> LtiConsumer:
    """A consumer that does not speak LTI 1.1."""
    return LtiConsumer.objects.create(
        consumer_name="Mute", consumer_key=None, consumer_secret="", instance_guid="lms.example"
    )


def register(**fields) -> LtiRegistration:
    given = {
        "issuer": ISSUER,
        "client_id": f"client-{LtiRegistration.objects.count()}",
        "authorization_endpoint": f"{ISSUER}/auth",
        "service_networks": "127.0.0.0/8",
    }
    return LtiRegistration.objects.create(**(given | fields))


# Launches


def test_a_temporary_consumer_launches_by_both_dialects(site):
    report = visit(site)
    assert report.status == 0, report
    assert {"framed_launch", "window_launch"} | ARRIVED <= set(report)
    assert "arrives at /content/" in report["framed_launch_lti13"]["text"]


def test_its_registration_goes_with_it(site):
    assert visit(site).status == 0
    left = [LtiConsumer, LtiRegistration, LtiDeployment, LtiLaunch, LtiUser, Session]
    assert not [model for model in left if model.objects.exists()]
    assert not get_user_model().objects.exists()


def test_it_goes_after_a_failure_too(sound_site, live_server):
    with Proxy(live_server.url, before=answering(500)) as proxy:
        assert visit(proxy.url).status == 2
    assert not LtiRegistration.objects.exists()


def test_one_that_the_site_holds_on_to_is_switched_off(site, mute, monkeypatch):
    def hold_on(queryset):
        raise ProtectedError("a report", set())

    monkeypatch.setattr(type(LtiRegistration.objects.all()), "delete", hold_on)
    assert visit(site, consumer="Mute").status == 0
    assert not LtiRegistration.objects.get().is_active


def test_what_a_killed_visit_left_behind_goes_later(site, mute):
    register(client_id="lti-doctor-1", jwks=to_set("k1"))
    young = register(client_id="lti-doctor-2", jwks=to_set("k1"))
    own = register(client_id="doctor", jwks=to_set("k1"))
    LtiRegistration.objects.exclude(pk=young.pk).update(
        created_at=timezone.now() - timedelta(days=1)
    )
    LtiConsumer.objects.update(issuer="https://lti-doctor.invalid")
    visit(site)
    assert set(LtiRegistration.objects.all()) == {young, own}
    assert LtiConsumer.objects.get().issuer == ""


def test_a_consumer_without_lti11_is_launched_by_lti13(site, mute):
    report = visit(site, consumer="Mute")
    assert report.status == 0, report
    assert set(report) >= ARRIVED
    assert "framed_launch" not in report
    mute.refresh_from_db()
    assert (mute.issuer, mute.instance_guid) == ("", "lms.example")
    assert LtiUser.objects.get().lti_user_id.startswith("lti_doctor Learner ")
    assert not LtiRegistration.objects.exists()
    assert not LtiDeployment.objects.exists()
    assert not LtiLaunch.objects.accepted().exists()


def test_a_consumer_of_both_dialects_is_launched_by_both(site):
    LtiConsumer.objects.create(consumer_name="Both", issuer=ISSUER)
    report = visit(site, consumer="Both")
    assert {"framed_launch", "window_launch"} | ARRIVED <= set(report)
    assert LtiConsumer.objects.get().issuer == ISSUER


def test_a_consumer_of_lti11_is_launched_by_that_alone(site):
    LtiConsumer.objects.create(consumer_name="Old")
    report = visit(site, consumer="Old")
    assert "framed_launch" in report
    assert not ARRIVED & set(report)


@pytest.mark.parametrize(
    ("consumer", "name", "level"),
    [
        ({"is_active": False}, "refused", "error"),
        ({"require_user_account": True}, "sign_in_asked", "note"),
        ({"launch_targets": "/content/b/"}, "framed_launch_lti13", "ok"),
    ],
)
def test_its_own_rules_hold(site, mute, consumer, name, level):
    LtiConsumer.objects.update(**consumer)
    assert visit(site, consumer="Mute")[name]["level"] == level


def test_without_a_page_to_launch_that_is_said(site, mute, settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = []
    assert visit(site, consumer="Mute").bad == {"no_target"}


# Doors


def is_login(method, path):
    return path.startswith("/lti/login/")


def without_cookies(starting):
    def strip(method, path, reply):
        status, headers, body = reply
        kept = [
            (name, text)
            for name, text in headers
            if name != "Set-Cookie" or not text.startswith(starting)
        ]
        return status, kept, body

    return strip


def losing_cookies(method, path, headers):
    # In a form of the frame only: the login's second request has brought them.
    if method == "POST":
        headers.pop("Cookie", None)


def moving_cookies(method, path, reply):
    return edited("Set-Cookie", lambda text: text.replace("Path=/lti/", "Path=/internal/"))(
        method, path, reply
    )


ONLY_LTI13 = {
    "frame's login cookie stripped": (
        {"after": without_cookies("lti_frame_login_")},
        "cookies_stripped",
    ),
    "window's login cookie stripped": (
        {"after": without_cookies("lti_login_")},
        "cookies_stripped",
    ),
    "cookies of forms": ({"before": losing_cookies}, "cookies_not_sent"),
    "paths of cookies": ({"after": moving_cookies}, "cookies_not_sent"),
    "kept logins": (
        dict(zip(("before", "after"), replaying(is_login), strict=True)),
        "cached",
    ),
    "sign-in at login": (
        {"before": answering(302, ("Location", "/accounts/login/?next=/"), when=is_login)},
        "sign_in_required",
    ),
    "no login": ({"before": answering(404, when=is_login)}, "not_found"),
}
# What appends a slash to a whole address leaves that of a login as it is.
BOTH = {name: door for name, door in DOORS.items() if name not in ("slash", "no date")}


@pytest.mark.parametrize("door", BOTH | ONLY_LTI13)
def test_what_a_proxy_does_is_named(mute, sound_site, live_server, settings, door):
    settings.ALLOWED_HOSTS = ["*"]
    mischief, expected = (BOTH | ONLY_LTI13)[door]
    with Proxy(live_server.url, **mischief) as proxy:
        report = visit(proxy.url, consumer="Mute")
    assert expected in report.bad, report
    assert report[expected]["hint"]
    assert report.status == {"warning": 1, "error": 2}[report[expected]["level"]]
    assert not LtiRegistration.objects.exists()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [("state", "state_lost"), ("id_token", "refused")],
)
def test_a_form_that_is_changed_is_named(mute, site, changed, expected):
    with Proxy(site) as proxy:
        ask = proxy.ask

        def change(method, path, headers, body):
            fields = dict(parse_qsl(body.decode()))
            if changed in fields:
                fields[changed] = fields[changed][:-9] + "A" * 9
                body = urlencode(fields).encode()
                headers["Content-Length"] = str(len(body))
            return ask(method, path, headers, body)

        proxy.ask = change
        assert expected in visit(proxy.url, consumer="Mute").bad


def test_forms_of_an_lms_bring_what_browsers_send_across_sites(mute, site):
    sent = {"iframe": [], "document": []}

    def look(method, path, headers):
        if (method, path) == ("POST", "/lti/launch/"):
            sent[headers["Sec-Fetch-Dest"]].append(headers.get("Cookie", ""))

    with Proxy(site, before=look) as proxy:
        assert visit(proxy.url, consumer="Mute").status == 0
    assert sent["iframe"][0].startswith("lti_frame_login_")
    assert not any(sent["document"])


def test_a_login_that_is_asked_again_without_end_is_named(mute, site):
    turns = []

    def turn(method, path, headers):
        if not is_login(method, path):
            return None
        turns.append(path)
        cookie = "lti_frame_login_x=1; Path=/; Secure; SameSite=None; Partitioned"
        return 303, [("Location", f"{path}&again"), ("Set-Cookie", cookie)], b""

    with Proxy(site, before=turn) as proxy:
        report = visit(proxy.url, consumer="Mute")
    assert report.status == 2
    assert len(turns) < 9


def test_another_database_is_named(mute, site):
    def forget(method, path, headers):
        LtiRegistration.objects.all().delete()

    with Proxy(site, before=forget) as proxy:
        assert visit(proxy.url, consumer="Mute").bad == {"other_database"}


def test_a_form_that_is_accepted_twice_is_named(mute, site):
    def forget(method, path, headers):
        if method == "POST":
            LtiLaunch.objects.update(nonce_digest=None, handle_digest=None)

    with Proxy(site, before=forget) as proxy:
        assert "replay" in visit(proxy.url, consumer="Mute").bad


def test_what_all_launches_show_is_said_once(site):
    with Proxy(site, after=without("Cache-Control")) as proxy:
        told = visit_lines(proxy.url)
    assert told.count("headers_stripped") == 1


def visit_lines(url):
    out = StringIO()
    with pytest.raises(SystemExit):
        call_command("lti_doctor", url=url, stdout=out, no_color=True)
    return out.getvalue()


# This site's keys


def is_key_set(method, path):
    return path == "/lti/jwks/"


def test_the_key_set_is_compared_to_the_database(site):
    rotate_key()
    assert visit(site)["key_set"]["level"] == "ok"


KEY_SETS = {
    "missing": (404, b"", "key_set"),
    "page": (200, b"<html>", "key_set"),
    "list": (200, b"[]", "key_set"),
    "keys that are none": (200, b'{"keys": [1]}', "key_set"),
    "keys without kid": (200, b'{"keys": [{}]}', "key_set"),
    "no keys": (200, b'{"keys": []}', "key_set_differs"),
    "old keys": (200, to_set("old").encode(), "key_set_differs"),
}


@pytest.mark.parametrize("answer", KEY_SETS)
def test_a_key_set_that_lmss_cannot_read_is_named(site, answer):
    status, body, name = KEY_SETS[answer]
    with Proxy(site, before=answering(status, body=body, when=is_key_set)) as proxy:
        report = visit(proxy.url)
    assert report.bad == {name}
    assert report[name]["level"] == "error"
    assert report[name]["hint"]


def test_a_key_set_behind_a_sign_in_is_named(site):
    sign_in = answering(302, ("Location", "/accounts/login/"), when=is_key_set)
    with Proxy(site, before=sign_in) as proxy:
        report = visit(proxy.url)
    assert report.bad == {"key_set"}
    assert "sign-in" in report["key_set"]["hint"]


# The keys of LMSs


def test_lmss_are_asked_for_their_keys(site):
    with KeyServer("k1", "k2") as server:
        registration = register(jwks_uri=server.url)
        register(jwks_uri=server.url, is_active=False)
        register(jwks=to_set("static"))
        report = visit(site)
        assert len(server.requests) == 1
    assert report.status == 0, report
    assert report["lms_keys"]["text"].endswith("its key set has k1, k2.")
    registration.refresh_from_db()
    assert registration.jwks_tried_at is None


def test_nobody_is_asked_without_an_address(sound_site, db):
    with KeyServer("k1") as server:
        register(jwks_uri=server.url)
        assert "lms_keys" not in doctor()
        assert not server.requests


def test_keys_that_do_not_come_are_named(site):
    with KeyServer("k1") as server:
        server.status = 404
        register(jwks_uri=server.url)
        report = visit(site)
    assert report.bad == {"lms_keys"}
    assert "HTTP status 404" in report["lms_keys"]["text"]
    assert report["lms_keys"]["level"] == "error"


def test_an_lms_that_is_not_public_is_named(site):
    with KeyServer("k1") as server:
        register(jwks_uri=server.url, service_networks="")
        report = visit(site)
        assert not server.requests
    assert "not at a public address" in report["lms_keys"]["text"]


def test_keys_that_are_of_no_use_are_named(site):
    with KeyServer(to_jwk("k1", use="enc")) as server:
        register(jwks_uri=server.url)
        report = visit(site)
    assert "its use is enc" in report["lms_keys"]["text"]
    assert report.status == 2


def test_keys_that_came_before_soften_it(site):
    register(jwks_uri="http://127.0.0.1:9/jwks", fetched_jwks=to_set("k1"))
    assert visit(site)["lms_keys"]["level"] == "warning"


@pytest.mark.parametrize(
    ("off", "level"), [(0, None), (-30, "warning"), (45, "warning"), (-200, "error")]
)
def test_the_clock_of_an_lms_is_compared(site, off, level):
    date = (timezone.now() + timedelta(seconds=off)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    answer = answering(200, ("Date", date), body=to_set("k1").encode())
    with Proxy(site, before=answer) as lms:
        register(jwks_uri=f"{lms.url}/jwks", service_networks="127.0.0.0/8 ::1/128")
        report = visit(site)
    assert report.get("lms_clock", {}).get("level") == level
    assert level is None or f"that of {lms.host} differ" in report["lms_clock"]["text"]


def test_an_lms_that_does_not_say_the_time_is_not_compared(site):
    with Proxy(site, before=answering(200, body=to_set("k1").encode())) as lms:
        register(jwks_uri=f"{lms.url}/jwks", service_networks="127.0.0.0/8 ::1/128")
        report = visit(site)
    assert report.status == 0
    assert "lms_clock" not in report


def test_only_some_are_asked(site, monkeypatch):
    monkeypatch.setattr(key_sets, "_REGISTRATIONS_ASKED", 2)
    with KeyServer("k1") as server:
        for _number in range(3):
            register(jwks_uri=server.url)
        report = visit(site)
        assert len(server.requests) == 2
    assert report["many_registrations"]["level"] == "note"


@pytest.mark.parametrize(("fetched", "level"), [("", "error"), (to_set("k1"), "warning")])
def test_a_failed_fetch_is_told_without_an_address(sound_site, db, fetched, level):
    failed = {"jwks_uri": f"{ISSUER}/jwks", "jwks_error": "timeout", "fetched_jwks": fetched}
    register(**failed, is_active=False)
    assert "lms_keys" not in doctor()
    register(**failed)
    report = doctor()
    assert report.bad == {"lms_keys"}
    assert report["lms_keys"]["level"] == level
    assert "did not answer in time" in report["lms_keys"]["text"]
    assert report["lms_keys"]["hint"]

"""A launch of LTI 1.3 opens a session only in the browser, and in the frame, of its own login."""

import logging
from copy import copy
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.contrib.auth import SESSION_KEY, get_user_model
from django.db import connection
from django.test import AsyncClient, Client
from django.test.client import ClientHandler
from django.test.utils import CaptureQueriesContext

from lti_provider.frames import LOGIN_FRAMED, LOGIN_TOP_LEVEL, MARKER_COOKIE, WINDOW_COOKIE
from lti_provider.lti13.state import LoginState
from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiLaunch,
    LtiRegistration,
    LtiUser,
)
from lti_provider.models.digest import digest
from lti_provider.signals import user_launched
from lti_provider.testing import FakeLms, FakePlatform, get_framed_session
from lti_provider.testing.lms import navigation
from tests.connecting import Course, Window, attribute, hidden_fields, to_confirmation
from tests.test_canaries import KeptMail
from tests.test_frame_session import FRAMED, OWN, SAME_SITE, OneJar, shown_user

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
LAUNCH = "/lti/launch/"
IN_FRAME, IN_WINDOW = navigation(framed=True), navigation(framed=False)
SILENT: dict[str, str] = {}
OWN_ORIGIN = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
#: Wherever somebody may have a browser post or open something.
EVERYWHERE = {
    "frame": IN_FRAME,
    "window": IN_WINDOW,
    "silent": SILENT,
    "script": {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "cross-site"},
    "frame of this site": {**IN_FRAME, "Sec-Fetch-Site": "same-site"},
    "own frame": {**IN_FRAME, **OWN_ORIGIN},
}

everywhere = pytest.mark.parametrize("headers", EVERYWHERE.values(), ids=EVERYWHERE)


@pytest.fixture
def lms() -> FakePlatform:
    return FakePlatform.create("moodle")


def log_in(lms: FakePlatform, client: Client, headers: Any = IN_WINDOW, **changes: Any) -> Any:
    """A login's answer of the LMS, in the hands of who did it."""
    pairs = lms.begin_login("content/", **changes)
    response = client.get(f"/lti/login/?{urlencode(pairs)}", headers=headers)
    while not lms.is_authentication_request(response):
        assert response.status_code == 303, response.text
        response = client.get(response["Location"], headers=headers)
    return lms.authorize(response["Location"])


def post(client: Client, pairs: Any, headers: Any = IN_WINDOW) -> Any:
    return client.post(LAUNCH, urlencode(pairs), content_type=FORM, headers=headers)


def sessions_of(client: Client) -> list[Any]:
    return [client.session.get(SESSION_KEY), get_framed_session(client).get(SESSION_KEY)]


def fresh(lms: FakePlatform) -> Client:
    return Client()


def in_a_frame(lms: FakePlatform) -> Client:
    client = Client()
    lms.launch(client, "content/", framed=True, sub="victim")
    return client


def in_a_window(lms: FakePlatform) -> Client:
    client = Client()
    lms.launch(client, "content/", sub="victim")
    return client


def on_the_way(lms: FakePlatform) -> Client:
    client = Client()
    for headers in (IN_FRAME, IN_WINDOW):
        log_in(lms, client, headers, sub="victim")
    return client


def signed_in(lms: FakePlatform) -> Client:
    client = Client()
    client.force_login(get_user_model().objects.create_user("ada"))
    return client


VICTIMS = [fresh, in_a_frame, in_a_window, on_the_way, signed_in]

victims = pytest.mark.parametrize("make_victim", VICTIMS)
logins = pytest.mark.parametrize("where", [IN_FRAME, IN_WINDOW], ids=["in frame", "in window"])


def expect_untouched(victim: Client, before: list[Any], response: Any) -> None:
    assert sessions_of(victim) == before
    assert "other_browser" in response.text
    assert response.status_code == 403
    names = set(response.cookies) - {WINDOW_COOKIE}
    assert not names, names
    assert not LtiUser.objects.filter(lti_user_id="attacker").exists()
    assert not LtiLaunch.objects.accepted().filter(
        entered_at__isnull=False, lti_user__lti_user_id="attacker"
    )


# Somebody else's launch


@victims
@logins
@everywhere
def test_a_launch_of_somebody_else_signs_nobody_in(lms, make_victim, where, headers):
    victim = make_victim(lms)
    before = sessions_of(victim)
    pairs = log_in(lms, Client(), where, sub="attacker")
    response = post(victim, pairs, headers)
    while response.status_code == 303:
        assert not set(response.cookies) - {WINDOW_COOKIE}
        assert response["Location"].startswith("/lti/enter/")
        response = victim.get(response["Location"], headers=headers)
    expect_untouched(victim, before, response)


@victims
@logins
@everywhere
def test_the_address_of_somebody_elses_launch_is_worth_nothing(lms, make_victim, where, headers):
    victim, attacker = make_victim(lms), Client()
    before = sessions_of(victim)
    pairs = log_in(lms, attacker, where, sub="attacker")
    enter = post(attacker, pairs, IN_WINDOW)["Location"]
    for response in (victim.get(enter, headers=headers), victim.post(enter, headers=headers)):
        expect_untouched(victim, before, response)


@pytest.mark.parametrize("make_victim", [in_a_frame, on_the_way])
@everywhere
@pytest.mark.parametrize("need", [False, True])
def test_no_page_about_somebody_elses_launch_is_of_use(lms, make_victim, headers, need):
    victim, attacker = make_victim(lms), Client()
    before = sessions_of(victim)
    pairs = log_in(lms, attacker, IN_WINDOW, sub="attacker")
    LtiConsumer.objects.update(require_user_account=need)
    handle = post(attacker, pairs, IN_WINDOW)["Location"].split("/")[-2]
    launch = LtiLaunch.objects.accepted().latest("pk")
    # Even if a form of ours could be made to post there, as one that an LMS names in a request.
    forms = ({}, {"framed": "1"}, {"lti_proof": ""}, {"lti_proof": handle}, {"lti_proof": "0" * 64})
    for path in (f"/lti/enter/{handle}/window/", f"/lti/account/{handle}/start/"):
        for form in forms:
            response = victim.post(path, form, headers={**headers, **OWN_ORIGIN})
            assert response.status_code == 403
            assert "foreign_origin" in response.text
            assert not set(response.cookies) - {WINDOW_COOKIE}
    path = f"/lti/account/{handle}/"
    for response in (
        victim.get(path, headers=headers),
        victim.post(path, {"confirm": ""}, headers=headers),
        victim.post(path, {"another": ""}, headers=headers),
        victim.get(f"{path}?framed=1", headers=headers),
        victim.get(f"/lti/enter/{handle}/", headers=headers),
    ):
        expect_untouched(victim, before, response)
    state = victim.get(f"/lti/account/{handle}/state/", headers=headers)
    assert state.json() == {"state": "ended"}
    launch.refresh_from_db()
    assert launch.entered_at is None
    assert not LtiUser.objects.filter(connected_at__isnull=False).exists()


@pytest.mark.parametrize("page", ["enter/{}/window", "account/{}/start"])
def test_no_form_that_this_site_posts_for_an_lms_opens_them(lms, page):
    # An LMS of LTI 1.1 says where the answer to its question goes, and our own page posts it.
    answer = post(attacker := Client(), log_in(lms, attacker), IN_WINDOW)
    url = f"http://testserver/lti/{page.format(answer['Location'].split('/')[-2])}/"
    asking = FakeLms.create("moodle")
    fields = {"lti_message_type": "ContentItemSelectionRequest", "content_item_return_url": url}
    shown = asking.post(victim := Client(), "content/", **fields, data="x", resource_link_id=None)
    assert attribute(shown, "action") == url
    form = hidden_fields(shown)
    assert "oauth_signature" in form
    response = victim.post(url, form, headers={**IN_WINDOW, **OWN_ORIGIN})
    assert "foreign_origin" in response.text
    assert not response.cookies


@logins
def test_an_attackers_own_page_posts_from_a_foreign_origin(lms, where):
    # In a frame where a different account signed in by itself, the attacker sees the form.
    attacker = Client()
    lms.launch(attacker, "content/", framed=True, sub="attacker")
    LtiConsumer.objects.update(require_user_account=True)
    pairs = log_in(lms, attacker, IN_FRAME, sub="attacker")
    page = attacker.get(post(attacker, pairs, IN_FRAME)["Location"], headers=IN_FRAME)
    form = hidden_fields(page)
    assert form["lti_proof"]
    start = attribute(page, "action")
    window = start.replace("account", "enter").replace("start", "window")
    for path in (start, window):
        evil = {**IN_WINDOW, "Origin": "https://evil.example"}
        response = Client().post(path, form, headers=evil)
        assert response.status_code == 403
        assert not response.cookies
        assert attacker.post(path, form, headers={**IN_WINDOW, **OWN_ORIGIN}).status_code == 303


@everywhere
def test_a_state_of_the_victim_does_not_go_with_the_attackers_token(lms, headers):
    victim = Client()
    theirs = dict(log_in(lms, Client(), headers=IN_WINDOW, sub="attacker"))
    for where in (IN_FRAME, IN_WINDOW):
        own = dict(log_in(lms, victim, where, sub="victim"))
        for mixed in (
            {**own, "id_token": theirs["id_token"]},
            {**theirs, "id_token": own["id_token"]},
        ):
            response = post(victim, list(mixed.items()), headers)
            assert response.status_code == 403
            assert "other_nonce" in response.text
            assert sessions_of(victim) == [None, None]


@logins
def test_two_logins_of_one_browser_cannot_be_swapped(lms, client, where):
    first, second = (dict(log_in(lms, client, where)) for _time in range(2))
    swapped = {"id_token": first["id_token"], "state": second["state"]}
    assert post(client, list(swapped.items()), where).status_code == 403
    for own in (second, first):
        answer = post(client, list(own.items()), where)
        assert answer.status_code == 303


@logins
@everywhere
def test_no_cookie_can_be_made_up(lms, client, where, headers):
    pairs = log_in(lms, Client(), where, sub="attacker")
    state = LoginState.read(dict(pairs)["state"])
    ours = Client()
    log_in(lms, ours, IN_WINDOW)
    log_in(lms, ours, IN_FRAME)
    values = ["", "x", "é", "0" * 64, f"1-{'0' * 64}", state.handle, state.random_id, "-", "--"]
    values += [cookie.value for cookie in ours.cookies.values()]
    named = Client()
    log_in(lms, named, where)
    enter = post(Client(), pairs, IN_WINDOW)["Location"]
    for value in values:
        for prefix in (LOGIN_FRAMED, LOGIN_TOP_LEVEL):
            client.cookies[prefix + digest(state.handle)[:16]] = value
        client.cookies["lti_enter"] = client.cookies["lti_enter_framed"] = value
        assert client.get(enter, headers=headers).status_code == 403
    assert sessions_of(client) == [None, None]


@everywhere
def test_a_window_that_is_offered_is_offered_to_nobody_unbound(lms, headers):
    enter = post(Client(), log_in(lms, Client(), sub="attacker"), IN_WINDOW)["Location"]
    page = Client().get(enter, headers=headers)
    assert page.status_code == 403
    assert "<form" not in page.text


def test_a_frame_that_lost_its_cookie_is_told_what_to_do(lms, client):
    pairs = log_in(lms, client, IN_FRAME)
    client.cookies.clear()
    response = post(client, pairs, IN_FRAME)
    assert response.status_code == 403
    assert "<code>other_browser</code>" in response.text
    assert "Let your LMS open this tool in a new window" in response.text
    assert "Back to Fake moodle" in response.text
    assert not response.cookies
    assert not LtiLaunch.objects.accepted().exists()
    assert LtiLaunch.objects.get().refusal_code == "other_browser"
    # Nothing is used up.
    again = log_in(lms, client, IN_FRAME)
    assert post(client, again, IN_FRAME).status_code == 303


# In a frame


def test_a_first_launch_in_a_frame_takes_one_request(lms, client):
    pairs = log_in(lms, client, IN_FRAME)
    answer = post(client, pairs, IN_FRAME)
    assert answer.status_code == 303
    assert answer["Location"].startswith("/content/?lti_launch=")
    assert {MARKER_COOKIE, FRAMED} <= set(answer.cookies)
    assert OWN not in answer.cookies
    assert all("Partitioned" in cookie.OutputString() for cookie in answer.cookies.values())
    (gone,) = [name for name, cookie in answer.cookies.items() if cookie["max-age"] == 0]
    assert gone.startswith(LOGIN_FRAMED)
    page = client.get(answer["Location"], headers=IN_FRAME)
    assert page.wsgi_request.lti.person.user_id == lms.claims["sub"]
    assert "frame-ancestors 'self' https://" in page["Content-Security-Policy"]


def test_the_same_launch_is_refused_the_second_time(lms, client):
    pairs = log_in(lms, client, IN_FRAME)
    assert post(client, pairs, IN_FRAME).status_code == 303
    again = post(client, pairs, IN_FRAME)
    assert again.status_code == 403
    assert "other_browser" in again.text  # Its cookie is gone with it.


@logins
def test_a_site_without_time_zones_is_launched_too(lms, client, settings, where):
    settings.TIME_ZONE = "Pacific/Kiritimati"
    settings.USE_TZ = False
    response = lms.launch(client, "content/", framed=where is IN_FRAME)
    assert response.text.startswith("content/")
    launch = LtiLaunch.objects.get()
    assert abs(launch.nonce_expires_at - launch.received_at - timedelta(seconds=601)) < timedelta(
        seconds=5
    )


@pytest.mark.parametrize("where", [IN_FRAME, IN_WINDOW, SILENT])
def test_a_launch_that_is_posted_twice_opens_one_session(lms, client, where):
    pairs = lms.begin_login("content/")
    response = client.get(f"/lti/login/?{urlencode(pairs)}", headers=where)
    while not lms.is_authentication_request(response):
        response = client.get(response["Location"], headers=where)
    answer = lms.authorize(response["Location"])
    kept = {name: cookie.value for name, cookie in client.cookies.items()}
    first = post(client, answer, where)
    assert first.status_code == 303
    client.cookies.load(kept)
    second = post(client, answer, where)
    assert second.status_code == 403
    assert "replayed_launch" in second.text
    assert LtiLaunch.objects.accepted().count() == 1


def test_a_second_activity_in_the_frame_goes_on_in_its_session(lms, client):
    lms.launch(client, "content/", framed=True)
    before = get_framed_session(client).session_key
    page = lms.launch(client, "content/", framed=True, resource_link={"id": "second"})
    assert page.wsgi_request.lti.resource_link.resource_link_id == "second"
    assert get_framed_session(client).session_key == before


def test_a_different_person_in_the_frame_gets_a_session_of_their_own(lms, client):
    lms.launch(client, "content/", framed=True)
    before = get_framed_session(client).session_key
    lms.launch(client, "content/", framed=True, sub="second")
    assert get_framed_session(client).session_key != before


def test_a_different_lms_in_the_frame_ends_the_session_of_the_first(lms, client):
    other = FakePlatform.create("canvas")
    lms.launch(client, "content/", framed=True)
    before = get_framed_session(client)
    page = other.launch(client, "content/", framed=True)
    after = get_framed_session(client)
    assert after.session_key != before.session_key
    assert page.wsgi_request.lti.consumer == other.consumer
    assert after["lti_provider_consumer"] == str(other.consumer.pk)
    assert not before.exists(before.session_key)


def test_a_session_that_somebody_made_in_the_frame_is_not_replaced_unasked(lms, client):
    lms.launch(client, "content/", framed=True)
    ada, own = get_user_model().objects.create_user("ada"), Client()
    own.force_login(ada)
    client.cookies[FRAMED] = own.session.session_key
    answer = post(client, log_in(lms, client, IN_FRAME), IN_FRAME)
    assert answer["Location"].startswith("/lti/enter/")
    page = client.get(answer["Location"], headers=IN_FRAME)
    assert "new window" in page.text
    assert get_framed_session(client)[SESSION_KEY] == str(ada.pk)
    window = Client()
    opened = window.post(
        attribute(page, "action"), hidden_fields(page), headers={**IN_WINDOW, **OWN_ORIGIN}
    )
    assert window.get(opened["Location"], headers=IN_WINDOW).status_code == 303
    assert window.session[SESSION_KEY] == str(LtiUser.objects.get().user_id)


@pytest.mark.parametrize("owner", ["nobody", "attacker", "another account"])
def test_a_planted_session_is_not_taken_over(lms, client, owner):
    planted = Client()
    if owner == "attacker":
        lms.launch(planted, "content/", framed=True, sub="attacker")
        planted.cookies[OWN] = planted.cookies[FRAMED].value
    elif owner == "another account":
        lms.launch(planted, "content/", sub="attacker")
    key = planted.cookies[OWN].value if owner != "nobody" else "planted0planted0planted0planted0"
    client.cookies[FRAMED] = client.cookies[OWN] = key
    answer = post(client, log_in(lms, client, IN_FRAME), IN_FRAME)
    assert answer["Location"].startswith("/content/")
    assert answer.cookies[FRAMED].value != key
    assert OWN not in answer.cookies
    person = LtiUser.objects.get(lti_user_id=lms.claims["sub"])
    assert get_framed_session(client)[SESSION_KEY] == str(person.user_id)


def test_asynchronous_servers_do_the_same(lms):
    browser = AsyncClient()

    get: Any = async_to_sync(browser.get)
    send: Any = async_to_sync(browser.post)
    pairs = lms.begin_login("content/")
    first = get(f"/lti/login/?{urlencode(pairs)}", headers=IN_FRAME)
    second = get(first["Location"], headers=IN_FRAME)
    form = urlencode(lms.authorize(second["Location"]))
    answer = send(LAUNCH, form, content_type=FORM, headers=IN_FRAME)
    assert answer["Location"].startswith("/content/")
    assert {FRAMED, MARKER_COOKIE} <= set(answer.cookies)
    assert all("Partitioned" in cookie.OutputString() for cookie in answer.cookies.values())


@pytest.mark.urls("tests.browser.site")
@pytest.mark.parametrize("same_site", ["Lax", "None"])
def test_a_launch_in_a_frame_leaves_the_session_of_a_window_alone(lms, settings, same_site):
    settings.SESSION_COOKIE_SAMESITE = same_site
    settings.SESSION_COOKIE_SECURE = True
    browser = OneJar()
    browser.force_login(get_user_model().objects.create_user("alice"))
    browser.cookies[OWN]["samesite"] = same_site
    before = browser.cookies[OWN].value
    browser.in_frame = True
    answer = post(browser, log_in(lms, browser, IN_FRAME), IN_FRAME)
    browser.in_frame = False
    assert answer["Location"].startswith("/content/")
    assert OWN not in answer.cookies
    assert shown_user(browser.frame(answer["Location"])).startswith("lti-")
    assert browser.cookies[OWN].value == before
    assert shown_user(browser.window("/content/")) == "alice"
    assert shown_user(browser.frame("/content/")).startswith("lti-")


def test_a_frame_of_our_own_site_goes_on_to_enter_and_replaces_nobody(lms):
    client = signed_in(lms)
    before = client.session.session_key
    answer = post(client, log_in(lms, client, SAME_SITE), SAME_SITE)
    assert answer["Location"].startswith("/lti/enter/")
    page = client.get(answer["Location"], headers=SAME_SITE)
    assert "new window" in page.text
    assert client.session.session_key == before

    alone = Client()
    answer = post(alone, log_in(lms, alone, SAME_SITE), SAME_SITE)
    entered = alone.get(answer["Location"], headers=SAME_SITE)
    assert OWN in entered.cookies
    assert FRAMED not in alone.cookies


def test_a_login_in_a_frame_of_our_own_site_hides_no_session(lms):
    client = signed_in(lms)
    log_in(lms, client, SAME_SITE)
    assert [name for name in client.cookies if name.startswith(LOGIN_FRAMED)]
    page = client.get("/lti/connections/", headers=SAME_SITE)
    assert page.wsgi_request.user.get_username() == "ada"


def test_an_lms_that_has_become_one_of_our_site_is_found_out_anew(lms, client):
    lms.launch(client, "content/", framed=True)
    answer = post(client, log_in(lms, client, SAME_SITE), SAME_SITE)
    assert answer["Location"].startswith("/lti/enter/")
    lms.launch(client, "content/", framed=True)
    client.cookies.clear()
    first = post(client, log_in(lms, client, SAME_SITE), SAME_SITE)
    client.get(first["Location"], headers=SAME_SITE)
    again = post(client, log_in(lms, client, IN_FRAME), IN_FRAME)
    assert again["Location"].startswith("/lti/enter/")


# In a window, and in browsers that do not say


def test_a_launch_in_a_window_enters_with_the_cookie_of_its_login(lms, client):
    pairs = log_in(lms, client, IN_WINDOW)
    (bound,) = client.cookies
    posted = post(client, pairs, IN_WINDOW)
    assert posted["Location"].startswith("/lti/enter/")
    assert not posted.cookies
    entered = client.get(posted["Location"], headers=IN_WINDOW)
    assert entered.status_code == 303
    assert entered.cookies[bound]["max-age"] == 0
    assert entered.cookies[bound]["path"] == "/lti/"
    assert not [text for text in entered.cookies.values() if "Partitioned" in text.OutputString()]


def test_somebody_else_in_the_window_is_asked_first(lms):
    client = signed_in(lms)
    enter = post(client, log_in(lms, client), IN_WINDOW)["Location"]
    page = client.get(enter, headers=IN_WINDOW)
    assert "ada" in page.text
    assert page["X-Frame-Options"] == "DENY"
    form = hidden_fields(page)
    assert client.post(enter, form, headers={**IN_WINDOW, **OWN_ORIGIN}).status_code == 303
    assert client.session[SESSION_KEY] == str(LtiUser.objects.get().user_id)


@pytest.mark.parametrize("dropped", [LOGIN_TOP_LEVEL, LOGIN_FRAMED, MARKER_COOKIE])
def test_a_silent_browser_enters_with_what_it_keeps(lms, client, dropped):
    pairs = log_in(lms, client, SILENT)
    for name in [name for name in client.cookies if name.startswith(dropped)]:
        del client.cookies[name]
    posted = post(client, pairs, SILENT)
    assert posted["Location"].startswith("/lti/enter/")
    if dropped == LOGIN_FRAMED:
        assert not posted.cookies
    entered = client.get(posted["Location"], headers=SILENT)
    assert entered.status_code == 303
    assert (FRAMED in entered.cookies) == (dropped == LOGIN_TOP_LEVEL)


# Whoever has to sign up takes longer than a login


@pytest.mark.urls("tests.urls_with_accounts")
def test_a_launch_in_a_frame_waits_for_a_sign_up(lms):
    LtiConsumer.objects.update(require_user_account=True, account_match="any")
    get_user_model().objects.create_user("robin", password="secret")
    course, window = Course(lms), Window()  # type: ignore[arg-type]
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as clock:
        ask_page = course.open()
        confirm = to_confirmation(window, ask_page, "robin")
        clock.shift(timedelta(minutes=30))
        # What a browser does after ten minutes.
        for name in [name for name in course.frame.cookies if name.startswith(LOGIN_FRAMED)]:
            del course.frame.cookies[name]
        assert "connected" in window.press(confirm, "confirm").text
        page = course.look_again(ask_page)
        assert page.wsgi_request.user.get_username() == "robin"
        assert page.wsgi_request.lti.consumer == lms.consumer


@pytest.mark.urls("tests.urls_with_accounts")
def test_a_launch_in_a_window_waits_for_a_sign_up(lms):
    LtiConsumer.objects.update(require_user_account=True, account_match="any")
    get_user_model().objects.create_user("robin", password="secret")
    window = Window()
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as clock:
        ask_page = lms.launch(window.client, "content/")
        question = window.sign_in(window.follow(window.start(ask_page)), "robin")
        clock.shift(timedelta(minutes=30))
        for name in [name for name in window.client.cookies if name.startswith(LOGIN_TOP_LEVEL)]:
            del window.client.cookies[name]
        page = window.press(question, "confirm")
        assert page.wsgi_request.user.get_username() == "robin"
        assert page.wsgi_request.lti.consumer == lms.consumer


# Who may frame it


def of_open_edx(**consumer: Any) -> FakePlatform:
    """It sends no return URL."""
    return FakePlatform.create("open_edx", **{"frame_origins": "", **consumer})


def ancestors(page: Any) -> str:
    return str(page["Content-Security-Policy"])


def test_the_origin_of_the_authorization_endpoint_may_frame(client):
    lms = of_open_edx()
    origin = lms.registration.authorization_origin
    page = lms.launch(client, "content/", framed=True)
    assert ancestors(page) == f"frame-ancestors 'self' {origin}"


def test_the_return_url_counts_beside_it(client):
    lms = of_open_edx()
    presentation = {"return_url": "https://edx.example/back"}
    page = lms.launch(client, "content/", framed=True, launch_presentation=presentation)
    origins = f"https://edx.example {lms.registration.authorization_origin}"
    assert ancestors(page) == f"frame-ancestors 'self' {origins}"


def test_the_origins_of_the_consumer_come_first(client):
    lms = of_open_edx(frame_origins="https://frame.example")
    page = lms.launch(client, "content/", framed=True)
    assert ancestors(page) == "frame-ancestors 'self' https://frame.example"


def test_a_frame_that_is_renewed_is_still_framed(client):
    lms = of_open_edx()
    origin = lms.registration.authorization_origin
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with time_machine.travel(now, tick=False) as clock:
        lms.launch(client, "content/", framed=True)
        clock.shift(timedelta(seconds=301))
        page = client.get("/content/", headers=IN_FRAME)
        assert MARKER_COOKIE in page.cookies
        assert ancestors(page) == f"frame-ancestors 'self' {origin}"
        LtiConsumer.objects.update(frame_origins="https://frame.example")
        clock.shift(timedelta(seconds=301))
        page = client.get("/content/", headers=IN_FRAME)
        assert ancestors(page) == "frame-ancestors 'self' https://frame.example"


def test_a_launch_that_goes_on_to_enter_may_be_framed_too(client):
    lms = of_open_edx()
    pairs = log_in(lms, client, SILENT)
    for name in [name for name in client.cookies if name.startswith(LOGIN_TOP_LEVEL)]:
        del client.cookies[name]
    posted = post(client, pairs, SILENT)
    page = client.get(posted["Location"], headers=SILENT)
    page = client.get(page["Location"], headers=IN_FRAME)
    assert ancestors(page) == f"frame-ancestors 'self' {lms.registration.authorization_origin}"


@pytest.mark.parametrize(
    ("origin", "status"),
    [(None, 303), ("null", 303), ("own", 303), ("OWN", 303), ("https://evil.example", 403)],
)
def test_the_origin_of_a_launch_is_compared_to_it(client, origin, status):
    lms = of_open_edx(origin_check="enforce")
    own = lms.registration.authorization_origin
    named = {"own": own, "OWN": own.upper()}.get(str(origin), origin)
    headers = {**IN_FRAME, **({"Origin": named} if named else {})}
    pairs = log_in(lms, client, IN_FRAME)
    response = post(client, pairs, headers)
    assert response.status_code == status
    if status == 403:
        assert "unexpected_origin" in response.text
        assert own in LtiLaunch.objects.refused().get().refusal_hint


# What it costs


def count(lms: FakePlatform, client: Client, *, framed: bool, **changes: Any) -> list[str]:
    headers = navigation(framed=framed)
    pairs = log_in(lms, client, headers, **changes)
    with CaptureQueriesContext(connection) as queries:
        answer = post(client, pairs, headers)
        while "/enter/" in answer["Location"]:
            answer = client.get(answer["Location"], headers=headers)
    assert answer.status_code == 303
    words = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
    found = [query["sql"] for query in queries.captured_queries]
    return [sql for sql in found if not sql.upper().startswith(words)]


@pytest.mark.one_database
@pytest.mark.parametrize("framed", [True, False])
def test_a_returning_persons_launch_costs_as_much_as_in_lti_1_1(lms, framed):
    old = FakeLms.create("moodle")
    for either in (lms, old):
        for _time in range(2):
            either.launch(Client(), "content/", framed=framed)
    found = count(lms, Client(), framed=framed)
    with CaptureQueriesContext(connection) as queries:
        answer = old.post(client := Client(), "content/", framed=framed)
        client.get(answer["Location"], headers=navigation(framed=framed))
    words = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
    sent = [query["sql"] for query in queries.captured_queries]
    known = [sql for sql in sent if not sql.upper().startswith(words)]
    assert len(found) <= len(known), "\n".join(found)


# What the LMS answers instead


@everywhere
def test_an_error_of_the_lms_is_a_page(lms, client, headers):
    pairs = dict(log_in(lms, client, IN_FRAME))
    answer = {"error": "login_required", "error_description": "<b>no</b>", "state": pairs["state"]}
    response = post(client, list(answer.items()), headers)
    assert response.status_code == 403
    assert "Sign in to your LMS" in response.text
    assert "<b>" not in response.text
    assert not response.cookies
    logged = LtiLaunch.objects.get()
    assert (logged.registration, logged.lti_consumer) == (lms.registration, None)


def test_a_refusal_whose_consumer_is_not_known_goes_back_to_the_lms(lms, client):
    LtiDeployment.objects.all().delete()
    answer = post(client, log_in(lms, client, IN_FRAME), IN_FRAME)
    assert answer.status_code == 303
    assert "lti_errorlog=unknown_deployment" in answer["Location"]
    logged = LtiLaunch.objects.get()
    assert (logged.registration, logged.lti_consumer) == (lms.registration, None)


def test_without_a_way_back_it_is_a_page(client):
    lms = of_open_edx()
    LtiDeployment.objects.all().delete()
    answer = post(client, log_in(lms, client, IN_FRAME), IN_FRAME)
    assert answer.status_code >= 400
    assert "<code>unknown_deployment</code>" in answer.text


def test_a_registration_that_was_switched_off_meanwhile(lms, client):
    pairs = log_in(lms, client, IN_FRAME)
    LtiRegistration.objects.update(is_active=False)
    answer = post(client, pairs, IN_FRAME)
    assert answer.status_code == 403
    assert "registration_inactive" in answer.text


# Reports of errors


def fail(**_signal: Any) -> None:
    raise RuntimeError("of the site")


@pytest.fixture
def mailed():
    """What Django would have mailed to the administrators."""
    handler, logger = KeptMail(), logging.getLogger("django")
    logger.addHandler(handler)
    yield handler.kept
    logger.removeHandler(handler)


@pytest.mark.parametrize("make", [FakePlatform, FakeLms])
@pytest.mark.parametrize("where", ["view", "middleware"])
def test_a_report_does_not_open_the_launch_that_failed(make, where, mailed, settings):
    client = Client(raise_request_exception=False)
    address = make.create("moodle").post(client, "content/")["Location"]
    cookies = [cookie.value for cookie in client.cookies.values()]
    if where == "middleware":
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_login.fail"]
        client = copy(client)
        client.handler = ClientHandler()
    user_launched.connect(fail)
    try:
        response = client.get(address, headers=IN_WINDOW)
    finally:
        user_launched.disconnect(fail)

    mail = "\n".join(mailed)
    assert response.status_code == 500
    assert "of the site" in mail
    assert cookies
    assert not [value for value in cookies if value in mail]

"""A frame's session and a window's, in a browser that keeps both in one jar."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpResponse
from django.test import AsyncClient, Client

from lti_provider import frames
from lti_provider.models import LtiLaunch
from lti_provider.testing import FakeLms, get_framed_session
from lti_provider.testing.lms import navigation

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.browser.site")]

OWN, FRAMED = "sessionid", "sessionid_lti_frame"
SCRIPT = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
IN_FRAME, IN_WINDOW = navigation(framed=True), navigation(framed=False)
SAME_SITE = {**IN_FRAME, "Sec-Fetch-Site": "same-site"}


class OneJar(Client):
    """Ignores ``Partitioned``: from a frame, it sends and keeps all that is SameSite=None."""

    in_frame = False

    def request(self, **request: Any) -> Any:
        jar: dict[str, Any] = self.cookies
        lax = {name: kept for name, kept in jar.items() if kept["samesite"] != "None"}
        if self.in_frame:
            for name in lax:
                del jar[name]
        response = super().request(**request)
        for name, cookie in response.cookies.items():
            if cookie["max-age"] == 0 or (self.in_frame and cookie["samesite"] != "None"):
                del jar[name]
        if self.in_frame:
            jar.update(lax)
        return response

    def frame(self, url: str, **headers: str) -> Any:
        self.in_frame = True
        response = self.get(url, headers=headers or IN_FRAME)
        self.in_frame = False
        return response

    def window(self, url: str, **headers: str) -> Any:
        return self.get(url, headers=headers or IN_WINDOW)

    def launch(self, lms: FakeLms, **changes: Any) -> Any:
        self.in_frame = True
        response = lms.launch(self, "content/", framed=True, **changes)
        self.in_frame = False
        return response


def shown_user(page: Any) -> str:
    found = re.search('<output id="user">(.*?)</output>', page.text)
    assert found is not None
    return found[1]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create()


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="secret")


@pytest.fixture
def browser() -> OneJar:
    return OneJar()


@pytest.fixture
def learner(browser: OneJar, lms: FakeLms) -> str:
    """Has launched in a frame."""
    return shown_user(browser.launch(lms))


def sign_in(browser: Client, **headers: str) -> Any:
    form = {"username": "alice", "password": "secret"}
    return browser.post("/accounts/login/?next=/content/", form, headers=headers or IN_WINDOW)


def test_a_launch_leaves_the_session_of_the_window_alone(browser, lms, alice):
    sign_in(browser)
    before = browser.cookies[OWN].OutputString()
    learner = shown_user(browser.launch(lms))
    assert learner.startswith("lti-")
    assert browser.cookies[OWN].OutputString() == before
    assert shown_user(browser.window("/content/")) == "alice"
    assert shown_user(browser.frame("/content/")) == learner


def test_what_scripts_ask_for_is_the_session_of_their_page(browser, learner, alice):
    assert shown_user(browser.frame("/content/", **SCRIPT)) == learner
    assert shown_user(browser.window("/content/")) == ""
    assert shown_user(browser.window("/content/", **SCRIPT)) == ""
    sign_in(browser)
    assert shown_user(browser.window("/content/", **SCRIPT)) == "alice"
    assert shown_user(browser.frame("/content/", **SCRIPT)) == learner


@pytest.mark.parametrize("headers", [SCRIPT, {"Accept": "text/html"}])
def test_whoever_signs_in_in_a_window_is_not_signed_in_in_the_frame(
    browser, learner, alice, headers
):
    # Nothing says where this comes from: the window was opened before the launch.
    response = sign_in(browser, **headers)
    assert "Partitioned" not in response.cookies[OWN].OutputString()
    assert response.cookies[OWN]["samesite"] == "Lax"
    assert FRAMED not in response.cookies
    assert shown_user(browser.frame("/content/", **SCRIPT)) == ""
    assert shown_user(browser.frame("/content/")) == ""
    assert shown_user(browser.window("/content/", **headers)) == "alice"


def test_what_an_old_browser_asks_for_in_a_window_is_the_persons_own(browser, lms, alice):
    sign_in(browser)
    browser.launch(lms)
    assert shown_user(browser.window("/content/", Accept="text/html")) == "alice"
    assert shown_user(browser.frame("/content/", Accept="text/html")).startswith("lti-")


@pytest.mark.parametrize("every_time", [True, False])
def test_a_windows_own_session_never_becomes_one_that_frames_send(
    browser, lms, alice, settings, every_time
):
    settings.SESSION_SAVE_EVERY_REQUEST = every_time
    sign_in(browser)
    browser.launch(lms)
    browser.window("/content/")
    for headers in (SCRIPT, {**SCRIPT, "Sec-Fetch-Dest": "image"}, IN_WINDOW, {}):
        browser.get("/content/", headers=headers)
        assert browser.cookies[OWN]["samesite"] == "Lax"
        assert not browser.cookies[OWN]["secure"]


def test_logging_out_ends_one_session_only(browser, learner, alice, settings):
    settings.LOGOUT_REDIRECT_URL = "/content/"
    browser.window("/content/")
    sign_in(browser)
    assert browser.post("/accounts/logout/", headers=IN_WINDOW).status_code == 302
    assert shown_user(browser.frame("/content/")) == learner
    sign_in(browser)
    browser.in_frame = True
    response = browser.post("/accounts/logout/", headers=IN_FRAME)
    browser.in_frame = False
    assert response.cookies[FRAMED]["max-age"] == 0
    assert OWN not in response.cookies
    assert FRAMED not in browser.cookies
    assert shown_user(browser.frame("/content/")) == ""
    assert shown_user(browser.window("/content/")) == "alice"


def test_a_page_of_ours_that_leads_to_enter_keeps_the_frames_session(browser, lms):
    # As the one does that waits for the connection of an account.
    browser.in_frame = True
    entering = lms.post(browser, "content/", framed=True)["Location"]
    page = browser.frame(entering, **{**IN_FRAME, "Sec-Fetch-Site": "same-origin"})
    assert FRAMED in page.cookies
    assert shown_user(browser.frame(page["Location"])).startswith("lti-")


# Planted cookies


def test_a_session_that_is_planted_under_the_other_name_is_nobodys(browser, learner, alice):
    attacker = Client()
    attacker.force_login(alice)
    planted = attacker.cookies[OWN].value
    stranger = Client()
    stranger.cookies[FRAMED] = planted
    for headers in (IN_WINDOW, IN_FRAME, SCRIPT, {}):
        page = stranger.get("/content/", headers=headers)
        assert shown_user(page) == ""
        assert FRAMED not in page.wsgi_request.COOKIES
        assert planted not in page.wsgi_request.META["HTTP_COOKIE"]
    browser.cookies[OWN] = planted
    browser.cookies[OWN]["samesite"] = "None"
    assert shown_user(browser.frame("/content/")) == learner
    browser.cookies[FRAMED] = planted
    assert shown_user(browser.window("/content/", **IN_WINDOW)) == "alice"
    del browser.cookies[OWN]
    assert shown_user(browser.window("/content/")) == ""


def test_a_planted_session_key_is_not_taken_over(browser, lms):
    browser.cookies[FRAMED] = "planted0planted0planted0planted0"
    browser.cookies[FRAMED]["samesite"] = "None"
    browser.launch(lms)
    assert browser.cookies[FRAMED].value != "planted0planted0planted0planted0"


def test_a_persons_own_session_in_a_frame_is_framed_by_nobody(browser, learner, alice):
    own = Client()
    own.force_login(alice)
    browser.cookies[FRAMED] = own.cookies[OWN].value
    browser.cookies[FRAMED]["samesite"] = "None"
    assert browser.frame("/content/")["X-Frame-Options"] == "DENY"


def test_a_cache_that_varies_by_cookies_tells_frame_and_window_apart(browser, learner):
    framed, window = browser.frame("/content/"), browser.window("/content/")
    headers = [page.wsgi_request.META["HTTP_COOKIE"] for page in (framed, window)]
    assert f"{OWN}={browser.cookies[FRAMED].value}" in headers[0]
    assert browser.cookies[FRAMED].value not in headers[1]
    assert FRAMED not in headers[0] + headers[1]


# Settings and servers


@pytest.mark.parametrize(
    "cookie",
    [
        {"NAME": "__Host-session", "SECURE": True},
        {"NAME": "s", "PATH": "/content/", "HTTPONLY": False},
        {"DOMAIN": "testserver"},
        {"SAMESITE": "Strict"},
        {"SAMESITE": "None"},
        {"SAMESITE": False},
    ],
)
def test_the_frames_cookie_is_like_the_sites(browser, lms, alice, settings, cookie):
    for name, value in cookie.items():
        setattr(settings, f"SESSION_COOKIE_{name}", value)
    own = settings.SESSION_COOKIE_NAME
    sign_in(browser)
    before = browser.cookies[own].OutputString()
    learner = shown_user(browser.launch(lms))
    assert learner.startswith("lti-")
    assert browser.cookies[own].OutputString() == before
    kept = browser.cookies[f"{own}_lti_frame"]
    # A launch's session ends with the browser.
    assert kept["max-age"] == ""
    for attribute in ("path", "domain", "httponly"):
        assert kept[attribute] == browser.cookies[own][attribute]
    assert kept.OutputString().endswith("; Partitioned")
    assert shown_user(browser.window("/content/")) == "alice"
    assert shown_user(browser.window("/content/", **SCRIPT)) == "alice"
    assert shown_user(browser.frame("/content/")) == learner


def post_from_same_site(browser: Client, lms: FakeLms) -> Any:
    form = urlencode(lms.sign("content/"))
    kind = "application/x-www-form-urlencoded"
    return browser.post("/lti/launch/content/", form, content_type=kind, headers=SAME_SITE)


def test_an_lms_of_the_same_site_shares_the_session_of_windows(lms, alice):
    # All cookies come to its frames, and all that they set to windows.
    browser = Client()
    launched = post_from_same_site(browser, lms)
    entered = browser.get(launched["Location"], headers=SAME_SITE)
    assert OWN in entered.cookies
    assert FRAMED not in browser.cookies
    page = browser.get(entered["Location"], headers=SAME_SITE)
    assert "lms.example" in page["Content-Security-Policy"]
    learner = shown_user(page)
    for headers in (IN_WINDOW, SCRIPT, IN_FRAME):
        assert shown_user(browser.get("/content/", headers=headers)) == learner
    assert frames.WINDOW_COOKIE not in browser.cookies


def test_an_lms_of_the_same_site_replaces_no_session_unasked(lms, alice):
    browser = Client()
    browser.force_login(alice)
    launched = post_from_same_site(browser, lms)
    assert "window/" in browser.get(launched["Location"], headers=SAME_SITE).text
    assert shown_user(browser.get("/content/", headers=IN_WINDOW)) == "alice"
    assert LtiLaunch.objects.get().entered_at is None


def test_asynchronous_servers_do_the_same(browser, learner, alice):
    asgi = AsyncClient()
    for name, cookie in browser.cookies.items():
        asgi.cookies[name] = cookie.value
    ask: Callable[..., HttpResponse] = async_to_sync(asgi.get)
    assert shown_user(ask("/content/", headers=IN_FRAME)) == learner
    assert shown_user(ask("/content/", headers=SCRIPT)) == learner
    page = ask("/content/", headers=IN_WINDOW)
    assert shown_user(page) == ""
    assert page.cookies[frames.WINDOW_COOKIE].OutputString().count("SameSite=Lax") == 1
    assert shown_user(ask("/content/", headers=SCRIPT)) == ""


def test_a_request_that_passes_twice_keeps_its_session(browser, learner, settings):
    settings.MIDDLEWARE = [settings.MIDDLEWARE[0], *settings.MIDDLEWARE]
    assert shown_user(browser.frame("/content/")) == learner
    browser.frame("/content/count/")
    assert get_framed_session(browser)["count"] == 1
    assert OWN not in browser.cookies


def test_without_a_launch_a_test_finds_an_empty_session(client):
    assert isinstance(get_framed_session(client), SessionStore)
    assert not get_framed_session(client).keys()
    assert not client.cookies

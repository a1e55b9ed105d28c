"""Learners share computers: when a session that a launch made is over, and what it leaves alone."""

from datetime import timedelta
from http.cookies import Morsel

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.contrib.auth import BACKEND_SESSION_KEY, get_user_model
from django.contrib.auth.views import LoginView
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path

from lti_provider.testing import FakeLms
from tests.connecting import connect

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

LTI = "lti_provider.backends.LtiBackend"
SIGN_IN = "lti_provider_sign_in"
ENGINES = ["db", "cached_db", "cache", "file", "signed_cookies"]
HOURS = timedelta(hours=12)


def show(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.user.get_username())


async def ashow(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await request.auser()).get_username())


def show_launch(request) -> HttpResponse:
    return HttpResponse("a launch" if request.lti else "")


async def ashow_launch(request) -> HttpResponse:
    return HttpResponse("a launch" if await request.alti() else "")


def write(request: HttpRequest) -> HttpResponse:
    request.session["draft"] = "of the learner before"
    return HttpResponse()


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.session.get("draft", ""))


class RememberingLoginView(LoginView):
    template_name = "admin/login.html"

    def form_valid(self, form):
        if "seconds" in self.request.POST:
            self.request.session.set_expiry(int(self.request.POST["seconds"]))
        return super().form_valid(form)


ROUTES = {"user/": show, "auser/": ashow, "launch/": show_launch, "alaunch/": ashow_launch}
urlpatterns = [
    path("admin/", admin.site.urls),
    path("content/", show),
    *(path(f"content/{route}", view) for route, view in ROUTES.items()),
    path("content/write/", write),
    path("content/read/", read),
    path("lti/", include("lti_provider.urls")),
    path("accounts/login/", RememberingLoginView.as_view(), name="login"),
]


@pytest.fixture(params=ENGINES)
def engine(request, settings, tmp_path) -> str:
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    return request.param


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def ada(lms):
    """An account of the site's own that the LMS's person is to connect."""
    for name, value in {"account_match": "any", "require_user_account": True}.items():
        setattr(lms.consumer, name, value)
    lms.consumer.save()
    return get_user_model().objects.create_user("ada", "ada@school.example", "secret")


def seen(browser: Client, route: str = "user/") -> str:
    return browser.get(f"/content/{route}").content.decode()


def session_cookie(cookies) -> Morsel:
    """A frame's may have a name of its own."""
    return next(cookies[name] for name in cookies if name.startswith("sessionid"))


def cookie_of(response) -> str:
    return session_cookie(response.cookies).OutputString()


def grow_older(browser: Client, by: timedelta) -> None:
    """As if the session's last launch were longer ago: only what is stored changes."""
    session = browser.session
    *stands_on, ends_at = session[SIGN_IN]
    session[SIGN_IN] = [*stands_on, ends_at - int(by.total_seconds())]
    session.save()
    if "signed_cookies" in type(session).__module__:
        browser.cookies["sessionid"] = session.session_key


# The browser


@pytest.mark.parametrize("at_browser_close", [True, False])
@pytest.mark.parametrize("cookie_age", [1209600, 600])
@pytest.mark.parametrize("framed", [True, False])
def test_it_ends_with_the_browser(lms, client, settings, framed, cookie_age, at_browser_close):
    settings.SESSION_EXPIRE_AT_BROWSER_CLOSE = at_browser_close
    settings.SESSION_COOKIE_AGE = cookie_age
    lms.launch(client, "/content/user/", framed=framed)
    kept = session_cookie(client.cookies)
    assert kept.value
    assert (kept["max-age"], kept["expires"]) == ("", "")


@pytest.mark.parametrize("client_class", [Client, AsyncClient])
def test_no_later_response_makes_it_outlast_the_browser(
    lms, client, settings, engine, client_class
):
    lms.launch(client, "/content/user/", framed=True)
    browser = client_class()
    browser.cookies = client.cookies
    ask = browser.get if client_class is Client else async_to_sync(browser.get)
    for every in (False, True):
        settings.SESSION_SAVE_EVERY_REQUEST = every
        sent = cookie_of(ask("/content/write/", headers={"Sec-Fetch-Dest": "iframe"}))
        assert "Max-Age" not in sent
        assert "expires" not in sent


def test_a_session_of_the_site_keeps_its_date(client, admin_user):
    client.force_login(admin_user)
    assert "Max-Age=1209600" in cookie_of(client.get("/content/write/"))


# The hours


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("route", ROUTES)
def test_twelve_hours_after_its_launch_it_is_over(lms, client, engine, settings, route, every):
    settings.SESSION_SAVE_EVERY_REQUEST = every
    lms.launch(client, "/content/user/")
    grow_older(client, HOURS - timedelta(minutes=5))
    assert seen(client, route)
    grow_older(client, timedelta(minutes=5))
    assert seen(client, route) == ""
    assert [seen(client, again) for again in ROUTES] == ["", "", "", ""]


def test_nothing_of_it_stays(lms, client):
    lms.launch(client, "/content/user/")
    grow_older(client, HOURS)
    seen(client)
    assert not Session.objects.exists()
    assert client.cookies["sessionid"].value == ""


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("session_engine", ["db", "cached_db", "cache", "file"])
def test_what_the_site_kept_in_it_is_gone_though_nobody_asks_who_it_is(
    lms, client, settings, tmp_path, session_engine, every
):
    settings.SESSION_SAVE_EVERY_REQUEST = every
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{session_engine}"
    lms.launch(client, "/content/write/")
    with time_machine.travel(HOURS - timedelta(minutes=5)):
        assert seen(client, "read/") == "of the learner before"
    with time_machine.travel(HOURS + timedelta(minutes=5)):
        assert seen(client, "read/") == ""


def test_the_sites_own_shorter_limit_holds_and_slides(lms, client, settings):
    settings.SESSION_COOKIE_AGE = 600
    settings.SESSION_SAVE_EVERY_REQUEST = True
    lms.launch(client, "/content/user/")
    for minutes in (8, 16, 24):
        with time_machine.travel(timedelta(minutes=minutes)):
            assert seen(client)
    with time_machine.travel(timedelta(minutes=36)):
        assert seen(client) == ""


def test_a_site_says_how_many_hours(lms, client, settings):
    settings.LTI_PROVIDER_SESSION_HOURS = 0.5
    lms.launch(client, "/content/user/")
    grow_older(client, timedelta(minutes=29))
    assert seen(client)
    grow_older(client, timedelta(minutes=1))
    assert seen(client) == ""


def test_a_launch_renews_the_hours(lms, client):
    lms.launch(client, "/content/user/")
    learner = seen(client)
    key = client.cookies["sessionid"].value
    grow_older(client, HOURS - timedelta(minutes=5))
    lms.launch(client, "/content/user/", resource_link_id="another")
    assert client.cookies["sessionid"].value == key
    grow_older(client, HOURS - timedelta(minutes=5))
    assert seen(client) == learner
    assert client.session.get_expiry_age() > HOURS.total_seconds() - 60


def test_a_launch_after_it_was_over_begins_anew(lms, client):
    lms.launch(client, "/content/write/")
    key = client.cookies["sessionid"].value
    grow_older(client, HOURS)
    lms.launch(client, "/content/user/")
    assert client.cookies["sessionid"].value != key
    assert seen(client).startswith("lti-")
    assert seen(client, "read/") == ""


def test_the_next_learner_is_not_asked_whether_to_replace_what_is_over(lms, client):
    lms.launch(client, "/content/user/", user_id="kim")
    kim = seen(client)
    grow_older(client, HOURS)
    page = lms.launch(client, "/content/user/", user_id="robin")
    assert page.wsgi_request.path == "/content/user/"
    assert page.content.decode() not in ("", kim)


# Sessions in which the person signed in on the site


def sign_in(browser: Client, **fields: str) -> None:
    form = {"username": "ada", "password": "secret", **fields}
    assert browser.post("/accounts/login/", form).status_code == 302


def test_a_launch_leaves_the_length_of_ones_own_session(lms, ada, client):
    connect(lms, "ada")
    sign_in(client, seconds="3000000")
    before = client.session.get_expiry_age()
    lms.launch(client, "/content/launch/")
    assert seen(client, "launch/") == "a launch"
    assert abs(client.session.get_expiry_age() - before) < 60
    assert "Max-Age=3000000" in cookie_of(client.get("/content/write/"))
    with time_machine.travel(HOURS * 2):
        assert [seen(client), seen(client, "launch/")] == ["ada", "a launch"]


@pytest.mark.parametrize(
    ("fields", "lifetime"), [({}, 1209600), ({"seconds": "3600"}, 3600), ({"seconds": "0"}, None)]
)
def test_a_sign_in_of_ones_own_in_it_has_the_sites_length(lms, ada, client, fields, lifetime):
    connect(lms, "ada")
    lms.launch(client, "/content/user/")
    assert client.session[BACKEND_SESSION_KEY] == LTI
    sign_in(client, **fields)
    sent = cookie_of(client.get("/content/write/"))
    assert f"Max-Age={lifetime}" in sent if lifetime else "Max-Age" not in sent
    assert seen(client, "launch/") == "a launch"


def test_a_sign_in_by_our_backend_stays_one_of_a_launch(lms, client):
    lms.launch(client, "/content/user/")
    client.force_login(get_user_model().objects.get(), LTI)
    assert seen(client).startswith("lti-")
    grow_older(client, HOURS)
    assert seen(client) == ""


def test_a_sign_in_without_a_session_is_none_of_ours(ada):
    from django.contrib.auth.signals import user_logged_in

    for request in (None, HttpRequest()):
        user_logged_in.send(sender=type(ada), request=request, user=ada)


@pytest.mark.parametrize("ends_at", ["soon", None, 1.5, -1, 10**30])
def test_an_end_that_is_none_fails_nothing(lms, client, ends_at):
    lms.launch(client, "/content/user/")
    session = client.session
    session[SIGN_IN] = [*session[SIGN_IN][:3], ends_at]
    session.save()
    for route in ROUTES:
        assert client.get(f"/content/{route}").status_code == 200

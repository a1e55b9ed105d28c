"""Sessions that a launch must not make, replace or outlive."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.test import Client
from django.urls import path

from lti_provider.decorators import launch_required
from lti_provider.models import LtiLaunch, LtiUser
from lti_provider.privacy import DataSubject
from lti_provider.signals import user_launched
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation
from tests.urls import urlpatterns as site

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

FORM = "application/x-www-form-urlencoded"
FRAME = navigation(framed=True)
#: A frame whose LMS is of this site, so that it shares the cookies of windows.
OWN_SITE = {**FRAME, "Sec-Fetch-Site": "same-site"}


@launch_required
def only_launched(request: Any) -> HttpResponse:
    return HttpResponse("launched")


urlpatterns = [path("launched/", only_launched), *site]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email")


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Any:
    """Call a function when somebody is launched."""
    connected = []

    def connect(function: Any) -> None:
        user_launched.connect(function, weak=False)
        connected.append(function)

    yield connect
    for function in connected:
        user_launched.disconnect(function)


def launch_from_own_site(browser: Client, lms: FakeLms, **changes: Any) -> Any:
    form = urlencode(lms.sign("/content/", **changes))
    answer = browser.post("/lti/launch/content/", form, content_type=FORM, headers=OWN_SITE)
    if "/enter/" in answer.get("Location", ""):
        answer = browser.get(answer["Location"], headers=OWN_SITE)
    return answer


def user_of(browser: Client, headers: dict[str, str]) -> Any:
    return browser.get("/content/", headers=headers).wsgi_request.user


@pytest.mark.parametrize("error", [PermissionDenied, Http404])
@pytest.mark.parametrize("known", [True, False])
def test_who_a_site_sends_away_is_not_signed_in(lms, receiver, error, known):
    browser = Client()
    if known:
        lms.launch(browser, "/content/", framed=True)
    lms.launch(Client(), "/content/", framed=True, user_id="banned")

    def send_away(**told: Any) -> None:
        raise error

    receiver(send_away)
    answer = lms.launch(browser, "/content/", framed=True, user_id="banned")

    assert answer.status_code in (403, 404)
    assert user_of(browser, FRAME) != LtiUser.objects.get(lti_user_id="banned").user


def test_a_marker_of_an_lms_of_this_site_says_nothing_of_another(lms):
    # Both in one browser that knows no partitions: the second posts before the first one enters.
    own, browser = FakeLms.create("moodle"), Client()
    waiting = lms.post(browser, "/content/", framed=True)
    launch_from_own_site(browser, own)
    browser.cookies["lti_enter_framed"] = waiting.cookies["lti_enter_framed"].value
    entered = browser.get(waiting["Location"], headers=FRAME)

    assert entered.status_code == 200
    assert b"new window" in entered.content
    assert "sessionid" not in entered.cookies


@pytest.fixture
def ada(lms) -> Any:
    """An account of this site, connected to a person of the LMS."""
    account = get_user_model().objects.create_user("ada", password="secret")
    lms.launch(Client(), "/content/", user_id="ada at the lms")
    person = LtiUser.objects.filter(lti_user_id="ada at the lms")
    person.update(user=account, connected_at="2026-01-01T00:00Z")
    return account


def test_a_persons_own_session_that_launched_is_not_replaced_unasked(lms, ada):
    window = Client()
    window.force_login(ada)
    lms.launch(window, "/content/", user_id="ada at the lms")
    launch_from_own_site(window, lms, user_id="ada at the lms")
    launch_from_own_site(window, lms, user_id="mallory")

    assert user_of(window, OWN_SITE) == ada
    assert user_of(window, navigation(framed=False)) == ada


def test_a_second_lms_of_this_site_signs_nobody_out_unasked(lms, ada):
    window, other = Client(), FakeLms.create("moodle")
    window.force_login(ada)
    form = urlencode(lms.sign("/content/"))
    window.post("/lti/launch/content/", form, content_type=FORM, headers=OWN_SITE)
    launch_from_own_site(window, other)

    assert user_of(window, navigation(framed=False)) == ada


@pytest.mark.parametrize("framed", [True, False])
def test_a_session_that_ends_while_it_is_entered_is_made_anew(lms, receiver, settings, framed):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    browser, ended = Client(), []
    lms.launch(browser, "/content/", framed=framed)

    def end(**told: Any) -> None:
        if not ended:
            ended.append(cache.clear())

    receiver(end)
    lms.launch(browser, "/content/", framed=framed, resource_link_id="second")

    assert ended
    assert user_of(browser, navigation(framed=framed)).is_authenticated


def test_a_new_password_ends_the_launches_of_old_sessions(lms):
    frame = Client()
    lms.launch(frame, "/content/", framed=True)
    assert frame.get("/launched/", headers=FRAME).content == b"launched"
    account = LtiUser.objects.get().user
    account.set_password("new")
    account.save()

    assert frame.get("/launched/", headers=FRAME).status_code == 403


def test_a_guests_refusals_are_erased_with_the_guest(lms):
    sent = {"user_id": None, "lis_person_name_full": "Canary Name"}
    url = lms.post(Client(), "/content/", **sent)["Location"]
    Client().get(url, headers=navigation(framed=False))
    browser = Client()
    url = lms.post(browser, "/content/", **sent)["Location"]
    for _time in range(2):
        browser.get(url, headers=navigation(framed=False))
    lms.post(Client(), "/content/", **sent, lti_version="other")
    DataSubject.from_account(LtiUser.objects.get().user).erase()

    left = [launch for launch in LtiLaunch.objects.refused() if _names(launch, "Canary")]
    # The other guest's launch was never entered, so there is nobody to erase.
    assert {launch.refusal_code for launch in left} <= {"other_browser"}


def _names(launch: LtiLaunch, text: str) -> bool:
    return text in json.dumps(launch.stored_message)

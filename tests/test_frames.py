import re
from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.http import HttpResponse
from django.test import Client

from lti_provider import frames
from lti_provider.models import LtiLaunch, LtiUser
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation

CSP = "Content-Security-Policy"
ANCESTORS = "frame-ancestors 'self' https://lms.example"


def response_with(policy: str) -> HttpResponse:
    return HttpResponse(headers={CSP: policy})


@pytest.mark.parametrize(
    ("site", "framed"),
    [
        ("", ANCESTORS),
        ("default-src 'self'", f"default-src 'self', {ANCESTORS}"),
        ("default-src 'self';", f"default-src 'self';, {ANCESTORS}"),
        ("default-src 'self';img-src *", f"default-src 'self';img-src *, {ANCESTORS}"),
        ("default-src 'self' ; img-src *;;", f"default-src 'self' ; img-src *;;, {ANCESTORS}"),
        ("frame-ancestors 'none'", ANCESTORS),
        ("frame-ancestors 'none';", f"{ANCESTORS};"),
        ("Frame-Ancestors\t'none'", ANCESTORS),
        ("frame-ancestors", ANCESTORS),
        (ANCESTORS, ANCESTORS),
        (
            "default-src 'self'; frame-ancestors https://b.example; img-src *",
            f"default-src 'self'; {ANCESTORS}; img-src *",
        ),
        ("default-src 'self', frame-ancestors 'none'", f"default-src 'self', {ANCESTORS}"),
        ("frame-ancestors https://b.example, frame-ancestors *", f"{ANCESTORS}, {ANCESTORS}"),
        ("frame-src 'none'", f"frame-src 'none', {ANCESTORS}"),
        (", ,", ANCESTORS),
    ],
)
def test_only_frame_ancestors_of_a_sites_policies_change(site: str, framed: str) -> None:
    response = response_with(site)
    frames.allow_framing(response, ["https://lms.example"])
    assert response[CSP] == framed


@pytest.mark.django_db
@pytest.mark.parametrize("in_sessions", [True, False])
def test_a_page_in_another_tab_keeps_its_csrf_token(settings, in_sessions: bool) -> None:
    settings.CSRF_USE_SESSIONS = in_sessions
    settings.ROOT_URLCONF = "tests.browser.site"
    lms, browser = FakeLms.create(), Client(enforce_csrf_checks=True)
    page = lms.launch(browser, "content/quiz/", framed=True, resource_link_id="first")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text).group(1)
    lms.launch(browser, "content/quiz/", framed=True, resource_link_id="second")
    url = f"{page.request['PATH_INFO']}?{page.request['QUERY_STRING']}"
    answer = browser.post(url, {"answer": "42", "csrfmiddlewaretoken": token})
    assert answer.status_code == 302


@pytest.fixture
def lms(db: None, settings) -> FakeLms:
    settings.ROOT_URLCONF = "tests.browser.site"
    return FakeLms.create()


def shown_in(page: HttpResponse, name: str) -> str:
    return re.search(f'<output id="{name}">(.*?)</output>', page.text).group(1)


@pytest.fixture
def two_frames(lms: FakeLms) -> Callable[..., tuple[Client, str, str]]:
    """Two frames of one page enter at once: each gets a session, the browser keeps the last."""

    def enter(**of_the_first: str) -> tuple[Client, str, str]:
        browser, at_once = Client(), Client()
        first = lms.launch(at_once, "content/", framed=True, resource_link_id="1", **of_the_first)
        second = lms.launch(browser, "content/", framed=True, resource_link_id="2")
        return browser, first.request["QUERY_STRING"], second.request["QUERY_STRING"]

    return enter


def test_frames_that_launch_at_once_keep_a_launch_each(two_frames) -> None:
    browser, first, second = two_frames()
    assert shown_in(browser.get(f"/content/?{first}"), "launch") == "1"
    assert shown_in(browser.get(f"/content/?{second}"), "launch") == "2"


def test_a_launch_found_again_is_remembered(two_frames, lms: FakeLms) -> None:
    browser, first, _second = two_frames()
    with time_machine.travel(timedelta(hours=1), tick=False):
        browser.get(f"/content/?{first}")
        lms.launch(browser, "content/", framed=True, resource_link_id="3")
    with time_machine.travel(timedelta(hours=2), tick=False):
        assert shown_in(browser.get(f"/content/?{first}"), "launch") == "1"


def test_frames_that_launch_at_once_do_not_share_people(two_frames) -> None:
    browser, first, _second = two_frames(user_id="somebody else")
    assert shown_in(browser.get(f"/content/?{first}"), "launch") == ""


def test_a_launch_that_was_not_entered_is_not_found(two_frames, lms: FakeLms) -> None:
    browser, _first, _second = two_frames()
    lms.post(Client(), "content/", framed=True, resource_link_id="3")
    last = LtiLaunch.objects.latest("pk")
    assert shown_in(browser.get(f"/content/?lti_launch={last.pk}"), "launch") == ""


XFO = "X-Frame-Options"


@pytest.fixture
def other_lms(lms: FakeLms) -> FakeLms:
    other = FakeLms.create()
    other.fields["launch_presentation_return_url"] = "https://other.example/return"
    return other


def in_frame(browser: Client, url: str = "/content/") -> HttpResponse:
    return browser.get(url, headers=navigation(framed=True))


def expire_enter(lms: FakeLms, browser: Client, settings) -> None:
    """Launch as far as the marker, and no session."""
    settings.LTI_PROVIDER_ENTER_LIFETIME = 0
    assert lms.launch(browser, "content/", framed=True).status_code == 410


def test_the_lms_may_frame_its_launch(lms: FakeLms) -> None:
    browser = Client()
    lms.launch(browser, "content/", framed=True)
    page = in_frame(browser)
    assert page[CSP] == ANCESTORS
    assert XFO not in page


def test_a_launch_ends_the_session_of_another_lms_in_the_frame(
    lms: FakeLms, other_lms: FakeLms, settings
) -> None:
    browser = Client()
    lms.launch(browser, "content/", framed=True)
    expire_enter(other_lms, browser, settings)
    page = in_frame(browser)
    assert shown_in(page, "user") == ""
    assert page[CSP] == "frame-ancestors 'self' https://other.example"


def test_a_session_without_its_marker_is_not_framed_by_the_next_lms(
    lms: FakeLms, other_lms: FakeLms, settings
) -> None:
    # A restarted browser has forgotten the marker, which has no expiry; the session has one.
    browser = Client()
    lms.launch(browser, "content/", framed=True)
    del browser.cookies[frames.MARKER_COOKIE]
    expire_enter(other_lms, browser, settings)
    page = in_frame(browser)
    assert page[XFO] == "DENY"
    assert CSP not in page


def test_a_session_of_no_launch_is_not_framed(lms: FakeLms, admin_user) -> None:
    browser = Client()
    lms.launch(browser, "content/", framed=True)
    admin = Client()
    admin.force_login(admin_user)
    browser.cookies["sessionid_lti_frame"] = admin.cookies["sessionid"].value
    assert in_frame(browser)[XFO] == "DENY"


def test_after_log_out_the_frame_goes_on(lms: FakeLms) -> None:
    browser = Client()
    lms.launch(browser, "content/", framed=True)
    browser.post("/accounts/logout/", headers=navigation(framed=True))
    page = in_frame(browser)
    assert shown_in(page, "user") == ""
    assert page[CSP] == ANCESTORS


def test_one_person_of_two_lms_has_a_session_of_each_in_frames(
    lms: FakeLms, other_lms: FakeLms
) -> None:
    browser = Client()
    first = lms.launch(browser, "content/", framed=True)
    user = LtiUser.objects.get().user
    other_lms.launch(Client(), "content/")
    LtiUser.objects.update(user=user)
    del browser.cookies[frames.MARKER_COOKIE]
    second = other_lms.launch(browser, "content/", framed=True)
    assert shown_in(second, "user") == user.username
    assert second[CSP] == "frame-ancestors 'self' https://other.example"
    again = in_frame(browser, f"/content/?{first.request['QUERY_STRING']}")
    assert shown_in(again, "launch") == ""


def test_our_pages_open_in_a_window_that_is_sandboxed_like_its_frame(lms: FakeLms) -> None:
    # Browsers refuse a document with any other opener policy there (HTML, "coop enforcement").
    page = Client().get("/lti/enter/unknown/")
    assert page.status_code == 404
    assert page["Cross-Origin-Opener-Policy"] == "unsafe-none"


def test_the_question_keeps_the_sites_opener_policy(lms: FakeLms, admin_client: Client) -> None:
    question = lms.launch(admin_client, "content/")
    assert b"<form" in question.content
    assert question["Cross-Origin-Opener-Policy"] == "same-origin"

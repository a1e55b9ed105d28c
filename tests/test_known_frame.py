"""A frame that brings our marker of the same LMS is signed in by the launch itself."""

from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.core.signing import dumps
from django.test import Client

from lti_provider.frames import MARKER_COOKIE, get_session_cookie
from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from lti_provider.models.digest import digest
from lti_provider.testing import FakeLms, get_framed_session
from lti_provider.testing.lms import navigation

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def frame(lms) -> Client:
    """A frame's browser after a first activity."""
    client = Client()
    assert "/enter/" in lms.post(client, "/content/", framed=True)["Location"]
    lms.launch(client, "/content/", framed=True)
    return client


def is_at_once(answer) -> bool:
    assert answer.status_code == 303
    return answer["Location"].startswith("/content/?lti_launch=")


def goes_to_enter(answer) -> bool:
    assert answer.status_code == 303
    return answer["Location"].startswith("/lti/enter/")


def test_a_second_activity_takes_one_request(lms, frame):
    answer = lms.post(frame, "/content/", framed=True, resource_link_id="second")

    assert is_at_once(answer)
    launch = LtiLaunch.objects.latest("pk")
    assert launch.entered_at is not None
    assert launch.resource_link.resource_link_id == "second"
    page = frame.get(answer["Location"], headers=navigation(framed=True))
    assert page.wsgi_request.lti.message.resource_link.id == "second"
    assert page.wsgi_request.user == launch.lti_user.user


def test_it_says_who_may_frame_the_page_and_keeps_the_cookies_in_the_frame(lms, frame):
    answer = lms.post(frame, "/content/", framed=True, user_id="another")

    assert is_at_once(answer)
    set_cookies = [morsel.OutputString() for morsel in answer.cookies.values()]
    assert set_cookies
    assert all("Partitioned" in text and "SameSite=None" in text for text in set_cookies)
    assert not [name for name in answer.cookies if name.startswith("lti_enter")]


def test_another_learner_of_the_same_lms_gets_a_session_of_their_own(lms, frame):
    before = get_framed_session(frame).session_key
    lms.launch(frame, "/content/", framed=True, user_id="another")

    assert get_framed_session(frame).session_key != before
    assert (
        LtiUser.objects.get(user=get_framed_session(frame)["_auth_user_id"]).lti_user_id
        == "another"
    )


# What has to go to enter


def test_without_a_marker_it_is_found_out_first(lms):
    assert goes_to_enter(lms.post(Client(), "/content/", framed=True))


def test_a_window_is_not_a_frame(lms, frame):
    assert goes_to_enter(lms.post(frame, "/content/", framed=False))


def test_a_browser_that_does_not_say_where_it_shows_goes_on_to_enter(lms, frame):
    body = urlencode(lms.sign("/content/"))
    assert goes_to_enter(frame.post("/lti/launch/content/", body, content_type=FORM))


def test_the_marker_of_another_consumer_opens_nothing(lms, frame):
    other = FakeLms.create("moodle")
    before = get_framed_session(frame).session_key
    answer = other.post(frame, "/content/", framed=True)

    assert goes_to_enter(answer)
    # As ever, the first consumer's session ends in this frame.
    assert not get_framed_session(frame).get("_auth_user_id")
    assert get_framed_session(frame).session_key != before


def test_a_marker_that_nobody_of_ours_made_opens_nothing(lms):
    client = Client()
    genuine = [str(lms.consumer.pk), "https://lms.example", False, 2**40, "https://lms.example"]
    for forged in (dumps(genuine, salt="another"), dumps(genuine, key="theirs"), "text", ":"):
        client.cookies[MARKER_COOKIE] = forged
        assert goes_to_enter(lms.post(client, "/content/", framed=True))


def test_a_frame_where_somebody_signed_in_by_themselves_is_not_replaced_unasked(lms, frame):
    ada = get_user_model().objects.create_user("ada", password="secret")
    own = Client()
    own.force_login(ada)
    frame.cookies[get_session_cookie(framed=True)] = own.session.session_key
    answer = lms.post(frame, "/content/", framed=True)

    assert goes_to_enter(answer)
    asked = frame.get(answer["Location"], headers=navigation(framed=True))
    assert asked.status_code == 200
    assert get_framed_session(frame)["_auth_user_id"] == str(ada.pk)


def test_an_lms_that_has_become_one_of_this_site_is_found_out_anew(lms, frame):
    body = urlencode(lms.sign("/content/"))
    headers = {**navigation(framed=True), "Sec-Fetch-Site": "same-site"}
    answer = frame.post("/lti/launch/content/", body, content_type=FORM, headers=headers)
    assert goes_to_enter(answer)


def test_who_has_to_connect_an_account_is_asked_first(lms, frame):
    LtiConsumer.objects.update(require_user_account=True)
    assert goes_to_enter(lms.post(frame, "/content/", framed=True))


def test_where_nobody_may_frame_it_nothing_is_signed_in(lms, frame):
    answer = lms.post(frame, "/content/", framed=True, launch_presentation_return_url=None)
    assert goes_to_enter(answer)


# What is refused


def test_a_replay_is_refused_and_signs_nobody_in(lms, frame):
    body = urlencode(lms.sign("/content/", user_id="another"))
    posted = {"content_type": FORM, "headers": navigation(framed=True)}
    first = frame.post("/lti/launch/content/", body, **posted)
    assert is_at_once(first)
    thief = Client()
    thief.cookies[MARKER_COOKIE] = frame.cookies[MARKER_COOKIE].value
    for browser in (frame, thief):
        again = browser.post("/lti/launch/content/", body, **posted)
        assert again.status_code == 403
        assert b"replayed_launch" in again.content
    assert "_auth_user_id" not in thief.session


def test_the_handle_is_used_up(lms, frame):
    assert is_at_once(lms.post(frame, "/content/", framed=True))
    launch = LtiLaunch.objects.latest("pk")
    launch.handle_digest = digest("known")
    launch.save()
    entered = frame.get("/lti/enter/known/", headers=navigation(framed=True))
    assert entered.status_code == 410
    assert b"launch_used" in entered.content


def test_a_deactivated_account_is_refused_and_the_launch_leaves_nothing(lms, frame):
    user = LtiUser.objects.get().user
    user.is_active = False
    user.save()
    launches = LtiLaunch.objects.accepted().count()
    answer = lms.post(frame, "/content/", framed=True)

    assert answer.status_code == 303
    assert "lti_errorlog=user_inactive" in answer["Location"]
    assert LtiLaunch.objects.accepted().count() == launches
    assert LtiLaunch.objects.refused().get().refusal_code == "user_inactive"


def test_staff_of_the_site_is_not_opened(lms, frame):
    user = LtiUser.objects.get().user
    user.is_staff = True
    user.save()
    answer = lms.post(frame, "/content/", framed=True)

    assert answer.status_code == 403
    assert b"staff_account" in answer.content
    page = frame.get("/content/", headers=navigation(framed=True))
    assert not page.wsgi_request.user.is_authenticated


def test_a_deactivated_consumer_is_refused(lms, frame):
    LtiConsumer.objects.update(is_active=False)
    answer = lms.post(frame, "/content/", framed=True)

    assert "lti_errorlog=consumer_inactive" in answer["Location"]


def test_a_wrong_signature_with_a_good_marker_signs_nobody_in(lms, frame):
    lms.consumer.consumer_secret = "another"
    answer = lms.post(frame, "/content/", framed=True, user_id="another")

    assert answer.status_code == 401
    assert not LtiUser.objects.filter(lti_user_id="another").exists()

import re
from datetime import UTC, datetime, timedelta
from http.cookies import Morsel
from urllib.parse import urlencode

import pytest
import time_machine
from django.contrib.auth import SESSION_KEY, get_user_model, user_logged_in
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.dispatch import Signal
from django.http import HttpRequest
from django.test import Client
from django.utils import timezone

from lti_provider.models import LtiLaunch, LtiUser
from lti_provider.signals import launch_refused, user_launched
from lti_provider.testing import FakeLms, get_framed_session
from lti_provider.testing.lms import navigation
from tests.connecting import FRAMED_SESSION, session_of

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
FRAMED = navigation(framed=True)
TOP_LEVEL = navigation(framed=False)
SAME_ORIGIN = {"Origin": "http://testserver", "Sec-Fetch-Dest": "document"}


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", frame_origins="https://lms.example")


@pytest.fixture
def other_lms() -> FakeLms:
    return FakeLms.create("moodle", frame_origins="https://other.example")


@pytest.fixture
def ada(django_user_model):
    return django_user_model.objects.create_user("ada", first_name="Ada")


@pytest.fixture
def signed_in_as_ada(ada) -> Client:
    client = Client()
    client.force_login(ada, "django.contrib.auth.backends.ModelBackend")
    return client


@pytest.fixture
def without_csrf_token() -> Client:
    return Client(enforce_csrf_checks=True)


def user_of(client: Client) -> str | None:
    return session_of(client).get(SESSION_KEY)


def learner() -> str:
    return str(LtiUser.objects.latest("pk").user_id)


def attributes(morsel: Morsel) -> set[str]:
    return set(morsel.OutputString().split("; ")[1:])


def ancestors(response) -> str | None:
    directives = re.split("[;,] *", response.headers.get("Content-Security-Policy", ""))
    found = [text for text in directives if text.startswith("frame-ancestors")]
    assert len(found) < 2
    return found[0] if found else None


def post_silently(client: Client, lms: FakeLms):
    form = urlencode(lms.sign("/content/"))
    return client.post("/lti/launch/content/", form, content_type=FORM)


# Once


def test_a_handle_becomes_a_session_once(client, lms):
    url = lms.post(client, "/content/")["Location"]
    assert client.get(url, headers=TOP_LEVEL).status_code == 303
    assert user_of(client) == learner()
    again = client.get(url, headers=TOP_LEVEL)
    assert again.status_code == 410
    assert "launch_used" in again.content.decode()


def test_a_look_at_the_headers_does_not_use_a_handle_up(client, lms):
    url = lms.post(client, "/content/")["Location"]
    for look in (client.head, client.options, client.put, client.delete):
        assert look(url, headers=TOP_LEVEL).status_code == 405
    assert user_of(client) is None
    assert client.get(url, headers=TOP_LEVEL).status_code == 303


def test_a_handle_lives_five_minutes(client, lms):
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    with time_machine.travel(now, tick=False) as clock:
        first = lms.post(client, "/content/")["Location"]
        clock.shift(timedelta(seconds=300))
        assert client.get(first, headers=TOP_LEVEL).status_code == 303
        second = lms.post(client, "/content/")["Location"]
        clock.shift(timedelta(seconds=301))
        late = client.get(second, headers=TOP_LEVEL)
    assert late.status_code == 410
    assert "launch_expired" in late.content.decode()
    assert LtiLaunch.objects.accepted().filter(entered_at=None).count() == 1


def test_a_site_may_give_handles_another_lifetime(client, lms, settings):
    settings.LTI_PROVIDER_ENTER_LIFETIME = 20
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as clock:
        url = lms.post(client, "/content/")["Location"]
        clock.shift(timedelta(seconds=21))
        assert client.get(url, headers=TOP_LEVEL).status_code == 410


@pytest.mark.parametrize("handle", ["x", "0", "None", "a" * 5000, "é", "%00", "..", "' OR 1=1 --"])
def test_a_handle_that_nobody_issued_leads_nowhere(client, lms, handle):
    lms.launch(client, "/content/")
    response = client.get(f"/lti/enter/{handle}/")
    assert response.status_code == 404
    assert user_of(client) == learner()
    assert client.post(f"/lti/enter/{handle}/window/", headers=SAME_ORIGIN).status_code == 404


@pytest.mark.one_database
def test_the_database_does_not_hold_what_opens_a_session(client, lms):
    handle = lms.post(client, "/content/")["Location"].split("/")[-2]
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM lti_provider_ltilaunch")
        (row,) = cursor.fetchall()
    assert handle not in repr(row)


def test_a_refused_launch_has_no_handle(client, lms):
    lms.post(client, "/nowhere/")
    assert LtiLaunch.objects.get().handle_digest is None


# In this browser only


def test_a_mailed_link_is_worth_nothing(client, lms):
    url = lms.post(client, "/content/")["Location"]
    stranger = Client()
    response = stranger.get(url, headers=TOP_LEVEL)
    assert response.status_code == 403
    assert "other_browser" in response.content.decode()
    assert user_of(stranger) is None
    assert not response.cookies
    assert client.get(url, headers=TOP_LEVEL).status_code == 303


def test_the_link_of_a_framed_launch_is_worth_nothing_in_a_window(client, lms):
    url = lms.post(client, "/content/", framed=True)["Location"]
    assert Client().get(url, headers=TOP_LEVEL).status_code == 403


def test_a_link_is_worth_nothing_to_somebody_with_a_launch_of_their_own(client, lms):
    url = lms.post(client, "/content/", user_id="kim")["Location"]
    robin = Client()
    lms.launch(robin, "/content/", user_id="robin")
    before = user_of(robin)
    assert robin.get(url, headers=TOP_LEVEL).status_code == 403
    assert user_of(robin) == before


def test_a_frame_that_keeps_cookies_needs_the_binding_too(client, lms):
    url = lms.post(client, "/content/", framed=True)["Location"]
    victim = Client()
    lms.launch(victim, "/content/", framed=True, user_id="victim")
    before = user_of(victim)
    response = victim.get(url, headers=FRAMED)
    assert response.status_code == 403
    assert "other_browser" in response.content.decode()
    assert user_of(victim) == before


def test_a_binding_is_worth_nothing_for_another_handle(client, lms):
    mine = lms.post(client, "/content/", user_id="robin")["Location"]
    yours = lms.post(Client(), "/content/", user_id="kim")["Location"]
    assert client.get(yours, headers=TOP_LEVEL).status_code == 403
    assert client.get(mine, headers=TOP_LEVEL).status_code == 303


@pytest.mark.parametrize("forged", ["", "x", "é", "0" * 64])
def test_a_binding_cannot_be_made_up(client, lms, forged):
    url = lms.post(client, "/content/")["Location"]
    client.cookies["lti_enter"] = forged
    client.cookies["lti_enter_framed"] = forged
    assert client.get(url, headers=TOP_LEVEL).status_code == 403


def test_the_question_is_answered_in_the_same_browser_only(lms, without_csrf_token):
    url = lms.post(Client(), "/content/")["Location"]
    assert Client().post(url, headers=TOP_LEVEL).status_code == 403
    assert without_csrf_token.post(url, headers=TOP_LEVEL).status_code == 403
    assert LtiLaunch.objects.get(refusal_code="").entered_at is None


# Cookies


def test_a_launch_at_top_level_binds_with_a_short_lax_cookie(client, lms):
    response = lms.post(client, "/content/")
    assert set(response.cookies) == {"lti_enter"}
    assert attributes(response.cookies["lti_enter"]) == {
        "HttpOnly",
        f"Path={response['Location']}",
        "SameSite=Lax",
    }


def test_over_tls_the_binding_is_secure(client, lms):
    form = urlencode(lms.sign("/content/", host="https://testserver"))
    response = client.post(
        "/lti/launch/content/", form, content_type=FORM, headers=TOP_LEVEL, secure=True
    )
    assert "Secure" in attributes(response.cookies["lti_enter"])


def test_a_session_at_top_level_is_an_ordinary_one(client, lms):
    url = lms.post(client, "/content/")["Location"]
    response = client.get(url, headers=TOP_LEVEL)
    session = attributes(response.cookies["sessionid"])
    assert {"SameSite=Lax", "HttpOnly"} <= session
    assert not {"Secure", "Partitioned"} & session
    assert "__Host-lti_frame" not in response.cookies
    assert response.cookies["lti_enter"]["max-age"] == 0
    assert response.cookies["lti_enter"]["path"] == url


def test_a_framed_launch_leaves_partitioned_cookies_only(client, lms):
    response = lms.post(client, "/content/", framed=True)
    assert set(response.cookies) == {"__Host-lti_frame", "lti_enter_framed"}
    for morsel in response.cookies.values():
        assert {"HttpOnly", "Secure", "SameSite=None", "Partitioned"} <= attributes(morsel)
    assert "Path=/" in attributes(response.cookies["__Host-lti_frame"])
    assert f"Path={response['Location']}" in attributes(response.cookies["lti_enter_framed"])


def test_a_session_in_a_frame_is_partitioned(client, lms):
    url = lms.post(client, "/content/", framed=True)["Location"]
    response = client.get(url, headers=FRAMED)
    assert response.status_code == 303
    assert {FRAMED_SESSION, "lti_enter_framed"} <= set(response.cookies)
    for morsel in response.cookies.values():
        assert {"Secure", "SameSite=None", "Partitioned"} <= attributes(morsel)
    assert user_of(client) == learner()


@pytest.mark.parametrize("element", ["iframe", "frame", "embed", "object"])
def test_every_element_that_frames_is_known(client, lms, element):
    response = client.post(
        "/lti/launch/content/",
        urlencode(lms.sign("/content/")),
        content_type=FORM,
        headers={**FRAMED, "Sec-Fetch-Dest": element},
    )
    assert "__Host-lti_frame" in response.cookies
    assert "lti_enter" not in response.cookies


def test_a_browser_that_does_not_say_gets_both_bindings(client, lms):
    response = post_silently(client, lms)
    assert set(response.cookies) == {"lti_enter", "lti_enter_framed", "__Host-lti_frame"}
    assert "Partitioned" not in attributes(response.cookies["lti_enter"])
    assert "Partitioned" in attributes(response.cookies["lti_enter_framed"])


def test_a_silent_browser_at_top_level_enters_with_an_ordinary_session(client, lms):
    url = post_silently(client, lms)["Location"]
    # Over plain http a browser drops what is Secure.
    del client.cookies["lti_enter_framed"], client.cookies["__Host-lti_frame"]
    response = client.get(url)
    assert response.status_code == 303
    assert "Partitioned" not in attributes(response.cookies["sessionid"])
    assert user_of(client) == learner()


def test_a_silent_browsers_frame_that_keeps_cookies_enters(client, lms):
    url = post_silently(client, lms)["Location"]
    del client.cookies["lti_enter"]
    response = client.get(url)
    assert response.status_code == 303
    assert "Partitioned" in attributes(response.cookies[FRAMED_SESSION])


def test_a_silent_browsers_frame_without_cookies_offers_a_new_window(client, lms):
    url = post_silently(client, lms)["Location"]
    client.cookies.clear()
    response = client.get(url)
    assert response.status_code == 200
    assert f'action="{url}window/"' in response.content.decode()


# A frame whose browser keeps no cookies


@pytest.fixture
def offered(lms):
    url = lms.post(Client(), "/content/", framed=True)["Location"]
    return url, Client().get(url, headers=FRAMED)


def test_a_frame_that_keeps_no_cookies_offers_a_new_window(offered):
    url, response = offered
    assert response.status_code == 200
    assert f'action="{url}window/"' in response.content.decode()
    assert 'target="_blank"' in response.content.decode()
    assert not response.cookies
    assert LtiLaunch.objects.get().entered_at is None


def test_only_the_lms_may_frame_the_offer(offered):
    _url, response = offered
    assert ancestors(response) == "frame-ancestors 'self' https://lms.example"
    assert "X-Frame-Options" not in response


def test_without_origins_of_the_consumer_the_signed_return_url_may_frame_the_offer():
    lms = FakeLms.create("canvas")
    return_url = "https://lms.example:8443/return?x=1"
    url = lms.post(Client(), "/content/", framed=True, launch_presentation_return_url=return_url)[
        "Location"
    ]
    response = Client().get(url, headers=FRAMED)
    assert ancestors(response) == "frame-ancestors 'self' https://lms.example:8443"


def test_without_any_origin_the_frame_shows_what_to_do_instead_of_the_offer():
    lms = FakeLms.create("canvas")
    url = lms.post(Client(), "/content/", framed=True, launch_presentation_return_url=None)[
        "Location"
    ]
    response = Client().get(url, headers=FRAMED)
    assert "unknown_frame_origin" in response.text
    assert "<form" not in response.text
    assert ancestors(response) is None
    assert "X-Frame-Options" not in response


def test_the_new_window_resumes_the_same_launch_with_an_ordinary_session(offered):
    url, _response = offered
    window = Client()
    response = window.post(f"{url}window/", headers=SAME_ORIGIN)
    assert response.status_code == 303
    assert response["Location"] == url
    assert set(response.cookies) == {"lti_enter"}
    assert {"SameSite=Lax", "HttpOnly"} <= attributes(response.cookies["lti_enter"])
    assert LtiLaunch.objects.get().entered_at is None
    entered = window.get(url, headers=TOP_LEVEL)
    assert entered.status_code == 303
    assert "Partitioned" not in attributes(entered.cookies["sessionid"])
    assert "__Host-lti_frame" not in entered.cookies
    assert user_of(window) == learner()
    assert LtiLaunch.objects.count() == 1


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "null",
        "",
        "https://lms.example",
        "https://testserver",
        "http://testserver:8000",
        "http://testserver.elsewhere.example",
        "http://testserver/",
        "http://TESTSERVER",
        "http://testserver http://testserver",
    ],
)
def test_a_window_that_our_own_page_did_not_open_is_refused(offered, origin):
    url, _response = offered
    window = Client()
    headers = {"Sec-Fetch-Dest": "document"} | ({"Origin": origin} if origin is not None else {})
    response = window.post(f"{url}window/", headers=headers)
    assert response.status_code == 403
    assert "foreign_origin" in response.content.decode()
    assert not response.cookies
    assert window.get(url, headers=TOP_LEVEL).status_code == 403
    assert LtiLaunch.objects.accepted().get().entered_at is None


def test_the_new_window_is_opened_by_a_form_only(offered):
    url, _response = offered
    assert Client().get(f"{url}window/", headers=SAME_ORIGIN).status_code == 405
    assert Client().head(f"{url}window/", headers=SAME_ORIGIN).status_code == 405


def test_a_used_or_expired_launch_opens_no_window(client, lms):
    url = lms.post(client, "/content/")["Location"]
    client.get(url, headers=TOP_LEVEL)
    assert Client().post(f"{url}window/", headers=SAME_ORIGIN).status_code == 410
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as clock:
        late = lms.post(client, "/content/")["Location"]
        clock.shift(timedelta(hours=1))
        assert Client().post(f"{late}window/", headers=SAME_ORIGIN).status_code == 410


def test_a_window_needs_no_csrf_token_as_it_has_no_cookies(offered, without_csrf_token):
    url, _response = offered
    assert without_csrf_token.post(f"{url}window/", headers=SAME_ORIGIN).status_code == 303


def test_the_offer_speaks_the_language_of_the_launch(lms, settings):
    settings.LANGUAGES = [("en", "English"), ("ar", "Arabic")]
    url = lms.post(Client(), "/content/", framed=True, launch_presentation_locale="ar-EG")[
        "Location"
    ]
    page = Client().get(url, headers=FRAMED).content.decode()
    assert '<html lang="ar" dir="rtl">' in page


# Somebody else


def test_somebody_else_at_top_level_is_asked_first(signed_in_as_ada, ada, lms):
    url = lms.post(signed_in_as_ada, "/content/")["Location"]
    response = signed_in_as_ada.get(url, headers=TOP_LEVEL)
    page = response.content.decode()
    assert response.status_code == 200
    assert "<strong>ada</strong>" in page
    assert "Linear equations" in page
    assert lms.consumer.consumer_name in page
    assert user_of(signed_in_as_ada) == str(ada.pk)
    assert LtiLaunch.objects.get().entered_at is None


def test_the_question_is_never_framed(signed_in_as_ada, lms):
    url = lms.post(signed_in_as_ada, "/content/")["Location"]
    response = signed_in_as_ada.get(url, headers=TOP_LEVEL)
    assert ancestors(response) == "frame-ancestors 'none'"
    assert response["X-Frame-Options"] == "DENY"


def test_a_frame_that_has_the_sites_own_session_goes_to_a_window_for_the_question(
    signed_in_as_ada, ada, lms
):
    signed_in_as_ada.cookies[FRAMED_SESSION] = signed_in_as_ada.session.session_key
    url = lms.post(signed_in_as_ada, "/content/", framed=True)["Location"]
    response = signed_in_as_ada.get(url, headers=FRAMED)
    assert f'action="{url}window/"' in response.content.decode()
    assert user_of(signed_in_as_ada) == str(ada.pk)
    assert LtiLaunch.objects.get().entered_at is None
    moved = signed_in_as_ada.post(f"{url}window/", headers=SAME_ORIGIN)
    asked = signed_in_as_ada.get(moved["Location"], headers=TOP_LEVEL)
    assert "<strong>ada</strong>" in asked.content.decode()
    assert ancestors(asked) == "frame-ancestors 'none'"


def test_a_silent_browser_is_asked_without_being_framed(signed_in_as_ada, lms):
    url = post_silently(signed_in_as_ada, lms)["Location"]
    del signed_in_as_ada.cookies["__Host-lti_frame"], signed_in_as_ada.cookies["lti_enter_framed"]
    response = signed_in_as_ada.get(url)
    assert "<strong>ada</strong>" in response.content.decode()
    assert response["X-Frame-Options"] == "DENY"


def test_the_answer_replaces_the_session(lms, ada, without_csrf_token):
    browser = without_csrf_token
    browser.force_login(ada, "django.contrib.auth.backends.ModelBackend")
    session = browser.session
    session["basket"] = "ada's"
    session.save()
    old_key = session.session_key
    url = lms.post(browser, "/content/")["Location"]
    browser.get(url, headers=TOP_LEVEL)
    token = browser.cookies["csrftoken"].value
    response = browser.post(url, {"csrfmiddlewaretoken": token}, headers=TOP_LEVEL)
    assert response.status_code == 303
    assert user_of(browser) == learner() != str(ada.pk)
    assert "basket" not in browser.session
    assert browser.session.session_key != old_key
    assert not SessionStore().exists(old_key)
    assert browser.get(response["Location"]).wsgi_request.lti


def test_an_answer_without_the_csrf_token_is_refused(lms, ada, without_csrf_token):
    browser = without_csrf_token
    browser.force_login(ada, "django.contrib.auth.backends.ModelBackend")
    url = lms.post(browser, "/content/")["Location"]
    browser.get(url, headers=TOP_LEVEL)
    for data in ({}, {"csrfmiddlewaretoken": "x" * 64}):
        assert browser.post(url, data, headers=TOP_LEVEL).status_code == 403
    assert user_of(browser) == str(ada.pk)
    assert LtiLaunch.objects.get().entered_at is None


def test_a_site_without_csrf_middleware_is_protected_here(lms, ada, settings, without_csrf_token):
    csrf = "django.middleware.csrf.CsrfViewMiddleware"
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != csrf]
    browser = without_csrf_token
    browser.force_login(ada, "django.contrib.auth.backends.ModelBackend")
    url = lms.post(browser, "/content/")["Location"]
    browser.get(url, headers=TOP_LEVEL)
    assert browser.post(url, headers=TOP_LEVEL).status_code == 403
    token = browser.cookies["csrftoken"].value
    answer = browser.post(url, {"csrfmiddlewaretoken": token}, headers=TOP_LEVEL)
    assert answer.status_code == 303


def test_an_answer_works_once(signed_in_as_ada, lms):
    url = lms.post(signed_in_as_ada, "/content/")["Location"]
    assert signed_in_as_ada.post(url, headers=TOP_LEVEL).status_code == 303
    assert signed_in_as_ada.post(url, headers=TOP_LEVEL).status_code == 410


def test_hostile_names_do_not_become_markup(django_user_model, lms):
    browser = Client()
    browser.force_login(
        django_user_model.objects.create(username="<b>x"),
        "django.contrib.auth.backends.ModelBackend",
    )
    url = lms.post(
        browser,
        "/content/",
        resource_link_title="<script>1</script>",
        tool_consumer_instance_name='"><img src=x>',
    )["Location"]
    page = browser.get(url, headers=TOP_LEVEL).content.decode()
    assert "<b>x" not in page
    assert "<script>" not in page
    assert "<img" not in page


def test_the_same_person_is_not_asked(client, lms):
    lms.launch(client, "/content/")
    key = client.session.session_key
    assert lms.launch(client, "/content/second/").wsgi_request.path == "/content/second/"
    assert client.session.session_key == key


def test_another_learner_at_the_same_browser_is_asked(client, lms):
    lms.launch(client, "/content/", user_id="robin")
    robin = user_of(client)
    response = lms.launch(client, "/content/", user_id="kim")
    assert "You are already signed in" in response.content.decode()
    assert user_of(client) == robin


def test_a_known_learner_who_is_somebody_else_is_asked_too(client, lms, signed_in_as_ada):
    lms.launch(client, "/content/")
    assert "ada" in lms.launch(signed_in_as_ada, "/content/").content.decode()


# Whose session it was


def test_a_planted_anonymous_session_is_left_behind(client, lms):
    planted = SessionStore()
    planted["basket"] = "the attacker's"
    planted["lti_provider"] = [[1, "/"]]
    planted.create()
    client.cookies["sessionid"] = planted.session_key
    lms.launch(client, "/content/")
    assert client.session.session_key != planted.session_key
    assert "basket" not in client.session
    assert len(client.session["lti_provider"]) == 1
    assert not SessionStore().exists(planted.session_key)


@pytest.mark.parametrize("framed", [True, False])
def test_a_planted_session_key_is_not_taken_over(client, lms, framed):
    client.cookies[FRAMED_SESSION if framed else "sessionid"] = "planted0planted0planted0planted0"
    lms.launch(client, "/content/", framed=framed)
    assert user_of(client) == learner()
    assert session_of(client).session_key != "planted0planted0planted0planted0"


def test_an_attackers_own_launched_session_is_replaced_in_a_frame(client, lms):
    attacker = Client()
    lms.launch(attacker, "/content/", framed=True, user_id="attacker")
    attackers_key = session_of(attacker).session_key
    client.cookies[FRAMED_SESSION] = attackers_key
    lms.launch(client, "/content/", framed=True, user_id="victim")
    assert session_of(client).session_key != attackers_key
    assert user_of(client) == learner()
    assert not SessionStore().exists(attackers_key)


def test_an_attackers_own_session_is_asked_about_at_top_level(client, lms, signed_in_as_ada):
    client.cookies["sessionid"] = signed_in_as_ada.session.session_key
    page = lms.launch(client, "/content/").content.decode()
    assert "ada" in page
    assert user_of(signed_in_as_ada) == user_of(client)


def test_a_session_of_a_deactivated_account_is_left_behind(signed_in_as_ada, ada, lms):
    session = signed_in_as_ada.session
    session["basket"] = "ada's"
    session.save()
    ada.is_active = False
    ada.save()
    lms.launch(signed_in_as_ada, "/content/")
    assert user_of(signed_in_as_ada) == learner()
    assert "basket" not in signed_in_as_ada.session


def test_a_framed_launch_of_another_lms_drops_the_session_of_the_first(client, lms, other_lms):
    lms.launch(client, "/content/", framed=True)
    response = other_lms.post(client, "/content/", framed=True)
    dropped = response.cookies[FRAMED_SESSION]
    assert dropped.value == ""
    assert dropped["max-age"] == 0
    assert {"Secure", "SameSite=None", "Partitioned"} <= attributes(dropped)


def test_a_site_that_saves_every_session_does_not_bring_it_back(client, lms, other_lms, settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    lms.launch(client, "/content/", framed=True)
    response = other_lms.post(client, "/content/", framed=True)
    assert response.cookies[FRAMED_SESSION].value == ""
    entered = client.get(response["Location"], headers=FRAMED)
    assert entered.cookies[FRAMED_SESSION].value
    assert user_of(client) == learner()


def test_a_framed_launch_of_the_same_lms_keeps_the_session(client, lms):
    lms.launch(client, "/content/", framed=True)
    before = get_framed_session(client).session_key
    lms.launch(client, "/content/", framed=True)
    assert get_framed_session(client).session_key == before


def test_a_launch_at_top_level_drops_no_session(signed_in_as_ada, lms):
    assert "sessionid" not in lms.post(signed_in_as_ada, "/content/").cookies


def test_two_lmss_in_one_jar_end_with_the_session_of_the_last(client, lms, other_lms):
    first = lms.post(client, "/content/", framed=True)["Location"]
    first_binding = client.cookies["lti_enter_framed"].value
    second = other_lms.post(client, "/content/", framed=True)["Location"]
    assert client.get(second, headers=FRAMED).status_code == 303
    client.cookies["lti_enter_framed"] = first_binding
    entered = client.get(first, headers=FRAMED)
    assert entered.cookies[FRAMED_SESSION].value
    assert user_of(client) == learner()
    page = client.get(entered["Location"], headers=FRAMED)
    assert ancestors(page) == "frame-ancestors 'self' https://lms.example"


def test_a_refusal_of_one_lms_is_shown_in_the_jar_of_another(client, lms, other_lms):
    lms.launch(client, "/content/", framed=True)
    response = other_lms.post(
        client, "/content/", framed=True, lti_version="2", launch_presentation_return_url=None
    )
    assert response.status_code == 400
    assert ancestors(response) is None
    assert "X-Frame-Options" not in response


# Who may enter


def test_a_deactivated_learner_returns_to_the_lms_with_a_message(client, lms):
    lms.launch(Client(), "/content/")
    get_user_model().objects.update(is_active=False)
    url = lms.post(client, "/content/")["Location"]
    response = client.get(url, headers=TOP_LEVEL)
    assert response.status_code == 303
    assert response["Location"].startswith(lms.fields["launch_presentation_return_url"])
    assert "deactivated" in response["Location"]
    assert user_of(client) is None
    assert LtiLaunch.objects.refused().get().refusal_code == "user_inactive"


def test_a_deactivated_learner_without_a_way_back_sees_why(client, lms):
    lms.launch(Client(), "/content/")
    get_user_model().objects.update(is_active=False)
    response = lms.launch(client, "/content/", launch_presentation_return_url=None)
    assert response.status_code == 403
    assert "Your account on this site is deactivated." in response.content.decode()


def test_without_the_backend_the_error_says_what_to_add(client, lms, settings):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    url = lms.post(client, "/content/")["Location"]
    with pytest.raises(ImproperlyConfigured, match=r"Add 'lti_provider\.backends\.LtiBackend' to"):
        client.get(url, headers=TOP_LEVEL)


def test_a_site_that_requires_login_everywhere_can_be_launched(client, lms, settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    assert client.get("/content/").status_code == 302
    assert client.get("/lti/launch/content/").status_code == 200
    page = lms.launch(client, "/content/")
    assert page.status_code == 200
    assert page.wsgi_request.path == "/content/"
    url = lms.post(Client(), "/content/", framed=True)["Location"]
    assert Client().get(url, headers=FRAMED).status_code == 200
    assert Client().post(f"{url}window/", headers=SAME_ORIGIN).status_code == 303


@pytest.fixture
def atomic_requests():
    before = connection.settings_dict["ATOMIC_REQUESTS"]
    connection.settings_dict["ATOMIC_REQUESTS"] = True
    yield
    connection.settings_dict["ATOMIC_REQUESTS"] = before


@pytest.mark.one_database
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("atomic_requests")
def test_a_site_with_a_transaction_a_request_keeps_nonces_of_refused_launches(client, lms):
    in_transaction = []

    def note(sender, **kwargs) -> None:
        in_transaction.append((connection.in_atomic_block, len(connection.savepoint_ids)))

    user_launched.connect(note)
    launch_refused.connect(note)
    try:
        assert lms.launch(client, "/content/").status_code == 200
        assert lms.post(client, "/nowhere/").status_code == 303
    finally:
        user_launched.disconnect(note)
        launch_refused.disconnect(note)
    # Entering is a transaction of its own, in no other one.
    assert in_transaction == [(True, 0), (False, 0)]


# What the site is told


class Listener:
    def __init__(self, signal: Signal) -> None:
        self.told: list[dict] = []
        signal.connect(self.listen, weak=False)
        self.stop = lambda: signal.disconnect(self.listen)

    def listen(self, **arguments) -> None:
        self.told.append(arguments)


@pytest.fixture
def launched():
    listener = Listener(user_launched)
    yield listener.told
    listener.stop()


@pytest.mark.parametrize("signal", [user_logged_in, user_launched])
def test_a_receiver_may_store_the_session_to_learn_its_key(client, lms, signal):
    keys = []

    def note(sender, request, **kwargs) -> None:
        request.session.save()
        keys.append(request.session.session_key)
        request.session["basket"] = "robin's"

    signal.connect(note)
    try:
        lms.launch(client, "/content/")
    finally:
        signal.disconnect(note)
    assert keys == [client.session.session_key]
    assert client.session["basket"] == "robin's"
    assert user_of(client) == learner()
    assert len(client.session["lti_provider"]) == 1


def test_the_site_is_told_who_was_launched_where(client, lms, launched):
    lms.launch(client, "/content/")
    lms.launch(client, "/content/")
    assert len(launched) == 2
    for told in launched:
        launch = told["launch"]
        assert told["sender"] is LtiLaunch
        assert isinstance(told["request"], HttpRequest)
        assert told["request"].user == told["user"] == launch.lti_user.user
        assert launch.context.title == "Algebra"
        assert launch.resource_link.title == "Linear equations"
        assert launch.entered_at is not None


def test_the_site_is_not_told_of_launches_that_did_not_enter(client, lms, launched):
    lms.post(client, "/content/")
    client.get("/lti/enter/unknown/")
    assert not launched


# Language


@pytest.fixture
def german(settings):
    settings.LANGUAGES = [("en", "English"), ("de", "German")]


@pytest.mark.usefixtures("german")
def test_the_launchs_language_holds_for_the_session(client, lms):
    url = lms.post(client, "/content/", launch_presentation_locale="de_CH")["Location"]
    response = client.get(url, headers=TOP_LEVEL)
    assert response.cookies["django_language"].value == "de"
    assert not response.cookies["django_language"]["max-age"]
    assert not response.cookies["django_language"]["expires"]
    page = client.get(response["Location"], headers={"Accept-Language": "en"})
    assert page["Content-Language"] == "de"


@pytest.mark.usefixtures("german")
def test_a_language_that_the_person_chose_at_top_level_stays(client, lms):
    client.cookies["django_language"] = "en"
    page = lms.launch(client, "/content/", launch_presentation_locale="de")
    assert page["Content-Language"] == "en"


@pytest.mark.usefixtures("german")
def test_in_a_frame_each_launch_brings_its_language(client, lms):
    client.cookies["django_language"] = "en"
    page = lms.launch(client, "/content/", framed=True, launch_presentation_locale="de")
    assert page["Content-Language"] == "de"
    assert "Partitioned" in attributes(client.cookies["django_language"])


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize("locale", [None, "", "tlh", "x" * 5000, "../../etc", "de\r\nX: y", "$x.y"])
def test_a_language_that_is_none_changes_nothing(client, lms, locale):
    page = lms.launch(client, "/content/", launch_presentation_locale=locale)
    assert page.status_code == 200
    assert "django_language" not in client.cookies


def test_only_canvas_is_asked_for_its_whole_window(client):
    pages = {}
    for make in ("canvas", "moodle"):
        lms = FakeLms.create(make)
        url = lms.post(client, "/content/?page=2", framed=True)["Location"]
        pages[make] = Client().get(url, headers=FRAMED).content.decode()
    assert "requestFullWindowLaunch" in pages["canvas"]
    assert 'data-launch-url="http://testserver/lti/launch/content/?page=2"' in pages["canvas"]
    assert 'data-origins="https://lms.example"' in pages["canvas"]
    assert "<script" not in pages["moodle"]


@pytest.mark.one_database
def test_of_two_requests_at_once_only_one_uses_the_handle(client, lms):
    url = lms.post(client, "/content/")["Location"]
    waiting = LtiLaunch.objects.filter(entered_at=None)
    faster = [True]

    def another_was_faster(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and "ltilaunch" in sql and faster:
            faster.pop()
            waiting.update(entered_at=timezone.now())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(another_was_faster):
        response = client.get(url, headers=TOP_LEVEL)
    assert response.status_code == 410
    assert "launch_used" in response.content.decode()
    assert user_of(client) is None

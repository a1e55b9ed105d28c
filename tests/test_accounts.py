from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth import SESSION_KEY, get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection
from django.dispatch import Signal
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import escape

from lti_provider.backends import LtiBackend, get_lti_backend
from lti_provider.exceptions import AccountMismatch, ConnectionRefused
from lti_provider.models import LtiConnectionEvent, LtiConsumer, LtiLaunch, LtiUser
from lti_provider.signals import (
    connection_refused,
    launch_refused,
    user_connected,
    user_disconnected,
    user_launched,
)
from lti_provider.testing import PROFILES, FakeLms
from tests.connecting import (
    FRAMED,
    OWN_PAGE,
    PASSWORD,
    TOP_LEVEL,
    Course,
    Window,
    attribute,
    connect,
    session_of,
    text_of,
    to_confirmation,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_with_accounts")]

CONNECTIONS = "/lti/connections/"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SENT = PROFILES["canvas"]["lis_person_contact_email_primary"]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", consumer_name="Campus", require_user_account=True)


@pytest.fixture
def other_lms() -> FakeLms:
    return FakeLms.create("moodle", consumer_name="Evening school", require_user_account=True)


@pytest.fixture
def robin(django_user_model):
    """The person whom the LMS sends, who has an account."""
    return django_user_model.objects.create_user("robin", SENT, PASSWORD)


@pytest.fixture
def kim(django_user_model):
    return django_user_model.objects.create_user("kim", "kim@other.example", PASSWORD)


def user_of(client: Client) -> str | None:
    return session_of(client).get(SESSION_KEY)


def collect(signal: Signal) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []

    def hear(**arguments: Any) -> None:
        heard.append(arguments)

    signal.connect(hear, weak=False, dispatch_uid="test")
    return heard


@pytest.fixture
def heard():
    signals = {
        "connected": user_connected,
        "disconnected": user_disconnected,
        "link refused": connection_refused,
        "launch refused": launch_refused,
    }
    yield {name: collect(signal) for name, signal in signals.items()}
    for signal in signals.values():
        signal.disconnect(dispatch_uid="test")


# From the course to the content


def test_once_it_is_entered_a_launch_has_no_name_and_no_address_in_memory_either(
    course, window, robin
):
    ask_page = course.open(lis_person_name_full="Canary Name")
    window.press(to_confirmation(window, ask_page, "robin"), "confirm")
    heard = collect(user_launched)

    assert course.look_again(ask_page).status_code == 200

    (launched,) = (each["launch"] for each in heard)
    assert launched.stored_identity is None
    assert launched.message.person.user_id
    assert (launched.message.person.full_name, launched.message.person.email) == ("", "")
    assert not launched.message.identity


def test_all_pages_of_connecting_call_the_lms_what_the_site_calls_it(course, window, lms, robin):
    course.frame.cookies.clear()
    own_name = PROFILES["canvas"]["tool_consumer_instance_name"]
    assert own_name == "Example School"
    ask_page = course.open()
    named = {
        "sign in, in a frame": ask_page,
        "sign in, in a window": lms.launch(Client(), "/content/"),
        "confirm": to_confirmation(window, ask_page, "robin"),
        "no address": lms.launch(Client(), "/content/", lis_person_contact_email_primary=None),
        "another browser": Client().get(attribute(ask_page, "data-enter-url"), headers=TOP_LEVEL),
    }
    silent = [window.press(named["confirm"], "decline"), window.press(named["confirm"], "confirm")]
    named["connections"] = window.get(CONNECTIONS)

    for name, page in named.items():
        assert "Campus" in text_of(page), name
        assert own_name not in text_of(page), name
    assert all(own_name not in text_of(page) for page in silent)


def test_the_first_launch_asks_to_sign_in_and_makes_nothing(course):
    page = course.open()
    assert page.status_code == 200
    text = text_of(page)
    assert "Sign in to open this activity" in text
    assert "Campus" in text
    assert "Sign in in a new window" in text
    assert 'target="_blank"' in page.content.decode()
    assert not get_user_model().objects.exists()
    assert not LtiUser.objects.exists()
    assert user_of(course.frame) is None


def test_signing_in_and_confirming_opens_the_content_in_the_frame(course, window, robin):
    ask = course.open()
    assert course.state(ask) == "waiting"
    login = window.follow(window.start(ask))
    assert login.wsgi_request.path == "/accounts/login/"
    question = window.sign_in(login, "robin")
    assert course.state(ask) == "waiting"
    assert not LtiUser.objects.exists()
    end = window.press(question, "confirm")
    assert end.status_code == 200
    assert "You can close this window." in text_of(end)
    assert course.state(ask) == "connected"
    content = course.look_again(ask)
    assert content.content.decode() == "content/ for robin"
    assert content.wsgi_request.lti.launch.lti_user.user == robin
    assert course.state(ask) == "ended"
    assert user_of(course.frame) == user_of(window.client) == str(robin.pk)


def test_the_question_names_both_people_and_the_lms(course, window, robin):
    robin.first_name, robin.last_name = "Robin", "Of-this-site"
    robin.save()
    text = text_of(to_confirmation(window, course.open(), "robin"))
    assert "Robin Of-this-site (robin)" in text
    assert "Robin Doe" in text
    assert SENT in text
    assert "Campus" in text


def test_the_question_names_the_id_where_the_lms_sends_no_name(lms, course, window, robin):
    lms.consumer.account_match = "any"
    lms.consumer.save()
    nameless = {name: None for name in lms.fields if name.startswith("lis_person_")}
    question = to_confirmation(window, course.open(**nameless, user_id="u-17"), "robin")
    assert "participant u-17" in text_of(question)


def test_the_question_is_the_administrators_name_of_the_lms(course, window, robin):
    ask = course.open(tool_consumer_instance_name="Your own bank")
    assert "Your own bank" not in text_of(to_confirmation(window, ask, "robin"))


def test_a_launch_in_a_window_goes_on_in_that_window(lms, window, robin):
    ask = window.follow(lms.post(window.client, "/content/"))
    assert "target=" not in ask.content.decode()
    assert "<script" not in ask.content.decode()
    question = to_confirmation(window, ask, "robin")
    content = window.press(question, "confirm")
    assert content.content.decode() == "content/ for robin"
    assert content.wsgi_request.lti.launch.lti_user.is_connected


def test_who_is_signed_in_already_only_confirms(lms, window, robin):
    window.client.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    question = window.follow(lms.post(window.client, "/content/"))
    assert "Connect your account?" in text_of(question)
    assert not LtiUser.objects.exists()
    assert window.press(question, "confirm").content.decode() == "content/ for robin"


def test_the_site_may_hold_its_sign_in_elsewhere(course, window, settings):
    settings.LOGIN_URL = "https://id.example/login"
    hop = window.client.get(window.start(course.open())["Location"], headers=TOP_LEVEL)
    assert hop["Location"].startswith("https://id.example/login?next=http%3A//testserver/lti/")


def test_later_launches_go_straight_in(lms, robin):
    connect(lms, "robin")
    again = Course(lms).open()
    assert again.content.decode() == "content/ for robin"
    top_level = lms.launch(Client(), "/content/")
    assert top_level.content.decode() == "content/ for robin"
    assert LtiUser.objects.count() == 1


@pytest.mark.one_database
@pytest.mark.parametrize("framed", [True, False])
def test_later_launches_take_eight_statements(lms, robin, framed):
    connect(lms, "robin")
    browser = Client()
    with CaptureQueriesContext(connection) as queries:
        posted = lms.post(browser, "/content/", framed=framed)
        entered = browser.get(posted["Location"], headers=FRAMED if framed else TOP_LEVEL)
    assert "lti_launch=" in entered["Location"]
    found = [query["sql"] for query in queries]
    plain = [sql for sql in found if not sql.startswith(("BEGIN", "COMMIT", "SAVEP", "RELEASE"))]
    assert len(plain) <= 8, "\n".join(plain)


def test_one_account_may_come_from_several_lmss(lms, other_lms, robin):
    connect(lms, "robin")
    connect(other_lms, "robin", lis_person_contact_email_primary=SENT)
    assert LtiUser.objects.filter(user=robin).count() == 2


def test_the_sign_in_of_the_window_stays_its_own(course, window, robin):
    ask = course.open()
    window.press(to_confirmation(window, ask, "robin"), "confirm")
    course.look_again(ask)
    session = window.client.session
    assert session["_auth_user_backend"] == "django.contrib.auth.backends.ModelBackend"
    assert session_of(course.frame)["_auth_user_backend"] == "lti_provider.backends.LtiBackend"


def test_a_connected_launch_leaves_the_persons_own_sign_in_as_it_is(lms, robin):
    connect(lms, "robin")
    browser = Client()
    browser.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    lms.launch(browser, "/content/")
    backend = browser.session["_auth_user_backend"]
    assert backend == "django.contrib.auth.backends.ModelBackend"


def test_a_second_click_is_no_conflict(course, window, robin, heard):
    ask = course.open()
    question = to_confirmation(window, ask, "robin")
    first = window.press(question, "confirm")
    second = window.press(question, "confirm")
    assert text_of(first) == text_of(second)
    course.look_again(ask)
    assert text_of(window.press(question, "confirm")) == text_of(first)
    assert LtiConnectionEvent.objects.count() == len(heard["connected"]) == 1


def test_several_activities_that_wait_open_with_one_sign_in(lms, window, robin):
    here, there = Course(lms), Course(lms)
    first, second = here.open(), there.open()
    window.press(to_confirmation(window, first, "robin"), "confirm")
    for course, ask in ((here, first), (there, second)):
        assert course.state(ask) == "connected"
        assert course.look_again(ask).content.decode() == "content/ for robin"


def test_pages_speak_the_language_of_the_course(lms, window, robin):
    course = Course(lms)
    ask = course.open(launch_presentation_locale="de-DE")
    assert '<html lang="de"' in ask.content.decode()
    question = to_confirmation(window, ask, "robin")
    assert '<html lang="de"' in question.content.decode()
    refused = window.press(question, "decline")
    assert '<html lang="de"' in refused.content.decode()


# What does not end in a connect


def test_declining_changes_nothing_and_can_be_taken_back(course, window, robin, heard):
    ask = course.open()
    question = to_confirmation(window, ask, "robin")
    declined = window.press(question, "decline")
    assert "You did not connect your account. Nothing was changed." in text_of(declined)
    assert "connection_declined" in text_of(declined)
    assert PROFILES["canvas"]["launch_presentation_return_url"] in declined.content.decode()
    assert course.state(ask) == "declined"
    assert not LtiUser.objects.exists()
    assert [heard["sender"].code for heard in heard["link refused"]] == ["connection_declined"]
    window.press(window.follow(window.start(ask)), "confirm")
    assert course.state(ask) == "connected"
    assert course.look_again(ask).content.decode() == "content/ for robin"


def test_another_account_can_be_chosen_on_the_way(course, window, robin, kim):
    ask = course.open()
    refused = to_confirmation(window, ask, "kim")
    assert refused.status_code == 403
    assert "You are signed in as kim ." in text_of(refused)
    assert "account_mismatch" in text_of(refused)
    login = window.press(refused, "another")
    assert user_of(window.client) is None
    question = window.sign_in(login, "robin")
    window.press(question, "confirm")
    assert course.look_again(ask).content.decode() == "content/ for robin"


def test_another_account_after_declining_lets_the_frame_wait_again(course, window, robin):
    ask = course.open()
    declined = window.press(to_confirmation(window, ask, "robin"), "decline")
    login = window.press(declined, "another")
    assert login.wsgi_request.path == "/accounts/login/"
    assert course.state(ask) == "waiting"


def test_an_account_that_is_another_persons_already_is_refused(lms, robin):
    connect(lms, "robin")
    window, ask = Window(), Course(lms).open(user_id="twin")
    refused = to_confirmation(window, ask, "robin")
    assert refused.status_code == 403
    assert "already_connected" in text_of(refused)
    assert "Sign in with another account" in text_of(refused)
    assert LtiUser.objects.get().lti_user_id == lms.fields["user_id"]


@pytest.mark.parametrize(
    ("profile", "setting"),
    [
        ("canvas", "privacy level “Email only”"),
        ("moodle", "Share launcher's email with tool"),
        ("blackboard", "User fields to send: Email address"),
        ("brightspace", "Send user email to tool"),
        ("sakai", "Send email addresses to external tool"),
        ("open_edx", "Request user's email"),
    ],
)
@pytest.mark.parametrize("framed", [True, False])
def test_a_missing_address_is_told_to_the_learner_and_in_the_launch_log(
    profile, setting, framed, heard
):
    lms = FakeLms.create(profile, require_user_account=True)
    client = Client()
    page = lms.launch(client, "/content/", framed=framed, lis_person_contact_email_primary=None)
    assert page.status_code == 403
    assert "did not send your e-mail address" in page.content.decode()
    assert escape(setting) in page.content.decode()
    assert "email_missing" in page.content.decode()
    logged = LtiLaunch.objects.get(refusal_code="email_missing")
    assert setting in logged.refusal_hint
    assert len(heard["link refused"]) == 1
    assert heard["launch refused"] == []
    assert not get_user_model().objects.exists()


def test_a_blank_address_is_a_missing_one(course):
    assert "email_missing" in text_of(course.open(lis_person_contact_email_primary=" \t"))


def test_without_an_address_any_account_may_do_if_the_consumer_says_so(lms, window, kim):
    lms.consumer.account_match = LtiConsumer.AccountMatch.ANY
    lms.consumer.save()
    course = Course(lms)
    ask = course.open(lis_person_contact_email_primary=None)
    window.press(to_confirmation(window, ask, "kim"), "confirm")
    assert course.look_again(ask).content.decode() == "content/ for kim"


def test_a_person_without_an_id_is_refused(course):
    page = course.open(user_id=None)
    assert page.status_code == 403
    assert "user_account_required" in text_of(page)
    logged = LtiLaunch.objects.get(refusal_code="user_account_required")
    assert "user_id" in logged.refusal_hint


def test_a_launch_waits_an_hour(course, window, robin):
    with time_machine.travel(NOON, tick=False) as clock:
        ask = course.open()
        question = to_confirmation(window, ask, "robin")
        clock.shift(timedelta(seconds=3600))
        assert course.state(ask) == "waiting"
        clock.shift(timedelta(seconds=1))
        assert course.state(ask) == "ended"
        late = window.press(question, "confirm")
        assert late.status_code == 410
        assert "This took too long. Go back to your course" in text_of(late)
        assert course.look_again(ask).status_code == 410
    assert not LtiUser.objects.exists()


def test_a_site_may_let_launches_wait_longer(course, settings):
    settings.LTI_PROVIDER_ACCOUNT_LIFETIME = 7200
    with time_machine.travel(NOON, tick=False) as clock:
        ask = course.open()
        clock.shift(timedelta(seconds=7000))
        assert course.state(ask) == "waiting"


def test_a_connection_made_late_still_opens_the_launch_that_waited(course, window, robin):
    with time_machine.travel(NOON, tick=False) as clock:
        ask = course.open()
        clock.shift(timedelta(seconds=3000))
        window.press(to_confirmation(window, ask, "robin"), "confirm")
        assert course.look_again(ask).content.decode() == "content/ for robin"


def test_a_launch_of_somebody_who_is_connected_waits_no_longer_than_others(lms, robin):
    with time_machine.travel(NOON, tick=False) as clock:
        connect(lms, "robin")
        clock.shift(timedelta(days=1))
        browser = Client()
        url = lms.post(browser, "/content/")["Location"]
        clock.shift(timedelta(seconds=301))
        assert browser.get(url, headers=TOP_LEVEL).status_code == 410


# The flag


def test_turned_on_it_asks_who_had_an_anonymous_account(lms, robin):
    lms.consumer.require_user_account = False
    lms.consumer.save()
    before = Course(lms)
    anonymous = before.open().wsgi_request.user
    lms.consumer.require_user_account = True
    lms.consumer.save()
    ask = before.open()
    assert "What you did here before, without an account, is not moved to it." in text_of(ask)
    window = Window()
    window.press(to_confirmation(window, ask, "robin"), "confirm")
    assert before.look_again(ask).content.decode() == "content/ for robin"
    assert user_of(before.frame) == str(robin.pk)
    lti_user = LtiUser.objects.get()
    assert lti_user.user == robin
    assert get_user_model().objects.filter(pk=anonymous.pk).exists()
    assert LtiConnectionEvent.objects.get().former_user_id == anonymous.pk


def test_turned_on_it_does_not_take_the_anonymous_account_for_the_persons_own(lms, robin):
    lms.consumer.require_user_account = False
    lms.consumer.personal_data = "name_email"
    lms.consumer.save()
    lms.launch(Client(), "/content/")
    assert get_user_model().objects.filter(email=SENT).count() == 2
    lms.consumer.require_user_account = True
    lms.consumer.save()
    connect(lms, "robin")
    LtiUser.objects.get().disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, robin, None)
    connect(lms, "robin")
    assert LtiUser.objects.get().user == robin


def test_turned_on_a_window_with_a_launched_session_signs_it_out_first(lms, window, robin):
    lms.consumer.require_user_account = False
    lms.consumer.save()
    window.follow(lms.post(window.client, "/content/"))
    anonymous = get_user_model().objects.exclude(pk=robin.pk).get()
    lms.consumer.require_user_account = True
    lms.consumer.save()
    page = window.follow(lms.post(window.client, "/content/"))
    assert page.status_code == 200
    assert f"participant {anonymous.username} is signed in" in text_of(page)
    login = window.press(page, "another")
    assert login.wsgi_request.path == "/accounts/login/"
    assert user_of(window.client) is None
    question = window.sign_in(login, "robin")
    assert window.press(question, "confirm").content.decode() == "content/ for robin"


def test_turned_off_connections_stay(lms, robin):
    connect(lms, "robin")
    lms.consumer.require_user_account = False
    lms.consumer.save()
    assert Course(lms).open().content.decode() == "content/ for robin"
    stranger = Course(lms).open(user_id="new")
    assert stranger.wsgi_request.user.username.startswith("lti-")


def test_turned_off_while_a_launch_waits_it_goes_on_without_an_account(lms, course, window, robin):
    ask = course.open()
    question = to_confirmation(window, ask, "robin")
    lms.consumer.require_user_account = False
    lms.consumer.save()
    assert course.state(ask) == "connected"
    assert window.press(question, "confirm").status_code == 200
    content = course.look_again(ask)
    assert content.wsgi_request.user.username.startswith("lti-")


def test_a_connected_account_never_gets_the_lmss_data(lms, robin):
    lms.consumer.personal_data = "name_email"
    lms.consumer.save()
    connect(lms, "robin")
    Course(lms).open(lis_person_name_given="Changed", lis_person_contact_email_primary="x@y.zz")
    robin.refresh_from_db()
    assert (robin.first_name, robin.email) == ("", SENT)


def test_a_connected_account_that_is_deactivated_is_refused(lms, robin):
    connect(lms, "robin")
    robin.is_active = False
    robin.save()
    refused = lms.post(Client(), "/content/")
    browser = Client()
    refused = browser.get(lms.post(browser, "/content/")["Location"], headers=TOP_LEVEL)
    assert "lti_errormsg=Your+account+on+this+site+is+deactivated" in refused["Location"]
    assert user_of(browser) is None


def test_a_connected_account_that_became_staff_is_refused(lms, robin):
    connect(lms, "robin")
    robin.is_staff = True
    robin.save()
    browser = Client()
    page = lms.launch(browser, "/content/")
    assert page.status_code == 403
    assert "staff_account" in text_of(page)
    assert user_of(browser) is None


# Undo


def connections_of(client: Client) -> str:
    return text_of(client.get(CONNECTIONS))


def end_connection(client: Client, lti_user: LtiUser):
    return client.post(CONNECTIONS, {"connection": str(lti_user.pk)})


@pytest.fixture
def at_home(robin) -> Client:
    """Robin, signed in without any LMS."""
    client = Client()
    client.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    return client


def test_a_person_sees_the_connections_of_the_account(lms, other_lms, at_home):
    assert "None." in connections_of(at_home)
    connect(lms, "robin")
    connect(other_lms, "robin", lis_person_contact_email_primary=SENT)
    text = connections_of(at_home)
    assert "Disconnect Campus" in text
    assert "Disconnect Evening school" in text
    assert "When you disconnect" in text


def test_connections_ask_to_sign_in(client):
    assert client.get(CONNECTIONS)["Location"] == f"/accounts/login/?next={CONNECTIONS}"
    assert client.post(CONNECTIONS, {"connection": "1"}).status_code == 302


def test_a_person_ends_a_connection_and_its_session_at_once(lms, at_home, robin, heard):
    course = connect(lms, "robin")
    assert course.frame.get("/content/").content.decode() == "content/ for robin"
    (connected,) = LtiUser.objects.all()
    assert end_connection(at_home, connected)["Location"] == CONNECTIONS
    assert course.frame.get("/content/").content.decode() == "content/ for AnonymousUser"
    assert user_of(course.frame) is None
    assert at_home.get("/content/").content.decode() == "content/ for robin"
    assert "None." in connections_of(at_home)
    assert "Sign in to open this activity" in text_of(course.open())
    (told,) = heard["disconnected"]
    assert told["sender"] is LtiUser
    assert told["done_by"] == robin
    assert told["lti_user"].lti_user_id == connected.lti_user_id


def test_ending_a_connection_from_the_session_that_it_made_ends_that_too(lms, robin):
    connect(lms, "robin")
    browser = Client()
    lms.launch(browser, "/content/")
    response = browser.post(CONNECTIONS, {"connection": str(LtiUser.objects.get().pk)}, follow=True)
    assert response.wsgi_request.path == "/accounts/login/"


def test_sessions_of_other_people_go_on(lms, at_home, robin, kim):
    connect(lms, "robin")
    theirs = connect(lms, "kim", user_id="kim", lis_person_contact_email_primary=kim.email)
    end_connection(at_home, LtiUser.objects.get(user=robin))
    assert theirs.frame.get("/content/").content.decode() == "content/ for kim"


def test_a_connection_made_again_opens_new_sessions_and_no_old_ones(lms, at_home, robin):
    old = connect(lms, "robin")
    end_connection(at_home, LtiUser.objects.get())
    new = connect(lms, "robin")
    assert new.frame.get("/content/").content.decode() == "content/ for robin"
    assert old.frame.get("/content/").content.decode() == "content/ for AnonymousUser"
    later = Course(lms)
    later.open()
    assert later.frame.get("/content/").content.decode() == "content/ for robin"


def test_a_session_of_a_connection_survives_a_change_of_the_secret_key(
    lms, at_home, robin, settings
):
    end_connection_after = connect(lms, "robin")
    end_connection(at_home, LtiUser.objects.get())
    course = connect(lms, "robin")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "rotated"
    assert course.frame.get("/content/").content.decode() == "content/ for robin"
    assert (
        end_connection_after.frame.get("/content/").content.decode() == "content/ for AnonymousUser"
    )


def test_the_launch_of_a_session_whose_connection_ended_is_over(lms, robin, at_home):
    connect(lms, "robin")
    lms.launch(at_home, "/content/")
    assert at_home.get("/content/").wsgi_request.lti
    end_connection(at_home, LtiUser.objects.get())
    still_signed_in = at_home.get("/content/")
    assert still_signed_in.wsgi_request.user == robin
    assert not still_signed_in.wsgi_request.lti


@pytest.mark.parametrize("number", ["", "x", "0", "-1", "²", "9" * 5000, "1e3", "\0"])
def test_a_connection_that_is_not_there_is_not_ended(lms, at_home, number):
    connect(lms, "robin")
    assert at_home.post(CONNECTIONS, {"connection": number}).status_code == 303
    assert at_home.post(CONNECTIONS).status_code == 303
    assert LtiUser.objects.count() == 1


def test_nobody_ends_the_connection_of_another(lms, robin, kim, client):
    connect(lms, "robin")
    client.force_login(kim)
    end_connection(client, LtiUser.objects.get())
    assert LtiUser.objects.get().user == robin


def test_an_anonymous_account_is_no_connection(lms):
    lms.consumer.require_user_account = False
    lms.consumer.save()
    browser = Client()
    lms.launch(browser, "/content/")
    assert "None." in connections_of(browser)
    end_connection(browser, LtiUser.objects.get())
    assert LtiUser.objects.count() == 1


def test_the_history_tells_who_when_from_where_and_how(lms, robin, at_home):
    with time_machine.travel(NOON, tick=False):
        connect(lms, "robin")
        end_connection(at_home, LtiUser.objects.get())
    connected, disconnected = LtiConnectionEvent.objects.order_by("pk")
    for event in (connected, disconnected):
        assert event.lti_consumer == lms.consumer
        assert event.lti_user_id == lms.fields["user_id"]
        assert event.user == event.done_by == robin
        assert event.address == "127.0.0.1"
        assert event.happened_at == NOON
    assert (connected.kind, connected.how) == ("connected", "confirmed")
    assert (disconnected.kind, disconnected.how) == ("disconnected", "person")
    assert str(disconnected) == f"Disconnected: {lms.fields['user_id']}"


def test_the_history_does_without_an_address_where_the_server_knows_none(lms, robin):
    connect(lms, "robin")
    client = Client(REMOTE_ADDR="unix:")
    client.force_login(robin)
    end_connection(client, LtiUser.objects.get())
    assert LtiConnectionEvent.objects.latest("pk").address is None


def test_a_connection_that_ends_before_an_answer_leaves_nobody_signed_in(lms, robin, kim):
    connect(lms, "robin")
    browser = Window()
    browser.client.force_login(kim, "django.contrib.auth.backends.ModelBackend")
    page = browser.follow(lms.post(browser.client, "/content/"))
    assert "You are already signed in" in text_of(page)
    LtiUser.objects.get().disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, kim, None)
    answered = browser.submit(page)
    assert answered.status_code == 403
    assert "user_account_required" in text_of(answered)
    assert user_of(browser.client) == str(kim.pk)


def test_a_consumer_that_asks_for_an_address_meanwhile_gets_none(lms, window, kim):
    lms.consumer.account_match = LtiConsumer.AccountMatch.ANY
    lms.consumer.save()
    ask = Course(lms).open(lis_person_contact_email_primary=None)
    question = to_confirmation(window, ask, "kim")
    lms.consumer.account_match = LtiConsumer.AccountMatch.EMAIL
    lms.consumer.save()
    assert "email_missing" in text_of(window.press(question, "confirm"))


def test_accounts_without_an_address_match_none(course, window, robin, monkeypatch):
    monkeypatch.setattr(get_user_model(), "EMAIL_FIELD", "nothing")
    assert "account_mismatch" in text_of(to_confirmation(window, course.open(), "robin"))


# Signals and hooks


def test_a_connection_is_told_once_with_the_launch(course, window, robin, heard):
    ask = course.open()
    window.press(to_confirmation(window, ask, "robin"), "confirm")
    (told,) = heard["connected"]
    assert told["sender"] is LtiUser
    assert told["lti_user"].user == robin
    assert told["launch"].lti_consumer == course.lms.consumer
    assert told["request"].user == robin


def test_a_refusal_to_connect_is_told_and_logged_without_the_address(course, window, kim, heard):
    to_confirmation(window, course.open(), "kim")
    (told,) = heard["link refused"]
    assert told["sender"] is AccountMismatch
    assert told["consumer"] == course.lms.consumer
    assert heard["launch refused"] == []
    logged = LtiLaunch.objects.get(refusal_code="account_mismatch")
    assert SENT not in repr(vars(logged))
    assert "e-mail address of the account differs" in logged.refusal_hint


class OtherTable(LtiBackend):
    """Finds accounts by addresses that the site keeps elsewhere."""

    def find_account(self, launch):
        return get_user_model().objects.filter(username="kim").first()


class Overtaken(LtiBackend):
    """Lets another request of the same person confirm in between."""

    def may_connect(self, user, launch):
        super().may_connect(user, launch)
        person = (launch.message.person.user_id, launch.user_digest)
        LtiUser.objects.connect(launch.lti_consumer, *person, user, None)


class OwnRule(ConnectionRefused):
    code = "not_enrolled"
    public_text = "Enrol first."


class Enrolled(LtiBackend):
    """Connects whom the site has enrolled."""

    def may_connect(self, user, launch):
        super().may_connect(user, launch)
        if launch.message.custom.get("enrolled") != user.username:
            raise OwnRule


def use(settings, backend: type[LtiBackend]) -> None:
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.ModelBackend",
        f"{backend.__module__}.{backend.__qualname__}",
    ]


class OvertakenByAnother(LtiBackend):
    """Lets the same person confirm with another account in between."""

    def may_connect(self, user, launch):
        super().may_connect(user, launch)
        person = (launch.message.person.user_id, launch.user_digest)
        faster = get_user_model().objects.get(username="kim")
        LtiUser.objects.connect(launch.lti_consumer, *person, faster, None)


def test_the_slower_of_two_accounts_is_told_so(settings, course, robin, kim, heard):
    window, ask = Window(), course.open()
    question = to_confirmation(window, ask, "robin")
    use(settings, OvertakenByAnother)
    window.client.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    refused = window.press(question, "confirm")
    assert "already_connected" in text_of(refused)
    assert LtiUser.objects.get().user == kim
    assert heard["connected"] == []


def test_the_slower_of_two_confirmations_tells_nothing_twice(settings, course, robin, heard):
    window, ask = Window(), course.open()
    question = to_confirmation(window, ask, "robin")
    use(settings, Overtaken)
    window.client.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    end = window.press(question, "confirm")
    assert "You can close this window." in text_of(end)
    assert LtiConnectionEvent.objects.count() == 1
    assert heard["connected"] == []


def test_a_site_may_find_accounts_in_its_own_way(settings, course, window, robin, kim):
    use(settings, OtherTable)
    ask = course.open()
    refused = to_confirmation(window, ask, "robin")
    assert "account_mismatch" in text_of(refused)
    question = window.sign_in(window.press(refused, "another"), "kim")
    window.press(question, "confirm")
    assert course.look_again(ask).content.decode() == "content/ for kim"


def test_a_site_may_have_rules_of_its_own(settings, course, window, robin, heard):
    use(settings, Enrolled)
    refused = to_confirmation(window, course.open(), "robin")
    assert "Enrol first." in text_of(refused)
    assert "not_enrolled" in text_of(refused)
    assert heard["link refused"][0]["sender"] is OwnRule
    ask = course.open(custom_enrolled="robin")
    window.press(window.follow(window.start(ask)), "confirm")
    assert course.look_again(ask).content.decode() == "content/ for robin"


def test_a_rule_is_asked_again_when_the_person_confirms(course, window, robin):
    question = to_confirmation(window, course.open(), "robin")
    robin.email = "moved@other.example"
    robin.save()
    assert "account_mismatch" in text_of(window.press(question, "confirm"))
    assert not LtiUser.objects.exists()


def test_a_site_without_the_backend_is_told_what_to_add(settings):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend"]
    with pytest.raises(ImproperlyConfigured, match="LtiBackend"):
        get_lti_backend()


# What is remembered of people


def personal(launch: LtiLaunch) -> list[str]:
    launch.refresh_from_db()
    return [*(launch.stored_identity or {}).values()]


def test_names_and_address_are_kept_while_a_launch_waits_and_no_longer(course, window, robin):
    ask = course.open()
    launch = LtiLaunch.objects.get()
    assert SENT in personal(launch)
    assert SENT not in repr(launch.stored_message)
    window.press(to_confirmation(window, ask, "robin"), "confirm")
    course.look_again(ask)
    assert personal(launch) == []
    assert launch.stored_identity is None


def test_without_the_flag_they_are_never_kept(lms):
    lms.consumer.require_user_account = False
    lms.consumer.save()
    lms.post(Client(), "/content/")
    assert LtiLaunch.objects.get().stored_identity is None


def test_they_are_forgotten_when_the_launch_is_too_old(course, capsys):
    with time_machine.travel(NOON, tick=False) as clock:
        course.open()
        launch = LtiLaunch.objects.get()
        clock.shift(timedelta(seconds=3600))
        call_command("lti_purge")
        assert SENT in personal(launch)
        clock.shift(timedelta(seconds=1))
        call_command("lti_purge")
        assert personal(launch) == []
        assert LtiLaunch.objects.forget_people() == 0


def test_what_a_launch_shows_of_a_person_is_gone_from_request_lti(lms, course, window, robin):
    ask = course.open()
    window.press(to_confirmation(window, ask, "robin"), "confirm")
    launch = course.look_again(ask).wsgi_request.lti
    assert launch.message.person.email == ""
    assert launch.message.person.full_name == ""


# The waiting page


def test_the_state_is_told_to_the_page_that_waits_and_nobody_else(course, client):
    ask = course.open()
    url = attribute(ask, "data-state-url")
    for secret in ({}, {"X-Lti-Secret": ""}, {"X-Lti-Secret": "0" * 64}, {"X-Lti-Secret": "é"}):
        answer = client.get(url, headers=secret)
        assert answer.status_code == 404
        assert answer.json() == {"state": "ended"}
    assert client.get("/lti/account/nobody/state/").status_code == 404
    assert client.post(url).status_code == 405
    own = client.get(url, headers={"X-Lti-Secret": attribute(ask, "data-secret")})
    assert own.json() == {"state": "waiting"}
    assert "no-store" in own["Cache-Control"]
    assert not own.cookies


def test_the_secret_is_the_pages_own(course):
    assert attribute(course.open(), "data-secret") != attribute(course.open(), "data-secret")


def test_asking_uses_nothing_up(course, window, robin):
    ask = course.open()
    for _time in range(3):
        assert course.state(ask) == "waiting"
        assert "Sign in to open this activity" in text_of(course.look_again(ask))
    window.press(to_confirmation(window, ask, "robin"), "confirm")
    assert course.look_again(ask).content.decode() == "content/ for robin"


def test_reading_the_question_changes_nothing(course, window, robin):
    question = to_confirmation(window, course.open(), "robin")
    path = question.wsgi_request.get_full_path()
    assert window.get(path).status_code == 200
    for method in (window.client.head, window.client.put, window.client.delete):
        assert method(path, headers=OWN_PAGE).status_code in (403, 405)
    assert not LtiUser.objects.exists()

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db import (
    DatabaseError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    connection,
    transaction,
)
from django.db.models.signals import post_delete, post_save
from django.dispatch import Signal
from django.test import Client

from lti_provider.frames import MARKER_COOKIE
from lti_provider.models import LtiConnectionEvent, LtiLaunch, LtiUser
from lti_provider.signals import (
    connection_refused,
    launch_refused,
    user_connected,
    user_disconnected,
    user_launched,
)
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation
from tests.connecting import Course, Window, attribute, text_of, to_confirmation

pytestmark = pytest.mark.django_db(transaction=True)

FRAMED = navigation(framed=True)
ENGINES = ["db", "cached_db", "cache", "signed_cookies"]
KILL = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email")


class Cut:
    """Ends the connection at one of the statements that the site sends.

    Where there is a server it really does; SQLite has no connection to cut.
    """

    def __init__(self, at: int, error: type[Exception] = OperationalError) -> None:
        self.at, self.error, self.asked = at, error, 0

    def __call__(self, execute: Callable[..., Any], *statement: Any) -> Any:
        self.asked += 1
        if self.asked == self.at:
            if connection.vendor not in KILL or self.error is not OperationalError:
                raise self.error("cut")
            self.kill()
        return execute(*statement)

    def kill(self) -> None:
        inner = connection.connection
        number = inner.thread_id() if connection.vendor == "mysql" else inner.info.backend_pid
        other = connection.copy()
        with other.cursor() as cursor:
            cursor.execute(KILL[connection.vendor], [number])
        other.close()


@contextmanager
def cut(at: int, error: type[Exception] = OperationalError) -> Iterator[Cut]:
    with connection.execute_wrapper(found := Cut(at, error)):
        yield found
    # As at the end of a request.
    connection.close_if_unusable_or_obsolete()


def post(lms: FakeLms, browser: Client, form: str, *, framed: bool) -> Any:
    return browser.post(
        "/lti/launch/content/",
        form,
        content_type="application/x-www-form-urlencoded",
        headers={**navigation(framed=framed), "Origin": "https://lms.example"},
    )


def open_activity(lms: FakeLms, browser: Client, at: int, *, framed: bool) -> tuple[list[Any], int]:
    """POST and enter with a cut, each once more if it failed; the answers and the statements.

    A known frame has no need to enter.
    """
    form, answers = urlencode(lms.sign("/content/")), []
    with cut(at) as found:
        answers.append(post(lms, browser, form, framed=framed))
        if answers[-1].status_code == 303 and "lti_launch" not in answers[-1]["Location"]:
            url = answers[-1]["Location"]
            answers.append(browser.get(url, headers=navigation(framed=framed)))
    if len(answers) == 1 and answers[0].status_code != 303:
        answers.append(post(lms, browser, form, framed=framed))
    if answers[-1].status_code != 303 or "lti_launch" not in answers[-1]["Location"]:
        url = [answer["Location"] for answer in answers if answer.status_code == 303][-1]
        answers.append(browser.get(url, headers=navigation(framed=framed)))
    return answers, found.asked


def assert_is_the_page(response: Any) -> None:
    assert response.status_code == 503
    assert int(response["Retry-After"]) > 0
    assert "site_unavailable" in text_of(response)
    assert not response.cookies
    assert "X-Frame-Options" not in response
    assert "frame-ancestors" not in response["Content-Security-Policy"]


@pytest.mark.slow
@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_wherever_the_database_fails_a_reload_enters(settings, lms, engine, framed):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    failed = 0
    for at in range(1, 100):
        # Somebody new each time, in a frame that has somebody else's session.
        browser = Client()
        if framed:
            lms.launch(browser, "/content/", framed=True, user_id="before")
        lms.fields["user_id"] = f"person {at}"
        answers, asked = open_activity(lms, browser, at, framed=framed)
        for refused in (answer for answer in answers if answer.status_code >= 400):
            assert_is_the_page(refused)
            failed += 1
        assert answers[-1].status_code == 303, at
        content = browser.get(answers[-1]["Location"], headers=navigation(framed=framed))
        person = LtiUser.objects.get(lti_user_id=f"person {at}")
        assert content.wsgi_request.user == person.user, at
        assert content.wsgi_request.lti.launch.lti_user == person
        assert content.status_code == 200
        if asked < at:
            break
    assert failed > 8
    # Nothing of what was rolled back is left.
    assert get_user_model().objects.count() == LtiUser.objects.count()


@pytest.mark.parametrize("framed", [True, False])
def test_whose_session_ended_meanwhile_enters(settings, lms, framed):
    # Where no transaction brings it back.
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    browser = Client()
    lms.launch(browser, "/content/", framed=framed)
    # With it, the launch itself would sign in.
    browser.cookies.pop(MARKER_COOKIE, None)
    url = lms.post(browser, "/content/", framed=framed)["Location"]
    ended = []

    def end(sender: Any, request: Any, **arguments: Any) -> None:
        if not ended:
            ended.append(request.session.session_key)
            type(request.session)(request.session.session_key).delete()

    user_launched.connect(end)
    try:
        entered = browser.get(url, headers=navigation(framed=framed))
    finally:
        user_launched.disconnect(end)
    assert entered.status_code == 303
    content = browser.get(entered["Location"], headers=navigation(framed=framed))
    assert content.status_code == 200
    assert browser.session.session_key != ended[0]


def test_what_a_session_gets_after_the_launch_is_saved_too(settings, lms, client):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    settings.CSRF_USE_SESSIONS = True
    assert lms.launch(client, "/content/").status_code == 200
    assert "_csrftoken" in client.session


# The answer


ERRORS = [OperationalError, InterfaceError, DatabaseError]


@pytest.mark.parametrize("error", ERRORS)
def test_a_launch_without_a_database_is_told_so(lms, client, error):
    with cut(1, error):
        answer = lms.post(client, "/content/", framed=True)
    assert_is_the_page(answer)
    assert "wait a moment" in text_of(answer)
    assert "href=" not in answer.content.decode()


def test_the_page_speaks_the_launchs_language_and_tries_again(lms, client):
    url = lms.post(client, "/content/", framed=True, launch_presentation_locale="de")["Location"]
    with cut(2):
        answer = client.get(url, headers=FRAMED)
    assert_is_the_page(answer)
    page = answer.content.decode()
    assert '<html lang="de"' in page
    assert attribute(answer, 'class="button" href') == url
    assert "https://lms.example" in page


def test_a_verified_launch_shows_the_way_back(lms, client):
    with cut(3):
        answer = lms.post(client, "/content/")
    assert_is_the_page(answer)
    assert attribute(answer, "href") == lms.fields["launch_presentation_return_url"]


def test_a_mistake_in_the_site_stays_a_server_error(lms):
    browser = Client(raise_request_exception=False)
    with cut(1, ProgrammingError):
        assert lms.post(browser, "/content/").status_code == 500


def test_the_operator_is_told(lms, client, caplog):
    with cut(1):
        lms.post(client, "/content/")
    lines = [record for record in caplog.records if getattr(record, "event", "")]
    assert [line.event for line in lines] == ["database_failed", "launch_refused"]
    assert lines[0].levelname == "ERROR"
    assert lines[0].exc_info
    assert lines[1].code == "site_unavailable"


def test_a_receiver_that_needs_the_database_too_spares_the_page(lms, client):
    def ask(sender: Any, **arguments: Any) -> None:
        raise OperationalError("cut")

    launch_refused.connect(ask)
    try:
        with cut(1):
            assert_is_the_page(lms.post(client, "/content/"))
    finally:
        launch_refused.disconnect(ask)


def test_an_outage_while_a_refusal_is_logged_changes_nothing(lms, client, caplog):
    lms.consumer.consumer_secret = "another"
    with cut(2, InterfaceError):
        assert lms.post(client, "/content/").status_code == 401
    assert "launch_refused_not_logged" in [getattr(line, "event", "") for line in caplog.records]


# Accounts


@pytest.fixture
def connecting_lms() -> FakeLms:
    return FakeLms.create("canvas", require_user_account=True, account_match="any")


@pytest.fixture
def robin():
    return get_user_model().objects.create_user("robin", password="secret")


@pytest.mark.urls("tests.urls_with_accounts")
def test_wherever_the_database_fails_a_second_confirmation_connects(connecting_lms, robin):
    for at in range(1, 100):
        LtiUser.objects.all().delete()
        LtiConnectionEvent.objects.all().delete()
        course, window = Course(connecting_lms), Window()
        ask = course.open()
        question = to_confirmation(window, ask, "robin")
        with cut(at) as found:
            answer = window.press(question, "confirm")
        if answer.status_code == 503:
            assert "site_unavailable" in text_of(answer)
            assert not LtiUser.objects.exists()
            assert not LtiConnectionEvent.objects.exists()
            answer = window.press(question, "confirm")
        assert "You can close this window." in text_of(answer), at
        assert LtiUser.objects.get().user == robin
        assert LtiConnectionEvent.objects.count() == 1
        assert course.look_again(ask).status_code == 200
        if found.asked < at:
            return


@pytest.mark.urls("tests.urls_with_accounts")
def test_the_pages_of_accounts_say_so_too(connecting_lms, robin, client):
    course, window = Course(connecting_lms), Window()
    ask = course.open()
    with cut(1):
        assert_is_the_page(window.start(ask))
    with cut(1):
        assert_is_the_page(client.get(attribute(ask, "data-state-url")))
    client.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    for at in (1, 2, 3):
        with cut(at):
            answer = client.get("/lti/connections/")
        assert_is_the_page(answer)
        assert attribute(answer, "href") == "/lti/connections/"
        with cut(at):
            assert_is_the_page(client.post("/lti/connections/", {"connection": "1"}))


def test_wherever_the_database_fails_disconnecting_is_whole_or_not_at_all(connecting_lms, robin):
    window = Client()
    window.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    for at in range(1, 100):
        LtiUser.objects.all().delete()
        LtiConnectionEvent.objects.all().delete()
        person = (f"person {at}", f"digest {at}")
        lti_user, _is_new = LtiUser.objects.connect(connecting_lms.consumer, *person, robin, None)
        window.force_login(robin, "django.contrib.auth.backends.ModelBackend")
        with cut(at) as found:
            window.post("/lti/connections/", {"connection": str(lti_user.pk)})
        disconnected = LtiConnectionEvent.objects.filter(kind=LtiConnectionEvent.Kind.DISCONNECTED)
        assert disconnected.exists() != LtiUser.objects.exists(), at
        if found.asked < at:
            assert disconnected.exists()
            return


# A transaction that somebody else's was in the way of


PASSING = {
    "sqlite": ("database is locked",),
    "postgresql": ("deadlock detected",),
    "mysql": (1213, "Deadlock found when trying to get lock"),
}


class Busy:
    """Refuses so many statements that write, as the database does where two collide."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self, execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if self.times and sql.startswith("UPDATE") and "ltilaunch" in sql:
            self.times -= 1
            error = OperationalError(*PASSING[connection.vendor])
            error.__cause__ = Deadlock()
            raise error
        return execute(sql, *rest)


class Deadlock(Exception):
    sqlstate = "40P01"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_collides_once_is_tried_again(settings, lms, client, engine):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    url = lms.post(client, "/content/")["Location"]
    with connection.execute_wrapper(Busy(1)):
        entered = client.get(url, headers=navigation(framed=False))
    assert entered.status_code == 303
    assert client.get(entered["Location"]).wsgi_request.lti
    assert get_user_model().objects.count() == 1


def test_a_site_without_messages_begins_again_too(settings, lms, client):
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "messages" not in name]
    url = lms.post(client, "/content/")["Location"]
    with connection.execute_wrapper(Busy(1)):
        assert client.get(url, headers=navigation(framed=False)).status_code == 303


def test_what_collides_twice_is_told_so(lms, client):
    url = lms.post(client, "/content/")["Location"]
    with connection.execute_wrapper(Busy(2)):
        assert_is_the_page(client.get(url, headers=navigation(framed=False)))
    assert LtiLaunch.objects.get().entered_at is None
    assert client.get(url, headers=navigation(framed=False)).status_code == 303


@pytest.mark.parametrize("table", ["user", "resourcelink", "result"])
def test_a_row_that_an_older_snapshot_hides_is_found_the_second_time(lms, client, table):
    url = lms.post(client, "/content/")["Location"]
    hidden = [f"lti_provider_lti{table}"]

    def hide(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if hidden and sql.startswith("INSERT") and hidden[0] in sql.partition("(")[0]:
            hidden.pop()
            raise IntegrityError("duplicate key")
        return execute(sql, *rest)

    with connection.execute_wrapper(hide):
        entered = client.get(url, headers=navigation(framed=False))
    assert not hidden
    assert entered.status_code == 303
    assert get_user_model().objects.count() == 1


# What a site's own receivers and middleware do


@contextmanager
def receiver(signal: Signal, function: Callable[..., Any]) -> Iterator[list[Any]]:
    """Connects a receiver that notes each call before it does what it does."""
    calls: list[Any] = []

    def receive(sender: Any, **arguments: Any) -> None:
        calls.append(sender)
        function(len(calls), **arguments)

    signal.connect(receive)
    try:
        yield calls
    finally:
        signal.disconnect(receive)


ERRORS_OF_A_SITE = [IntegrityError("own"), OperationalError(1213, "Deadlock found")]


def fail(error: Exception) -> Callable[..., None]:
    def raise_error(number: int, **arguments: Any) -> None:
        raise error

    return raise_error


@pytest.mark.urls("tests.urls_with_accounts")
@pytest.mark.parametrize("error", ERRORS_OF_A_SITE)
def test_what_a_receiver_of_a_connection_raises_is_reported(connecting_lms, robin, error):
    course, window = Course(connecting_lms), Window()
    question = to_confirmation(window, course.open(), "robin")
    with (
        receiver(user_connected, fail(error)) as calls,
        pytest.raises(type(error)),
    ):
        window.press(question, "confirm")
    assert len(calls) == 1
    assert LtiUser.objects.get().user == robin


@pytest.mark.parametrize("error", ERRORS_OF_A_SITE)
def test_what_a_receiver_of_a_disconnection_raises_is_reported(connecting_lms, robin, error):
    lti_user, _is_new = LtiUser.objects.connect(connecting_lms.consumer, "p", "d", robin, None)
    window = Client()
    window.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    form = {"connection": str(lti_user.pk)}
    with receiver(user_disconnected, fail(error)) as calls, pytest.raises(type(error)):
        window.post("/lti/connections/", form)
    assert len(calls) == 1
    assert not LtiUser.objects.exists()


@pytest.mark.parametrize("error", ERRORS_OF_A_SITE)
def test_a_refusal_is_sent_and_logged_once_whatever_its_receiver_raises(lms, client, caplog, error):
    with receiver(launch_refused, fail(error)) as calls, pytest.raises(type(error)):
        lms.post(client, "/content/", resource_link_id=None)
    assert len(calls) == 1
    assert [record.getMessage().split()[0] for record in caplog.records].count(
        "launch_refused"
    ) == 1


@pytest.mark.urls("tests.urls_with_accounts")
@pytest.mark.parametrize("error", ERRORS_OF_A_SITE)
def test_a_refused_connection_is_sent_once_whatever_its_receiver_raises(
    connecting_lms, robin, error
):
    course, window = Course(connecting_lms), Window()
    question = to_confirmation(window, course.open(), "robin")
    with receiver(connection_refused, fail(error)) as calls, pytest.raises(type(error)):
        window.press(question, "decline")
    assert len(calls) == 1


MISSING = [
    OperationalError("no such table: shop_order"),
    OperationalError("no such column: shop_order.paid"),
    OperationalError("table shop_order has no column named paid"),
    OperationalError(1054, "Unknown column 'paid' in 'field list'"),
]


@pytest.mark.parametrize("error", MISSING)
def test_a_table_that_a_site_lacks_is_its_error_and_the_launch_still_enters(lms, client, error):
    url = lms.post(client, "/content/")["Location"]
    with receiver(user_launched, fail(error)) as calls, pytest.raises(OperationalError):
        client.get(url, headers=navigation(framed=False))
    assert len(calls) == 1
    assert not LtiUser.objects.exists()
    assert client.get(url, headers=navigation(framed=False)).status_code == 303


def greet_and_fail_once(number: int, request: Any, **arguments: Any) -> None:
    messages.info(request, f"hello {number}")
    if number == 1:
        raise IntegrityError("duplicate key")


@pytest.mark.parametrize("storage", ["fallback.Fallback", "session.Session", "cookie.Cookie"])
def test_a_message_of_the_attempt_that_failed_is_not_shown(settings, lms, client, storage):
    settings.MESSAGE_STORAGE = f"django.contrib.messages.storage.{storage}Storage"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.note_the_visit"]
    url = lms.post(client, "/content/")["Location"]
    with receiver(user_launched, greet_and_fail_once) as calls:
        entered = client.get(url, headers=navigation(framed=False))
    assert entered.status_code == 303
    assert len(calls) == 2
    shown = messages.get_messages(client.get("/content/").wsgi_request)
    assert [str(message) for message in shown][-2:] == ["hello from a middleware", "hello 2"]
    assert "hello 1" not in map(str, shown)


def note_the_visit(get_response: Callable[..., Any]) -> Callable[..., Any]:
    """A site's middleware that queues a message and keeps something in the session."""

    def answer(request: Any) -> Any:
        if "/enter/" in request.path:
            messages.info(request, "hello from a middleware")
            request.session["visits"] = [*request.session.get("visits", []), request.path]
        return get_response(request)

    return answer


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_middleware_put_into_the_session_outlasts_a_second_attempt(
    settings, lms, client, engine
):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.note_the_visit"]
    lms.launch(client, "/content/")
    url = lms.post(client, "/content/")["Location"]

    def fail_once(number: int, request: Any, **arguments: Any) -> None:
        request.session["visits"].append("an attempt")
        if number == 1:
            raise IntegrityError("duplicate key")

    with receiver(user_launched, fail_once) as calls:
        assert client.get(url, headers=navigation(framed=False)).status_code == 303
    assert len(calls) == 2
    assert client.session["visits"] == [url, "an attempt"]


@contextmanager
def failing_after_commit(signal: Signal, kind: type[Any] | None = None) -> Iterator[list[Any]]:
    """A receiver that leaves to ``on_commit()`` what fails then."""
    sent: list[Any] = []

    def send() -> None:
        sent.append(kind)
        raise IntegrityError("own")

    def receive(number: int, instance: Any = None, **arguments: Any) -> None:
        if kind is None or isinstance(instance, kind):
            transaction.on_commit(send)

    with receiver(signal, receive):
        yield sent


def test_what_fails_after_an_entry_is_not_taken_for_a_second_click(lms, client):
    url = lms.post(client, "/content/")["Location"]
    with failing_after_commit(user_launched) as sent, pytest.raises(IntegrityError, match="own"):
        client.get(url, headers=navigation(framed=False))
    assert len(sent) == 1


def test_what_fails_after_a_launch_is_not_taken_for_a_replay(lms, client):
    after = failing_after_commit(post_save, LtiLaunch)
    with after as sent, pytest.raises(IntegrityError, match="own"):
        lms.post(client, "/content/")
    assert len(sent) == 1
    assert not LtiLaunch.objects.exclude(refusal_code="").exists()


@pytest.mark.urls("tests.urls_with_accounts")
def test_what_fails_after_a_connection_is_not_taken_for_a_second_click(connecting_lms, robin):
    course, window = Course(connecting_lms), Window()
    question = to_confirmation(window, course.open(), "robin")
    after = failing_after_commit(post_save, LtiUser)
    with after as sent, pytest.raises(IntegrityError, match="own"):
        window.press(question, "confirm")
    assert len(sent) == 1


def test_what_fails_after_a_disconnection_is_reported(connecting_lms, robin):
    lti_user, _is_new = LtiUser.objects.connect(connecting_lms.consumer, "p", "d", robin, None)
    window = Client()
    window.force_login(robin, "django.contrib.auth.backends.ModelBackend")
    after = failing_after_commit(post_delete, LtiUser)
    with after as sent, pytest.raises(IntegrityError, match="own"):
        window.post("/lti/connections/", {"connection": str(lti_user.pk)})
    assert len(sent) == 1

import json
import logging
import threading
import time
from datetime import timedelta
from decimal import Decimal
from email.message import Message
from pathlib import Path

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from lti_provider.conf import conf
from lti_provider.egress import HttpAnswer
from lti_provider.exceptions import ScoreNotRead
from lti_provider.grades import Deliverer, deliver_due, read_score
from lti_provider.grades.delays import compute_pause, compute_retry_delay
from lti_provider.grades.leasing import lease_due
from lti_provider.grades.recording import record_attempt
from lti_provider.lti11 import outcomes
from lti_provider.lti11.outcomes import _parse_retry_after, send_score
from lti_provider.models import (
    Attempt,
    Destination,
    LtiConsumer,
    LtiResult,
    LtiServiceBreaker,
    LtiServiceHost,
    Verdict,
)
from lti_provider.origins import get_host
from lti_provider.signals import score_delivered, score_failed
from lti_provider.testing import FakeLms
from tests.lms_service import (
    Gradebook,
    always,
    envelope,
    ok,
    score_body,
    signature_holds,
)
from tests.test_outcome_xml import CASES
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

#: The setting's default, by which leases and pauses go.
TIMEOUT = timedelta(seconds=20)

State = LtiResult.State
FAILURE = envelope("failure", "The assignment is closed")


@pytest.fixture(autouse=True)
def brisk(settings):
    """Limits that do not slow tests down; tests of a limit set their own."""
    settings.LTI_PROVIDER_GRADE_RATE = 10_000


@pytest.fixture
def lms(gradebook):
    made = FakeLms.create("canvas", service_networks="127.0.0.0/8")
    made.fields["lis_outcome_service_url"] = gradebook.url
    return made


@pytest.fixture
def result(client, lms):
    lms.launch(client, "/content/")
    return LtiResult.objects.get()


@pytest.fixture
def heard():
    """What the signals said, in order."""
    said = []
    receivers = {
        score_delivered: lambda result, **_: said.append(("delivered", result)),
        score_failed: lambda result, **_: said.append(("failed", result)),
    }
    for signal, receiver in receivers.items():
        signal.connect(receiver)
    yield said
    for signal, receiver in receivers.items():
        signal.disconnect(receiver)


def many(consumer, url, count, prefix="s", score=0.5):
    """Results with a score to be sent."""
    LtiResult.objects.bulk_create(
        LtiResult(
            lti_consumer=consumer,
            user_digest=f"{prefix}{number}",
            link_digest="link",
            service_url=url,
            service_host=get_host(url),
            service=LtiResult.Service.BASIC_OUTCOMES,
            remote_id=f"{prefix}{number}",
        )
        for number in range(count)
    )
    consumer.learn_service_host(get_host(url))
    mine = LtiResult.objects.filter(lti_consumer=consumer, user_digest__startswith=prefix)
    if score is not None:
        mine.submit(score)
    return mine


def make_due():
    LtiResult.objects.filter(state=State.WAITING).update(next_attempt_at=timezone.now())
    LtiServiceBreaker.objects.update(paused_until=None)


def destination_of(result):
    return Destination(result.lti_consumer_id, result.service_host)


def break_off(result, **changes):
    """What deliverers know after failures where a result goes."""
    destination = destination_of(result)
    return LtiServiceBreaker.objects.create(
        lti_consumer_id=destination.consumer, host=destination.host, **changes
    )


def record(result, **attempt):
    """What a deliverer writes when its attempt ended so."""
    leased = lease_due(destination_of(result)).results[0]
    return record_attempt(leased, Attempt(**attempt))


def test_a_score_arrives(result, lms, gradebook, heard):
    result.submit_score(0.85, submission_url="https://tool.example/essays/1?a=b&c")
    report = deliver_due()
    assert (report.delivered, report.retried, report.failed, report.superseded) == (1, 0, 0, 0)
    assert gradebook.grades == {result.remote_id: "0.85"}
    [received] = gradebook.received
    assert received.headers["Content-Type"] == "application/xml"
    assert received.data == ("url", "https://tool.example/essays/1?a=b&c")
    assert received.oauth["oauth_consumer_key"] == lms.consumer.consumer_key
    assert signature_holds(received, gradebook.url, lms.consumer.consumer_secret)
    assert not signature_holds(received, gradebook.url, "another secret")
    result.refresh_from_db()
    assert (result.state, result.attempts, result.delivered_version) == (State.DELIVERED, 1, 1)
    assert (result.next_attempt_at, result.lease_token, result.reason) == (None, "", "")
    assert result.delivered_at
    assert heard == [("delivered", result)]
    assert deliver_due().delivered == 0


def test_the_url_is_signed_and_sent_unchanged(client, lms, gradebook):
    url = gradebook.url.replace("/outcomes", "/c/course-v1:edX+Demo/type@lti+block@1%2F2")
    url += "?b=2%20x&a=1+y&a=&c"
    lms.fields["lis_outcome_service_url"] = url
    lms.consumer.consumer_secret = "a/ +&%=é"
    lms.consumer.save()
    lms.launch(client, "/content/")
    LtiResult.objects.get().submit_score(1)
    assert deliver_due().delivered == 1
    [received] = gradebook.received
    assert received.path == url.removeprefix(f"http://127.0.0.1:{gradebook.port}")
    assert signature_holds(received, url, "a/ +&%=é")


def test_a_deletion_arrives_and_a_score_is_read(result, gradebook):
    result.submit_score(0.5)
    deliver_due()
    assert read_score(result) == Decimal("0.5")
    LtiResult.objects.get().delete_score()
    assert deliver_due().delivered == 1
    assert [received.operation for received in gradebook.received][-1] == "delete"
    assert read_score(result) is None


def test_a_launch_asks_for_its_own_score(client, lms, gradebook):
    lti = lms.launch(client, "/content/").wsgi_request.lti
    gradebook.grades[lms.fields["lis_result_sourcedid"]] = "0.25"
    assert lti.read_score() == Decimal("0.25")
    assert lti.submit_score(1).version == 1
    assert lti.delete_score().version == 2


@pytest.mark.parametrize("case", CASES)
def test_what_real_services_answered(result, gradebook, case):
    headers = {"Content-Type": case["content_type"]}
    gradebook.behave = lambda *_: (case["status"], headers, case["body"].encode())
    result.submit_score(0.5)
    deliver_due()
    result.refresh_from_db()
    if "codeMajor>success<" in case["body"]:
        assert result.state == State.DELIVERED
    else:
        assert result.state == State.WAITING
        refused = "unauthorized" if "signature" in case["body"] else "refused"
        assert result.last_code == ("server_error" if case["status"] == 500 else refused)
        assert "<" not in result.reason
        assert result.remote_id not in result.reason


@pytest.mark.parametrize(
    ("status", "body", "headers", "code", "refusals", "at_least"),
    [
        (200, b"<html>Welcome</html>", {}, "not_understood", 0, 0),
        (200, b"success", {}, "not_understood", 0, 0),
        (204, b"", {}, "not_understood", 0, 0),
        (200, envelope("processing"), {}, "processing", 0, 40),
        (500, b"", {}, "server_error", 0, 0),
        (502, b"", {}, "server_error", 0, 40),
        (503, b"", {"Retry-After": "120"}, "throttled", 0, 120),
        (408, b"", {}, "server_error", 0, 0),
        (425, b"", {}, "server_error", 0, 0),
        (429, b"", {}, "throttled", 0, 0),
        (429, b"", {"Retry-After": "300"}, "throttled", 0, 300),
        (429, b"", {"Retry-After": "999999999999"}, "throttled", 0, 6 * 3600),
        (429, FAILURE, {}, "throttled", 0, 0),
        (403, b"403 Forbidden (Rate Limit Exceeded)", {}, "throttled", 0, 0),
        (403, b"", {"Retry-After": "60"}, "throttled", 0, 60),
        (403, b"", {}, "client_error", 1, 2000),
        (404, b"", {}, "client_error", 1, 2000),
        (401, b"", {}, "unauthorized", 1, 2000),
        (302, b"", {"Location": "http://127.0.0.1/"}, "redirect", 1, 2000),
        (422, FAILURE, {}, "refused", 1, 2000),
        (200, FAILURE, {}, "refused", 1, 2000),
        (500, FAILURE, {}, "refused", 1, 2000),
    ],
)
def test_what_comes_later(result, gradebook, status, body, headers, code, refusals, at_least):
    gradebook.behave = lambda *_: (status, headers, body)
    result.submit_score(0.5)
    before = timezone.now()
    # Full jitter may be next to nothing: then the same run has a second attempt.
    assert deliver_due().retried >= 1
    result.refresh_from_db()
    assert (result.state, result.last_code, result.refusals) == (State.WAITING, code, refusals)
    assert result.reason
    wait = (result.next_attempt_at - before).total_seconds()
    assert at_least <= wait <= 6 * 3600 + PATIENCE
    gradebook.behave = None
    make_due()
    assert deliver_due().delivered == 1


def test_success_decides_whatever_the_status(result, gradebook):
    gradebook.behave = always(500, envelope())
    result.submit_score(0.5)
    assert deliver_due().delivered == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("soon", None),
        ("12", 12),
        (" 0 ", 0),
        ("-5", None),
        ("١٢", None),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0),
        ("Sat, 01 Jan 2000 00:00:00 +" + "9" * 30, None),
        ("Sat, 01 Jan " + "9" * 30 + " 00:00:00 GMT", None),
        ("Sat, 01 Jan 2000 " + "9" * 30 + ":00:00 GMT", None),
        ("Sat, 01 Jan 2000 00:00:00 +9999", None),
        ("9" * 60_000, 999_999_999),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert _parse_retry_after(asking_to_wait(text)) == seconds


def asking_to_wait(text: str) -> HttpAnswer:
    headers = Message()
    headers["Retry-After"] = text
    return HttpAnswer(429, headers, b"")


@time_machine.travel("2030-01-01T12:00:00+00:00", tick=False)
@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_retry_after_a_date_to_come(zone):
    answer = asking_to_wait(f"Tue, 01 Jan 2030 12:01:00 {zone}")
    assert _parse_retry_after(answer) == 60


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ Jan \d+ \d+:\d+:\d+ [+-]\d+"))
def test_retry_after_is_a_wait_whatever_an_lms_says(text):
    wait = _parse_retry_after(asking_to_wait(text))
    assert wait is None or wait >= 0
    attempt = Attempt(verdict=Verdict.RETRY, retry_after=wait)
    assert compute_pause(attempt, 0) <= timedelta(hours=6)
    assert compute_retry_delay(attempt, 0, 0) <= timedelta(hours=6)


def test_a_score_beyond_all_bounds_says_what_is_wrong(result, gradebook):
    gradebook.behave = always(200, envelope(body=score_body("1E+9999999" + "9" * 1000)))
    with pytest.raises(ScoreNotRead) as caught:
        read_score(result)
    assert str(caught.value) == (f"The LMS answered “1E+9999999{'9' * 30}”, which is not a score.")


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nContent-Length: " + "9" * 6000,
        "HTTP/1.1 200 OK\r\nContent-Length: -1",
        "HTTP/1.1 " + "9" * 6000 + " OK\r\nContent-Length: 0",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + "f" * 6000,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1",
    ],
    ids=["length", "negative length", "status", "chunk", "negative chunk"],
)
def test_numbers_of_http_beyond_all_bounds_are_retried(result, gradebook, head):
    def behave(book, received, handler):
        handler.connection.sendall(f"{head}\r\n\r\n".encode())
        handler.close_connection = True

    gradebook.behave = behave
    result.submit_score(1)
    assert deliver_due().retried >= 1
    assert LtiResult.objects.get().last_code in ("unreachable", "not_understood", "too_large")
    with pytest.raises(ScoreNotRead):
        read_score(result)


def test_an_attempt_that_never_reached_the_host_does_not_close_its_breaker(lms, gradebook):
    [result] = many(lms.consumer, gradebook.url, 1)
    breaker = break_off(result, failures=3, last_code="timeout")
    LtiConsumer.objects.update(service_networks="")
    assert deliver_due().retried == 1
    breaker.refresh_from_db()
    assert breaker.failures == 3
    LtiConsumer.objects.update(service_networks="127.0.0.0/8")
    make_due()
    assert deliver_due().delivered == 1
    breaker.refresh_from_db()
    assert breaker.failures == 0


def test_a_plain_400_is_not_called_a_redirect(result, gradebook):
    gradebook.behave = always(400, b"Bad Request")
    result.submit_score(1)
    deliver_due()
    result.refresh_from_db()
    assert result.last_code == "client_error"
    assert result.reason == "The LMS answered with HTTP status 400."


def test_what_is_unsupported_is_remembered_and_not_asked_again(result, gradebook, heard):
    gradebook.behave = always(422, envelope("unsupported", "deleteResult is not supported"))
    result.delete_score()
    assert deliver_due().failed == 1
    result.refresh_from_db()
    assert result.state == State.FAILED
    assert "deleteResult is not supported" in result.reason
    assert not LtiConsumer.objects.get().supports("delete")
    LtiResult.objects.get().delete_score()
    assert deliver_due().failed == 1
    assert len(gradebook.received) == 1
    assert [event for event, _result in heard] == ["failed", "failed"]
    gradebook.behave = None
    LtiResult.objects.all().resend()
    assert deliver_due().delivered == 1


def test_a_refused_grade_has_a_few_slow_chances(result, gradebook, heard):
    gradebook.behave = always(422, FAILURE)
    result.submit_score(0.5)
    for _chance in range(3):
        assert deliver_due().retried == 1
        make_due()
    assert deliver_due().failed == 1
    assert len(gradebook.received) == 4
    result.refresh_from_db()
    assert result.state == State.FAILED
    assert result.reason == ("The LMS refused the grade: “The assignment is closed”")
    assert heard == [("failed", result)]


def test_attempts_end_after_days(result, gradebook, heard):
    gradebook.behave = always(500)
    result.submit_score(0.5)
    with time_machine.travel(timezone.now()) as traveller:
        start = timezone.now()
        while LtiResult.objects.get().state == State.WAITING:
            traveller.shift(timedelta(hours=6))
            deliver_due()
        assert timedelta(days=5) < timezone.now() - start < timedelta(days=6)
    result.refresh_from_db()
    assert (result.state, result.last_code) == (State.FAILED, "server_error")
    assert result.attempts > 15
    assert heard == [("failed", result)]


def test_the_jitter_is_full_and_bounded():
    later = Attempt(verdict=Verdict.RETRY)
    first = [compute_retry_delay(later, 0, 0).total_seconds() for _ in range(200)]
    assert max(first) <= 30
    assert min(first) < 10
    assert max(first) > 20
    tenth = [compute_retry_delay(later, 30, 0).total_seconds() for _ in range(200)]
    assert 4 * 3600 < max(tenth) <= 6 * 3600
    landing = Attempt(verdict=Verdict.RETRY, may_have_arrived=True)
    assert all(compute_retry_delay(landing, 0, 0) >= 2 * TIMEOUT for _ in range(50))


@pytest.mark.parametrize(
    ("break_it", "code", "state"),
    [
        ({"lti_consumer__is_active": False}, "consumer_inactive", State.WAITING),
        ({"lti_consumer__service_hosts": "other.example"}, "host_not_known", State.WAITING),
        ({"lti_consumer__service_networks": ""}, "address_not_public", State.WAITING),
        ({"remote_id": "a\x01b"}, "not_sendable", State.FAILED),
        ({"service": ""}, "no_service", State.FAILED),
    ],
)
def test_what_may_not_be_sent_is_not(result, gradebook, break_it, code, state):
    result.submit_score(0.5)
    for path, value in break_it.items():
        name = path.removeprefix("lti_consumer__")
        model = LtiConsumer if name != path else LtiResult
        model.objects.update(**{name: value})
    deliver_due()
    assert gradebook.received == []
    result.refresh_from_db()
    assert (result.state, result.last_code) == (state, code)
    assert result.reason
    with pytest.raises(ScoreNotRead) as caught:
        read_score(result)
    assert caught.value.code == code
    assert str(caught.value) == result.reason


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        (always(200, envelope("unsupported", "no reading")), "unsupported"),
        (always(200, FAILURE), "refused"),
        (always(500), "server_error"),
        (always(200, envelope(body=score_body("abc"))), "not_a_score"),
        (always(429, Retry_After="Tue, 01 Jan 2030 12:01:00 +" + "9" * 30), "throttled"),
        (always(200, b"x" * 70_000), "too_large"),
    ],
)
def test_a_score_that_cannot_be_read(result, gradebook, behave, code):
    gradebook.behave = behave
    with pytest.raises(ScoreNotRead) as caught:
        read_score(result)
    assert caught.value.code == code
    result.refresh_from_db()
    assert result.lti_consumer.supports("read") == (code != "unsupported")
    assert result.state == State.NOTHING


def test_a_secret_that_is_rotated_signs_what_waits(result, lms, gradebook):
    result.submit_score(0.5)
    LtiConsumer.objects.update(consumer_secret="rotated")
    deliver_due()
    assert signature_holds(gradebook.received[0], gradebook.url, "rotated")


def test_every_attempt_is_signed_afresh(result, gradebook):
    gradebook.behave = always(500)
    result.submit_score(0.5)
    for _attempt in range(3):
        deliver_due()
        make_due()
    assert len({received.oauth["oauth_nonce"] for received in gradebook.received}) == 3
    assert len({received.body for received in gradebook.received}) == 3


def test_what_waits_goes_where_the_newest_launch_says(client, result, lms, gradebook):
    result.submit_score(0.5)
    lms.launch(client, "/content/", lis_result_sourcedid="relaunched")
    deliver_due()
    assert gradebook.grades == {"relaunched": "0.5"}


def test_a_consumer_that_is_back_gets_what_waited(result, gradebook):
    result.submit_score(0.5)
    LtiConsumer.objects.update(is_active=False)
    assert deliver_due().retried >= 1
    LtiConsumer.objects.update(is_active=True)
    make_due()
    assert deliver_due().delivered == 1


def test_an_account_that_is_gone_loses_no_grade(client, result, lms, gradebook):
    result.submit_score(0.5)
    result.lti_user.user.delete()
    assert deliver_due().delivered == 1


def test_a_newer_score_during_the_attempt_is_sent_next(result, gradebook):
    def change_meanwhile(book, received, handler):
        if len(book.received) == 1:
            LtiResult.objects.get().submit_score(1)
        return book.succeed(received)

    gradebook.behave = None
    result.submit_score(0)
    lease = lease_due(destination_of(result))
    [leased] = lease.results
    LtiResult.objects.get().submit_score(1)
    assert lease_due(destination_of(result)) is None
    assert LtiResult.objects.get().state == State.SENDING
    assert record_attempt(leased, send_score(leased)) is None
    assert gradebook.grades == {result.remote_id: "0.0"}
    assert deliver_due().delivered == 1
    assert gradebook.grades == {result.remote_id: "1.0"}


def test_a_newer_score_waits_for_what_may_still_land(result):
    result.submit_score(0)
    [leased] = lease_due(destination_of(result)).results
    LtiResult.objects.get().submit_score(1)
    before = timezone.now()
    record_attempt(leased, Attempt(verdict=Verdict.RETRY, code="timeout", may_have_arrived=True))
    newer = LtiResult.objects.get()
    assert newer.state == State.WAITING
    assert newer.next_attempt_at >= before + 2 * TIMEOUT


def test_a_deliverer_that_died_is_replaced_after_its_lease(result, gradebook):
    result.submit_score(0.5)
    assert lease_due(destination_of(result))
    with time_machine.travel(timezone.now() + TIMEOUT):
        assert not LtiResult.objects.recover_expired_leases()
    with time_machine.travel(timezone.now() + 4 * TIMEOUT):
        assert deliver_due().delivered == 1
    result.refresh_from_db()
    assert result.attempts == 2


def test_a_deliverer_that_was_away_makes_the_newest_score_be_sent_again(result, gradebook):
    result.submit_score(0)
    [stale] = lease_due(destination_of(result)).results
    with time_machine.travel(timezone.now() + 4 * TIMEOUT):
        LtiResult.objects.get().submit_score(1)
        assert deliver_due().delivered == 1
        assert record_attempt(stale, send_score(stale)) is None
        assert gradebook.grades == {result.remote_id: "0.0"}
        assert deliver_due().delivered == 1
        assert gradebook.grades == {result.remote_id: "1.0"}


def test_a_late_answer_does_not_undo_giving_up(result):
    result.submit_score(0.5)
    [leased] = lease_due(destination_of(result)).results
    LtiResult.objects.all().give_up()
    record_attempt(leased, Attempt(verdict=Verdict.DELIVERED))
    assert LtiResult.objects.get().state == State.FAILED


def test_a_mistake_of_ours_is_retried_and_logged(result, gradebook, monkeypatch, caplog):
    def fail(*_args, **_kwargs):
        raise RuntimeError

    monkeypatch.setattr(outcomes, "request", fail)
    result.submit_score(0.5)
    assert deliver_due().retried == 1
    assert LtiResult.objects.get().last_code == "internal_error"
    assert "score_not_sent" in caplog.text


@pytest.mark.one_database
def test_nothing_is_reserved_inside_a_transaction(result, transactional_db):
    result.submit_score(0.5)
    with transaction.atomic(), pytest.raises(RuntimeError):
        deliver_due()


def test_logs_name_no_person_and_no_secret(result, lms, caplog):
    caplog.set_level(logging.DEBUG)
    result.submit_score(0.5)
    deliver_due()
    assert "score_delivered" in caplog.text
    for canary in (lms.consumer.consumer_secret, result.remote_id, lms.fields["user_id"]):
        assert canary not in caplog.text


def test_attempts_without_an_answer_open_the_breaker(lms, gradebook):
    many(lms.consumer, gradebook.url, 30)
    gradebook.behave = always(500)
    deliver_due()
    asked = len(gradebook.received)
    assert 5 <= asked <= 7
    host = LtiServiceBreaker.objects.get()
    assert host.is_circuit_open
    assert host.is_paused(timezone.now())
    assert host.failing_since
    assert "500" in host.reason
    assert str(host) == str(LtiServiceHost.objects.get()) == f"127.0.0.1:{gradebook.port}"
    LtiServiceBreaker.objects.update(paused_until=None)
    deliver_due()
    assert len(gradebook.received) == asked + 1
    gradebook.behave = None
    make_due()
    assert deliver_due().delivered == 30
    host.refresh_from_db()
    assert (host.failures, host.failing_since, host.reason) == (0, None, "")


def test_a_pause_grows_to_a_quarter_of_an_hour():
    failed = Attempt(verdict=Verdict.RETRY, code="timeout", host_answered=False)
    assert compute_pause(failed, 4) == timedelta(0)
    assert timedelta(seconds=15) <= compute_pause(failed, 5) <= timedelta(seconds=30)
    longest = max(compute_pause(failed, 50) for _ in range(100))
    assert timedelta(minutes=13) < longest <= timedelta(minutes=15)


def test_a_throttled_host_gets_nothing_until_then(lms, gradebook):
    many(lms.consumer, gradebook.url, 5)
    gradebook.behave = lambda *_: (429, {"Retry-After": "100"}, b"")
    deliver_due()
    assert len(gradebook.received) <= 2
    with time_machine.travel(timezone.now() + timedelta(seconds=90)):
        deliver_due()
        assert len(gradebook.received) <= 2
    gradebook.behave = None
    with time_machine.travel(timezone.now() + timedelta(seconds=130)):
        assert deliver_due().delivered == 5


def test_a_pause_that_another_deliverer_noted_counts_at_once(result):
    result.submit_score(1)
    later = timezone.now() + timedelta(minutes=1)
    break_off(result, paused_until=later)
    assert lease_due(destination_of(result)) is None
    LtiServiceBreaker.objects.update(paused_until=timezone.now())
    assert lease_due(destination_of(result))


def test_a_host_that_is_gone_for_days_fails_what_waits(lms, gradebook, heard):
    many(lms.consumer, gradebook.url, 3)
    fresh = many(lms.consumer, gradebook.url, 1, prefix="fresh").get()
    long_ago = timezone.now() - timedelta(days=6)
    old = LtiResult.objects.exclude(pk=fresh.pk)
    old.update(submitted_at=long_ago, next_attempt_at=long_ago)
    gradebook.behave = always(500)
    break_off(fresh, failures=9, failing_since=timezone.now() - timedelta(days=5.5))
    report = deliver_due()
    assert report.failed == 3
    told = [(name, result.state, result.last_code) for name, result in heard]
    assert told == [("failed", State.FAILED, "unreachable")] * 3
    assert not old.exclude(state=State.FAILED).exists()
    assert LtiResult.objects.get(pk=fresh.pk).state == State.WAITING


@pytest.mark.one_database
def test_a_score_that_comes_as_its_host_is_given_up_stays(lms, gradebook):
    result = many(lms.consumer, gradebook.url, 1).get()
    destination = destination_of(result)
    comes = iter([result])

    def submit_before_the_update(execute, sql, *statement):
        if sql.startswith("UPDATE"):
            for late in comes:
                late.submit_score(0.9)
        return execute(sql, *statement)

    with connection.execute_wrapper(submit_before_the_update):
        later = timezone.now() + timedelta(days=1)
        assert LtiResult.objects.fail_unreachable(*destination, before=later) == []
    assert LtiResult.objects.get().state == State.WAITING


def test_an_old_score_is_tried_before_it_fails(lms, gradebook):
    many(lms.consumer, gradebook.url, 1)
    LtiResult.objects.update(submitted_at=timezone.now() - timedelta(days=9))
    gradebook.behave = always(500)
    assert deliver_due().failed == 0
    gradebook.behave = None
    make_due()
    assert deliver_due().delivered == 1


@pytest.mark.django_db(transaction=True)
def test_requests_to_one_host_are_few_at_a_time(lms, gradebook, settings):
    settings.LTI_PROVIDER_GRADE_CONCURRENCY = 3
    many(lms.consumer, gradebook.url, 60)

    together = threading.Event()

    def wait_for_others(book, received, handler):
        if book.most_at_once == 3:
            together.set()
        together.wait()
        time.sleep(0.02)  # for a fourth
        return book.succeed(received)

    gradebook.behave = wait_for_others
    assert deliver_due().delivered == 60
    assert gradebook.most_at_once == 3
    assert gradebook.overlaps == []


def test_requests_to_one_host_are_few_a_second(lms, gradebook, settings):
    settings.LTI_PROVIDER_GRADE_RATE = 20
    many(lms.consumer, gradebook.url, 45)
    started = time.monotonic()
    assert deliver_due().delivered == 45
    # A burst of one second's worth, then 20 a second.
    assert time.monotonic() - started >= 1.2


def test_a_rate_below_one_a_second_still_sends(lms, gradebook, settings):
    settings.LTI_PROVIDER_GRADE_RATE = 0.5
    many(lms.consumer, gradebook.url, 1)
    assert deliver_due().delivered == 1


@pytest.mark.django_db(transaction=True)
def test_two_deliverers_share_the_work(lms, gradebook, settings):
    settings.LTI_PROVIDER_GRADE_CONCURRENCY = 2
    many(lms.consumer, gradebook.url, 80)
    reports = []

    def deliver():
        try:
            reports.append(deliver_due())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.delivered for report in reports) == 80
    assert len(gradebook.received) == 80
    assert gradebook.overlaps == []
    assert gradebook.most_at_once <= 2


def test_a_slow_host_does_not_delay_a_fast_one(lms, gradebook):
    with Gradebook("127.0.0.2") as slow:
        over = threading.Event()

        def stall(book, received, handler):
            over.wait()
            return ok(envelope())

        slow.behave = stall
        many(lms.consumer, slow.url, 300, prefix="slow")
        many(lms.consumer, gradebook.url, 300, prefix="fast")
        deliverer = Deliverer()

        def watch(report):
            if len(gradebook.grades) == 300:
                deliverer.stop()
                over.set()

        deliverer.run(progress=watch)
        assert len(gradebook.grades) == 300
        # Only those that were on their way.
        assert 1 <= len(slow.received) <= conf.grade_concurrency
        waiting = LtiResult.objects.pending()
        assert waiting.count() == 300 - len(slow.received)
        assert not waiting.filter(state=State.SENDING).exists()


@pytest.mark.django_db(transaction=True)
def test_a_stop_ends_after_the_request_that_is_on_its_way(lms, gradebook):
    many(lms.consumer, gradebook.url, 20)
    deliverer = Deliverer()

    def stop(book, received, handler):
        deliverer.stop()
        return book.succeed(received)

    gradebook.behave = stop
    report = deliverer.run(forever=True)
    assert 1 <= report.delivered <= 2
    assert report.released >= 18
    assert LtiResult.objects.due(timezone.now()).count() == 20 - report.delivered


@pytest.mark.django_db(transaction=True)
def test_a_loop_sends_what_comes(lms, gradebook):
    deliverer = Deliverer()
    thread = threading.Thread(
        target=lambda: (deliverer.run(forever=True, interval=0.05), connections.close_all())
    )
    thread.start()
    try:
        many(lms.consumer, gradebook.url, 1)
        wait_until(lambda: gradebook.grades)
    finally:
        deliverer.stop()
        thread.join()
    assert gradebook.grades == {"s0": "0.5"}


@pytest.mark.parametrize("behavior", ["stall", "cut", "drip"])
def test_what_hangs_is_retried_later_than_it_could_land(result, gradebook, settings, behavior):
    settings.LTI_PROVIDER_GRADE_TIMEOUT = 1
    over = threading.Event()

    def stall(book, received, handler):
        over.wait()

    def cut(book, received, handler):
        handler.close_connection = True
        handler.connection.close()

    def drip(book, received, handler):
        for part in (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500).splitlines(keepends=True):
            handler.wfile.write(part)
            time.sleep(0.2)

    gradebook.behave = {"stall": stall, "cut": cut, "drip": drip}[behavior]
    result.submit_score(0.5)
    before = timezone.now()
    assert deliver_due().retried == 1
    over.set()
    result.refresh_from_db()
    assert result.last_code == ("unreachable" if behavior == "cut" else "timeout")
    assert result.next_attempt_at - before >= timedelta(seconds=2)


def test_delivering_once_reports_one_line_of_json(lms, gradebook, capsys):
    many(lms.consumer, gradebook.url, 3)
    call_command("lti_deliver", once=True)
    report = json.loads(capsys.readouterr().out)
    assert report.pop("seconds") > 0
    assert report == {
        "event": "lti_deliver",
        "delivered": 3,
        "retried": 0,
        "failed": 0,
        "superseded": 0,
        "released": 0,
        "waiting": 0,
    }


def test_a_terminal_shows_progress(lms, gradebook):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    many(lms.consumer, gradebook.url, 3)
    terminal = Terminal()
    call_command("lti_deliver", stdout=terminal)
    assert "3 delivered, 0 to be retried, 0 failed; 0 waiting" in terminal.getvalue()
    assert "\r" in terminal.getvalue()


def test_the_payloads_of_all_makes_go_back_as_they_came(client, gradebook):
    from django.test import Client

    sent = []
    for path in sorted((Path(__file__).parent / "data" / "payloads").glob("*.json")):
        if path.name.startswith("live_"):
            continue
        fields = dict(json.loads(path.read_text())["fields"])
        if not fields.get("lis_result_sourcedid") or not fields.get("lis_outcome_service_url"):
            continue
        if not fields["resource_link_id"]:
            continue
        fields = {k: v for k, v in fields.items() if not k.startswith("oauth_")}
        consumer = LtiConsumer.objects.create(consumer_name=path.stem, guid_policy="record")
        consumer.service_networks = "127.0.0.0/8"
        consumer.save()
        fields["lis_outcome_service_url"] = gradebook.url
        FakeLms(consumer, fields).launch(Client(), "/content/")
        sent.append(fields["lis_result_sourcedid"])
    LtiResult.objects.all().submit(0.5)
    deliver_due()
    assert len(sent) > 3
    assert sorted(received.sourcedid for received in gradebook.received) == sorted(sent)


@pytest.mark.django_db(transaction=True)
def test_a_score_that_changes_while_it_is_sent_is_sent_again(result, gradebook, heard):
    def change_once(book, received, handler):
        if len(book.received) == 1:
            try:
                LtiResult.objects.get().submit_score(1)
            finally:
                connections.close_all()
        return book.succeed(received)

    gradebook.behave = change_once
    result.submit_score(0)
    report = deliver_due()
    assert (report.superseded, report.delivered) == (1, 1)
    assert gradebook.grades == {result.remote_id: "1.0"}
    assert [event for event, _result in heard] == ["delivered"]


def test_few_workers_send_everything(lms, gradebook):
    with Gradebook("127.0.0.2") as other:
        many(lms.consumer, gradebook.url, 25, prefix="one")
        many(lms.consumer, other.url, 25, prefix="other")
        assert deliver_due(workers=1).delivered == 50
        assert len(other.grades) == len(gradebook.grades) == 25

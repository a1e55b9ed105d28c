"""One consumer's grades do not hold up another's, whatever hosts it names."""

import threading
from datetime import timedelta

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from lti_provider.grades import Deliverer, deliver_due
from lti_provider.models import LtiResult
from lti_provider.testing import FakeLms
from tests.lms_service import Gradebook, always, envelope, ok
from tests.test_delivery import many

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

State = LtiResult.State


@pytest.fixture(autouse=True)
def brisk(settings):
    settings.LTI_PROVIDER_GRADE_TIMEOUT = 1
    settings.LTI_PROVIDER_GRADE_RATE = 10_000


def make_lms(gradebook, **consumer):
    lms = FakeLms.create("canvas", service_networks="127.0.0.0/8", **consumer)
    lms.fields["lis_outcome_service_url"] = gradebook.url
    return lms


@pytest.fixture
def honest(gradebook):
    return make_lms(gradebook, consumer_name="Honest")


@pytest.fixture
def hostile(gradebook):
    return make_lms(gradebook, consumer_name="Hostile")


def of(lms):
    return LtiResult.objects.filter(lti_consumer=lms.consumer)


def refuse_the_hostile(lms, answer):
    """The other LMS takes its own grades and answers everybody else's with ``answer``."""

    def behave(book, received, handler):
        if received.oauth["oauth_consumer_key"] == lms.consumer.consumer_key:
            return answer
        return book.succeed(received)

    return behave


@pytest.mark.parametrize(
    "answer",
    [(500, {}, b""), (429, {"Retry-After": "3600"}, b""), (403, {}, b"Rate Limit Exceeded"), None],
    ids=["errors", "throttling", "throttling in words", "silence"],
)
def test_what_a_host_denies_one_consumer_does_not_count_for_another(
    honest, hostile, gradebook, answer
):
    gradebook.behave = refuse_the_hostile(hostile, answer)
    for number in range(8):
        hostile.launch(Client(), "/content/", user_id=f"puppet {number}")
    of(hostile).submit(1)
    for _round in range(3):
        deliver_due()
        of(hostile).filter(state=State.WAITING).update(next_attempt_at=timezone.now())
    honest.launch(Client(), "/content/", user_id="learner")
    of(honest).get().submit_score(1)
    assert deliver_due().delivered == 1
    assert of(honest).get().state == State.DELIVERED


def test_trials_of_a_consumer_do_not_stop_another(honest, hostile, gradebook):
    gradebook.behave = refuse_the_hostile(hostile, (500, {}, b""))
    many(hostile.consumer, gradebook.url, 30, prefix="hostile")
    deliver_due()
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        many(honest.consumer, gradebook.url, 30, prefix="honest")
        assert deliver_due().delivered == 30
        asked = [received.oauth["oauth_consumer_key"] for received in gradebook.received]
        assert asked.count(hostile.consumer.consumer_key) <= 10


def test_what_one_consumer_cannot_reach_for_days_is_not_lost_for_another(
    honest, hostile, gradebook
):
    gradebook.behave = refuse_the_hostile(hostile, (500, {}, b""))
    many(hostile.consumer, gradebook.url, 8, prefix="hostile")
    with time_machine.travel(timezone.now()) as traveller:
        for _round in range(30):
            deliver_due()
            traveller.shift(timedelta(hours=6))
        results = many(honest.consumer, gradebook.url, 2, prefix="honest")
        results.update(
            submitted_at=timezone.now() - timedelta(days=6),
            next_attempt_at=timezone.now() + timedelta(hours=1),
        )
        many(hostile.consumer, gradebook.url, 1, prefix="once more")
        deliver_due()
        assert not results.exclude(state=State.WAITING).exists()
        assert of(hostile).filter(state=State.FAILED).count() == 8


@pytest.mark.parametrize(("concurrency", "rate"), [(1, 10_000), (4, 10_000), (4, 40)])
def test_thousands_of_grades_do_not_starve_another_consumer(
    honest, hostile, gradebook, settings, concurrency, rate
):
    settings.LTI_PROVIDER_GRADE_CONCURRENCY = concurrency
    settings.LTI_PROVIDER_GRADE_RATE = rate
    many(hostile.consumer, gradebook.url, 3000, prefix="many")
    many(honest.consumer, gradebook.url, 20, prefix="few")
    deliverer = Deliverer()

    def stop_when_the_few_are_there(report):
        if not of(honest).exclude(state=State.DELIVERED).exists() or report.delivered > 1500:
            deliverer.stop()

    deliverer.run(progress=stop_when_the_few_are_there)
    assert not of(honest).exclude(state=State.DELIVERED).exists()
    assert of(hostile).filter(state=State.DELIVERED).count() <= 400


def test_slow_hosts_of_one_consumer_leave_workers_to_another(honest, hostile, gradebook, settings):
    # No slow host is given up, and another one asked, before the fast grades are there.
    settings.LTI_PROVIDER_GRADE_TIMEOUT = 60
    patience = threading.Event()

    def stall(book, received, handler):
        patience.wait(60)
        return ok(envelope())

    slow = [Gradebook(f"127.0.0.{number}") for number in range(2, 14)]
    try:
        for number, book in enumerate(slow):
            book.behave = stall
            book.__enter__()
            many(hostile.consumer, book.url, 2, prefix=f"slow {number} ")
        many(honest.consumer, gradebook.url, 40, prefix="fast")
        deliverer = Deliverer(workers=6)
        asked = []

        def stop_when_the_fast_are_there(report):
            asked.append(sum(len(book.received) for book in slow))
            if report.delivered >= 40 or asked[-1] > 6:
                deliverer.stop()
                patience.set()

        deliverer.run(progress=stop_when_the_fast_are_there)
        assert len(gradebook.grades) == 40
        assert asked[-1] <= 3
    finally:
        patience.set()
        for book in slow:
            book.__exit__()


def test_two_consumers_of_a_dead_host_try_it_in_turn(honest, hostile, gradebook):
    gradebook.behave = always(500)
    many(hostile.consumer, gradebook.url, 30, prefix="one")
    many(honest.consumer, gradebook.url, 30, prefix="other")
    deliver_due()
    before = len(gradebook.received)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        deliver_due()
    tried = [received.oauth["oauth_consumer_key"] for received in gradebook.received[before:]]
    assert sorted(tried) == sorted([honest.consumer.consumer_key, hostile.consumer.consumer_key])

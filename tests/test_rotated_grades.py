"""While a secret is rotated, grades are signed with the one that the LMS has."""

import json
from datetime import timedelta
from pathlib import Path
from socket import SHUT_RDWR

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from lti_provider.exceptions import ScoreNotRead
from lti_provider.grades import deliver_due, read_score
from lti_provider.lti11.outcomes import send_score
from lti_provider.models import LtiConsumer, LtiResult, LtiServiceBreaker
from lti_provider.testing import FakeLms
from tests.lms_service import always, envelope, ok, signature_holds
from tests.test_admin import form_of

pytestmark = pytest.mark.django_db

State = LtiResult.State
ANSWERS = json.loads((Path(__file__).parent / "data" / "outcome_answers.json").read_text())
OVERLAP = timedelta(hours=168)


def real(make, case):
    [found] = [answer for answer in ANSWERS[make] if answer["case"] == case]
    return found["status"], {"Content-Type": found["content_type"]}, found["body"].encode()


#: Moodle has the same answer to an unknown key as to a wrong secret.
REFUSALS = {
    "Moodle": real("moodle_4_3", "unknown key"),
    "Open edX": real("openedx_block_11_4", "wrong secret"),
    "Canvas": (401, {}, b""),
}


@pytest.fixture
def lms(gradebook):
    """An LMS that goes on with its first secret until its ``consumer`` is refreshed."""
    made = FakeLms.create("canvas", service_networks="127.0.0.0/8")
    made.fields["lis_outcome_service_url"] = gradebook.url
    return made


@pytest.fixture(params=REFUSALS.values(), ids=REFUSALS)
def accept(request, gradebook):
    """Make the gradebook accept these secrets only."""

    def set_secrets(*secrets):
        def behave(book, received, handler):
            if any(signature_holds(received, book.url, secret) for secret in secrets):
                return book.succeed(received)
            return request.param

        gradebook.behave = behave

    return set_secrets


def rotate(lms, secret=""):
    LtiConsumer.objects.get(pk=lms.consumer.pk).rotate_secret(timezone.now() + OVERLAP, secret)


def change_over(lms):
    lms.consumer.refresh_from_db()


def launch(lms, user="learner"):
    assert lms.launch(Client(), "/content/", user_id=user).status_code == 200
    return LtiResult.objects.latest("pk")


def test_an_lms_that_has_the_old_secret_gets_grades_signed_with_it(lms, gradebook, accept):
    accept(old := lms.consumer.consumer_secret)
    before = launch(lms)
    rotate(lms)
    during = launch(lms, "another learner")
    for result in (before, during):
        result.submit_score(0.5)
    assert deliver_due().delivered == 2
    assert len(gradebook.received) == 2
    assert all(signature_holds(received, gradebook.url, old) for received in gradebook.received)
    assert str(read_score(before)) == "0.5"


def test_an_lms_that_has_changed_gets_the_grades_of_older_launches_too(lms, gradebook, accept):
    result = launch(lms)
    rotate(lms)
    change_over(lms)
    accept(lms.consumer.consumer_secret)
    result.submit_score(0.5)
    assert deliver_due().delivered == 1
    assert len(gradebook.received) == 2
    assert str(read_score(result)) == "0.5"


def test_tools_of_one_lms_change_at_different_times(lms, gradebook, accept):
    old = lms.consumer.consumer_secret
    rotate(lms)
    slow = launch(lms, "of the old tool")
    change_over(lms)
    fast = launch(lms, "of the new tool")
    accept(old, lms.consumer.consumer_secret)
    for result in (slow, fast):
        result.submit_score(1)
    assert deliver_due().delivered == 2
    signed = [signature_holds(received, gradebook.url, old) for received in gradebook.received]
    assert sorted(signed) == [False, True]


def test_a_grade_outlasts_the_overlap_that_its_lms_sleeps_through(lms, gradebook, accept):
    rotate(lms)
    result = launch(lms)
    accept("what nobody has")
    result.submit_score(1)
    with time_machine.travel(timezone.now()) as traveller:
        ends = LtiConsumer.objects.get().previous_secret_until
        while timezone.now() < ends:
            deliver_due()
            result.refresh_from_db()
            assert (result.state, result.last_code) == (State.WAITING, "unauthorized")
            traveller.shift(timedelta(hours=6))
        for _attempt in range(8):
            deliver_due()
            traveller.shift(timedelta(hours=6))
        result.refresh_from_db()
        assert (result.state, result.last_code) == (State.FAILED, "unauthorized")


def test_a_fault_after_days_of_refused_signatures_is_retried(lms, gradebook, accept):
    rotate(lms)
    result = launch(lms)
    accept("what nobody has")
    result.submit_score(1)
    with time_machine.travel(timezone.now()) as traveller:
        for _attempt in range(24):
            deliver_due()
            traveller.shift(timedelta(hours=6))
        gradebook.behave = always(503)
        LtiResult.objects.update(next_attempt_at=timezone.now())
        assert deliver_due().retried >= 1


def test_the_first_launch_with_the_new_secret_sends_what_was_refused(lms, gradebook, accept):
    rotate(lms)
    waiting = [launch(lms, f"learner {number}") for number in range(3)]
    accept("what nobody has")
    for result in waiting:
        result.submit_score(1)
    assert deliver_due().retried == 3
    assert deliver_due().retried == 0
    change_over(lms)
    accept(lms.consumer.consumer_secret)
    launch(lms, "somebody else")
    assert deliver_due().delivered == 3
    assert not LtiResult.objects.filter(refusals__gt=0).exists()


def test_a_secret_that_an_administrator_types_counts_as_a_new_one(
    admin_client, lms, gradebook, accept
):
    result = launch(lms)
    page = admin_client.get(f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/change/")
    form = form_of(page) | {"consumer_secret": "typed", "expires_at_0": "", "expires_at_1": ""}
    assert admin_client.post(page.wsgi_request.path, form).status_code == 302
    accept("what nobody has")
    result.submit_score(1)
    assert deliver_due().retried == 1
    change_over(lms)
    accept("typed")
    launch(lms, "somebody else")
    assert deliver_due().delivered == 1


def test_the_launch_of_a_refused_grade_sends_it(lms, gradebook, accept):
    rotate(lms)
    result = launch(lms)
    accept("what nobody has")
    result.submit_score(1)
    change_over(lms)
    launch(lms, "somebody else")
    assert deliver_due().retried == 1
    accept(lms.consumer.consumer_secret)
    assert deliver_due().delivered == 0
    launch(lms)
    assert deliver_due().delivered == 1


def test_what_was_refused_for_other_reasons_waits_on(lms, gradebook):
    rotate(lms)
    result = launch(lms)
    gradebook.behave = always(422, envelope("failure", "The assignment is closed"))
    result.submit_score(1)
    assert deliver_due().retried == 1
    assert len(gradebook.received) == 1
    change_over(lms)
    launch(lms)
    assert deliver_due().retried == 0
    assert LtiResult.objects.get().refusals == 1


def test_a_second_rotation_ends_the_first_secret(lms, gradebook, accept):
    first = lms.consumer.consumer_secret
    result = launch(lms)
    rotate(lms, "second")
    rotate(lms, "third")
    accept("second")
    result.submit_score(1)
    assert deliver_due().delivered == 1
    assert not any(
        signature_holds(received, gradebook.url, first) for received in gradebook.received
    )


def test_a_launch_with_the_second_secret_counts_after_a_second_rotation(lms, gradebook, accept):
    rotate(lms, "second")
    change_over(lms)
    result = launch(lms)
    rotate(lms, "third")
    accept("second")
    result.submit_score(1)
    assert deliver_due().delivered == 1
    assert len(gradebook.received) == 1


def test_after_the_overlap_only_the_new_secret_signs(lms, gradebook, accept):
    old = lms.consumer.consumer_secret
    result = launch(lms)
    rotate(lms)
    LtiConsumer.objects.get().end_previous_secret()
    accept(old)
    result.submit_score(1)
    assert deliver_due().retried == 1
    assert [signature_holds(r, gradebook.url, old) for r in gradebook.received] == [False]


def test_a_previous_secret_that_cannot_be_read_is_left_out(lms, gradebook, accept):
    result = launch(lms)
    rotate(lms, "new")
    LtiConsumer.objects.update(previous_secret="lti-fernet:unreadable")
    accept("new")
    result.submit_score(1)
    assert deliver_due().delivered == 1


def test_both_secrets_together_get_one_deadline(lms, gradebook, settings):
    import time

    settings.LTI_PROVIDER_GRADE_TIMEOUT = 1
    result = launch(lms)
    rotate(lms)

    def dawdle(book, received, handler):
        time.sleep(0.6)
        return REFUSALS["Canvas"] if len(book.received) == 1 else book.succeed(received)

    gradebook.behave = dawdle
    result.submit_score(1)
    assert deliver_due().retried == 1
    assert len(gradebook.received) == 2
    assert LtiResult.objects.get().last_code == "unauthorized"


def hang_up(book, received, handler):
    if len(book.received) % 2:
        return REFUSALS["Canvas"]
    handler.connection.shutdown(SHUT_RDWR)
    return book.succeed(received)


def test_a_second_try_without_an_answer_leaves_the_first_ones(lms, gradebook):
    result = launch(lms)
    rotate(lms)
    gradebook.behave = hang_up
    result.submit_score(1)
    assert deliver_due().retried == 1
    assert len(gradebook.received) == 2
    result.refresh_from_db()
    assert (result.last_code, result.refusals) == ("unauthorized", 1)
    assert not LtiServiceBreaker.objects.filter(failures__gt=0).exists()
    with pytest.raises(ScoreNotRead) as raised:
        read_score(result)
    assert raised.value.code == "unauthorized"


def test_a_score_that_a_second_try_may_still_bring_is_not_overtaken(lms, gradebook):
    result = launch(lms)
    rotate(lms)
    gradebook.behave = hang_up
    result.submit_score(1)
    attempt = send_score(LtiResult.objects.get())
    assert (attempt.code, attempt.may_have_arrived) == ("unauthorized", True)


def test_a_first_try_without_an_answer_is_told_as_before(lms, gradebook):
    result = launch(lms)
    rotate(lms)
    gradebook.behave = lambda _book, _received, handler: handler.connection.shutdown(SHUT_RDWR)
    result.submit_score(1)
    assert deliver_due().retried == 1
    assert len(gradebook.received) == 1
    assert LtiResult.objects.get().last_code == "unreachable"


def test_no_row_says_what_the_secret_is(lms, gradebook):
    secret = lms.consumer.consumer_secret
    rotate(lms)
    result = launch(lms)
    kept = {field.name: getattr(result, field.attname, "") for field in result._meta.fields}
    assert secret not in str(kept)
    assert kept["rotation"] == 0


def test_a_score_that_has_the_word_in_it_is_delivered(lms, gradebook):
    gradebook.behave = lambda *_: ok(envelope("success", "the signature holds"))
    rotate(lms)
    launch(lms).submit_score(1)
    assert deliver_due().delivered == 1
    assert len(gradebook.received) == 1

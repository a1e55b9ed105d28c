from contextlib import suppress
from datetime import timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given as examples
from hypothesis import strategies as st

from lti_provider import grades
from lti_provider.exceptions import InvalidScore
from lti_provider.models import LtiConsumer, LtiLaunch, LtiResult, LtiUser
from lti_provider.signals import score_submitted
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

WAITING = LtiResult.State.WAITING


@pytest.fixture
def lms():
    return FakeLms.create("canvas")


@pytest.fixture
def result(client, lms):
    lms.launch(client, "/content/")
    return LtiResult.objects.get()


@pytest.fixture
def heard():
    """The results whose committed scores were announced."""
    results = []

    def listen(result, **_signal):
        results.append(result)

    score_submitted.connect(listen)
    yield results
    score_submitted.disconnect(listen)


def submit_and_fail(result):
    with suppress(RuntimeError), transaction.atomic():
        result.submit_score(0.5)
        raise RuntimeError


def writes(queries):
    return [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]


def of_results(statements):
    return [statement for statement in statements if "lti_provider_ltiresult" in statement[:60]]


def test_a_launch_says_where_its_grade_goes(result, lms):
    assert result.lti_consumer == lms.consumer
    assert result.service == LtiResult.Service.BASIC_OUTCOMES
    assert result.service_url == lms.fields["lis_outcome_service_url"]
    assert result.service_host == "lms.example"
    assert result.remote_id == lms.fields["lis_result_sourcedid"]
    assert result.accepts == "url,text"
    assert result.lti_user.lti_user_id == lms.fields["user_id"]
    assert result.resource_link.resource_link_id == lms.fields["resource_link_id"]
    assert result.context.title == "Algebra"
    assert result.state == LtiResult.State.NOTHING
    assert not result.is_submitted
    assert str(result) == str(result.pk)


def test_the_newest_launch_wins(client, result, lms):
    lms.launch(
        client,
        "/content/",
        lis_result_sourcedid="another",
        lis_outcome_service_url="https://new.lms.example:8443/grades",
        ext_outcome_data_values_accepted="text",
    )
    result = LtiResult.objects.get()
    assert (result.remote_id, result.service_host) == ("another", "new.lms.example:8443")
    assert result.accepts == "text"


@pytest.mark.parametrize(
    "without",
    [
        {"lis_result_sourcedid": None},
        {"lis_outcome_service_url": None},
        {"lis_outcome_service_url": "ftp://lms.example/"},
        {"lis_outcome_service_url": "https://user:pass@lms.example/"},
    ],
)
def test_a_launch_without_a_place_for_grades_takes_none_away(client, result, lms, without):
    lms.launch(client, "/content/", **without)
    assert LtiResult.objects.get().remote_id == lms.fields["lis_result_sourcedid"]


def test_without_a_grade_wanted_nothing_is_submitted(client, lms, rf):
    lti = lms.launch(client, "/content/", lis_result_sourcedid=None).wsgi_request.lti
    assert lti
    assert lti.result is None
    assert lti.submit_score(0.5) is None
    assert lti.delete_score() is None
    assert lti.read_score() is None
    assert not LtiResult.objects.exists()


@pytest.mark.one_database
def test_a_launch_that_is_repeated_costs_no_statement_more(client, lms):
    lms.launch(client, "/content/")
    with CaptureQueriesContext(
        connection,
    ) as repeated:
        lms.launch(client, "/content/")
    assert not of_results(writes(repeated))
    with CaptureQueriesContext(connection) as changed:
        lms.launch(client, "/content/", lis_result_sourcedid="another")
    assert len(of_results(writes(changed))) == 1
    with CaptureQueriesContext(connection) as new:
        lms.launch(Client(), "/content/", user_id="somebody else")
    assert len(of_results(writes(new))) == 1


def test_a_simultaneous_first_launch_makes_one_result(client, result, lms):
    launch = LtiLaunch.objects.get()
    again = LtiResult.objects.sync_from_launch(
        launch.lti_consumer,
        launch.message.grade_service,
        user_digest=launch.user_digest,
        link_digest=launch.link_digest,
        known=None,
    )
    assert again == result


def test_the_receiver_of_a_first_launch_has_its_result(client, lms):
    from lti_provider.signals import user_launched

    scores = []

    def receive(launch, **_signal):
        scores.append(launch.result.submit_score(1))

    user_launched.connect(receive)
    try:
        lms.launch(client, "/content/")
    finally:
        user_launched.disconnect(receive)
    assert scores == [LtiResult.objects.get()]


def test_launches_teach_hosts(client, lms):
    for number in range(12):
        url = f"https://{number}.lms.example/grades"
        lms.launch(client, "/content/", lis_outcome_service_url=url)
    hosts = LtiConsumer.objects.get().service_host_list
    assert hosts == tuple(f"{number}.lms.example" for number in range(2, 12))


def test_a_host_that_another_process_taught_is_not_lost(lms):
    LtiConsumer.objects.update(service_hosts="taught.meanwhile.example")
    lms.consumer.learn_service_host("lms.example")
    assert lms.consumer.service_host_list == ("lms.example",)
    assert LtiConsumer.objects.get().service_hosts == "taught.meanwhile.example"


@pytest.mark.parametrize(
    ("given", "maximum", "score"),
    [
        (0, 1, "0"),
        (1, 1, "1"),
        (0.85, 1, "0.85"),
        (Decimal("0.1234567"), 1, "0.123457"),
        (Fraction(1, 3), 1, "0.333333"),
        (7, 9, "0.777778"),
        (2.5, 10, "0.25"),
        (10**30, 10**30, "1"),
        (Decimal("1e-30"), 1, "0"),
        (0.1 + 0.2, 0.3 + 1e-9, "1"),
    ],
)
def test_scores_are_shares_of_a_maximum(result, given, maximum, score):
    assert result.submit_score(given, maximum) is result
    stored = LtiResult.objects.get()
    assert stored.score == Decimal(score)
    assert (stored.version, stored.state) == (1, WAITING)
    assert (result.score, result.version, result.state) == (stored.score, 1, WAITING)


NUMBERS = (
    st.integers(0, 10**16)
    | st.floats(0, 10**16)
    | st.decimals(0, 10**16, allow_nan=False, places=7)
    | st.decimals(0, 10**9, allow_nan=False, places=6)
    | st.fractions(0, 10**16, max_denominator=10**7)
)


def exact(number):
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


@pytest.mark.once
@examples(st.lists(NUMBERS, min_size=2, max_size=2))
def test_the_share_of_what_is_stored_is_the_share_of_what_was_submitted(result, numbers):
    given, maximum = sorted(numbers, key=exact)
    if not maximum:
        maximum = 1
    result.submit_score(given, maximum)
    stored = LtiResult.objects.get()
    millionths = exact(given) / exact(maximum) * 10**6
    rounded = millionths.__floor__() + (millionths % 1 >= Fraction(1, 2))
    assert stored.score == result.score == Decimal(rounded) / 10**6
    assert (stored.score_given, stored.score_maximum) == (result.score_given, result.score_maximum)
    assert str(stored.score_given) == str(result.score_given)


@pytest.mark.parametrize(
    ("given", "maximum"),
    [
        (8, 10),
        (0, Decimal("0.000001")),
        (0.1, 0.3),
        (-0.0, 1),
        (Decimal("1e2"), Decimal("999999999.999999")),
        (Decimal("999999999.999998"), Decimal("999999999.999999")),
        (123456789.123456, 999999999),
        (Fraction(1, 8), Fraction(5, 4)),
    ],
)
def test_a_score_is_kept_as_submitted(result, given, maximum):
    result.submit_score(given, maximum)
    stored = LtiResult.objects.get()
    assert (stored.score_given, stored.score_maximum) == (exact(given), exact(maximum))
    assert (result.score_given, result.score_maximum) == (exact(given), exact(maximum))


@pytest.mark.parametrize(
    ("given", "maximum", "share"),
    [
        (Fraction(1, 3), 1, "0.333333"),
        (1, 3 + 1e-7, "0.333333"),
        (1e-9, 1, "0"),
        (1e300, 2e300, "0.5"),
        (10**9, 10**10, "0.1"),
        (1, 10**9, "0"),
    ],
)
def test_what_does_not_fit_is_kept_as_its_share(result, given, maximum, share):
    result.submit_score(given, maximum)
    stored = LtiResult.objects.get()
    assert (stored.score_given, stored.score_maximum) == (Decimal(share), 1)


def test_a_float_of_any_class_is_what_python_shows_for_it(result):
    class Noisy(float):
        def __repr__(self):
            return f"Noisy({float(self)})"

    result.submit_score(Noisy(0.1), Decimal("0.1"))
    assert LtiResult.objects.get().score == 1


def test_a_sites_decimal_context_changes_no_score(result):
    with localcontext(prec=3):
        result.submit_score(Decimal("123456.789"), 10**6)
        assert LtiResult.objects.get().score == Decimal("0.123457")


def test_scores_of_several_results_are_submitted_at_once(client, result, lms):
    lms.launch(Client(), "/content/", user_id="somebody else")
    assert LtiResult.objects.all().submit(8, 10) == 2
    assert {each.score for each in LtiResult.objects.all()} == {Decimal("0.8")}
    with pytest.raises(InvalidScore):
        LtiResult.objects.all().submit(11, 10)
    assert LtiResult.objects.all().delete_scores() == 2
    assert {each.score for each in LtiResult.objects.all()} == {None}


@pytest.mark.parametrize(
    ("given", "maximum"),
    [
        (1.5, 1),
        (-0.1, 1),
        (float("nan"), 1),
        (float("inf"), 1),
        (Decimal("NaN"), 1),
        (Decimal("sNaN"), 1),
        ("0.5", 1),
        (True, 1),
        (None, 1),
        (1j, 1),
        (5, 0),
        (5, -5),
        (5, float("inf")),
        (5, "10"),
        (5, True),
        (11, 10),
    ],
)
def test_what_is_no_score_is_refused(result, given, maximum):
    with pytest.raises(InvalidScore):
        result.submit_score(given, maximum)
    assert not LtiResult.objects.get().is_submitted


@pytest.mark.parametrize(
    ("accepted", "taken"),
    [
        ("url, text", ("text", "t")),
        ("url , text", ("text", "t")),
        (" text", ("text", "t")),
        ("text,ltiLaunchUrl", ("text", "t")),
        ("urls, texts", ("", "")),
    ],
)
def test_what_an_lms_accepts_may_have_blanks(client, lms, accepted, taken):
    lms.launch(client, "/content/", ext_outcome_data_values_accepted=accepted)
    LtiResult.objects.get().submit_score(1, submission_text="t")
    stored = LtiResult.objects.get()
    assert (stored.data_name, stored.data) == taken


@pytest.mark.parametrize(
    ("accepts", "given", "taken"),
    [
        (
            "url,text",
            {"submission_url": "https://x.example", "submission_text": "t"},
            ("url", "https://x.example"),
        ),
        ("url,text", {"submission_text": "t"}, ("text", "t")),
        ("text", {"submission_url": "https://x.example", "submission_text": "t"}, ("text", "t")),
        ("text", {"submission_url": "https://x.example"}, ("", "")),
        ("", {"submission_text": "t"}, ("", "")),
    ],
)
def test_work_goes_along_where_it_is_accepted(result, accepts, given, taken):
    result.accepts = accepts
    result.submit_score(1, **given)
    stored = LtiResult.objects.get()
    assert (stored.data_name, stored.data) == taken


@pytest.mark.parametrize("name", ["url", "text"])
def test_work_that_xml_cannot_carry_is_refused(result, name):
    with pytest.raises(InvalidScore):
        result.submit_score(1, **{f"submission_{name}": "\x00"})


def test_the_newest_submission_wins(result):
    result.submit_score(0.2)
    LtiResult.objects.get().submit_score(0.9)
    result.submit_score(3, 4)
    stored = LtiResult.objects.get()
    assert (stored.score, stored.version) == (Decimal("0.75"), 3)
    result.delete_score()
    stored = LtiResult.objects.get()
    assert (stored.score, stored.version, stored.operation) == (None, 4, "delete")


@pytest.mark.one_database
def test_a_submission_is_one_statement(result, django_assert_num_queries):
    with django_assert_num_queries(1):
        result.submit_score(0.5)


def test_a_score_for_a_result_that_is_gone_is_an_error(result):
    LtiResult.objects.all().delete()
    with pytest.raises(LtiResult.DoesNotExist):
        result.submit_score(0.5)


@pytest.mark.django_db(transaction=True)
def test_autocommit_commits_the_score(result, heard):
    result.submit_score(0.5)
    assert LtiResult.objects.get().state == WAITING
    assert heard == [result]


@pytest.mark.one_database
@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_score_never_existed(result, heard):
    submit_and_fail(result)
    assert not LtiResult.objects.get().is_submitted
    assert heard == []


@pytest.mark.one_database
@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_savepoint_takes_only_its_own_score_along(result, heard):
    with transaction.atomic():
        result.submit_score(0.25)
        submit_and_fail(LtiResult.objects.get())
        assert heard == []
    assert LtiResult.objects.get().score == Decimal("0.25")
    assert len(heard) == 1


@pytest.mark.one_database
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("atomic", [True, False])
def test_a_view_submits_in_its_own_transaction(client, lms, heard, atomic, fails):
    connection.settings_dict["ATOMIC_REQUESTS"] = atomic
    try:
        with override_settings(ROOT_URLCONF="tests.urls_of_grades"):
            client.raise_request_exception = False
            answer = lms.launch(client, "/content/failing/" if fails else "/content/")
    finally:
        connection.settings_dict["ATOMIC_REQUESTS"] = False
    result = LtiResult.objects.get()
    assert answer.status_code == (500 if fails else 200)
    assert result.is_submitted == (not fails or not atomic)
    assert len(heard) == result.is_submitted


def test_a_receiver_that_fails_harms_nobody(result, django_capture_on_commit_callbacks, caplog):
    def fail(**_signal):
        raise RuntimeError

    score_submitted.connect(fail)
    try:
        with django_capture_on_commit_callbacks(execute=True):
            result.submit_score(0.5)
    finally:
        score_submitted.disconnect(fail)
    assert LtiResult.objects.get().is_submitted


def test_results_are_found_by_account_and_activity(client, result, lms):
    lms.launch(client, "/content/", resource_link_id="other")
    other = FakeLms.create("moodle")
    other.launch(client, "/content/")
    user = LtiUser.objects.get(lti_consumer=lms.consumer).user
    assert LtiResult.objects.for_user(user).count() == 2
    assert LtiResult.objects.at_link(result.resource_link).get() == result
    found = LtiResult.objects.for_user(user).at_link(result.resource_link).get()
    assert found == result


def test_a_result_survives_the_account_and_its_connecting(client, result, lms):
    result.submit_score(0.5)
    local = get_user_model().objects.create_user("local")
    LtiUser.objects.update(user=local)
    assert LtiResult.objects.for_user(local).get() == result
    get_user_model().objects.all().delete()
    assert not LtiUser.objects.exists()
    orphan = LtiResult.objects.get()
    assert (orphan.lti_user, orphan.state) == (None, WAITING)
    lms.launch(client, "/content/")
    assert LtiResult.objects.get().lti_user.lti_user_id == lms.fields["user_id"]


def test_a_result_survives_its_resource_link(result):
    result.submit_score(0.5)
    result.resource_link.delete()
    orphan = LtiResult.objects.get()
    assert orphan.resource_link is None
    assert orphan.context is None


def test_a_consumer_with_grades_is_not_deleted(result, lms):
    LtiUser.objects.all().delete()
    with pytest.raises(ProtectedError):
        lms.consumer.delete()


def test_what_is_undelivered_and_what_is_pending(result):
    assert not LtiResult.objects.undelivered().exists()
    result.submit_score(0.5)
    for state, undelivered, pending in [
        ("waiting", True, True),
        ("sending", True, True),
        ("failed", True, False),
        ("delivered", False, False),
    ]:
        LtiResult.objects.update(state=state)
        assert LtiResult.objects.undelivered().exists() == undelivered
        assert LtiResult.objects.pending().exists() == pending


def test_a_resend_starts_anew_and_asks_again_what_was_unsupported(result, lms):
    result.submit_score(0.5)
    LtiResult.objects.update(state="failed", attempts=7, refusals=3, next_attempt_at=None)
    lms.consumer.record_unsupported("replace")
    lms.consumer.record_unsupported("replace")
    assert LtiConsumer.objects.get().unsupported_operations == "replace"
    assert LtiResult.objects.all().resend() == 1
    again = LtiResult.objects.get()
    assert (again.state, again.attempts, again.refusals) == (WAITING, 0, 0)
    assert again.score == Decimal("0.5")
    assert again.next_attempt_at <= timezone.now()
    assert LtiConsumer.objects.get().supports("replace")


def test_nothing_is_resent_that_was_never_submitted(result):
    assert LtiResult.objects.all().resend() == 0
    assert LtiResult.objects.get().state == LtiResult.State.NOTHING


def test_what_is_given_up_stays_so(result):
    result.submit_score(0.5)
    assert LtiResult.objects.all().give_up() == 1
    result = LtiResult.objects.get()
    assert (result.state, result.next_attempt_at) == ("failed", None)
    assert result.reason == "Somebody here gave up sending it."
    assert grades.deliver_due().delivered == 0
    assert LtiResult.objects.all().give_up() == 0


@pytest.mark.parametrize("state", LtiResult.State.values)
def test_every_state_has_a_sentence(state):
    assert str(LtiResult(state=state).state_text).endswith(".")


def test_what_an_lms_says_is_not_a_format():
    result = LtiResult(state="failed", last_code="refused", last_text="{0} {text} {")
    assert result.reason == "The LMS refused the grade: “{0} {text} {”"
    assert LtiResult(state="failed", last_code="of a later version").reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service_hosts", "https://lms.example/"),
        ("service_hosts", "*.lms.example"),
        ("service_hosts", "lms.example:port"),
        ("service_networks", "10.0.0.0/33"),
        ("service_networks", "10.0.0.1/8"),
        ("service_networks", "everything"),
    ],
)
def test_hosts_and_networks_say_what_is_wrong(lms, field, value):
    setattr(lms.consumer, field, value)
    with pytest.raises(ValidationError, match="is not a"):
        lms.consumer.full_clean()


def test_hosts_and_networks_are_normalized(lms):
    lms.consumer.service_hosts = "LMS.Example\nlms.example:443\n[::1]:8080"
    lms.consumer.service_networks = "10.0.0.0/8\n10.0.0.0/8\nfd00::/8"
    lms.consumer.full_clean()
    assert lms.consumer.service_host_list == ("lms.example", "[::1]:8080")
    assert len(lms.consumer.service_network_list) == 2


def test_expired_time_is_no_reason_for_a_fresh_score(result):
    result.submit_score(0.5)
    LtiResult.objects.update(first_attempt_at=timezone.now() - timedelta(days=9))
    LtiResult.objects.get().submit_score(0.6)
    assert LtiResult.objects.get().first_attempt_at is None


def test_no_work_can_be_said_as_none(client, lms):
    page = lms.launch(client, "/content/", ext_outcome_data_values_accepted="url,text")
    result = LtiResult.objects.get()
    for submit in (result.submit_score, page.wsgi_request.lti.submit_score):
        submit(0.5, submission_text=None, submission_url=None)
        stored = LtiResult.objects.get()
        assert (stored.score, stored.data_name, stored.data) == (Decimal("0.5"), "", "")
    result.submit_score(0.5, submission_text="Essay", submission_url=None)
    assert LtiResult.objects.get().data == "Essay"

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.template import Context, Template
from django.test import Client
from django.utils import timezone

from lti_provider.checks import check_settings
from lti_provider.exceptions import ScoreNotRead
from lti_provider.grades import deliver_due, read_score
from lti_provider.models import LtiConsumer, LtiLaunch, LtiResult, LtiServiceBreaker
from lti_provider.testing import FakeLms
from tests.lms_service import always, envelope, score_body
from tests.test_delivery import many

pytestmark = pytest.mark.django_db

LIST = "/admin/lti_provider/ltiresult/"
HOSTS = "/admin/lti_provider/ltiservicebreaker/"
CONSUMERS = "/admin/lti_provider/lticonsumer/"


@pytest.fixture
def lms(gradebook):
    made = FakeLms.create("canvas", consumer_name="Campus", service_networks="127.0.0.0/8")
    made.fields["lis_outcome_service_url"] = gradebook.url
    return made


@pytest.fixture
def learner(lms):
    browser = Client()
    lms.launch(browser, "/content/")
    return browser


@pytest.fixture
def result(learner):
    return LtiResult.objects.get()


@pytest.fixture
def refused(result, gradebook):
    """A grade that the LMS refused for good."""
    gradebook.behave = always(422, envelope("failure", "Past <due>"))
    result.submit_score(0.85)
    LtiResult.objects.update(refusals=3)
    deliver_due()
    result.refresh_from_db()
    return result


def teacher_of(lms, **changes):
    browser = Client()
    sent = {"user_id": "teacher", "roles": "Instructor", "lis_result_sourcedid": None}
    lms.launch(browser, "/content/", **sent | changes)
    return browser


def do(browser, action, *results, where=LIST):
    chosen = [result.pk for result in results]
    return browser.post(where, {"action": action, "_selected_action": chosen}, follow=True)


def state_of(browser, result, **query):
    return browser.get(f"/lti/grades/{result.pk}/", query)


def test_the_admin_shows_how_far_grades_got(admin_client, refused):
    page = admin_client.get(LIST).content.decode()
    for shown in ("Algebra / Linear equations", "0.85 of 1", "Failed", "“Past ”", "Campus"):
        assert shown in page or shown.replace("Past ", "Past") in page
    detail = admin_client.get(f"{LIST}{refused.pk}/change/").content.decode()
    assert refused.remote_id in detail
    assert "Basic Outcomes (LTI 1.1)" in detail
    assert "Linear equations" in detail


@pytest.mark.parametrize(
    "query", ["undelivered=yes", "state__exact=failed", "last_code=refused", "q=Linear"]
)
def test_the_admin_filters_grades(admin_client, refused, query):
    assert admin_client.get(f"{LIST}?{query}").context["cl"].result_count == 1
    LtiResult.objects.update(state="delivered", last_code="")
    remaining = admin_client.get(f"{LIST}?{query}").context["cl"].result_count
    assert remaining == (1 if query.startswith("q") else 0)


def test_the_admin_shows_scores_as_submitted_and_sorts_by_their_share(admin_client, lms):
    shares = [(8, 10), (30, 100), (1, 2), (0, 7)]
    for number, share in enumerate(shares):
        lms.launch(Client(), "/content/", user_id=f"learner {number}")
        LtiResult.objects.latest("pk").submit_score(*share)
    listed = admin_client.get(LIST, {"o": "4"}).context["cl"].result_list
    sorted_shares = [(result.score_given, result.score_maximum) for result in listed]
    assert sorted_shares == [(0, 7), (30, 100), (1, 2), (8, 10)]
    assert ">8 of 10<" in admin_client.get(LIST).content.decode()


def test_the_admin_shows_deletions_and_what_is_gone(admin_client, result):
    assert ">-<" in admin_client.get(LIST).content.decode()
    result.delete_score()
    result.lti_user.user.delete()
    result.resource_link.delete()
    page = admin_client.get(LIST).content.decode()
    assert "deletion" in page
    assert "deleted account" in page


def test_a_grade_is_resent(admin_client, refused, gradebook):
    gradebook.behave = None
    assert "1 grade was changed." in do(admin_client, "resend", refused).content.decode()
    deliver_due()
    assert gradebook.grades == {refused.remote_id: "0.85"}


def test_sending_a_grade_is_given_up(admin_client, result):
    assert "0 grades were changed." in do(admin_client, "give_up", result).content.decode()
    result.submit_score(1)
    do(admin_client, "give_up", result)
    page = admin_client.get(LIST).content.decode()
    assert "Somebody here gave up sending it." in page


def test_a_grade_is_deleted_in_the_lms(admin_client, result, gradebook):
    result.submit_score(1)
    deliver_due()
    do(admin_client, "delete_grades", result)
    deliver_due()
    assert gradebook.grades == {result.remote_id: None}


def test_nobody_edits_or_deletes_rows(admin_client, result):
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{result.pk}/change/", {"score_given": 1}).status_code == 403
    assert admin_client.post(f"{LIST}{result.pk}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in admin_client.get(LIST).content.decode()


def test_actions_take_the_right_to_change(client, refused):
    colleague = get_user_model().objects.create_user("colleague", is_staff=True)
    colleague.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(colleague)
    assert "0.85" in client.get(LIST).content.decode()
    do(client, "resend", refused)
    assert LtiResult.objects.get().state == "failed"


def test_the_list_does_not_read_row_by_row(admin_client, lms, django_assert_max_num_queries):
    many(lms.consumer, "https://lms.example/", 30)
    with django_assert_max_num_queries(12):
        admin_client.get(LIST)
    with django_assert_max_num_queries(9):
        admin_client.get(CONSUMERS)


def test_a_consumer_counts_its_undelivered_grades(admin_client, refused, lms):
    link = f'<a href="{LIST}?lti_consumer__id__exact={lms.consumer.pk}&amp;undelivered=yes">1</a>'
    assert link in admin_client.get(CONSUMERS).content.decode()
    change = f"{CONSUMERS}{lms.consumer.pk}/change/"
    page = admin_client.get(change).content.decode()
    assert link in page
    assert f"127.0.0.1:{refused.service_url.split(':')[2].split('/')[0]}" in page
    assert admin_client.get(f"{CONSUMERS}add/").status_code == 200
    LtiResult.objects.update(state="delivered")
    assert "undelivered=yes" not in admin_client.get(CONSUMERS).content.decode()


def test_a_consumer_with_grades_is_not_deleted(admin_client, result, lms):
    result.lti_user.user.delete()
    page = admin_client.get(f"{CONSUMERS}{lms.consumer.pk}/delete/").content.decode()
    assert "“Campus” has 1 grade." in page
    admin_client.post(f"{CONSUMERS}{lms.consumer.pk}/delete/", {"post": "yes"})
    assert LtiConsumer.objects.exists()


def test_a_paused_host_is_tried_at_once(admin_client, result, gradebook):
    gradebook.behave = always(503, b"", Retry_After="3600")
    result.submit_score(1)
    deliver_due()
    page = admin_client.get(HOSTS).content.decode()
    assert result.service_host in page
    assert "asked to wait" in page
    gradebook.behave = None
    LtiResult.objects.update(next_attempt_at=timezone.now())
    assert deliver_due().delivered == 0
    host = LtiServiceBreaker.objects.get()
    assert (
        "1 host will be tried." in do(admin_client, "try_now", host, where=HOSTS).content.decode()
    )
    assert deliver_due().delivered == 1
    assert admin_client.get(f"{HOSTS}add/").status_code == 403
    assert admin_client.post(f"{HOSTS}{host.pk}/change/", {}).status_code == 403
    assert admin_client.post(f"{HOSTS}{host.pk}/delete/", {"post": "yes"}).status_code == 403


def test_learners_see_how_far_their_grade_got(learner, result):
    answer = state_of(learner, result)
    assert answer.json() == {"state": "nothing", "text": "There is no grade yet."}
    assert "no-store" in answer["Cache-Control"]
    result.submit_score(1)
    assert state_of(learner, result).json()["state"] == "waiting"
    deliver_due()
    assert state_of(learner, result).json() == {
        "state": "delivered",
        "text": "Your grade was sent to your course.",
    }


def test_learners_are_not_told_why(learner, refused):
    shown = state_of(learner, refused).json()
    assert shown["state"] == "failed"
    assert "reason" not in shown


@pytest.mark.parametrize("changes", [{}, {"resource_link_id": "other", "context_id": None}])
def test_teachers_of_the_course_are_told_why(lms, refused, changes):
    shown = state_of(
        teacher_of(lms, **{**changes, "context_id": lms.fields["context_id"]}), refused
    )
    assert "Past" in shown.json()["reason"]


def test_a_teacher_without_a_course_sees_the_same_activity_only(lms):
    lms.fields["context_id"] = ""
    lms.launch(Client(), "/content/")
    result = LtiResult.objects.get()
    assert state_of(teacher_of(lms), result).status_code == 200
    elsewhere = teacher_of(lms, resource_link_id="other")
    assert state_of(elsewhere, result).status_code == 404


def test_strangers_see_nothing(client, lms, result):
    others = Client()
    lms.launch(others, "/content/", user_id="another learner")
    elsewhere = teacher_of(lms, context_id="other course", resource_link_id="other link")
    other_lms = teacher_of(FakeLms.create("canvas"))
    for browser in (client, others, elsewhere, other_lms):
        answer = state_of(browser, result)
        assert (answer.status_code, answer.json()) == (404, {"state": "unknown"})
    assert others.get("/lti/grades/999999/").status_code == 404


def rendered(browser, template="{% load lti_provider %}{% lti_grade_status %}", **context):
    request = browser.get("/content/").wsgi_request
    return Template(template).render(Context({"request": request, **context})).strip()


def test_a_page_says_how_far_the_grade_got(learner, result):
    assert rendered(learner) == ""
    learner.get("/content/").wsgi_request.lti.submit_score(0.5)
    html = rendered(learner)
    assert "Your grade is waiting to be sent to your course." in html
    launch = LtiLaunch.objects.get()
    assert f'data-lti-grade="/lti/grades/{result.pk}/?lti_launch={launch.pk}"' in html
    assert rendered(Client()) == ""


def test_a_teacher_s_page_says_why(lms, refused):
    teacher = teacher_of(lms)
    assert rendered(teacher) == ""
    given = "{% load lti_provider %}{% lti_grade_status result %}"
    assert "“Past" in rendered(teacher, given, result=refused)
    assert "“Past" not in rendered(Client(), given, result=refused)


#: A line break, a bell, an override of the direction, an isolate, a mark and a blank of no width.
HOSTILE_WORDS = "Closed\n\x85\x9b\u202edeb\u2066low\u200f\u200b\ufeff\u2028 <b>end"


@pytest.mark.parametrize("state", ["waiting", "failed"])
def test_words_of_an_lms_cannot_change_how_a_page_reads(
    lms, result, gradebook, admin_client, state
):
    gradebook.behave = always(422, envelope("failure", HOSTILE_WORDS))
    result.submit_score(0.85)
    LtiResult.objects.update(refusals=0 if state == "waiting" else 3)
    deliver_due()
    result.refresh_from_db()
    assert result.state == state
    teacher = teacher_of(lms)
    given = "{% load lti_provider %}{% lti_grade_status result %}"
    pages = [
        rendered(teacher, given, result=result),
        state_of(teacher, result).json()["reason"],
        admin_client.get(LIST).content.decode(),
        admin_client.get(f"{LIST}{result.pk}/change/").content.decode(),
    ]
    for page in pages:
        assert "Closed deblow" in page
        assert not set("\x85\x9b\u202e\u2066\u200f\u200b\ufeff\u2028") & set(page)


def test_words_about_a_score_cannot_change_how_a_page_reads(result, gradebook):
    gradebook.behave = always(200, envelope(body=score_body("1\u202e2\u2066")))
    with pytest.raises(ScoreNotRead, match="“12”"):
        read_score(result)


def resend(capsys, *arguments):
    call_command("lti_resend", *arguments)
    return capsys.readouterr().out


def test_a_dry_run_lists_and_changes_nothing(refused, capsys):
    output = resend(capsys, "--dry-run")
    assert "Campus / Linear equations" in output
    assert "0.85 of 1, failed. The LMS refused" in output
    assert "1 grades would be sent again." in output
    assert LtiResult.objects.get().state == "failed"


def test_failed_grades_are_resent(refused, capsys, gradebook):
    assert resend(capsys) == "1 grades will be sent again.\n"
    gradebook.behave = None
    assert deliver_due().delivered == 1
    assert resend(capsys) == "0 grades will be sent again.\n"
    refused.delete_score()
    LtiResult.objects.update(state="failed")
    assert "deletion, failed" in resend(capsys, "--verbosity", "2")


def test_grades_to_resend_are_chosen(refused, lms, capsys):
    other = FakeLms.create("moodle")
    many(other.consumer, "https://lms.example/", 3, prefix="other")
    key = lms.consumer.consumer_key
    tomorrow = (timezone.now() + timedelta(days=1)).date().isoformat()
    for arguments, count in [
        ([], 1),
        (["--state", "any"], 4),
        (["--state", "waiting"], 3),
        (["--consumer", key], 1),
        (["--consumer", str(other.consumer.pk), "--state", "any"], 3),
        (["--link", lms.fields["resource_link_id"]], 1),
        (["--link", "another"], 0),
        (["--lti-user-id", lms.fields["user_id"]], 1),
        (["--lti-user-id", "another"], 0),
        (["--since", tomorrow], 0),
        (["--until", tomorrow], 1),
        (["--since", "2020-01-01T08:00", "--until", "2020-01-02T08:00+02:00"], 0),
    ]:
        assert f"{count} grades would" in resend(capsys, "--dry-run", *arguments), arguments


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "yesterday"], "not an ISO date or time"),
        (["--since", "2026-13-01"], "not an ISO date or time"),
        (["--state", "lost"], "invalid choice"),
    ],
)
def test_what_cannot_be_chosen_is_said(arguments, said):
    with pytest.raises(CommandError, match=said):
        call_command("lti_resend", *arguments)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("GRADE_TIMEOUT", 0),
        ("GRADE_TIMEOUT", "20"),
        ("GRADE_CONCURRENCY", 1.5),
        ("GRADE_RATE", True),
        ("GRADE_RETRY_DAYS", -1),
        ("GRADE_BACKGROUND", "yes"),
    ],
)
def test_settings_that_are_wrong_are_named(settings, name, wrong):
    setattr(settings, f"LTI_PROVIDER_{name}", wrong)
    [error] = [message for message in check_settings(None) if message.id == "lti_provider.E005"]
    assert f"LTI_PROVIDER_{name} is {wrong!r}." in error.msg


def test_settings_that_are_right_are_not_named(settings):
    settings.LTI_PROVIDER_GRADE_TIMEOUT = 2.5
    settings.LTI_PROVIDER_GRADE_BACKGROUND = True
    assert "lti_provider.E005" not in [message.id for message in check_settings(None)]

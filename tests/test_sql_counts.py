import hashlib

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiLaunch, LtiResult, LtiUser
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation
from lti_provider.testing.platform import FakePlatform
from tests.answering import log_in

pytestmark = pytest.mark.django_db

RETURNING = 8
NEW = 10
TRANSACTIONS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")

APP = "lti_provider_"


@pytest.fixture(params=["none", "name_email"])
def lms(request) -> FakeLms:
    """An LMS whose installation, course and link are known."""
    lms = FakeLms.create("canvas", personal_data=request.param)
    lms.launch(Client(), "/content/", user_id="the first")
    return lms


def add_three_hundred_learners(lms: FakeLms) -> None:
    users = get_user_model().objects.bulk_create(
        get_user_model()(username=f"learner {number}", password="!") for number in range(300)
    )
    ids = {f"learner {number}": user for number, user in enumerate(users)}
    people = LtiUser.objects.bulk_create(
        LtiUser(
            lti_consumer=lms.consumer,
            lti_user_id=user_id,
            lti_user_digest=hashlib.sha256(user_id.encode()).hexdigest(),
            user=user,
        )
        for user_id, user in ids.items()
    )
    sample = LtiLaunch.objects.earliest("pk")
    LtiLaunch.objects.bulk_create(
        LtiLaunch(
            lti_consumer=lms.consumer,
            entered_at=timezone.now(),
            nonce_digest=f"nonce {person.pk}",
            handle_digest=f"handle {person.pk}",
            user_digest=person.lti_user_digest,
            link_digest=sample.link_digest,
            stored_message=sample.stored_message,
        )
        for person in people
    )
    result = LtiResult.objects.earliest("pk")
    LtiResult.objects.bulk_create(
        LtiResult(
            lti_consumer=lms.consumer,
            user_digest=person.lti_user_digest,
            link_digest=sample.link_digest,
            service_url=result.service_url,
            service_host=result.service_host,
            service=result.service,
            remote_id=result.remote_id,
            accepts=result.accepts,
        )
        for person in people
    )


def statements(queries) -> list[str]:
    return [
        query["sql"]
        for query in queries.captured_queries
        if not query["sql"].upper().startswith(TRANSACTIONS)
    ]


def statements_of_a_launch(lms: FakeLms, browser: Client, *, framed: bool, **changes) -> list[str]:
    """Up to the redirect to the content, which is the site's own affair."""
    with CaptureQueriesContext(connection) as queries:
        answer = lms.post(browser, "/content/", framed=framed, **changes)
        if "/enter/" in answer["Location"]:
            answer = browser.get(answer["Location"], headers=navigation(framed=framed))
    assert answer.status_code == 303
    assert "lti_launch=" in answer["Location"]
    return statements(queries)


@pytest.mark.parametrize("framed", [True, False])
def test_a_learners_first_launch(lms, framed):
    found = statements_of_a_launch(lms, Client(), framed=framed, user_id="new")
    assert len(found) <= NEW, "\n".join(found)


@pytest.mark.parametrize("framed", [True, False])
def test_a_returning_learners_launch_in_a_new_browser(lms, framed):
    statements_of_a_launch(lms, Client(), framed=framed, user_id="robin")
    found = statements_of_a_launch(lms, Client(), framed=framed, user_id="robin")
    assert len(found) <= RETURNING, "\n".join(found)


@pytest.mark.parametrize("framed", [True, False])
def test_a_learners_first_launch_of_another_activity(lms, framed):
    lms.launch(Client(), "/content/", user_id="robin")
    others = {"user_id": "the second", "resource_link_id": "another"}
    lms.launch(Client(), "/content/", **others)
    others["user_id"] = "robin"
    found = statements_of_a_launch(lms, Client(), framed=framed, **others)
    assert len(found) <= RETURNING, "\n".join(found)


@pytest.mark.parametrize("framed", [True, False])
def test_a_new_session_is_stored_once(lms, framed):
    found = statements_of_a_launch(lms, Client(), framed=framed)
    written = [sql for sql in found if "django_session" in sql and not sql.startswith("SELECT")]
    assert [sql.split()[0] for sql in written] == ["INSERT"]


@pytest.mark.parametrize("framed", [True, False])
def test_a_returning_learners_launch_in_the_same_browser(lms, framed):
    browser = Client()
    statements_of_a_launch(lms, browser, framed=framed, user_id="robin")
    found = statements_of_a_launch(lms, browser, framed=framed, user_id="robin")
    assert len(found) <= RETURNING, "\n".join(found)


def test_the_counts_are_the_same_among_many(lms):
    def counts() -> list[int]:
        return [
            len(statements_of_a_launch(lms, Client(), framed=True, user_id=user_id))
            for user_id in ("new", "new")
        ]

    among_few = counts()
    LtiResult.objects.filter(lti_user__lti_user_id="new").delete()
    LtiUser.objects.filter(lti_user_id="new").delete()
    add_three_hundred_learners(lms)
    assert counts() == among_few
    returning = statements_of_a_launch(lms, Client(), framed=True, user_id="learner 7")
    assert len(returning) <= RETURNING


def test_a_launch_that_goes_on_to_enter_touches_no_session(lms):
    browser = Client()
    lms.launch(browser, "/content/")
    with CaptureQueriesContext(connection) as queries:
        lms.post(browser, "/content/")
    found = statements(queries)
    assert not [sql for sql in found if "django_session" in sql or "auth_user" in sql]
    assert [sql.split()[0] for sql in found] == ["SELECT", "INSERT"]


def test_a_launch_that_does_not_hold_leaves_a_line_in_the_log_and_nothing_else(lms):
    lms.consumer.consumer_secret = "another"
    with CaptureQueriesContext(connection) as queries:
        assert lms.post(Client(), "/content/").status_code == 401
    written = [sql for sql in statements(queries) if not sql.startswith("SELECT")]
    assert [sql.split()[:2] for sql in written] == [["INSERT", "INTO"]]
    assert "lti_provider_ltilaunch" in written[0]
    assert LtiLaunch.objects.latest("pk").nonce_digest is None


def test_the_consumer_is_written_before_the_rows_that_lock_it():
    # MariaDB locks it for each row that refers to it: launches at once would wait for each other.
    lms, browser = FakeLms.create("canvas", service_hosts=""), Client()
    lms.launch(Client(), "/content/", user_id="somebody else", context_id="c")
    LtiConsumer.objects.update(service_hosts="", secret_used_at=None)
    lms.launch(browser, "/content/", framed=True)
    LtiConsumer.objects.update(service_hosts="", secret_used_at=None)
    for framed in (False, True):
        with CaptureQueriesContext(connection) as queries:
            lms.post(browser, "/content/", framed=framed, context_id="new")
        found = [sql.replace("`", '"') for sql in statements(queries)]
        inserts = [at for at, sql in enumerate(found) if sql.startswith(f'INSERT INTO "{APP}')]
        updates = [
            at for at, sql in enumerate(found) if sql.startswith(f'UPDATE "{APP}lticonsumer"')
        ]
        assert updates
        assert max(updates) < min(inserts)
        LtiConsumer.objects.update(service_hosts="", secret_used_at=None)


def test_a_launch_after_a_login_reads_one_row_and_writes_one(settings) -> None:
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    platform = FakePlatform.create("canvas")
    platform.launch(Client())
    login = log_in(platform)
    token = login.token()

    with CaptureQueriesContext(connection) as queries:
        response = login.post(token)

    assert response["Location"].startswith("/lti/enter/")
    sent = [query["sql"] for query in queries if not query["sql"].startswith(TRANSACTIONS)]
    assert [sql.split()[0] for sql in sent] == ["SELECT", "INSERT"]

from urllib.parse import urlencode

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiLaunch, LtiUnknownSender
from lti_provider.testing import PROFILES
from tests import rfc5849

FORM = "application/x-www-form-urlencoded"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def the_tests_connection_stays_open():
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(params=["active", "inactive", "without secret"])
def consumer(request, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    policy = {"inactive": {"is_active": False}, "without secret": {"consumer_secret": ""}}
    return LtiConsumer.objects.create(
        consumer_name="LMS",
        **{"consumer_key": "known", "consumer_secret": "secret"} | policy.get(request.param, {}),
    )


def signed(path="/lti/launch/", key="known", secret="secret", without=(), fields=(), **oauth):
    sent = {**PROFILES["canvas"], **dict(fields)}
    pairs = rfc5849.sign(f"http://testserver{path}", sent.items(), key=key, secret=secret, **oauth)
    return [pair for pair in pairs if pair[0] not in without]


#: Everything that a stranger can do without the secret; made for the key that is named.
UNVERIFIED = {
    "wrong secret": lambda key: signed(key=key, secret="wrong"),
    "wrong secret, SHA-256": lambda key: signed(key=key, secret="wrong", method="HMAC-SHA256"),
    "changed value": lambda key: [
        (name, "teacher" if name == "user_id" else value) for name, value in signed(key=key)
    ],
    "added pair": lambda key: [*signed(key=key), ("custom_admin", "1")],
    "repeated pair": lambda key: [*signed(key=key), ("user_id", "teacher")],
    "signed for another URL": lambda key: signed("/lti/launch/content/", key=key),
    "no signature": lambda key: signed(key=key, without=["oauth_signature"]),
    "no nonce": lambda key: signed(key=key, without=["oauth_nonce"]),
    "no timestamp": lambda key: signed(key=key, without=["oauth_timestamp"]),
    "plaintext": lambda key: [
        *signed(key=key, without=["oauth_signature", "oauth_signature_method"]),
        ("oauth_signature_method", "PLAINTEXT"),
        ("oauth_signature", "secret&"),
    ],
    "token": lambda key: signed(key=key, fields={"oauth_token": "x"}),
    "old and wrong": lambda key: signed(key=key, secret="wrong", timestamp=1),
    "no launch and wrong": lambda key: signed(
        key=key, secret="wrong", fields={"lti_message_type": "x", "resource_link_id": ""}
    ),
    "only the key": lambda key: [("oauth_consumer_key", key)],
    "nothing": lambda key: [],
}


@pytest.fixture
def post():
    """Post as a server does; the answer is the status and the SQL until the response is sent."""
    handler = WSGIHandler()

    def post_form(pairs, path="/lti/launch/"):
        request = RequestFactory().post(path, urlencode(pairs), content_type=FORM)
        sent = []
        with CaptureQueriesContext(connection) as queries:
            response = handler(request.environ, lambda status, headers: sent.append(status))
            body = b"".join(response)
        with CaptureQueriesContext(connection) as late:
            response.close()
        assert sent
        assert body
        assert len(late) == 0
        return sent[0], [query["sql"] for query in queries.captured_queries]

    return post_form


def written(statements):
    return [sql for sql in statements if not sql.startswith(("SELECT", "SAVEPOINT", "RELEASE"))]


@pytest.mark.parametrize("what", UNVERIFIED)
def test_nothing_is_written_before_the_signature_holds(consumer, post, what):
    before = vars(LtiConsumer.objects.get())

    status, statements = post(UNVERIFIED[what]("known"))

    assert status.startswith("4")
    # The bounded log of refusals is all that an unverified request leaves.
    log = LtiLaunch._meta.db_table
    assert [sql.split()[2].strip('"`') for sql in written(statements)] in ([], [log])
    assert not LtiLaunch.objects.accepted().exists()
    after = vars(LtiConsumer.objects.get())
    assert {**before, "_state": None} == {**after, "_state": None}


@pytest.mark.parametrize("what", UNVERIFIED)
def test_an_unknown_key_writes_nothing_but_itself(consumer, post, what):
    status, statements = post(UNVERIFIED[what]("unknown"))

    assert status.startswith("4")
    senders = LtiUnknownSender._meta.db_table
    assert [sql.split()[2].strip('"`') for sql in written(statements)] in ([], [senders])
    assert not LtiLaunch.objects.exists()


def test_the_launch_log_is_written_before_the_answer(consumer, post):
    _status, statements = post(UNVERIFIED["wrong secret"]("known"))

    assert [sql.split()[0] for sql in written(statements)] == ["INSERT"]
    assert LtiLaunch.objects.get().refusal_code == "invalid_signature"


def test_a_verified_launch_is_one_insert(post, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    LtiConsumer.objects.create(
        consumer_name="LMS", consumer_key="known", consumer_secret="secret", guid_policy="record",
        instance_guid="known already", secret_used_at=timezone.now(), service_hosts="lms.example",
    )  # fmt: skip

    request = RequestFactory().post("/lti/launch/", urlencode(signed()), content_type=FORM)
    with CaptureQueriesContext(connection) as queries:
        response = WSGIHandler()(request.environ, lambda *sent: None)
        response.close()

    statements = [query["sql"].split()[0] for query in queries.captured_queries]
    assert [word for word in statements if word not in ("SAVEPOINT", "RELEASE")] == [
        "SELECT",
        "INSERT",
    ]

from urllib.parse import urlencode

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiLaunch
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
    """Post as a server does; the answer is the SQL until the response is sent, and after."""
    handler = WSGIHandler()

    def post_form(pairs, path="/lti/launch/"):
        request = RequestFactory().post(path, urlencode(pairs), content_type=FORM)
        sent = []
        with CaptureQueriesContext(connection) as queries:
            response = handler(request.environ, lambda status, headers: sent.append(status))
            body = b"".join(response)
            before = len(queries)
            response.close()
        assert sent
        assert body
        statements = [query["sql"].split()[0] for query in queries.captured_queries]
        return sent[0], statements[:before], statements[before:]

    return post_form


@pytest.mark.parametrize("what", UNVERIFIED)
def test_nothing_is_written_before_the_signature_holds(consumer, post, what):
    status, before, _after = post(UNVERIFIED[what]("known"))

    assert status.startswith("4")
    assert before in ([], ["SELECT"])
    assert not LtiLaunch.objects.accepted().exists()


@pytest.mark.parametrize("what", UNVERIFIED)
def test_an_unknown_key_writes_nothing_ever(consumer, post, what):
    status, before, after = post(UNVERIFIED[what]("unknown"))

    assert status.startswith("4")
    assert before in ([], ["SELECT"])
    assert after == []
    assert not LtiLaunch.objects.exists()


@pytest.mark.parametrize("what", UNVERIFIED)
def test_a_known_key_costs_the_same_sql_as_an_unknown_one(consumer, post, what):
    known, unknown = post(UNVERIFIED[what]("known")), post(UNVERIFIED[what]("unknown"))

    assert known[:2] == unknown[:2]


def test_the_launch_log_is_written_once_the_response_is_sent(consumer, post):
    _status, _before, after = post(UNVERIFIED["wrong secret"]("known"))

    assert "INSERT" in after
    assert LtiLaunch.objects.get().refusal_code == "invalid_signature"


def test_a_verified_launch_is_one_insert(post, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    LtiConsumer.objects.create(
        consumer_name="LMS", consumer_key="known", consumer_secret="secret", guid_policy="record",
        instance_guid="known already", secret_used_at=timezone.now(),
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

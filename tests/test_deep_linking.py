"""A content selection of LTI 1.3 that is refused is answered by a signed selection of nothing."""

import time
from datetime import UTC, datetime

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.test import RequestFactory

from lti_provider.exceptions import SecretUnreadable, UnsupportedMessageType
from lti_provider.lti13 import keys
from lti_provider.lti13.deep_linking import build_empty_response
from lti_provider.models import LtiConsumer, LtiKey, LtiLaunch, LtiRegistration
from lti_provider.views.refusal import refuse
from tests.test_content_items import Page
from tests.test_keys import fetch, read_header, verify

pytestmark = pytest.mark.django_db

CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"
DL_CLAIM = "https://purl.imsglobal.org/spec/lti-dl/claim/"
RETURN = "https://lms.example/mod/lti/contentitem_return.php?course=2&id=1&sesskey=15gDWigwCl"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def registration() -> LtiRegistration:
    """An LMS whose issuer ends in a slash, and whose token audience is a different one."""
    return LtiRegistration.objects.create(
        issuer="https://lms.example/",
        client_id="tool-17",
        authorization_endpoint="https://lms.example/auth",
        token_endpoint="https://lms.example/token",
        token_audience="https://api.example/token",
        jwks_uri="https://lms.example/keys",
    )


def ask(settings: object = None, **changes) -> dict[str, object]:
    """The claims of a selection; settings are those of the request but for the return URL."""
    named = {"deep_link_return_url": RETURN, "accept_types": ["link"], **(settings or {})}
    claims = {
        "iss": "https://lms.example/",
        "aud": ["tool-17", "other"],
        "nonce": "of the request",
        f"{CLAIM}deployment_id": " 1:ab ",
        f"{CLAIM}message_type": "LtiDeepLinkingRequest",
        f"{CLAIM}version": "1.3.0",
        f"{DL_CLAIM}deep_linking_settings": named,
    }
    return {**claims, **changes}


def answer(registration, claims):
    """The page that a refused selection gets."""
    consumer = LtiConsumer.objects.create(consumer_name="Campus")
    reply = build_empty_response(claims, registration)
    refusal = UnsupportedMessageType()
    refusal.with_details(reply=reply, consumer=consumer, registration=registration)
    return refuse(RequestFactory().post("/lti/launch/"), refusal)


def read_token(response) -> dict[str, object]:
    (pair,) = Page(response.content.decode()).pairs
    assert pair[0] == "JWT"
    return verify(pair[1], fetch()[read_header(pair[1])["kid"]])


def test_the_lms_gets_a_signed_empty_selection(registration):
    response = answer(registration, ask())
    page = Page(response.content.decode())
    claims = read_token(response)
    assert response.status_code == 200
    assert (page.forms[0]["method"], page.forms[0]["action"]) == ("post", RETURN)
    nonce, text = claims.pop("nonce"), claims.pop(f"{DL_CLAIM}errormsg")
    assert claims == {
        "iss": "tool-17",
        "aud": "https://lms.example/",
        "iat": int(time.time()),
        "exp": int(time.time()) + 300,
        f"{CLAIM}deployment_id": " 1:ab ",
        f"{CLAIM}message_type": "LtiDeepLinkingResponse",
        f"{CLAIM}version": "1.3.0",
        f"{DL_CLAIM}content_items": [],
        f"{DL_CLAIM}errorlog": "unsupported_message_type",
    }
    assert text == str(UnsupportedMessageType.public_text)
    assert len(nonce) >= 22
    assert nonce != "of the request"
    assert LtiLaunch.objects.get().refusal_code == "unsupported_message_type"


@pytest.mark.parametrize(
    "data", ["", "a\nb\r\nc\rd", 'opaque & <b>"quoted" é</b>', "\u2028\0", "{}", "a" * 10000]
)
def test_data_comes_back_to_the_letter(registration, data):
    assert read_token(answer(registration, ask({"data": data})))[f"{DL_CLAIM}data"] == data


@pytest.mark.parametrize("settings", [{}, {"data": None}, {"data": {"a": 1}}, {"data": 1}])
def test_data_that_did_not_come_does_not_come_back(registration, settings):
    assert f"{DL_CLAIM}data" not in read_token(answer(registration, ask(settings)))


def test_each_answer_has_a_nonce_and_a_time_of_its_own(registration, clock):
    reply = build_empty_response(ask(), registration)
    first = reply.sign("text", "code")
    clock.shift(2)
    both = [
        verify(token, fetch()[read_header(token)["kid"]])
        for ((_name, token),) in (first, reply.sign("text", "code"))
    ]
    assert both[0]["nonce"] != both[1]["nonce"]
    assert both[1]["iat"] - both[0]["iat"] == 2


# From the attacker's side


@pytest.mark.parametrize(
    "url",
    [None, "", 1, ["https://lms.example/"], {}, "javascript:alert(1)", "//evil.example/", "/lti/",
     "data:text/html,x", "https://lms.example\\@evil.example/", "https://a@evil.example/",
     "https://evil.example/\r\nX-Header: x", "https://evil.example/?" + "a" * 5000],
)  # fmt: skip
def test_nothing_is_signed_for_what_is_no_plain_url(registration, url):
    assert build_empty_response(ask({"deep_link_return_url": url}), registration) is None
    assert not LtiKey.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {f"{CLAIM}message_type": "LtiResourceLinkRequest"},
        {f"{CLAIM}message_type": ["LtiDeepLinkingRequest"]},
        {f"{CLAIM}message_type": None},
        {f"{DL_CLAIM}deep_linking_settings": None},
        {f"{DL_CLAIM}deep_linking_settings": []},
        {f"{DL_CLAIM}deep_linking_settings": "deep_link_return_url"},
        {f"{DL_CLAIM}deep_linking_settings": {}},
    ],
)
def test_what_asks_for_no_selection_is_not_answered(registration, changes):
    assert build_empty_response(ask(**changes), registration) is None


def test_a_lost_key_refuses_before_there_is_an_answer(registration, settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    keys.get_signing_key()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = []
    with pytest.raises(SecretUnreadable):
        build_empty_response(ask(), registration)


def test_hostile_values_do_not_become_markup(registration):
    hostile = '"><script>alert(1)</script>'
    url = f"{RETURN}&x=%22'&y=a"
    response = answer(registration, ask({"data": hostile, "deep_link_return_url": url}))
    assert "<script>alert" not in response.content.decode()
    assert Page(response.content.decode()).forms[0]["action"] == url
    assert read_token(response)[f"{DL_CLAIM}data"] == hostile


def test_the_answer_is_in_no_repr_and_no_log(registration, caplog):
    caplog.set_level("DEBUG")
    response = answer(registration, ask({"data": "canary"}))
    ((_name, token),) = Page(response.content.decode()).pairs
    reply = build_empty_response(ask({"data": "canary"}), registration)
    texts = [repr(reply), caplog.text, *(repr(vars(record)) for record in caplog.records)]
    assert [text for text in texts if token in text or "canary" in text] == []


def test_only_the_lms_frames_the_page(registration):
    response = answer(registration, ask())
    policy = response["Content-Security-Policy"]
    assert policy.endswith("frame-ancestors https://lms.example")
    assert "script-src 'sha256-" in policy
    assert "no-store" in response["Cache-Control"]
    assert Page(response.content.decode()).buttons == 1

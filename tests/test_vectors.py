import json
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pytest
import time_machine
from django.test import Client

from lti_provider.lti11 import signature
from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from tests import rfc5849

VECTORS = Path(__file__).parent / "data" / "vectors"
OAUTH = json.loads((VECTORS / "oauth1.json").read_text())
LAUNCHES = json.loads((VECTORS / "launches.json").read_text())
CASES = {case["id"]: case for case in LAUNCHES["cases"]}
REQUESTS = {
    vector["id"]: vector for vector in OAUTH["signature"] if not vector.get("raw_base_string_only")
}
RAW = [vector for vector in OAUTH["signature"] if vector.get("raw_base_string_only")]
OURS = ("HMAC-SHA1", "HMAC-SHA256")
FORM = "application/x-www-form-urlencoded"


def signed_pairs(vector):
    query = parse_qsl(urlsplit(vector["url"]).query, keep_blank_values=True)
    return [*map(tuple, vector["params"]), *query]


@pytest.mark.parametrize("vector", OAUTH["param_encoding"], ids=lambda v: v["encoded"])
def test_parameters_are_encoded_as_the_vectors_say(vector):
    made = signature.base_string("http://tool.example/", [("n", vector["raw"])])

    assert unquote(made.split("&")[2]) == f"n={vector['encoded']}"
    assert rfc5849.encode(vector["raw"]) == vector["encoded"]


@pytest.mark.parametrize("vector", OAUTH["normalisation"], ids=lambda v: v["normalised"][:20])
def test_parameters_are_normalized_as_the_vectors_say(vector):
    encoded = "&".join(filter(None, (vector.get(part) for part in ("form", "query", "body"))))
    pairs = [*parse_qsl(encoded, keep_blank_values=True), *vector.get("oauth", {}).items()]

    made = signature.base_string("http://tool.example/", pairs)

    assert unquote(made.split("&")[2]) == vector["normalised"]


@pytest.mark.parametrize("vector", OAUTH["base_string_uri"], ids=lambda v: v["url"])
def test_urls_are_normalized_as_the_vectors_say(vector):
    made = signature.base_string(vector["url"], [])

    assert unquote(made.split("&")[1]) == vector["base_string_uri"]


@pytest.mark.parametrize("name", REQUESTS)
def test_base_strings_are_those_of_the_vectors(name):
    vector = REQUESTS[name]

    made = signature.base_string(vector["url"], signed_pairs(vector))

    assert made.removeprefix("POST") == vector["base_string"].removeprefix(vector["method"])


@pytest.mark.parametrize("name", REQUESTS)
def test_signatures_are_those_of_the_vectors(name):
    vector = REQUESTS[name]
    holds = vector["should_verify"] and not vector["token_secret"]
    if vector["signature_method"] not in OURS:
        assert vector["signature_method"] not in signature.METHODS
        return

    made = signature.sign(
        vector["base_string"], vector["consumer_secret"], vector["signature_method"]
    )

    assert (made == vector["published"]) is holds


@pytest.mark.parametrize("vector", RAW, ids=lambda v: v["id"])
def test_a_token_secret_is_never_ours(vector):
    made = signature.sign(vector["base_string"], vector["consumer_secret"])

    assert (made == vector["published"]) is (not vector["token_secret"])


@pytest.fixture
def site(settings):
    settings.ROOT_URLCONF = "tests.urls_without_slash"
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    with time_machine.travel(LAUNCHES["clock"], tick=False):
        yield


@pytest.fixture
def consumer(db, site):
    return LtiConsumer.objects.create(
        consumer_name="LMS", consumer_key="12345", consumer_secret="secret"
    )


def post(client, url, body, content_type=FORM):
    parts = urlsplit(url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return client.generic(
        "POST",
        path,
        body,
        content_type,
        secure=parts.scheme == "https",
        headers={"Host": parts.netloc, "Sec-Fetch-Dest": "document"},
    )


def follow(client, response):
    while response.status_code == 303:
        response = client.get(
            response["Location"],
            secure=True,
            headers={"Host": "tool.example", "Sec-Fetch-Dest": "document"},
        )
    return response


def ids(*expected):
    return [name for name, case in CASES.items() if case["expected"] in expected]


@pytest.mark.parametrize("name", ids("accept", "accept-anonymous"))
def test_launches_that_a_safe_provider_accepts(client, consumer, name):
    case = CASES[name]

    response = post(client, case["url"], case["body"], case["content_type"])

    assert response.status_code == 303
    assert follow(client, response).content.startswith(b"content/ for lti-")
    assert LtiLaunch.objects.accepted().get().entered_at is not None


@pytest.mark.parametrize("name", ids("reject", "decide"))
def test_launches_that_a_safe_provider_refuses(client, consumer, name):
    case = CASES[name]

    response = post(client, case["url"], case["body"], case["content_type"])

    assert response.status_code in (400, 401, 403)
    assert not response.cookies
    assert not LtiLaunch.objects.accepted().exists()


def test_no_case_has_an_answer_that_the_tests_do_not_know():
    assert set(ids("accept", "accept-anonymous", "reject", "decide")) == set(CASES)


def test_an_id_of_4096_characters_is_refused_rather_than_cut(client, consumer):
    case = CASES["user-4096"]

    response = post(client, case["url"], case["body"])

    assert response.status_code == 400
    assert b"invalid_parameter" in response.content


def test_a_consumer_whose_secret_is_empty_verifies_nothing(client, consumer):
    LtiConsumer.objects.update(consumer_secret="")
    case = CASES["empty-secret-forgery"]

    response = post(client, case["url"], case["body"])

    assert response.status_code == 401
    refused = LtiLaunch.objects.refused().get()
    assert refused.refusal_code == "invalid_signature"
    assert "has no secret" in refused.refusal_hint


def test_the_secret_that_stands_in_for_a_missing_one_opens_nothing(client, consumer):
    LtiConsumer.objects.update(consumer_secret="")
    fields = [("lti_message_type", "basic-lti-launch-request"), ("lti_version", "LTI-1p0")]
    for guess in ("", " ", "None", "no consumer has this secret"):
        for key in ("12345", "nobody"):
            pairs = rfc5849.sign(
                "https://tool.example/lti/launch",
                [*fields, ("resource_link_id", "r1")],
                key=key,
                secret=guess,
            )
            response = post(client, "https://tool.example/lti/launch", urlencode(pairs))
            assert response.status_code == 401


def test_a_launch_without_user_id_is_a_guest_of_its_own(client, consumer):
    case = CASES["no-user"]

    follow(client, post(client, case["url"], case["body"]))

    assert LtiUser.objects.get().lti_user_id == ""


def test_student_and_STUDENT_are_two_people(client, consumer):  # noqa: N802
    fields = [pair for pair in parse_qsl(CASES["user-case"]["body"]) if "oauth" not in pair[0]]
    lower = [(name, "student" if name == "user_id" else value) for name, value in fields]
    url = "https://tool.example/lti/launch"
    pairs = rfc5849.sign(url, lower, key="12345", secret="secret")

    follow(client, post(client, url, urlencode(pairs)))
    other = Client()
    follow(other, post(other, url, CASES["user-case"]["body"]))

    assert sorted(LtiUser.objects.values_list("lti_user_id", flat=True)) == ["STUDENT", "student"]


def test_an_unknown_key_is_told_from_a_wrong_secret(client, consumer):
    unknown, wrong = CASES["unknown-consumer"], CASES["other-consumer-secret"]

    first = post(client, unknown["url"], unknown["body"])
    second = post(client, wrong["url"], wrong["body"])

    assert (first.status_code, second.status_code) == (401, 401)
    assert b"<code>unknown_consumer_key</code>" in first.content
    assert b"<code>invalid_signature</code>" in second.content


@pytest.mark.parametrize("vector", OAUTH["plaintext"], ids=lambda v: v["source"])
def test_plaintext_is_refused_even_with_the_right_signature(client, consumer, vector):
    LtiConsumer.objects.update(consumer_secret=vector["consumer_secret"])
    genuine = dict(parse_qsl(CASES["plaintext"]["body"]))
    for given in (vector["signature"], f"{vector['consumer_secret']}&"):
        body = urlencode({**genuine, "oauth_signature": given})
        response = post(client, CASES["plaintext"]["url"], body)
        assert response.status_code == 400
        assert b"unsupported_signature_method" in response.content


@pytest.mark.parametrize("method", ["HMAC-SHA512", "hmac-sha1", "HMAC-SHA1 ", "RSA-SHA256", "MD5"])
def test_no_other_method_is_accepted(client, consumer, method):
    url = "https://tool.example/lti/launch"
    fields = [
        ("lti_message_type", "basic-lti-launch-request"),
        ("lti_version", "LTI-1p0"),
        ("resource_link_id", "r1"),
        ("oauth_consumer_key", "12345"),
        ("oauth_signature_method", method),
        ("oauth_timestamp", str(LAUNCHES["clock"])),
        ("oauth_nonce", "n-1"),
    ]
    made = rfc5849.signature(
        rfc5849.base_string(url, fields),
        "secret",
        method if method == "HMAC-SHA512" else "HMAC-SHA1",
    )

    response = post(client, url, urlencode([*fields, ("oauth_signature", made)]))

    assert response.status_code == 400
    assert b"unsupported_signature_method" in response.content

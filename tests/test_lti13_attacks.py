"""What must not get in by LTI 1.3, through the door that a browser takes."""

import base64
import hmac
import json
import re
import time
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey
from joserfc.jws import JWSRegistry

from lti_provider.lti13.state import LoginState
from lti_provider.models import (
    LtiConsumer,
    LtiContext,
    LtiDeployment,
    LtiLaunch,
    LtiRegistration,
    LtiUnknownSender,
)
from lti_provider.testing.platform import FakePlatform, build_key_set, get_test_key
from lti_provider.testing.platform_profiles import LTI
from tests.answering import get_refusal, log_in
from tests.urls import content

FORM = "application/x-www-form-urlencoded"
SITE = "http://testserver"
BACK = "https://lms.example/courses/101/external_content/success/external_tool"
MINE = RSAKey.generate_key(2048, {"kid": "mine"})

pytestmark = pytest.mark.django_db


def each(names, values):
    """Parametrize with values that have no short text of their own."""
    return pytest.mark.parametrize(names, values, ids=range(len(values)))


@pytest.fixture
def lms(settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakePlatform.create("canvas")


@pytest.fixture
def login(lms):
    return log_in(lms)


@pytest.fixture(autouse=True)
def no_requests(monkeypatch):
    """Whoever asks another host fails: all keys of these tests are on file."""
    monkeypatch.setattr("socket.getaddrinfo", None)


def refused(response, code, status=None):
    """Whether a launch was refused for this reason, and nobody is signed in."""
    if response.status_code == 303:
        assert parse_qs(urlsplit(response["Location"]).query).get("lti_errorlog") == [code]
        assert response["Location"].startswith(BACK)
    else:
        assert f"<code>{code}</code>" in response.text
        assert status is None or response.status_code == status
    assert not LtiLaunch.objects.accepted().exists()
    assert not get_user_model().objects.exists()
    return True


def accepted(response):
    assert response.status_code == 303, response.text
    assert response["Location"].startswith("/lti/enter/"), response["Location"]
    return LtiLaunch.objects.accepted().latest("pk")


def encode(part):
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_a_launch_gets_in(lms, login):
    launch = accepted(login.answer())

    assert launch.registration == lms.registration
    assert launch.lti_consumer == lms.consumer
    assert launch.message.person.user_id == lms.claims["sub"]
    assert launch.launch_url == login.target


# The form.


def test_a_launch_is_posted_to_the_redirect_uri_and_nowhere_else(login):
    form = urlencode({"id_token": login.token(), "state": login.state})

    for address in ("/lti/launch/content/", "/lti/launch/content/?x=1"):
        response = login.client.post(address, form, content_type=FORM)
        assert refused(response, "other_redirect_uri", 400)
    assert login.client.get(f"/lti/launch/?{form}").status_code != 303
    assert refused(login.client.post(f"/lti/launch/?{form}", "", content_type=FORM),
                   "malformed_request")  # fmt: skip


class UrlsOfASchool:
    urlpatterns = (
        path("schön & gut/lti/", include("lti_provider.urls")),
        path("content/", content),
    )


@pytest.mark.parametrize("framed", [True, False])
def test_the_redirect_uri_may_have_any_path(lms, settings, framed):
    settings.ROOT_URLCONF = UrlsOfASchool

    response = lms.launch(Client(), framed=framed)

    assert response.text.startswith("content/ for ")


@each("media_type", ["application/json", "multipart/form-data; boundary=x", "text/plain", ""])
def test_only_a_form_counts(login, media_type):
    form = json.dumps({"id_token": login.token(), "state": login.state})

    response = login.client.post("/lti/launch/", form, content_type=media_type)

    assert refused(response, "malformed_request", 400)


def test_a_second_token_or_state_is_refused(login):
    pairs = [("id_token", login.token()), ("state", login.state)]

    for pair in pairs:
        response = login.lms.post_token(login.client, [*pairs, pair])
        assert refused(response, "malformed_request", 400)


def test_a_form_of_more_than_64_kib_is_refused(login):
    assert refused(login.answer(custom={"x": "x" * 50_000}), "malformed_request", 400)


def test_what_is_in_the_form_beside_token_and_state_says_nothing(login):
    launch = accepted(
        login.post(sub="teacher", roles="Instructor", custom_x="1", target_link_uri="/admin/")
    )

    assert launch.message.person.user_id == login.lms.claims["sub"]
    assert launch.message.custom.get("x") is None
    assert not launch.message.is_instructor


def test_the_query_of_the_redirect_uri_says_nothing(login):
    other = log_in(login.lms, login.client)
    form = urlencode({"id_token": login.token(), "state": login.state})

    path = f"/lti/launch/?{urlencode({'state': other.state})}"
    launch = accepted(login.client.post(path, form, content_type=FORM,
                                        headers={"Sec-Fetch-Dest": "document"}))  # fmt: skip

    assert "state" not in launch.target


# The state.


def test_a_state_that_is_not_ours_is_refused(login):
    for state in ("", "x", login.state[:-1], login.state + "x", login.nonce, "\x00", "é"):
        response = login.post(state=state or None)
        assert response.status_code == 400
        assert not LtiLaunch.objects.exists()


def test_a_login_is_answered_within_ten_minutes(login):
    with time_machine.travel(time.time() + 601):
        assert refused(login.answer(), "state_expired", 401)


def test_a_launch_is_accepted_once_ever(login):
    token = login.token()
    accepted(login.post(token))

    for moment in (0, 300, 590):
        with time_machine.travel(time.time() + moment):
            assert "replayed_launch" in login.post(token).text
            assert "replayed_launch" in login.answer(sub="teacher").text
    assert LtiLaunch.objects.accepted().count() == 1


def test_a_login_is_answered_for_one_of_two_schools(lms):
    # Anybody may leave the deployment out of a login, and ask the LMS twice.
    other = LtiConsumer.objects.create(consumer_name="A different school")
    LtiDeployment.objects.create(
        registration=lms.registration, deployment_id="other", lti_consumer=other
    )
    pairs = [pair for pair in lms.begin_login() if pair[0] != "lti_deployment_id"]
    client = Client(raise_request_exception=False)
    asked = lms.log_in(client, pairs)["Location"]
    accepted(lms.post_token(client, lms.authorize(asked)))

    response = lms.post_token(client, lms.authorize(asked, deployment_id="other"))

    assert response.status_code == 403
    assert get_refusal()[0] == "replayed_launch"
    assert LtiLaunch.objects.latest("pk").lti_consumer == other
    assert LtiLaunch.objects.accepted().count() == 1


def test_a_purge_does_not_forget_a_nonce_whose_state_still_counts(login):
    token = login.token()
    accepted(login.post(token))

    with time_machine.travel(time.time() + 599):
        LtiLaunch.objects.purge(timezone.now())
        assert LtiLaunch.objects.accepted().count() == 1


def test_tokens_of_two_logins_cannot_be_swapped(lms):
    mine, yours = log_in(lms), log_in(lms)

    assert refused(yours.post(mine.token(sub="attacker")), "other_nonce", 403)
    assert refused(mine.post(yours.token(), state=mine.state), "other_nonce", 403)


def test_a_state_of_a_different_registration_is_refused(lms):
    other = FakePlatform.create("moodle")
    login, foreign = log_in(lms), log_in(other)

    # One registration's state with the other one's token, with and without its nonce.
    assert refused(login.post(foreign.token()), "other_token_issuer")
    assert refused(login.post(other.sign(foreign.claims(nonce=login.nonce))), "other_token_issuer")
    _code, hint = get_refusal()
    assert "https://lms.example" in hint
    assert lms.registration.issuer in hint


# How the token is written.


@each(
    "change",
    [
        lambda token: None,
        lambda token: "",
        lambda token: "x",
        lambda token: "..",
        lambda token: "...",
        lambda token: token + ".",
        lambda token: token + ".x",
        lambda token: "." + token,
        lambda token: token + "=",
        lambda token: token.replace(".", "=.", 1),
        lambda token: token.replace(".", "..", 1),
        lambda token: token + "\n",
        lambda token: " " + token,
        lambda token: token.replace("-", "+").replace("_", "/") + "+",
        lambda token: token[:5] + "é" + token[5:],
        lambda token: json.dumps({"payload": "x", "signatures": []}),
        lambda token: ".".join(["eyJhbGciOiJSU0EtT0FFUCJ9", "x", "x", "x", "x"]),
        lambda token: ".".join([encode([1]), *token.split(".")[1:]]),
        lambda token: ".".join([encode("RS256"), *token.split(".")[1:]]),
        lambda token: ".".join([encode(b"\xff"), *token.split(".")[1:]]),
        lambda token: ".".join([token.split(".")[0], encode(b"{"), token.split(".")[2]]),
        lambda token: ".".join([token.split(".")[0], encode([]), token.split(".")[2]]),
        lambda token: ".".join([token.split(".")[0], encode(b"{} {}"), token.split(".")[2]]),
        lambda token: ".".join([token.split(".")[0], encode(b"\xef\xbb\xbf{}"), "x" * 342]),
        lambda token: ".".join([token.split(".")[0], encode('{"a":1}'.encode("utf-16")), "xx"]),
        lambda token: ".".join([*token.split(".")[:2], token.split(".")[2][:-1]]),
    ],
)
def test_a_token_that_is_not_written_in_the_one_way_is_refused(login, change):
    assert refused(login.post(change(login.token()) or ""), "malformed_token", 400)
    assert LtiLaunch.objects.get().registration == login.lms.registration


def test_a_token_has_one_spelling(login):
    # The last character of a signature has four bits that count.
    token = login.token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = token[:-1] + alphabet[alphabet.index(token[-1]) + 1]

    assert refused(login.post(twin), "malformed_token", 400)


def signed_text(payload, header=None, key=None):
    """A genuine signature over any bytes."""
    key = key or get_test_key()
    header = header if isinstance(header, bytes) else {"alg": "RS256", "kid": key.kid}
    text = f"{encode(header)}.{encode(payload)}"
    signature = JWSRegistry.algorithms["RS256"].sign(text.encode(), key)
    return f"{text}.{encode(signature)}"


@each(
    "addition",
    [
        '"sub":"teacher"',
        '"x":{"a":1,"a":2}',
        '"x":[{"a":1,"a":1}]',
        '"x":NaN',
        '"x":Infinity',
        '"x":-Infinity',
        '"x":' + "9" * 21,
        '"x":' + "9" * 5000,
        '"x":-' + "9" * 30,
        '"x":' + "[" * 40 + "]" * 40,
        '"x":' + '{"a":' * 40 + "1" + "}" * 40,
        '"x":' + "[" * 15_000 + "]" * 15_000,
        '"x":' + '[{"a":' * 5000 + "1" + "}]" * 5000,
        '"x":' + "[" * 40,
        '"x":"' + "[" * 40 + '","y":' + "[" * 33 + "]" * 33,
        '"x":"\\"' + "[" * 40 + '\\\\","y":' + "[" * 33 + "]" * 33,
    ],
)
def test_json_that_can_be_read_in_two_ways_is_refused_though_signed(login, addition):
    payload = json.dumps(login.claims())[:-1] + "," + addition + "}"

    assert refused(login.post(signed_text(payload.encode())), "malformed_token", 400)


@each(
    "addition",
    ['"x":"' + "[{" * 400 + '"', '"x":[' + "[]," * 400 + "[]]", '"x":1e400', '"x":' + "9" * 20],
)
def test_json_that_is_only_odd_is_read(login, addition):
    payload = json.dumps(login.claims())[:-1] + "," + addition + "}"

    accepted(login.post(signed_text(payload.encode())))


@each(
    "header",
    [
        b'{"alg":"RS256","kid":"%s","alg":"none"}',
        b'{"alg":"none","kid":"%s","alg":"RS256"}',
        b'{"alg":"RS256","kid":"%s","x":NaN}',
        b'{"alg":"RS256","kid":"%s","x":' + b"[" * 400 + b"]" * 400 + b"}",
        b'{"alg":"RS256","kid":"%s","x":"' + b"x" * 1024 + b'"}',
    ],
)
def test_a_header_that_can_be_read_in_two_ways_is_refused_though_signed(login, header):
    key = login.lms.key
    payload = json.dumps(login.claims()).encode()

    response = login.post(signed_text(payload, header.replace(b"%s", key.kid.encode())))

    assert refused(response, "malformed_token", 400)


# How it is signed.


def public_pem(lms):
    return lms.key.as_pem(private=False)


@each(
    "secret",
    [
        lambda key: key.as_pem(private=False),
        lambda key: key.as_pem(private=False).strip(),
        lambda key: json.dumps(key.as_dict(private=False)).encode(),
        lambda key: json.dumps(build_key_set(key)).encode(),
        lambda key: base64.urlsafe_b64decode(key.as_dict(private=False)["n"] + "=="),
        lambda key: b"",
    ],
)
@each("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_not_a_shared_secret(login, algorithm, secret):
    # hmac takes an empty key, joserfc does not.
    text = f"{encode({'alg': algorithm, 'kid': login.lms.key.kid})}.{encode(login.claims())}"
    made = hmac.digest(secret(login.lms.key), text.encode(), algorithm.replace("HS", "sha"))

    assert refused(login.post(f"{text}.{encode(made)}"), "unsupported_algorithm", 400)
    assert algorithm in get_refusal()[1]


@each("algorithm", ["RS384", "RS512", "PS256", "PS384", "PS512"])
def test_other_algorithms_of_the_same_key_are_refused(login, algorithm):
    token = login.token(header={"alg": algorithm})

    assert refused(login.post(token), "unsupported_algorithm", 400)


def test_elliptic_curves_are_refused(login):
    key = ECKey.generate_key("P-256")
    token = login.token(header={"alg": "ES256"}, key=key)

    assert refused(login.post(token), "unsupported_algorithm", 400)


@each(
    "algorithm",
    ["none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", None, 1, True, ["RS256"], {}],
)
@each("is_signed", [False, True])
def test_no_other_name_of_an_algorithm_is_accepted(login, algorithm, is_signed):
    header = {"alg": algorithm, "kid": login.lms.key.kid}
    payload = json.dumps(login.claims()).encode()
    token = signed_text(payload, json.dumps(header).encode())
    if not is_signed:
        token = token.rpartition(".")[0] + "."

    assert refused(login.post(token), "unsupported_algorithm", 400)


@each("kid", [None, "", 1, True, ["k"], {"k": 1}])
def test_a_token_has_to_name_its_key(login, kid):
    header = {"alg": "RS256"} if kid is None else {"alg": "RS256", "kid": kid}
    token = signed_text(json.dumps(login.claims()).encode(), json.dumps(header).encode())

    assert refused(login.post(token), "missing_key_id", 400)


@each("crit", [["exp"], ["b64"], ["x"], [], "exp", None, 1])
def test_whatever_is_critical_is_refused(login, crit):
    header = {"alg": "RS256", "kid": login.lms.key.kid, "crit": crit, "b64": False, "x": 1}
    token = signed_text(json.dumps(login.claims()).encode(), json.dumps(header).encode())

    assert refused(login.post(token), "critical_header", 400)


def own_key_headers():
    public = MINE.as_dict(private=False)
    url = "https://evil.example/keys.json"
    return [{"jwk": public}, {"jku": url}, {"x5u": url}, {"x5c": ["MIIB"]}, {"x5t": "x"},
            {"jwk": public, "jku": url, "x5u": url}]  # fmt: skip


@each("header", own_key_headers())
def test_a_token_does_not_bring_its_key(login, header):
    for kid, code in (("mine", "unknown_signing_key"), (None, "token_signature_invalid")):
        own = {**header, "kid": kid or login.lms.key.kid}
        assert refused(login.post(login.token(header=own, key=MINE)), code, 401)


def test_a_key_that_is_named_beside_the_own_one_is_not_fetched(login):
    accepted(login.post(login.token(header={"jku": "https://evil.example/", "typ": "at+jwt"})))


def test_an_unknown_key_is_named(lms, login):
    lms.registration.jwks = json.dumps(build_key_set(MINE))
    lms.registration.save()

    assert refused(login.post(login.token(header={"kid": "k9"})), "unknown_signing_key", 401)
    assert "k9" in get_refusal()[1]
    assert "mine" in get_refusal()[1]


def test_a_wrong_key_of_the_right_name_is_refused(lms, login):
    token = login.token(key=MINE)

    assert refused(login.post(token), "token_signature_invalid", 401)
    assert lms.key.kid in get_refusal()[1]


@each("part", [0, 1, 2])
def test_every_byte_that_is_signed_counts(login, part):
    parts = login.token().split(".")
    if part == 0:
        parts[0] = encode({"typ": "JWT", "alg": "RS256", "kid": login.lms.key.kid, "x": 1})
    elif part == 1:
        parts[1] = encode(login.claims(sub="teacher"))
    else:
        parts[2] = parts[2][:40] + ("A" if parts[2][40] != "A" else "B") + parts[2][41:]

    assert refused(login.post(".".join(parts)), "token_signature_invalid", 401)


@each("signature", ["", "AA", "AAAA" * 85 + "AA", "AAAA" * 500])
def test_a_signature_of_any_length_is_refused(login, signature):
    text = login.token().rpartition(".")[0]

    assert refused(login.post(f"{text}.{signature}"), "token_signature_invalid", 401)


@pytest.mark.filterwarnings("ignore:Key size should be", "ignore:The RSA key is")
def test_a_short_key_is_refused(lms, login):
    key = RSAKey.generate_key(1024, {"kid": "short"})
    lms.registration.jwks = json.dumps(build_key_set(key))
    lms.registration.save()

    token = jwt.encode(login.claims(), key.as_pem(private=True), "RS256", {"kid": "short"})
    assert refused(login.post(token), "unsuitable_key", 401)
    assert "1024" in get_refusal()[1]


def test_an_independent_signer_is_understood(lms, login):
    token = jwt.encode(login.claims(), lms.key.as_pem(private=True), "RS256", {"kid": lms.key.kid})

    accepted(login.post(token))


# Whom it is from and for.


def test_a_key_set_that_clients_share_does_not_join_them(lms):
    # As all schools of a hosted LMS do: one issuer, one key set, a client id each.
    other = FakePlatform.create("canvas")
    login, foreign = log_in(lms), log_in(other)

    assert refused(login.post(other.sign(foreign.claims(nonce=login.nonce))), "other_audience")
    _code, hint = get_refusal()
    assert other.registration.client_id in hint
    assert lms.registration.client_id in hint


def test_a_deployment_of_a_different_registration_is_unknown(lms):
    other = FakePlatform.create("canvas")
    LtiDeployment.objects.filter(pk=other.deployment.pk).update(deployment_id="77")
    deployment = LtiDeployment.objects.get(pk=other.deployment.pk)
    deployment.save()
    pairs = [pair for pair in lms.begin_login() if pair[0] != "lti_deployment_id"]
    asked = parse_qs(urlsplit(lms.log_in(client := Client(), pairs)["Location"]).query)
    claims = lms.build_claims(nonce=asked["nonce"][0], deployment_id="77",
                              target_link_uri=f"{SITE}/lti/launch/")  # fmt: skip

    response = lms.post_token(
        client, [("id_token", lms.sign(claims)), ("state", asked["state"][0])]
    )

    assert refused(response, "unknown_deployment")
    assert LtiLaunch.objects.get().lti_consumer is None


@each("issuer", ["{own}/", "{own}#", " {own}", "https://evil.example", "", None, 1, ["{own}"], {}])
def test_the_issuer_is_the_registrations_to_the_letter(lms, login, issuer):
    own = lms.registration.issuer
    if isinstance(issuer, str):
        issuer = issuer.replace("{own}", own)
    elif isinstance(issuer, list):
        issuer = [own]

    assert refused(login.answer(iss=issuer), "other_token_issuer", 403)
    assert own in get_refusal()[1]


OWN = object()


@each(
    ("aud", "azp"),
    [
        (None, None), ("", None), ("other", None), ("other", OWN), ([], None), ([], OWN),
        (["other"], None), (["other"], OWN), ([OWN, "other"], None), ([OWN, "other"], "other"),
        (OWN, "other"), ([OWN], "other"), (1, None), (True, None), ({}, None), ({"x": 1}, OWN),
        ([[OWN]], None), ([1], OWN), (OWN, 1), (OWN, [OWN]), (OWN, ""), ([OWN, 1], None),
    ],
)  # fmt: skip
def test_the_token_has_to_be_for_this_site(lms, login, aud, azp):
    own = lms.registration.client_id

    def fill(value):
        return own if value is OWN else [fill(each) for each in value] if isinstance(
            value, list) else value  # fmt: skip

    response = login.answer(aud=fill(aud), azp=fill(azp))

    assert refused(response, "other_audience", 403)
    assert own in get_refusal()[1]


@each(
    ("aud", "azp"), [(OWN, OWN), ([OWN], None), ([OWN], OWN), ([OWN, "other"], OWN),
                     ([OWN, OWN], None)]
)  # fmt: skip
def test_audiences_that_are_this_site(lms, login, aud, azp):
    own = lms.registration.client_id
    aud = [own if each is OWN else each for each in aud] if isinstance(aud, list) else own

    accepted(login.answer(aud=aud, azp=own if azp is OWN else None))


# When.


@each("name", ["exp", "iat", "nbf"])
@each(
    "value",
    ["1800000000", True, False, [], {}, 0, -1, -1e308, 1e308, 1e300, 10**19, 10_000_000_000, "NaN"],
)
def test_a_time_is_a_number_of_seconds(login, name, value):
    assert refused(login.answer(**{name: value}), "token_time_invalid", 400)
    assert name in get_refusal()[1]


@each("name", ["exp", "iat"])
def test_a_token_has_its_times(login, name):
    assert refused(login.answer(**{name: None}), "token_time_invalid", 400)


def test_a_number_that_overflows_is_not_a_time(login):
    claims = json.dumps(login.claims(exp=7)).replace('"exp": 7', '"exp": 1e999')

    assert refused(login.post(signed_text(claims.encode())), "token_time_invalid", 400)


@each("leeway", [0, 60, 300])
def test_the_leeway_is_the_registrations(lms, leeway):
    LtiRegistration.objects.update(clock_leeway=leeway)
    with time_machine.travel(1_800_000_000.0, tick=False):
        login, now = log_in(lms), 1_800_000_000
        assert refused(login.answer(exp=now - leeway), "token_expired", 401)
        assert refused(login.answer(exp=now - leeway - 10), "token_expired", 401)
        assert f"expired {leeway + 10} s ago" in get_refusal()[1]
        ahead = now + leeway + 1
        assert refused(login.answer(iat=ahead), "token_not_yet_valid", 401)
        assert f"{leeway + 1} s ahead" in get_refusal()[1]
        assert LtiLaunch.objects.latest("pk").clock_difference == leeway + 1
        assert refused(login.answer(nbf=ahead), "token_not_yet_valid", 401)
        assert refused(login.answer(iat=ahead, nbf=now), "token_not_yet_valid", 401)
        assert refused(login.answer(iat=now - leeway - 1), "token_before_login", 401)
        assert f"{leeway + 1} s before" in get_refusal()[1]
        accepted(login.answer(iat=now + leeway, nbf=now + leeway, exp=now - leeway + 1))
        launch = accepted(log_in(lms).answer(iat=now - leeway))
        assert launch.clock_difference == -leeway


def test_times_may_have_fractions(login):
    accepted(login.answer(iat=time.time(), exp=time.time() + 0.5))


# To which login.


@each("nonce", [None, "", "x", 1, True, [], {}, "é" * 64, "\ud800", "\0"])
def test_the_nonce_is_the_logins(login, nonce):
    assert refused(login.answer(nonce=nonce), "other_nonce", 403)


def test_the_nonce_of_a_login_cannot_be_guessed_from_its_state(login):
    assert login.nonce not in login.state
    random_id = LoginState.read(login.state).random_id
    assert refused(login.answer(nonce=random_id), "other_nonce", 403)


# What it says.


@each("version", [None, "", "1.3", "1.3.0 ", "1.3.1", "2.0.0", 1.3, ["1.3.0"]])
def test_only_this_version_is_answered(login, version):
    assert refused(login.answer(version=version), "unsupported_version")


@each(
    "kind",
    [None, "", "ltiresourcelinkrequest", "LtiStartProctoring", "LtiSubmissionReviewRequest", 1,
     ["LtiResourceLinkRequest"], {}],
)  # fmt: skip
def test_only_launches_are_answered(login, kind):
    assert refused(login.answer(message_type=kind), "unsupported_message_type")


def test_a_selection_is_not_a_launch(lms, login):
    settings = {
        "deep_link_return_url": "https://lms.example/dl",
        "accept_types": ["link"],
        "data": "to the letter <>&",
    }

    response = login.answer(
        message_type="LtiDeepLinkingRequest", deep_linking_settings=settings, resource_link=None
    )

    # An empty selection goes back, signed by us, and says why.
    assert response.status_code == 200
    assert 'action="https://lms.example/dl"' in response.text
    (form,) = re.findall(r'name="JWT" value="([^"]+)"', response.text)
    claims = jwt.decode(form, options={"verify_signature": False})
    assert claims["iss"] == lms.registration.client_id
    assert claims["aud"] == lms.registration.issuer
    assert claims["https://purl.imsglobal.org/spec/lti-dl/claim/data"] == settings["data"]
    assert claims["https://purl.imsglobal.org/spec/lti-dl/claim/content_items"] == []
    assert get_refusal()[0] == "unsupported_message_type"
    assert not LtiLaunch.objects.accepted().exists()


@each("url", ["javascript:alert(1)", "/dl", "//evil.example", ""])
def test_nothing_goes_back_to_what_is_not_a_url(login, url):
    settings = {"deep_link_return_url": url, "accept_types": ["link"]}

    response = login.answer(message_type="LtiDeepLinkingRequest", deep_linking_settings=settings)

    assert refused(response, "unsupported_message_type", 400)


@each("missing", ["deep_link_return_url", "accept_types", "both", "all"])
def test_a_selection_has_its_settings(login, missing):
    settings = {"deep_link_return_url": "https://lms.example/dl", "accept_types": ["link"]}
    settings = {"both": {}, "all": None}.get(
        missing, {name: value for name, value in settings.items() if name != missing}
    )

    response = login.answer(message_type="LtiDeepLinkingRequest", deep_linking_settings=settings)

    assert refused(response, "invalid_claim", 400)


@each("deployment", [None, ""])
def test_the_deployment_has_to_be_named(login, deployment):
    assert refused(login.answer(deployment_id=deployment), "missing_deployment")


@each("deployment", [1, True, ["1"], {"id": 1}, "d" * 256, "a\0", "\ud800"])
def test_a_deployment_that_cannot_be_kept_is_refused(login, deployment):
    assert refused(login.answer(deployment_id=deployment), "invalid_claim")


def test_the_deployment_is_the_one_that_the_login_named(lms, login):
    LtiDeployment.objects.create(
        registration=lms.registration, deployment_id="2", lti_consumer=lms.consumer
    )

    assert refused(login.answer(deployment_id="2"), "other_deployment")


def without_deployment(lms, path=None):
    """A login that names no deployment."""
    login = log_in(lms, path=path)
    state = LoginState.issue(lms.registration.pk, login.target, None)
    login.state, login.nonce = state.sign(), state.nonce
    return login


def test_an_unknown_deployment_waits_and_a_refused_one_does_not(lms):
    login = without_deployment(lms)

    assert refused(login.answer(deployment_id="new", tool_platform={"guid": "g", "name": "N"}),
                   "unknown_deployment")  # fmt: skip
    waiting = LtiDeployment.objects.waiting().get()
    assert (waiting.deployment_id, waiting.instance_guid) == ("new", "g")
    assert waiting.lti_consumer is None
    # And goes on waiting.
    assert refused(without_deployment(lms).answer(deployment_id="new"), "unknown_deployment")

    waiting.is_active = False
    waiting.save()
    assert refused(without_deployment(lms).answer(deployment_id="new"), "deployment_inactive")
    assert "new" in get_refusal()[1]


def test_a_forged_token_makes_no_deployment_wait(lms):
    login = without_deployment(lms)

    assert refused(login.post(login.token(key=MINE, deployment_id="new")),
                   "token_signature_invalid")  # fmt: skip
    assert LtiDeployment.objects.count() == 1


@each("guid", ["known", "accepted too"])
def test_an_unknown_deployment_joins_where_the_administrator_said_so(lms, guid):
    lms.consumer.accept_installation("known")
    lms.consumer.accept_installation("accepted too")
    let_join(lms)

    launch = accepted(
        without_deployment(lms).answer(deployment_id="new", tool_platform={"guid": guid})
    )

    assert launch.lti_consumer == lms.consumer
    assert LtiDeployment.objects.get(deployment_id="new").lti_consumer == lms.consumer


def let_join(lms):
    LtiRegistration.objects.update(new_deployments="join", lti_consumer=lms.consumer)


@each("platform", [None, {"guid": None}, {"guid": ""}])
def test_without_an_installation_the_administrators_word_counts(lms, platform):
    let_join(lms)

    launch = accepted(without_deployment(lms).answer(deployment_id="new", tool_platform=platform))

    assert launch.lti_consumer == lms.consumer


def test_a_deployment_of_a_different_installation_does_not_join(lms):
    lms.consumer.accept_installation("known")
    let_join(lms)

    response = without_deployment(lms).answer(
        deployment_id="new", tool_platform={"guid": "a different school"}
    )

    assert refused(response, "unknown_deployment")
    assert LtiDeployment.objects.waiting().count() == 1


def test_the_first_installation_joins_a_consumer_that_knows_none(lms):
    let_join(lms)

    accepted(without_deployment(lms).answer(deployment_id="new", tool_platform={"guid": "first"}))

    assert LtiConsumer.objects.get().instance_guid == "first"


def test_one_that_waited_joins_when_the_administrator_says_so(lms):
    assert refused(without_deployment(lms).answer(deployment_id="new"), "unknown_deployment")
    let_join(lms)

    accepted(without_deployment(lms).answer(deployment_id="new"))

    assert LtiDeployment.objects.get(deployment_id="new").lti_consumer == lms.consumer


def test_a_consumer_is_an_lms_of_one_issuer(lms, login):
    LtiConsumer.objects.update(issuer="https://other.example")

    assert refused(login.answer(), "other_issuer")
    assert "https://other.example" in get_refusal()[1]


def test_what_an_administrator_switched_off_is_off(lms):
    login = log_in(lms)
    LtiConsumer.objects.update(is_active=False)
    assert refused(login.answer(), "consumer_inactive")
    LtiDeployment.objects.update(is_active=False)
    assert refused(login.answer(), "deployment_inactive")
    LtiRegistration.objects.update(is_active=False)
    assert refused(login.answer(), "registration_inactive", 403)


def test_a_registration_that_is_gone_is_an_unknown_sender(lms, login):
    LtiRegistration.objects.all().delete()

    response = login.answer()

    assert response.status_code == 401
    assert "<code>unknown_registration</code>" in response.text
    assert LtiUnknownSender.objects.get().text == lms.registration.issuer


@each("roles", [None])
def test_roles_are_required(login, roles):
    assert refused(login.answer(roles=roles), "missing_roles")


@each("link", [None, {}, {"title": "T"}, {"id": None}, {"id": ""}])
def test_the_activity_has_to_be_named(login, link):
    assert refused(login.answer(resource_link=link), "missing_resource_link")


@each("target", [None, ""])
def test_the_target_is_required(login, target):
    assert refused(login.answer(target_link_uri=target), "missing_target")


def test_the_target_is_the_logins(login):
    assert refused(login.answer(target_link_uri=f"{SITE}/lti/launch/content/"), "other_target")


@each("name", ["name", "given_name", "family_name", "email"])
@each("sub", [None, ""])
def test_names_belong_to_somebody(login, name, sub):
    nobody = dict.fromkeys(["name", "given_name", "family_name", "email"])

    response = login.answer(**{**nobody, name: "Zoe", "sub": sub})

    assert refused(response, "missing_person")
    assert name in get_refusal()[1]


@each("sub", [None, ""])
def test_without_any_identity_it_is_a_guest(login, sub):
    nobody = dict.fromkeys(["name", "given_name", "family_name", "email"])

    launch = accepted(login.answer(**nobody, sub=sub))

    assert launch.message.person.user_id == ""
    again = log_in(login.lms)
    for guest in (login, again):
        response = guest.answer(**nobody, sub=sub) if guest is again else None
        location = response["Location"] if response else f"/lti/enter/{handle(login)}/"
        guest.client.get(location, headers={"Sec-Fetch-Dest": "document"})
    # Nobody's account is anybody else's.
    assert get_user_model().objects.count() == 2


def handle(login):
    return LoginState.read(login.state).handle


def test_a_consumer_that_needs_people_refuses_guests(login):
    LtiConsumer.objects.update(require_user_account=True)
    nobody = dict.fromkeys(["name", "given_name", "family_name", "email"])

    assert refused(login.answer(**nobody, sub=None), "user_account_required", 403)


WRONG_TYPES = {
    "sub": [3, True, ["3"], {}],
    "name": [3, [], {}],
    "email": [3, ["a@b"]],
    "locale": [1],
    "roles": ["Learner", {}, 1, [1], [None], [["Learner"]], "", True],
    "resource_link": ["5", [], 5, True, {"id": 5}, {"id": ["5"]}, {"id": "5", "title": 3}],
    "context": ["5", [], {"id": 2}, {"id": "2", "type": "x"}, {"id": "2", "type": [1]},
                {"id": "2", "title": {}}, {"id": "2", "label": []}],
    "tool_platform": ["x", {"guid": 1}, {"guid": "g", "name": []}],
    "launch_presentation": ["x", {"return_url": 1}, {"locale": []}, {"width": []},
                            {"width": "x", "height": {}}],
    "lis": [[], {"person_sourcedid": 3}],
    "custom": [[], "x", 1, {"a": {}}, {"a": []}],
    "ext": ["x", []],
    "target_link_uri": [1, [], {}],
}  # fmt: skip


@each(
    ("name", "value"), [(name, value) for name, values in WRONG_TYPES.items() for value in values]
)
def test_a_claim_of_a_wrong_type_is_refused(login, name, value):
    response = login.answer(**{name: value})

    assert refused(response, "invalid_claim")
    assert name in get_refusal()[1]


@each(
    "name", ["context", "tool_platform", "launch_presentation", "lis", "custom", "ext", "name",
             "given_name", "family_name", "email", "locale"]
)  # fmt: skip
def test_null_is_absent(login, name):
    claims = json.dumps(login.claims(**{name: None}))[:-1]
    full = name if name in ("name", "given_name", "family_name", "email", "locale") else LTI + name

    accepted(login.post(signed_text(f'{claims}, "{full}": null}}'.encode())))


def test_null_members_are_absent(login):
    accepted(login.answer(
        context={"id": "1", "title": None, "type": None}, custom={"a": None},
        resource_link={"id": "5", "title": None, "description": None},
        tool_platform={"guid": None}, lis={"person_sourcedid": None},
        launch_presentation={"return_url": None, "width": None},
    ))  # fmt: skip
    assert LtiLaunch.objects.get().message.custom == {}


ID_CLAIMS = {
    "sub": lambda text: {"sub": text},
    "context": lambda text: {"context": {"id": text}},
    "resource_link": lambda text: {"resource_link": {"id": text}},
    "tool_platform": lambda text: {"tool_platform": {"guid": text}},
}
HOSTILE = ["a\0b", "\0", "\ud800", "a\udfffb", "x" * 256]


@each("name", ID_CLAIMS)
@each("text", HOSTILE)
def test_ids_that_cannot_be_kept_to_the_letter_are_refused(login, name, text):
    assert refused(login.answer(**ID_CLAIMS[name](text)), "invalid_claim")
    assert name in get_refusal()[1]


@each("name", ID_CLAIMS)
@each("text", ["x" * 255, "\u202e evil", "é", "É ", "😀" * 255, "'; --", "%00"])
def test_ids_that_can_be_kept_are(login, name, text):
    login.client.get(
        login.answer(**ID_CLAIMS[name](text))["Location"], headers={"Sec-Fetch-Dest": "document"}
    )

    message = LtiLaunch.objects.accepted().get().message
    assert text in (message.person.user_id, message.context.id, message.resource_link.id,
                    message.installation.guid)  # fmt: skip


@each("text", [*HOSTILE, "\u202e evil", "<script>", "x" * 1500])
def test_titles_names_and_custom_parameters_may_be_anything(login, text):
    LtiConsumer.objects.update(personal_data="name_email")
    response = login.answer(
        context={"id": "1", "title": text, "label": text, "type": [text]},
        resource_link={"id": "5", "title": text, "description": text},
        tool_platform={"guid": "g", "name": text, "version": text, "product_family_code": text},
        custom={"key": text, text: "value"}, name=text, given_name=text, family_name=text,
        email=text, roles=[text], locale=text, ext={"lms": text},
        launch_presentation={"return_url": text, "locale": text, "document_target": text,
                             "width": text},
        lis={"person_sourcedid": text, "course_section_sourcedid": text},
    )  # fmt: skip
    launch = accepted(response)

    page = login.client.get(response["Location"], headers={"Sec-Fetch-Dest": "document"})

    assert page.status_code == 303
    assert LtiContext.objects.get().title.isprintable() or "\u202e" in text
    assert "\0" not in json.dumps(launch.stored_message, ensure_ascii=False)


# Where it leads.


@each(
    ("target", "code"),
    [
        ("https://evil.example/lti/launch/", "target_not_launchable"),
        ("http://testserver.evil.example/lti/launch/", "target_not_launchable"),
        ("http://testserver:8000/lti/launch/", "target_not_launchable"),
        ("https://testserver/lti/launch/", "target_not_launchable"),
        ("http://testserver@evil.example/lti/launch/", "invalid_claim"),
        ("http://user@testserver/lti/launch/", "invalid_claim"),
        ("http://testserver\\@evil.example/lti/launch/", "invalid_claim"),
        ("http://testserver\\lti\\launch\\", "invalid_claim"),
        ("//testserver/lti/launch/", "invalid_claim"),
        ("/lti/launch/", "invalid_claim"),
        ("lti/launch/", "invalid_claim"),
        ("http:/testserver/lti/launch/", "invalid_claim"),
        ("http:testserver/lti/launch/", "invalid_claim"),
        ("javascript:alert(1)", "invalid_claim"),
        ("data:text/html,x", "invalid_claim"),
        ("file:///etc/passwd", "invalid_claim"),
        ("http://[testserver/lti/launch/", "invalid_claim"),
        ("http://testserver:99999/lti/launch/", "invalid_claim"),
        ("http://testserver:x/lti/launch/", "invalid_claim"),
        ("http:///lti/launch/", "invalid_claim"),
        ("http://testserver/lti/launch/\n", "invalid_claim"),
        ("http://testserver/lti/laun ch/", "invalid_claim"),
        ("http://testserver/lti/launch/é", "invalid_claim"),
        ("http://testserver/lti/launch/\0", "invalid_claim"),
        ("http://testserver/lti/launch/\ud800", "invalid_claim"),
        ("http://testserver/", "target_not_launchable"),
        ("http://testserver/admin/", "target_not_launchable"),
        ("http://testserver/content/", "target_not_launchable"),
        ("http://testserver/lti/enter/x/", "target_not_launchable"),
        ("http://testserver/lti/login/", "target_not_launchable"),
        ("http://testserver/nowhere/", "target_not_launchable"),
        ("http://testserver/lti/launch/admin/", "target_not_launchable"),
        ("http://testserver/lti/launch/../admin/", "target_not_launchable"),
        ("http://testserver/lti/launch/content/../admin/", "target_not_launchable"),
        ("http://testserver/lti/launch/content/%2e%2e/admin/", "target_not_launchable"),
        ("http://testserver/lti/launch/content/..%5cadmin/", "target_not_launchable"),
        ("http://testserver/lti/launch//evil.example/", "target_not_launchable"),
        ("http://testserver/lti/launch/%2fevil.example/", "target_not_launchable"),
        ("http://testserver/lti/launch/%5cevil.example/", "target_not_launchable"),
        ("http://testserver/lti/launch/?x=%ZZ", "invalid_claim"),
        ("http://testserver/lti/launch/?x=%00", "invalid_claim"),
        ("http://testserver/lti/launch/?x=%ff", "invalid_claim"),
        ("http://testserver/lti/launch/?=x", "invalid_claim"),
        ("http://testserver/lti/launch/?" + "x&" * 600, "invalid_claim"),
        ("http://testserver/lti/launch/content/" + "x" * 5000, "target_not_launchable"),
    ],
)
def test_a_target_is_a_launch_url_of_this_site(lms, target, code):
    login = log_in(lms)
    state = LoginState.issue(lms.registration.pk, target, None) if target.isprintable() else None
    if state is not None:
        login.state, login.nonce = state.sign(), state.nonce

    assert refused(login.answer(target_link_uri=target), code)


def test_a_path_with_nul_is_nothing_worse_than_a_path(lms):
    login = log_in(lms)
    target = "http://testserver/lti/launch/content/%00%ff/"
    state = LoginState.issue(lms.registration.pk, target, None)
    login.state, login.nonce = state.sign(), state.nonce

    assert login.answer(target_link_uri=target).status_code in (303, 404)


def test_the_query_of_the_target_is_the_pages_less_names_of_lti(lms):
    login = log_in(lms)
    target = f"{SITE}/lti/launch/content/?page=2&lti_x=1&iss=x&login_hint=y&state=CA&page=3"
    state = LoginState.issue(lms.registration.pk, target, None)
    login.state, login.nonce = state.sign(), state.nonce

    launch = accepted(login.answer(target_link_uri=target))

    assert launch.target == "/content/?page=2&state=CA&page=3"
    assert launch.launch_url == target


# What is written and asked before the signature holds.

FORGERIES = {
    "wrong key": lambda login: login.token(key=MINE),
    "no signature": lambda login: login.token().rpartition(".")[0] + ".",
    "shared secret": lambda login: login.token(header={"alg": "HS256"}, key=public_pem(login.lms)),
    "unknown key": lambda login: login.token(header={"kid": "x"}, key=MINE),
    "own key": lambda login: login.token(header={"jku": "https://evil.example/"}, key=MINE),
    "not a token": lambda login: "x",
    "many claims": lambda login: login.token(key=MINE, **{f"c{n}": n for n in range(900)}),
}


@each("forgery", FORGERIES)
def test_before_the_signature_holds_only_the_bounded_log_is_written(lms, login, settings, forgery):
    settings.LTI_PROVIDER_REFUSALS_KEPT = 5
    token = FORGERIES[forgery](login)

    with CaptureQueriesContext(
        connection,
    ) as queries:
        for _attempt in range(8):
            login.post(token)

    reads = ("SELECT", "SAVEPOINT", "RELEASE", "BEGIN", "COMMIT")
    changes = [query["sql"] for query in queries if not query["sql"].startswith(reads)]
    assert all(re.match("INSERT INTO .lti_provider_ltilaunch.", sql) for sql in changes)
    assert len(changes) <= 5
    assert LtiLaunch.objects.count() <= 5
    assert not get_user_model().objects.exists()


def test_a_forged_token_asks_nobody_while_keys_are_known(lms, login):
    keys, now = json.dumps(build_key_set(lms.key)), timezone.now()
    LtiRegistration.objects.update(
        jwks="",
        jwks_uri="https://lms.example/keys",
        fetched_jwks=keys,
        jwks_tried_at=now,
        jwks_fetched_at=now,
        jwks_expires_at=now + timedelta(hours=1),
    )

    for forge in FORGERIES.values():
        assert login.post(forge(login)).status_code in (400, 401)
    accepted(login.answer())


def test_the_token_is_never_in_the_log(login, caplog):
    token = login.token(key=MINE)

    login.post(token)

    launch = LtiLaunch.objects.get()
    text = json.dumps([launch.signed_text, launch.refusal_hint, launch.stored_message])
    assert token.split(".")[2] not in text + caplog.text
    assert token.split(".")[1] not in text + caplog.text


# Whatever comes.

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = ["iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "sub", "name", "email", "locale",
         "deployment_id", "version", "message_type", "roles", "context", "resource_link",
         "custom", "ext", "lis", "tool_platform", "launch_presentation", "target_link_uri",
         "deep_linking_settings", "endpoint", "namesroleservice", "basicoutcome"]  # fmt: skip


@given(changes=st.dictionaries(st.sampled_from(NAMES), json_values, min_size=1, max_size=3))
def test_no_claims_make_an_error(lms_for_all, changes):
    login = lms_for_all

    response = login.answer(**changes)

    assert response.status_code < 500


@given(header=st.dictionaries(st.sampled_from(["alg", "kid", "typ", "cty", "crit", "jku", "jwk",
                                               "x5c", "b64", "zip"]), json_values))  # fmt: skip
def test_no_header_makes_an_error(lms_for_all, header):
    login = lms_for_all
    full = {"alg": "RS256", "kid": login.lms.key.kid, **header}
    token = signed_text(json.dumps(login.claims()).encode(), json.dumps(full).encode())

    assert login.post(token).status_code < 500


@given(token=st.text(max_size=60) | st.builds(".".join, st.lists(st.text(max_size=9), max_size=6)))
def test_no_text_makes_an_error(lms_for_all, token):
    text = token.encode(errors="replace").decode()

    assert lms_for_all.post(text).status_code < 500


@pytest.fixture
def lms_for_all(lms):
    return log_in(lms)

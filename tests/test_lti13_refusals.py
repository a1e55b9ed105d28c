"""Each refusal of LTI 1.3: what the person sees, and what the administrator reads."""

import json
import time
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import time_machine
from django.test import Client
from joserfc.jwk import ECKey, RSAKey

from lti_provider import exceptions
from lti_provider.lti13.state import LoginState
from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiLaunch,
    LtiRegistration,
    LtiUnknownSender,
)
from lti_provider.testing.platform import FakePlatform, build_key_set
from tests.answering import log_in

BACK = "https://lms.example/courses/101/external_content/success/external_tool"
FORM = "application/x-www-form-urlencoded"

pytestmark = pytest.mark.django_db


@pytest.fixture
def lms(settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakePlatform.create("canvas")


def claims(**changes):
    return lambda lms: log_in(lms).answer(**changes)


def header(**changes):
    def post(lms):
        login = log_in(lms)
        key = ECKey.generate_key("P-256") if changes.get("alg") == "ES256" else None
        return login.post(login.token(header=changes, key=key))

    return post


def form(**changes):
    return lambda lms: log_in(lms).post(**changes)


def rows(model, **changes):
    def post(lms):
        login = log_in(lms)
        model.objects.update(**changes)
        return login.answer()

    return post


def with_keys(jwks):
    def post(lms):
        LtiRegistration.objects.update(jwks=json.dumps(jwks(lms)))
        return log_in(lms).answer()

    return post


def elliptic_keys(lms):
    return {"keys": [{"kty": "EC", "kid": lms.key.kid}]}


def at_an_address_that_is_not_the_redirect_uri(lms):
    login = log_in(lms)
    sent = urlencode({"id_token": login.token(), "state": login.state})
    return login.client.post("/lti/launch/content/", sent, content_type=FORM)


def after_eleven_minutes(lms):
    login = log_in(lms)
    with time_machine.travel(time.time() + 660):
        return login.answer()


def without_keys(lms):
    LtiRegistration.objects.update(jwks="", jwks_uri="https://127.0.0.1:1/keys")
    return log_in(lms).answer()


def to_a_deployment_that_nobody_knows(lms):
    login = log_in(lms)
    LtiDeployment.objects.all().delete()
    return login.answer()


def to_a_deployment_that_the_login_did_not_name(lms):
    return log_in(lms).answer(deployment_id="another")


#: What happens, the status of our page, and whether the person may return to the LMS instead.
REFUSALS = {
    "invalid_state": (form(state="x"), 400, False),
    "state_expired": (after_eleven_minutes, 401, False),
    "other_redirect_uri": (at_an_address_that_is_not_the_redirect_uri, 400, False),
    "lms_refused_login": (form(id_token=None, error="access_denied"), 403, False),
    "registration_inactive": (rows(LtiRegistration, is_active=False), 403, False),
    "malformed_token": (form(id_token="x"), 400, False),
    "unsupported_algorithm": (header(alg="ES256"), 400, False),
    "critical_header": (header(crit=["x"], x=1), 400, False),
    "missing_key_id": (header(kid=None), 400, False),
    "unknown_signing_key": (header(kid="other"), 401, False),
    "unsuitable_key": (with_keys(elliptic_keys), 401, False),
    "key_set_unavailable": (without_keys, 503, False),
    "token_signature_invalid": (
        lambda lms: log_in(lms).post(
            log_in(lms).token(key=RSAKey.generate_key(2048)),
        ),
        401,
        False,
    ),
    "other_token_issuer": (claims(iss="https://other.example"), 403, False),
    "other_audience": (claims(aud="17"), 403, False),
    "token_time_invalid": (claims(exp="tomorrow"), 400, False),
    "token_expired": (claims(exp=1_000_000_000), 401, False),
    "token_not_yet_valid": (claims(iat=9_000_000_000), 401, False),
    "token_before_login": (claims(iat=1_000_000_000), 401, False),
    "other_nonce": (claims(nonce="x"), 403, False),
    "unsupported_version": (claims(version="1.4.0"), 400, True),
    "unsupported_message_type": (claims(message_type="LtiStartAssessment"), 400, True),
    "invalid_claim": (claims(sub=7), 400, True),
    "missing_deployment": (claims(deployment_id=None), 400, True),
    "other_deployment": (to_a_deployment_that_the_login_did_not_name, 403, True),
    "unknown_deployment": (to_a_deployment_that_nobody_knows, 403, True),
    "deployment_inactive": (rows(LtiDeployment, is_active=False), 403, True),
    "other_issuer": (rows(LtiConsumer, issuer="https://other.example"), 403, True),
    "consumer_inactive": (rows(LtiConsumer, is_active=False), 403, True),
    "missing_roles": (claims(roles=None), 400, True),
    "missing_resource_link": (claims(resource_link=None), 400, True),
    "missing_target": (claims(target_link_uri=None), 400, True),
    "other_target": (claims(target_link_uri="http://testserver/lti/launch/content/"), 403, True),
    "missing_person": (claims(sub=None), 400, True),
}
#: Nobody knows whose launches these were.
UNLOGGED = {"invalid_state", "other_redirect_uri"}


@pytest.mark.parametrize("code", REFUSALS)
def test_every_refusal_says_so(lms, code):
    happens, status, returns = REFUSALS[code]
    text = str(exceptions.LaunchRefused.by_code()[code].public_text)

    response = happens(lms)

    if returns:
        location = urlsplit(response["Location"])
        assert response.status_code == 303
        assert f"{location.scheme}://{location.netloc}{location.path}" == BACK
        query = parse_qs(location.query)
        assert query["lti_errorlog"] == [code]
        assert query["lti_errormsg"] == [text]
    else:
        assert response.status_code == status
        assert f"<code>{code}</code>" in response.text
        assert "Location" not in response
    launches = list(LtiLaunch.objects.all())
    assert [row.refusal_code for row in launches] == ([] if code in UNLOGGED else [code])
    assert all(row.refusal_hint and row.registration == lms.registration for row in launches)
    assert all(row.clock_difference is not None for row in launches if returns)


@pytest.mark.parametrize("code", [code for code in REFUSALS if REFUSALS[code][2]])
@pytest.mark.parametrize("url", [None, "", "javascript:alert(1)", "//evil.example/", 7])
def test_without_a_return_url_to_trust_the_page_is_ours(lms, code, url):
    happens, status, _returns = REFUSALS[code]
    lms.claims["https://purl.imsglobal.org/spec/lti/claim/launch_presentation"] = {
        "return_url": url
    }

    response = happens(lms)

    # A return URL that is not a text is one more reason.
    assert response.status_code in (status, 400)
    assert "evil" not in response.text
    assert "javascript" not in response.text


def refused_login(lms, **form):
    return log_in(lms).post(id_token=None, **form)


@pytest.mark.parametrize("error", ["login_required", "interaction_required"])
def test_who_is_not_signed_in_at_the_lms_is_told_so(lms, error):
    response = refused_login(lms, error=error, error_description="No session.")

    assert "Sign in to your LMS and open the activity again." in response.text
    launch = LtiLaunch.objects.get()
    assert error in launch.refusal_hint
    assert "No session." in launch.refusal_hint
    assert launch.registration == lms.registration


@pytest.mark.parametrize("text", ["x" * 5000, "\u202e\u0000<script>\n\r"[::2], "\u202e<b>\n"])
def test_what_the_lms_says_of_a_refused_login_is_short_and_plain(lms, text):
    response = refused_login(lms, error=text, error_description=text)

    assert response.status_code == 403
    assert text not in response.text
    assert "Sign in to your LMS" not in response.text
    assert len(LtiLaunch.objects.get().refusal_hint) < 300
    assert LtiLaunch.objects.get().refusal_hint.isprintable()


def test_an_error_needs_a_state_of_ours_to_be_kept(lms):
    response = refused_login(lms, error="login_required", state="x")

    assert response.status_code == 400
    assert not LtiLaunch.objects.exists()


def test_a_token_counts_more_than_an_error(lms):
    login = log_in(lms)

    assert login.post(error="login_required").status_code == 303
    assert LtiLaunch.objects.accepted().exists()


def test_a_form_without_token_and_error_is_no_answer(lms):
    assert "malformed_token" in refused_login(lms).text


def signed_text(lms):
    return LtiLaunch.objects.latest("pk").signed_text


def test_the_log_says_which_checks_held(lms):
    log_in(lms).answer(aud="17")

    checks, _blank, told = signed_text(lms).partition("\n\n")
    assert checks.splitlines() == [
        "passed: token, registration, header, key, signature, issuer",
        "failed: audience",
    ]
    assert json.loads(told)["header"]["alg"] == "RS256"
    assert json.loads(told)["claims"]["aud"] == "17"


def test_of_a_token_that_cannot_be_read_the_log_says_so(lms):
    log_in(lms).post("x.y.z")

    assert signed_text(lms) == "passed: \nfailed: token"


PERSONAL = {
    "name": "Zoe Secret", "given_name": "Zoe", "family_name": "Secret", "email": "z@secret.example",
    "middle_name": "Q", "preferred_username": "zsecret", "picture": "https://secret.example/z.png",
    "ext": {"user_username": "zsecret", "lms": "canvas"}, "lis": {"person_sourcedid": "SIS-secret"},
    "custom": {"login": "zsecret"}, "unheard_of": {"of": "secret"},
    "lti11_legacy_user_id": "secret",
    "basicoutcome": {"lis_result_sourcedid": "secret"},
}  # fmt: skip


@pytest.mark.parametrize("policy", ["none", "name", "name_email"])
def test_nobody_vouches_for_claims_whose_signature_does_not_hold(lms, policy):
    LtiConsumer.objects.update(personal_data=policy)
    login = log_in(lms)

    login.post(login.token(key=RSAKey.generate_key(2048), **PERSONAL))

    assert "secret" not in signed_text(lms).lower()
    assert "zoe" not in signed_text(lms).lower()
    assert lms.claims["sub"] in signed_text(lms)


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        ("none", []),
        ("name", ["name", "given_name", "family_name"]),
        ("name_email", ["name", "given_name", "family_name", "email"]),
    ],
)
def test_of_a_genuine_launch_the_log_has_what_the_consumer_keeps(lms, policy, kept):
    LtiConsumer.objects.update(personal_data=policy)

    log_in(lms).answer(roles=None, **PERSONAL)

    told = json.loads(signed_text(lms).partition("\n\n")[2])["claims"]
    shown = {name for name in PERSONAL if name in told and "*" not in json.dumps(told[name])}
    assert sorted(shown) == sorted(kept)


def test_of_whom_no_consumer_knows_nothing_is_kept(lms):
    LtiConsumer.objects.update(personal_data="name_email")
    login = log_in(lms)
    LtiDeployment.objects.all().delete()

    login.answer(**PERSONAL)

    launch = LtiLaunch.objects.get()
    kept = json.dumps([launch.signed_text, launch.stored_message]).lower()
    assert launch.user_digest == ""
    assert "secret" not in kept
    assert lms.claims["sub"] not in kept
    assert launch.message.context.title == "Algebra"


def test_of_a_person_without_an_id_nothing_is_kept(lms):
    LtiConsumer.objects.update(personal_data="name_email")

    for sub in (None, 4711):
        log_in(lms).answer(**PERSONAL, sub=sub)

        assert LtiLaunch.objects.latest("pk").refusal_code in ("missing_person", "invalid_claim")
        assert "secret" not in signed_text(lms).lower()
        assert "4711" not in signed_text(lms)


def test_the_log_is_bounded_and_shows_what_cannot_be_seen(lms):
    log_in(lms).answer(roles=None, context={"id": "1", "title": "\u202e" + "x" * 20_000})

    assert len(signed_text(lms)) == 8000
    assert "\\u202e" in signed_text(lms)
    assert signed_text(lms).replace("\n", "").isprintable()


def test_a_token_of_a_different_lms_is_recognized(lms):
    LtiRegistration.objects.update(jwks=json.dumps(build_key_set(RSAKey.generate_key(
        2048, {"kid": "k1"}))))  # fmt: skip

    log_in(lms).answer(iss="https://moved.example")
    assert "https://moved.example" in LtiLaunch.objects.latest("pk").refusal_hint
    log_in(lms).answer(aud="17")
    assert "17" in LtiLaunch.objects.latest("pk").refusal_hint
    assert lms.registration.client_id in LtiLaunch.objects.latest("pk").refusal_hint
    log_in(lms).answer()
    assert "k1" in LtiLaunch.objects.latest("pk").refusal_hint


def test_a_key_set_of_a_different_lms_is_recognized(lms):
    other, third = FakePlatform.create("moodle"), FakePlatform.create("sakai")
    LtiRegistration.objects.filter(pk=third.registration.pk).update(jwks='{"keys": []}')
    LtiRegistration.objects.filter(pk=lms.registration.pk).update(
        jwks=json.dumps(build_key_set(RSAKey.generate_key(2048, {"kid": "k1"})))
    )

    log_in(lms).answer()

    hint = LtiLaunch.objects.latest("pk").refusal_hint
    assert other.registration.issuer in hint
    assert lms.key.kid in hint


def test_an_unknown_login_url_and_a_lost_registration_are_unknown_senders(lms):
    client = Client()
    pairs = dict(lms.begin_login())
    client.get("/lti/login/4711/", pairs)
    assert LtiUnknownSender.objects.get().text == lms.registration.issuer


def test_a_refused_launch_is_of_the_deployment_that_it_names(lms):
    login = log_in(lms)

    login.post(login.token(key=RSAKey.generate_key(2048)))

    launch = LtiLaunch.objects.get()
    assert launch.lti_consumer == lms.consumer
    assert launch.launch_url == login.target


def test_a_state_names_its_registration_only(lms):
    state = LoginState.issue(lms.registration.pk, "http://testserver/lti/launch/", None)

    assert lms.registration.client_id not in state.sign()

import json
from base64 import urlsafe_b64decode
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
from django.test import Client
from joserfc.jwk import ECKey

from lti_provider.models import LtiConsumer, LtiLaunch, LtiRegistration
from lti_provider.testing import PLATFORM_PROFILES, PROFILES, FakePlatform, LmsServer
from lti_provider.testing.lms import navigation
from tests.test_testing import FORM, FormReader, fetch

pytestmark = pytest.mark.django_db

CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"


@pytest.fixture
def platform():
    return FakePlatform.create()


def decode(platform, token):
    """What an implementation of its own reads in a token."""
    (key,) = json.loads(platform.key_set)["keys"]
    return jwt.decode(token, jwt.PyJWK(key).key, algorithms=["RS256"], audience=platform.client_id)


# Whole launches


@pytest.mark.parametrize("make", PLATFORM_PROFILES)
@pytest.mark.parametrize("framed", [True, False])
def test_an_lms_of_each_make_launches(client, make, framed):
    platform = FakePlatform.create(make)
    page = platform.launch(client, "/content/", framed=framed)
    assert page.status_code == 200
    assert page.wsgi_request.path == "/content/"
    lti = page.wsgi_request.lti
    assert lti.consumer == platform.consumer
    assert lti.is_learner
    assert lti.person.user_id == platform.claims["sub"]


def test_the_makes_are_those_of_1_1():
    assert PLATFORM_PROFILES.keys() == PROFILES.keys()
    assert {make for make, profile in PLATFORM_PROFILES.items() if profile.is_real} == {
        "moodle",
        "open_edx",
    }


def test_two_lmss_of_one_make_are_two():
    first, second = FakePlatform.create("canvas"), FakePlatform.create("canvas")
    assert first.client_id != second.client_id
    assert first.consumer != second.consumer
    first.claims[f"{CLAIM}roles"].append("changed")
    assert "changed" not in second.claims[f"{CLAIM}roles"]
    assert "changed" not in FakePlatform.create("canvas").claims[f"{CLAIM}roles"]


def test_an_lms_is_moodle_unless_said_otherwise():
    platform = FakePlatform.create(consumer_name="Campus", is_active=False)
    assert platform.claims == PLATFORM_PROFILES["moodle"].claims
    assert platform.consumer.consumer_name == "Campus"
    assert not LtiConsumer.objects.get().is_active


def test_its_registration_is_one_that_an_administrator_could_have_entered():
    for make in PLATFORM_PROFILES:
        platform = FakePlatform.create(make)
        platform.registration.full_clean()
        platform.deployment.full_clean()


def test_a_launch_may_differ_from_the_profile(client, platform):
    page = platform.launch(client, "/content/?page=2", roles=["Instructor"], context=None)
    assert page.wsgi_request.lti.is_instructor
    assert page.wsgi_request.lti.context is None
    assert page.wsgi_request.GET["page"] == "2"
    assert platform.claims[f"{CLAIM}roles"] != ["Instructor"]


def test_a_launch_without_a_page_goes_to_the_default_target(client, platform, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    assert platform.launch(client).wsgi_request.path == "/content/"


def test_a_post_stops_before_the_session(client, platform):
    response = platform.post(client, "/content/")
    assert "/enter/" in response["Location"]
    assert LtiLaunch.objects.get().entered_at is None
    assert "sessionid" not in client.cookies


def test_a_refused_login_is_seen_where_it_is_answered(client, platform):
    LtiRegistration.objects.update(is_active=False)
    response = platform.launch(client, "/content/")
    assert response.status_code == 403
    assert "registration_inactive" in response.text


def test_a_refused_launch_is_seen_where_it_is_answered(client, platform):
    response = platform.launch(client, "/content/", version="1.2", launch_presentation=None)
    assert response.status_code == 400
    assert "unsupported_version" in response.text


def test_an_lms_of_a_site_on_another_host(client):
    platform = FakePlatform.create(site="https://tool.example")
    page = platform.launch(client, "/content/", framed=True)
    assert page.wsgi_request.build_absolute_uri("/") == "https://tool.example/"
    assert page.wsgi_request.lti


# Step by step


@pytest.mark.parametrize("framed", [True, False])
@pytest.mark.parametrize("by_post", [True, False])
def test_each_step_may_be_taken_alone(client, platform, framed, by_post):
    login = platform.begin_login("/content/")
    assert dict(login)["target_link_uri"] == "http://testserver/lti/launch/content/"
    redirect = platform.log_in(client, login, framed=framed, by_post=by_post)
    assert platform.is_authentication_request(redirect)
    answer = platform.authorize(redirect["Location"])
    asked = parse_qs(urlsplit(redirect["Location"]).query)
    token, state = dict(answer)["id_token"], dict(answer)["state"]
    assert [state] == asked["state"]
    assert [decode(platform, token)["nonce"]] == asked["nonce"]
    response = platform.post_token(client, answer, framed=framed)
    assert response.status_code == 303


def test_a_browser_without_cookies_gets_no_further_than_the_login(platform):
    class Forgetful(Client):
        def request(self, **request):
            self.cookies.clear()
            return super().request(**request)

    page = platform.log_in(Forgetful(), platform.begin_login("/content/"), framed=True)
    assert not platform.is_authentication_request(page)
    assert page.status_code == 200
    assert platform.post(Forgetful(), "/content/", framed=True).status_code == 200


def test_late_changes_count(client, platform):
    redirect = platform.log_in(client, platform.begin_login("/content/", sub="1", name="Robin"))
    token = dict(platform.authorize(redirect["Location"], sub="2", nonce="n"))["id_token"]
    claims = decode(platform, token)
    assert (claims["sub"], claims["name"], claims["nonce"]) == ("2", "Robin", "n")


FIXED = ["scope", "response_type", "response_mode", "prompt", "client_id", "redirect_uri",
         "login_hint", "lti_message_hint"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in FIXED for value in (None, "", "other")]
    + [(name, value) for name in ("state", "nonce") for value in (None, "")],
)
def test_a_request_that_an_lms_would_refuse_is_refused(client, platform, name, value):
    url = platform.log_in(client, platform.begin_login("/content/"))["Location"]
    parts = urlsplit(url)
    query = {each: values[0] for each, values in parse_qs(parts.query).items()}
    query.pop(name)
    query |= {} if value is None else {name: value}
    with pytest.raises(AssertionError, match=name):
        platform.authorize(parts._replace(query=urlencode(query)).geturl())


def test_a_query_of_the_endpoint_has_to_stay(client, platform):
    LtiRegistration.objects.update(authorization_endpoint="https://lms.example/auth?tool=3")
    platform.registration.refresh_from_db()
    url = platform.log_in(client, platform.begin_login("/content/"))["Location"]
    assert platform.authorize(url)
    with pytest.raises(AssertionError, match="tool"):
        platform.authorize(url.replace("tool=3", "tool=4"))


# Tokens


def test_a_token_is_what_another_implementation_reads(platform):
    claims = platform.build_claims(name="Robin Dœ", custom={"page": "1"}, email=None)
    token = platform.sign(claims)
    assert decode(platform, token) == claims
    assert (claims["name"], claims[f"{CLAIM}custom"]) == ("Robin Dœ", {"page": "1"})
    assert "email" not in claims
    header = jwt.get_unverified_header(token)
    assert header == {"typ": "JWT", "alg": "RS256", "kid": platform.key.kid}


def test_each_token_is_new_and_of_now(platform):
    first, second = platform.build_claims(), platform.build_claims()
    assert first["nonce"] != second["nonce"]
    assert 0 < first["exp"] - first["iat"] <= 3600


def test_a_header_may_differ(platform):
    header = {"kid": None, "jku": "https://evil.example/jwks", "crit": ["x"]}
    token = platform.sign({}, header=header)
    part = token.partition(".")[0]
    assert json.loads(urlsafe_b64decode(part + "==")) == {
        "typ": "JWT",
        "alg": "RS256",
        "jku": "https://evil.example/jwks",
        "crit": ["x"],
    }


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_any_algorithm_signs(platform, algorithm):
    token = platform.sign({"sub": "1"}, header={"alg": algorithm})
    (key,) = json.loads(platform.key_set)["keys"]
    key.pop("alg")
    public = jwt.PyJWK(key, algorithm="RS256").key
    assert jwt.decode(token, public, algorithms=[algorithm]) == {"sub": "1"}


def test_other_keys_sign(platform):
    secret = b"a secret of thirty-two characters"
    token = platform.sign({"sub": "1"}, header={"alg": "HS256"}, key=secret)
    assert jwt.decode(token, secret, algorithms=["HS256"]) == {"sub": "1"}
    curve = ECKey.generate_key("P-256")
    token = platform.sign({"sub": "1"}, header={"alg": "ES256"}, key=curve)
    assert jwt.decode(token, curve.as_pem(private=False), algorithms=["ES256"]) == {"sub": "1"}
    assert platform.sign({"sub": "1"}, header={"alg": "none"}).endswith(".")


# Over HTTP


@pytest.fixture
def server():
    with LmsServer() as server:
        yield server


def test_a_server_publishes_the_keys_of_its_lmss(server):
    assert json.loads(fetch(server.jwks_uri)[1]) == {"keys": []}
    platform = FakePlatform.create(server=server)
    assert json.loads(fetch(server.jwks_uri)[1]) == json.loads(platform.key_set)


@pytest.mark.parametrize("make", PLATFORM_PROFILES)
def test_a_browser_launches_from_a_server(server, make):
    platform = FakePlatform.create(make, server=server)
    page = server.add_launch(platform.login_url, platform.begin_login("/content/"), target="tool")
    form = FormReader(fetch(page)[1])
    assert (form.action, form.target) == (platform.login_url, "tool")
    browser = Client()
    window = {"content_type": FORM, "headers": navigation(framed=False)}
    redirect = browser.post(form.action, urlencode(form.pairs), **window)
    assert redirect["Location"].startswith(f"{server.url}/auth?")
    status, page = fetch(redirect["Location"])
    form = FormReader(page)
    assert (status, form.action) == (200, platform.redirect_uri)
    response = browser.post(form.action, urlencode(form.pairs), **window)
    assert "/enter/" in response["Location"]
    assert platform.registration.issuer == server.url


@pytest.mark.parametrize("make", PLATFORM_PROFILES)
def test_a_refused_person_comes_back_to_the_server(client, server, make):
    platform = FakePlatform.create(make, server=server)
    response = platform.post(client, "/content/", version="1.2")
    if make == "open_edx":
        assert "Location" not in response
    else:
        fetch(response["Location"])
        (returned,) = server.returned
        assert returned["lti_errorlog"] == "unsupported_version"


def test_a_server_refuses_what_an_lms_would_refuse(server):
    platform = FakePlatform.create(server=server)
    assert fetch(f"{server.url}/auth?client_id=unknown")[0] == 400
    status, page = fetch(f"{server.url}/auth?client_id={platform.client_id}&prompt=<script>")
    assert status == 400
    assert "would refuse" in page
    assert "<script>" not in page


def test_a_token_of_yesterday_is_refused(client):
    lms = FakePlatform.create("canvas")
    login = lms.log_in(client, lms.begin_login("/content/"))
    answer = lms.authorize(login["Location"], iat=1_700_000_000, exp=1_700_003_600)
    response = lms.post_token(client, answer)
    assert response.status_code == 401
    assert "token_expired" in response.text

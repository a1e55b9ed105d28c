"""An LMS and a signer that others have written (lti1p3platform, PyJWT) launch by LTI 1.3."""

import json
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.test import Client
from lti1p3platform.ltiplatform import LTI1P3PlatformConfAbstract
from lti1p3platform.message_launch import LTIAdvantageMessageLaunchAbstract
from lti1p3platform.oidc_login import OIDCLoginAbstract
from lti1p3platform.registration import Registration
from lti1p3platform.request import Request

from lti_provider.models import LtiConsumer, LtiDeployment, LtiLaunch, LtiRegistration
from tests.key_server import KeyServer

pytestmark = pytest.mark.django_db

TOOL = "http://testserver/lti"
ROLES = "http://purl.imsglobal.org/vocab/lis/v2/"
FORM = "application/x-www-form-urlencoded"
PRIVATE_KEY = generate_private_key(65537, 2048)
PRIVATE_PEM = PRIVATE_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
PUBLIC_PEM = (
    PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
)


class Platform(LTI1P3PlatformConfAbstract):
    def init_platform_config(self, **kwargs):
        """Nothing is configured elsewhere."""

    def get_registration_by_params(self, **kwargs):
        return (
            Registration()
            .set_iss("https://lms.example")
            .set_client_id("17")
            .set_deployment_id("1:abc")
            .set_launch_url(f"{TOOL}/launch/content/?page=2")
            .set_oidc_login_url(f"{TOOL}/login/")
            .set_platform_public_key(PUBLIC_PEM)
            .set_platform_private_key(PRIVATE_PEM)
        )


class Login(OIDCLoginAbstract):
    def set_lti_message_hint(self, **kwargs):
        self._lti_message_hint = "activity 5"

    def get_redirect(self, url):
        return url


class Asked(Request):
    """What the site asks the LMS."""

    def __init__(self, url):
        self.request = {"get_data": dict(parse_qsl(urlsplit(url).query)), "form_data": {}}

    def build_metadata(self, request):
        """It is given."""


class Launch(LTIAdvantageMessageLaunchAbstract):
    def prepare_launch(self, preflight_response):
        self.asked = preflight_response

    def render_launch_form(self, launch_data, **kwargs):
        return launch_data


@dataclass
class Lms:
    """One LMS that knows the site, and is known to it."""

    platform: Platform = field(default_factory=Platform)
    client: Client = field(default_factory=Client)

    def log_in(self):
        login = Login(None, self.platform)
        login.set_lti_message_hint()
        url = login.initiate_login("robin")
        return self.client.get(url, headers={"Sec-Fetch-Dest": "document"})["Location"]

    def answer(self, url):
        launch = Launch(Asked(url), self.platform)
        launch.set_user_data(
            "robin-7", [f"{ROLES}membership#Learner"], "Robin Doe", "r@lms.example"
        )
        launch.set_resource_link_claim("5", title="Linear equations")
        launch.set_launch_context_claim("2", [f"{ROLES}course#CourseOffering"], "Algebra", "ALG1")
        launch.set_launch_presentation_claim("window", "https://lms.example/return")
        launch.set_custom_parameters_claim({"chapter": "3"})
        launch.set_ags("https://lms.example/lineitems", "https://lms.example/lineitems/9")
        launch.set_nrps("https://lms.example/members")
        return launch.lti_launch()

    def post(self, answer):
        form = urlencode({"id_token": answer["id_token"], "state": answer["state"]})
        path = urlsplit(answer["launch_url"]).path
        return self.client.post(
            path, form, content_type=FORM, headers={"Sec-Fetch-Dest": "document"}
        )

    def follow(self, response):
        while "Location" in response:
            response = self.client.get(response["Location"], headers={"Sec-Fetch-Dest": "document"})
        return response


def register(**keys):
    registration = LtiRegistration.objects.create(
        issuer="https://lms.example",
        client_id="17",
        authorization_endpoint="https://lms.example/auth",
        service_networks="127.0.0.0/8",
        **keys,
    )
    consumer = LtiConsumer.objects.create(consumer_name="Campus", personal_data="name")
    LtiDeployment.objects.create(
        registration=registration, deployment_id="1:abc", lti_consumer=consumer
    )


@pytest.fixture
def lms():
    return Lms()


def test_an_lms_of_others_launches_with_its_key_set(lms):
    lms.platform.get_registration()
    with KeyServer() as server:
        server.body = json.dumps(lms.platform.get_jwks())
        register(jwks_uri=server.url)
        for _time in range(2):
            page = lms.follow(lms.post(lms.answer(lms.log_in())))
            assert page.status_code == 200
        assert len(server.requests) == 1
    lti = page.wsgi_request.lti
    assert page.wsgi_request.path == "/content/"
    assert page.wsgi_request.GET["page"] == "2"
    assert (lti.person.user_id, lti.person.full_name) == ("robin-7", "Robin Doe")
    assert (lti.context.title, lti.resource_link.title) == ("Algebra", "Linear equations")
    assert lti.custom == {"chapter": "3"}
    assert lti.is_learner
    assert lti.return_url == "https://lms.example/return"


def test_an_lms_of_others_launches_with_its_pem(lms):
    register(jwks=PUBLIC_PEM)
    page = lms.follow(lms.post(lms.answer(lms.log_in())))
    assert page.wsgi_request.lti.person.user_id == "robin-7"


def test_its_launch_counts_once(lms):
    register(jwks=PUBLIC_PEM)
    answer = lms.answer(lms.log_in())
    assert lms.post(answer).status_code == 303
    assert lms.post(answer).status_code == 403
    assert LtiLaunch.objects.accepted().count() == 1


def sign_with_pyjwt(url, key=PRIVATE_PEM, headers=None, **changes):
    """The form of a launch that PyJWT signs."""
    asked = dict(parse_qsl(urlsplit(url).query))
    claim = "https://purl.imsglobal.org/spec/lti/claim/"
    now = time.time()
    claims = {
        "iss": "https://lms.example",
        "aud": ["17"],
        "sub": "robin-7",
        "iat": now,
        "exp": now + 60,
        "nonce": asked["nonce"],
        f"{claim}deployment_id": "1:abc",
        f"{claim}message_type": "LtiResourceLinkRequest",
        f"{claim}version": "1.3.0",
        f"{claim}target_link_uri": f"{TOOL}/launch/content/?page=2",
        f"{claim}resource_link": {"id": "5"},
        f"{claim}roles": [],
    }
    token = jwt.encode(claims | changes, key, "RS256", {"kid": "k1"} | (headers or {}))
    return {"id_token": token, "state": asked["state"], "launch_url": asked["redirect_uri"]}


def test_what_pyjwt_signs_is_accepted(lms):
    register(jwks=PUBLIC_PEM)
    page = lms.follow(lms.post(sign_with_pyjwt(lms.log_in())))
    assert page.wsgi_request.lti.person.user_id == "robin-7"


def test_what_pyjwt_signs_with_another_key_is_refused(lms):
    register(jwks=PUBLIC_PEM)
    other = generate_private_key(65537, 2048)
    response = lms.post(sign_with_pyjwt(lms.log_in(), key=other))
    assert response.status_code == 401
    assert LtiLaunch.objects.refused().get().refusal_code == "token_signature_invalid"

"""A platform: an LMS that launches by LTI 1.3, through Django's test client."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Self
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from django.test import Client
from django.urls import reverse
from joserfc.jwk import OctKey, RSAKey
from joserfc.jws import JWSRegistry

from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration
from lti_provider.testing.lms import launch_path, navigation
from lti_provider.testing.platform_profiles import (
    AGS,
    BASIC_OUTCOME,
    LTI,
    NRPS,
    PLATFORM_PROFILES,
)

_FORM = "application/x-www-form-urlencoded"
#: Seconds that a token is good for.
_LIFETIME = 3600
#: Claims that changes may name without their namespace.
_SHORT_NAMES = {
    **{
        name: LTI + name
        for name in (
            *("context", "custom", "deployment_id", "ext", "launch_presentation", "lis", "lti1p1"),
            *("lti11_legacy_user_id", "message_type", "resource_link", "role_scope_mentor"),
            *("roles", "target_link_uri", "tool_platform", "version"),
        )
    },
    "deep_linking_settings": "https://purl.imsglobal.org/spec/lti-dl/claim/deep_linking_settings",
    "endpoint": f"{AGS}endpoint",
    "namesroleservice": f"{NRPS}namesroleservice",
    "basicoutcome": f"{BASIC_OUTCOME}basicoutcome",
}
Pairs = list[tuple[str, str]]


@cache
def get_test_key() -> RSAKey:
    """The key that platforms of this process sign with, made when it is first needed."""
    key = RSAKey.generate_key(2048)
    key.ensure_kid()
    return key


@dataclass
class FakePlatform:
    """Launches by LTI 1.3 as the LMS of one deployment.

    ``claims`` are what it sends of a person and a course; each call may change some, and None
    leaves one out. Names of LTI need no namespace there: ``roles=[…]``, ``context={…}``.
    """

    deployment: LtiDeployment
    claims: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=get_test_key, repr=False)
    _launches: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def create(cls, profile: str = "moodle", **consumer: Any) -> Self:
        """Make consumer, registration, deployment and an LMS of one of ``PLATFORM_PROFILES``."""
        made = PLATFORM_PROFILES[profile]
        consumer.setdefault("consumer_name", f"Fake {profile}")
        consumer.setdefault("issuer", made.issuer)
        if not made.claims[f"{LTI}launch_presentation"].get("return_url"):
            consumer.setdefault("frame_origins", "https://lms.example")
        key = get_test_key()
        registration = LtiRegistration.objects.create(
            issuer=made.issuer,
            client_id=secrets.token_urlsafe(8),
            authorization_endpoint=made.authorization_endpoint,
            token_endpoint=made.token_endpoint,
            token_audience=made.token_audience,
            jwks=json.dumps(build_key_set(key)),
        )
        deployment = LtiDeployment.objects.create(
            registration=registration,
            deployment_id=made.deployment_id,
            lti_consumer=LtiConsumer.objects.create(**consumer),
        )
        return cls(deployment, deepcopy(dict(made.claims)), key)

    @property
    def registration(self) -> LtiRegistration:
        """How the site knows this LMS."""
        return self.deployment.registration

    @property
    def consumer(self) -> LtiConsumer | None:
        """Whose launches these are."""
        return self.deployment.lti_consumer

    def begin_login(
        self, path: str | None = None, *, host: str = "http://testserver", **changes: Any
    ) -> Pairs:
        """The login request (Security Framework 1.0 §5.1.1.1) of a launch of ``path``.

        The changes are of the launch's claims.
        """
        hint = secrets.token_urlsafe(8)
        target = f"{host}{launch_path(path)}"
        self._launches[hint] = {"target_link_uri": target, **changes}
        return [
            ("iss", self.registration.issuer),
            ("target_link_uri", target),
            ("login_hint", str(self.claims.get("sub", "nobody"))),
            ("lti_message_hint", hint),
            ("client_id", self.registration.client_id),
            ("lti_deployment_id", self.deployment.deployment_id),
        ]

    def authorize(self, url: str) -> Pairs:
        """Answer the authentication request (§5.1.1.2) that the site redirected to.

        The answer is the form with token and state that the browser posts to the site.
        Raises AssertionError for a request that an LMS would refuse.
        """
        sent = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        self._check_request(url, sent)
        changes = self._launches[sent["lti_message_hint"]]
        claims = self.build_claims(nonce=sent["nonce"], **changes)
        return [("id_token", self.sign(claims)), ("state", sent["state"])]

    def build_claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of a token of now."""
        now = int(time.time())
        claims = {
            "iss": self.registration.issuer,
            "aud": self.registration.client_id,
            "iat": now,
            "exp": now + _LIFETIME,
            "nonce": secrets.token_urlsafe(16),
            f"{LTI}deployment_id": self.deployment.deployment_id,
            **deepcopy(self.claims),
        }
        claims |= {_SHORT_NAMES.get(name, name): value for name, value in changes.items()}
        return {name: value for name, value in claims.items() if value is not None}

    def sign(
        self, claims: dict[str, Any], *, header: dict[str, Any] | None = None, key: Any = None
    ) -> str:
        """A token of these claims. ``header`` changes its header, None leaves a part out.

        Any ``alg`` that joserfc knows, with a ``key`` of it or, for HS256 and its like, bytes.
        Nothing is checked, so that a test can make what a site has to refuse.
        """
        if isinstance(key, bytes):
            key = OctKey(key, key)
        parts = {"typ": "JWT", "alg": "RS256", "kid": self.key.kid, **(header or {})}
        parts = {name: value for name, value in parts.items() if value is not None}
        signed = f"{_encode(parts)}.{_encode(claims)}"
        algorithm = JWSRegistry.algorithms[parts.get("alg", "RS256")]
        signature = algorithm.sign(signed.encode(), key or self.key)
        return f"{signed}.{_encode_bytes(signature)}"

    def post(
        self,
        client: Client,
        path: str | None = None,
        *,
        framed: bool = False,
        **changes: Any,
    ) -> Any:
        """Log in and post the launch; the answer is a redirect to the page or to ``enter``.

        Or a refusal, of the login or of the launch.
        """
        response = self.log_in(client, self.begin_login(path, **changes), framed=framed)
        if not self.is_authentication_request(response):
            return response
        return self.post_token(client, self.authorize(response["Location"]), framed=framed)

    def launch(
        self,
        client: Client,
        path: str | None = None,
        *,
        framed: bool = False,
        **changes: Any,
    ) -> Any:
        """Launch and follow to the site's page, as the browser does."""
        response = self.post(client, path, framed=framed, **changes)
        while response.status_code in (301, 302, 303):
            response = client.get(response["Location"], headers=navigation(framed=framed))
        return response

    def log_in(self, client: Client, pairs: Pairs, *, framed: bool = False) -> Any:
        """Send a login request; the answer is the redirect to this LMS, or what the site shows."""
        url = f"{reverse('lti_provider:login')}?{urlencode(pairs)}"
        response = client.get(url, headers=navigation(framed=framed))
        while self._leads_back(response):
            url = urljoin(url, response["Location"])
            response = client.get(url, headers=navigation(framed=framed))
        return response

    def post_token(self, client: Client, pairs: Pairs, *, framed: bool = False) -> Any:
        """Post token and state to the redirect URI."""
        return client.post(
            reverse("lti_provider:launch"),
            urlencode(pairs),
            content_type=_FORM,
            headers=navigation(framed=framed),
        )

    def is_authentication_request(self, response: Any) -> bool:
        """Whether an answer of the site redirects to this LMS."""
        endpoint = self.registration.authorization_endpoint.partition("?")[0]
        return bool(response.get("Location", "").partition("?")[0] == endpoint)

    def _leads_back(self, response: Any) -> bool:
        return "Location" in response and not self.is_authentication_request(response)

    def _check_request(self, url: str, sent: dict[str, str]) -> None:
        endpoint = self.registration.authorization_endpoint
        expected = {
            **dict(parse_qsl(urlsplit(endpoint).query)),
            "scope": "openid",
            "response_type": "id_token",
            "response_mode": "form_post",
            "prompt": "none",
            "client_id": self.registration.client_id,
            "login_hint": str(self.claims.get("sub", "nobody")),
        }
        wrong = {name: sent.get(name) for name in expected if sent.get(name) != expected[name]}
        if urlsplit(sent.get("redirect_uri", "")).path != reverse("lti_provider:launch"):
            wrong["redirect_uri"] = sent.get("redirect_uri")
        if sent.get("lti_message_hint") not in self._launches:
            wrong["lti_message_hint"] = sent.get("lti_message_hint")
        wrong |= {name: None for name in ("state", "nonce") if not sent.get(name)}
        if wrong:
            raise AssertionError(f"An LMS would refuse the request of this site: {wrong}")


def build_key_set(*keys: RSAKey) -> dict[str, Any]:
    """The JWK set (RFC 7517 §5) that publishes these keys."""
    facts = {"use": "sig", "alg": "RS256"}
    return {"keys": [{**key.as_dict(private=False), "kid": key.kid, **facts} for key in keys]}


def _encode(part: dict[str, Any]) -> str:
    return _encode_bytes(json.dumps(part).encode())


def _encode_bytes(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()

"""A platform: an LMS that launches by LTI 1.3, through Django's test client."""

from __future__ import annotations

import json
import secrets
import time
from base64 import urlsafe_b64encode
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

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
    PlatformProfile,
)
from lti_provider.testing.server import LmsServer

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
    leaves one out. Names of LTI need no namespace there: ``roles=[…]``, ``context={…}``. ``site``
    is where the site is that it launches.
    """

    deployment: LtiDeployment
    claims: dict[str, Any] = field(default_factory=dict)
    key: RSAKey = field(default_factory=get_test_key, repr=False)
    site: str = "http://testserver"
    _launches: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def create(
        cls,
        profile: str = "moodle",
        *,
        site: str = "http://testserver",
        server: LmsServer | None = None,
        **consumer: Any,
    ) -> Self:
        """Make consumer, registration, deployment and an LMS of one of ``PLATFORM_PROFILES``.

        The site has its key on file; with ``server`` it fetches the key from there, and browsers
        find the LMS there.
        """
        made = PLATFORM_PROFILES[profile]
        registration = _build_registration(made, server)
        consumer.setdefault("consumer_name", f"Fake {profile}")
        consumer.setdefault("issuer", registration.issuer)
        if not made.claims[f"{LTI}launch_presentation"].get("return_url"):
            # As an administrator would have entered.
            consumer.setdefault("frame_origins", server.url if server else "https://lms.example")
        registration.save()
        deployment = LtiDeployment.objects.create(
            registration=registration,
            deployment_id=made.deployment_id,
            lti_consumer=LtiConsumer.objects.create(**consumer),
        )
        platform = cls(deployment, deepcopy(dict(made.claims)), site=site)
        if server is not None:
            platform._move_to(server)
        return platform

    @property
    def registration(self) -> LtiRegistration:
        """How the site knows this LMS."""
        return self.deployment.registration

    @property
    def consumer(self) -> LtiConsumer:
        """Whose launches these are."""
        return cast("LtiConsumer", self.deployment.lti_consumer)

    @property
    def client_id(self) -> str:
        """How this LMS knows the site."""
        return self.registration.client_id

    @property
    def key_set(self) -> str:
        """What it publishes, as JSON."""
        return json.dumps(build_key_set(self.key))

    @property
    def login_url(self) -> str:
        """Where the site begins logins."""
        return self.site + reverse("lti_provider:login")

    @property
    def redirect_uri(self) -> str:
        """Where tokens are posted: the one address that this LMS has on file."""
        return self.site + reverse("lti_provider:launch")

    def begin_login(self, path: str | None = None, **changes: Any) -> Pairs:
        """The login request (Security Framework 1.0 §5.1.1.1) of a launch of ``path``.

        In place of a path, the whole launch URL of a view of the site's own. The changes are of
        the launch's claims.
        """
        hint = secrets.token_urlsafe(8)
        target = self.site + launch_path(path)
        if path is not None and path.startswith(f"{self.site}/"):
            target = path
        self._launches[hint] = {"target_link_uri": target, **changes}
        return [
            ("iss", self.registration.issuer),
            ("target_link_uri", target),
            ("login_hint", self._login_hint),
            ("lti_message_hint", hint),
            ("client_id", self.client_id),
            ("lti_deployment_id", self.deployment.deployment_id),
        ]

    def authorize(self, url: str, **changes: Any) -> Pairs:
        """Answer the authentication request (§5.1.1.2) that the site redirected to.

        The answer is the form with token and state that the browser posts to the site. Raises
        AssertionError for a request that an LMS would refuse.
        """
        sent = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))
        self._check_request(sent)
        claims = {**self._launches[sent["lti_message_hint"]], **changes}
        token = self.sign(self.build_claims(**{"nonce": sent["nonce"], **claims}))
        return [("id_token", token), ("state", sent["state"])]

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
            response = client.get(response["Location"], **self._navigate(framed=framed))
        return response

    def log_in(
        self, client: Client, pairs: Pairs, *, framed: bool = False, by_post: bool = False
    ) -> Any:
        """Send a login request, by GET or as a form.

        The answer is the redirect to this LMS, or what the site shows in its place. Where the site
        first asks the browser the same again, this is done.
        """
        response = self._send_login(client, pairs, framed=framed, by_post=by_post)
        if self.is_authentication_request(response):
            return response
        if "Location" in response:
            return client.get(response["Location"], **self._navigate(framed=framed))
        if (again := _FormReader.read(response)) and "login_hint" in dict(again):
            return self._send_login(client, again, framed=framed, by_post=True)
        return response

    def post_token(self, client: Client, pairs: Pairs, *, framed: bool = False) -> Any:
        """Post token and state to the redirect URI."""
        return client.post(
            self.redirect_uri,
            urlencode(pairs),
            content_type=_FORM,
            **self._navigate(framed=framed),
        )

    def is_authentication_request(self, response: Any) -> bool:
        """Whether an answer of the site redirects to this LMS."""
        endpoint = self.registration.authorization_endpoint.partition("?")[0]
        return bool(response.get("Location", "").partition("?")[0] == endpoint)

    def _move_to(self, server: LmsServer) -> None:
        presentation = self.claims[f"{LTI}launch_presentation"]
        if "return_url" in presentation:
            presentation["return_url"] = server.return_url
        server.add_platform(self)

    @property
    def _login_hint(self) -> str:
        return str(self.claims.get("sub", "nobody"))

    def _send_login(self, client: Client, pairs: Pairs, *, framed: bool, by_post: bool) -> Any:
        form = urlencode(pairs)
        options = self._navigate(framed=framed)
        if by_post:
            return client.post(self.login_url, form, content_type=_FORM, **options)
        return client.get(f"{self.login_url}?{form}", **options)

    def _navigate(self, *, framed: bool) -> dict[str, Any]:
        # The test client takes path and query of an address, and nothing else.
        parts = urlsplit(self.site)
        headers = {**navigation(framed=framed), "Host": parts.netloc}
        return {"headers": headers, "secure": parts.scheme == "https"}

    def _check_request(self, sent: dict[str, str]) -> None:
        expected = {
            **dict(parse_qsl(urlsplit(self.registration.authorization_endpoint).query)),
            "scope": "openid",
            "response_type": "id_token",
            "response_mode": "form_post",
            "prompt": "none",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "login_hint": self._login_hint,
        }
        wrong = {name: sent.get(name) for name in expected if sent.get(name) != expected[name]}
        if sent.get("lti_message_hint") not in self._launches:
            wrong["lti_message_hint"] = sent.get("lti_message_hint")
        wrong |= {name: None for name in ("state", "nonce") if not sent.get(name)}
        if wrong:
            raise AssertionError(f"An LMS would refuse the request of this site: {wrong}")


def _build_registration(made: PlatformProfile, server: LmsServer | None) -> LtiRegistration:
    registration = LtiRegistration(
        issuer=made.issuer,
        client_id=secrets.token_urlsafe(8),
        authorization_endpoint=made.authorization_endpoint,
        token_endpoint=made.token_endpoint,
        token_audience=made.token_audience,
    )
    if server is None:
        registration.jwks = json.dumps(build_key_set(get_test_key()))
    else:
        registration.issuer = server.url
        registration.authorization_endpoint = server.authorization_endpoint
        registration.jwks_uri = server.jwks_uri
        registration.service_networks = "127.0.0.0/8"
    return registration


def build_key_set(*keys: RSAKey) -> dict[str, Any]:
    """The JWK set (RFC 7517 §5) that publishes these keys."""
    facts = {"use": "sig", "alg": "RS256"}
    return {"keys": [{**key.as_dict(private=False), "kid": key.kid, **facts} for key in keys]}


class _FormReader(HTMLParser):
    """The fields of the form on a page."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs: Pairs = []

    @classmethod
    def read(cls, response: Any) -> Pairs:
        reader = cls()
        reader.feed(response.content.decode())
        return reader.pairs

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found.get("name"):
            self.pairs.append((found["name"] or "", found.get("value") or ""))


def _encode(part: dict[str, Any]) -> str:
    return _encode_bytes(json.dumps(part).encode())


def _encode_bytes(part: bytes) -> str:
    return urlsafe_b64encode(part).rstrip(b"=").decode()

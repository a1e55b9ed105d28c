"""Trial launches: this site plays an LMS of its own, to see what launches of LMSs would do.

Its key pair is made for one run and never stored; what it signs goes through the same door as
everybody's.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.views.decorators.debug import sensitive_variables
from joserfc import jwt
from joserfc.jwk import RSAKey

from lti_provider.form import Pairs
from lti_provider.lti13 import claims
from lti_provider.models import LtiDeployment
from lti_provider.trial import TrialLaunch

_ROLES = "http://purl.imsglobal.org/vocab/lis/v2/membership#"
_ALGORITHM = "RS256"
_LIFETIME = 60


def make_key() -> RSAKey:
    """A key pair for one run."""
    return RSAKey.generate_key(2048, {"use": "sig", "alg": _ALGORITHM}, auto_kid=True)


def build_key_set(key: RSAKey) -> str:
    """The JWK set (RFC 7517 §5) that the key's signatures are checked with."""
    return json.dumps({"keys": [key.as_dict(private=False)]})


@dataclass(frozen=True, kw_only=True, repr=False)
class TrialPlatform:
    """The LMS of one deployment, which this site plays, for one trial launch."""

    deployment: LtiDeployment
    key: RSAKey
    trial: TrialLaunch

    def begin_login(self, target_link_uri: str) -> Pairs:
        """The login (Security Framework 1.0 §5.1.1.1) of a launch of ``target_link_uri``."""
        registration = self.deployment.registration
        return (
            ("iss", registration.issuer),
            ("login_hint", self.trial.title),
            ("target_link_uri", target_link_uri),
            ("client_id", registration.client_id),
            ("lti_deployment_id", self.deployment.deployment_id),
        )

    @sensitive_variables()
    def answer_login(self, target_link_uri: str, asked: Mapping[str, str]) -> Pairs:
        """The form that answers what the site ``asked`` (Security Framework 1.0 §5.1.1.3)."""
        said = self._build_claims() | {
            claims.TARGET_LINK_URI: target_link_uri,
            "nonce": asked.get("nonce", ""),
        }
        header = {"alg": _ALGORITHM, "kid": self.key.kid}
        token = jwt.encode(header, said, self.key, algorithms=[_ALGORITHM])
        return (("id_token", token), ("state", asked.get("state", "")))

    def _build_claims(self) -> dict[str, Any]:
        now, registration, said = int(time.time()), self.deployment.registration, self.trial.message
        built = {
            "iss": registration.issuer,
            "aud": registration.client_id,
            "iat": now,
            "exp": now + _LIFETIME,
            "sub": said.person.user_id,
            "name": said.person.full_name,
            "email": said.person.email,
            claims.DEPLOYMENT_ID: self.deployment.deployment_id,
            claims.MESSAGE_TYPE: claims.LAUNCH,
            claims.VERSION: "1.3.0",
            claims.ROLES: [f"{_ROLES}{self.trial.role.name}"],
            claims.CONTEXT: {"id": said.context.id, "title": said.context.title},
            claims.RESOURCE_LINK: {"id": said.resource_link.id, "title": said.resource_link.title},
            claims.PRESENTATION: {"return_url": self.trial.return_url},
            claims.CUSTOM: dict(said.custom),
        }
        if guid := said.installation.guid:
            built[claims.PLATFORM] = {"guid": guid, "name": said.installation.name}
        return built

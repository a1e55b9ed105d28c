"""Answer a content selection (LTI Deep Linking 2.0 §4.5, Security Framework 1.0 §5.2)."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from django.views.decorators.debug import sensitive_variables
from joserfc.jwk import RSAKey

from lti_provider.form import Pairs
from lti_provider.lti13.keys import get_signing_key, load_private_key, sign_with
from lti_provider.message import RETURN_URL_LENGTH
from lti_provider.models import LtiRegistration
from lti_provider.origins import is_http_url

_CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"
_DL_CLAIM = "https://purl.imsglobal.org/spec/lti-dl/claim/"
#: Seconds that the answer is good for (Security Framework 1.0 §5.2.2).
LIFETIME = 300


@dataclass(frozen=True, kw_only=True, repr=False)
class EmptyResponse:
    """The answer to a content selection that selects nothing, for a browser to post to ``url``."""

    url: str
    claims: Mapping[str, Any]
    private_key: RSAKey

    @sensitive_variables()
    def sign(self, text: str, code: str) -> Pairs:
        """The form to post: nothing was selected, and ``text`` says why; ``code`` is for a log."""
        now = int(time.time())
        answer = {
            **self.claims,
            "iat": now,
            "exp": now + LIFETIME,
            "nonce": secrets.token_urlsafe(24),
            f"{_DL_CLAIM}errormsg": text,
            f"{_DL_CLAIM}errorlog": code,
        }
        return (("JWT", sign_with(self.private_key, answer)),)


@sensitive_variables()
def build_empty_response(
    claims: Mapping[str, Any], registration: LtiRegistration
) -> EmptyResponse | None:
    """The answer to a verified request, if it asks for a selection and says where to post it.

    ``claims`` are those of the token whose signature held. Raises SecretUnreadable.
    """
    settings = claims.get(f"{_DL_CLAIM}deep_linking_settings")
    asks = claims.get(f"{_CLAIM}message_type") == "LtiDeepLinkingRequest"
    if not asks or not isinstance(settings, Mapping):
        return None
    url, data = settings.get("deep_link_return_url"), settings.get("data")
    if not _may_post_to(url):
        return None
    # To the letter if it came, and only then.
    returned = {f"{_DL_CLAIM}data": data} if isinstance(data, str) else {}
    answer: dict[str, Any] = {
        "iss": registration.client_id,
        "aud": registration.issuer,
        f"{_CLAIM}deployment_id": claims.get(f"{_CLAIM}deployment_id"),
        f"{_CLAIM}message_type": "LtiDeepLinkingResponse",
        f"{_CLAIM}version": "1.3.0",
        f"{_DL_CLAIM}content_items": [],
        **returned,
    }
    return EmptyResponse(url=url, claims=answer, private_key=load_private_key(get_signing_key()))


def _may_post_to(url: object) -> TypeGuard[str]:
    return isinstance(url, str) and len(url) <= RETURN_URL_LENGTH and is_http_url(url)

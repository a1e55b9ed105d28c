"""What ties a launch to its login, and to the browser of that login. Nothing is stored for it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Self

from django.core import signing
from django.utils.crypto import constant_time_compare, salted_hmac

from lti_provider.exceptions import InvalidState

_SALT = "lti_provider.lti13.state"

#: Seconds between a login and its launch. The person may have to sign in to the LMS meanwhile.
LIFETIME = 600


@dataclass(frozen=True, kw_only=True, repr=False)
class LoginState:
    """One login (Security Framework 1.0 §5.1.1.2), as ``state`` carries it: signed, not secret.

    ``random_id`` is new for each login. Nonce and handle are derived from it with a key of this
    site, so that neither can be combined with a different state.
    """

    registration_pk: int
    random_id: str
    issued_at: int
    target_digest: str
    deployment_digest: str

    @classmethod
    def issue(cls, registration_pk: int, target_link_uri: str, deployment_id: str | None) -> Self:
        """The state of a login that begins now; ``deployment_id`` is None if none came."""
        return cls(
            registration_pk=registration_pk,
            random_id=secrets.token_urlsafe(16),
            issued_at=int(time.time()),
            target_digest=_shorten(target_link_uri),
            deployment_digest="" if deployment_id is None else _shorten(deployment_id),
        )

    @classmethod
    def read(cls, text: str) -> Self:
        """The state that came back, expired or not. Raises InvalidState."""
        try:
            pk, random_id, issued_at, target, deployment = signing.loads(text, salt=_SALT)
        except (signing.BadSignature, ValueError):
            raise InvalidState from None
        return cls(
            registration_pk=pk,
            random_id=random_id,
            issued_at=issued_at,
            target_digest=target,
            deployment_digest=deployment,
        )

    def sign(self) -> str:
        """What travels through the browser and the LMS as ``state``."""
        return signing.dumps(
            [
                self.registration_pk,
                self.random_id,
                self.issued_at,
                self.target_digest,
                self.deployment_digest,
            ],
            salt=_SALT,
        )

    @property
    def is_expired(self) -> bool:
        """Whether the login began too long ago."""
        return time.time() - self.issued_at > LIFETIME

    @property
    def nonce(self) -> str:
        """What the LMS has to sign."""
        return self._derive("nonce")

    @property
    def handle(self) -> str:
        """The handle of the launch that this login becomes; only its browser shows that it is."""
        return self._derive("handle")

    def is_about(self, target_link_uri: str) -> bool:
        """Whether the login was for this launch URL."""
        return constant_time_compare(self.target_digest, _shorten(target_link_uri))

    def names_deployment(self, deployment_id: str) -> bool:
        """Whether the login named this deployment, or none."""
        return self.deployment_digest in ("", _shorten(deployment_id))

    def _derive(self, what: str) -> str:
        return salted_hmac(f"{_SALT}.{what}", self.random_id, algorithm="sha256").hexdigest()


def _shorten(text: str) -> str:
    # Keyed, so that what the LMS named cannot be looked up; 128 bits are enough to compare.
    return salted_hmac(f"{_SALT}.digest", text, algorithm="sha256").hexdigest()[:32]

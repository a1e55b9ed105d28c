"""This site's own keys: one signs, and the key set has all that may have signed.

Security Framework 1.0 §6; how long each is published and signs is for the querysets of LtiKey.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import Max
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from joserfc import jwt
from joserfc.jwk import RSAKey

from lti_provider.exceptions import SecretUnreadable
from lti_provider.models import LtiKey
from lti_provider.models.key import PUBLISHED_BEFORE

logger = logging.getLogger("lti_provider")

#: What LMSs have to take (Security Framework 1.0 §5.1.3); never the message's to choose.
ALGORITHM = "RS256"
_BITS = 2048
# All that is ever published of a key, whatever its row says: no member of a private key.
_PUBLIC_MEMBERS = ("kty", "use", "alg", "kid", "n", "e")


def get_signing_key() -> LtiKey:
    """The newest key whose time to sign has come; the first one is made at first need."""
    return LtiKey.objects.signing().first() or _make_signing_key()


def get_key_set() -> dict[str, Any]:
    """What LMSs check this site's signatures with, as a JWK Set (RFC 7517 §5)."""
    keys = list(LtiKey.objects.published()) or [get_signing_key()]
    return {"keys": [get_public_jwk(key) for key in keys]}


def get_public_jwk(key: LtiKey) -> dict[str, str]:
    """The public half of a key as a JWK (RFC 7517 §4)."""
    return {name: key.public_jwk[name] for name in _PUBLIC_MEMBERS}


def get_public_pem(key: LtiKey | None = None) -> str:
    """The public half of a key, by default of the one that signs, for an LMS that takes no URL."""
    jwk = get_public_jwk(key or get_signing_key())
    return RSAKey.import_key({**jwk}).as_pem(private=False).decode()


@sensitive_variables()
def sign_token(claims: Mapping[str, Any]) -> str:
    """Sign claims as a compact JWS (RFC 7515 §7.1), with RS256 and the key that signs now.

    Raises SecretUnreadable.
    """
    return sign_with(load_private_key(get_signing_key()), claims)


@sensitive_variables()
def sign_with(private_key: RSAKey, claims: Mapping[str, Any]) -> str:
    """Sign claims as ``sign_token`` does, with a key that was loaded before."""
    header = {"alg": ALGORITHM, "kid": private_key.kid}
    return jwt.encode(header, {**claims}, private_key, algorithms=[ALGORITHM])


@sensitive_variables()
def load_private_key(key: LtiKey) -> RSAKey:
    """The private half of a key. Raises SecretUnreadable if no key of the site decrypts it."""
    try:
        return _parse_private_key(key.private_key, key.kid)
    except SecretUnreadable:
        raise SecretUnreadable(
            format_lazy(
                _(
                    "This site's private key {kid} was encrypted with a key that is not in "
                    "LTI_PROVIDER_ENCRYPTION_KEYS: put that key back, or run manage.py lti_keys "
                    "rotate, which makes one that signs at once."
                ),
                kid=key.kid,
            )
        ) from None


# Parsing takes a hundred times as long as a signature, decrypting the row next to nothing. A row
# that was changed, or that no key decrypts any more, is never found here.
@lru_cache(maxsize=4)
@sensitive_variables()
def _parse_private_key(pem: str, kid: str) -> RSAKey:
    return RSAKey.import_key(pem, {"kid": kid})


def rotate_key() -> LtiKey:
    """The key that signs next: published now, signing a day later. Retires none.

    One that waits already is not followed by another one. If the key that signs now cannot be
    read, the next one signs at once.
    """
    number = _get_next_number()
    present = LtiKey.objects.signing().first()
    if present is None or not present.is_readable:
        return _make_signing_key()
    for key in LtiKey.objects.waiting():
        if key.is_readable:
            return key
    return _make_key(number, timezone.now() + PUBLISHED_BEFORE)


def retire_key(key: LtiKey) -> LtiKey | None:
    """Take a key out of the key set now, such as one that leaked; return its successor.

    If it was the one that signs, an older one that is still published signs for a day and the
    successor follows, or the successor signs at once. If it was not, it has none.
    """
    was_signing = LtiKey.objects.signing().first() == key
    key.retire()
    return rotate_key() if was_signing else None


def _make_signing_key() -> LtiKey:
    number = _get_next_number()
    # A different process was faster, or the next key is there already.
    candidates: list[LtiKey] = [*LtiKey.objects.signing()[:1], *LtiKey.objects.waiting()]
    for key in candidates:
        if key.is_readable:
            key.sign_now()
            return key
    return _make_key(number, timezone.now())


def _get_next_number() -> int:
    # Read before it is known that a key is missing: whoever makes one meanwhile has this number.
    last: int = LtiKey.objects.aggregate(last=Max("number"))["last"] or 0
    return last + 1


@sensitive_variables()
def _make_key(number: int, signs_from: datetime) -> LtiKey:
    pair = RSAKey.generate_key(_BITS, {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
    made = {
        "kid": pair.kid,
        "private_key": pair.as_pem(private=True).decode(),
        "public_jwk": pair.as_dict(private=False),
        "signs_from": signs_from,
    }
    # Of those that make it at the same time, one does, and all get that one.
    key, is_new = LtiKey.objects.get_or_create(number=number, defaults=made)
    if is_new:
        logger.info("lti_key_made kid=%s", key.kid, extra={"event": "lti_key_made", "kid": key.kid})
    return key

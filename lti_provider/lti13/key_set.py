"""The keys of a platform: what a token's signature is verified with (LTI 1.3 §6).

Only the key set that is on file with the registration counts; a token names a key of it and brings
none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from django.utils.functional import Promise
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from lti_provider.exceptions import UnknownSigningKey, UnsuitableKey
from lti_provider.models import LtiRegistration

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

_SHORTEST_KEY = 2048
# A longer one makes each signature slow.
_LONGEST_KEY = 8192
_LARGEST_EXPONENT = 2**32
#: Key sets that stay parsed in this process.
_KEPT = 2048
_SHOWN_KEYS = 5
_SHOWN_LENGTH = 64


class NotAKeySet(ValueError):
    """Neither a JWK, a JWK set (RFC 7517) nor a public key in PEM."""


@dataclass(frozen=True, kw_only=True, repr=False)
class KeySet:
    """The keys of one text, by ``kid``: loaded, or the reason why they may not sign.

    ``only`` is the one key that has no name, in a set of one key.
    """

    keys: Mapping[str, RSAKey | _StrPromise]
    only: RSAKey | _StrPromise | None = None

    def find(self, kid: str) -> RSAKey | None:
        """The key of this name, None if there is none. Raises UnsuitableKey."""
        key = self.keys.get(kid, self.only)
        if isinstance(key, Promise):
            raise UnsuitableKey(
                format_lazy(_("Key {kid} of the key set: {reason}"), kid=_show(kid), reason=key)
            )
        return key


def find_key(registration: LtiRegistration, kid: str) -> RSAKey:
    """The public key of this ``kid``, of the registration's own key set and no other.

    Raises UnknownSigningKey, UnsuitableKey and KeySetUnavailable.
    """
    known = parse_key_set(registration.jwks)
    key = known.find(kid)
    if key is None:
        raise UnknownSigningKey(_describe_unknown(kid, known))
    return key


@lru_cache(maxsize=_KEPT)
def parse_key_set(text: str) -> KeySet:
    """The keys of a JWK, a JWK set (RFC 7517 §5) or a public key in PEM. Raises NotAKeySet."""
    entries = _parse_pem(text) if text.lstrip().startswith("-----BEGIN") else _parse_json(text)
    if len(entries) == 1 and "kid" not in entries[0]:
        return KeySet(keys={}, only=_load(entries))
    named: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if isinstance(kid := entry.get("kid"), str):
            named.setdefault(kid, []).append(entry)
    return KeySet(keys={kid: _load(found) for kid, found in named.items()})


def _parse_pem(text: str) -> list[dict[str, Any]]:
    try:
        key = RSAKey.import_key(text)
        return [dict(key.as_dict(private=False))]
    except (JoseError, ValueError, TypeError):
        raise NotAKeySet from None


def _parse_json(text: str) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAKeySet from None
    if isinstance(parsed, dict):
        keys = parsed.get("keys", [parsed])
        if isinstance(keys, list):
            return [key for key in keys if isinstance(key, dict)]
    raise NotAKeySet


def _load(entries: list[dict[str, Any]]) -> RSAKey | _StrPromise:
    # RFC 7517 §4.5: keys of different types may share a name.
    rsa = [entry for entry in entries if entry.get("kty") == "RSA"]
    if not rsa:
        return _refuse(_("it is of type {kty}, and RSA is needed."), kty=entries[0].get("kty"))
    if any(entry != rsa[0] for entry in rsa):
        return _refuse(_("there are several of this name."))
    return _find_misuse(rsa[0]) or _load_rsa(rsa[0])


def _find_misuse(entry: dict[str, Any]) -> _StrPromise | None:
    if entry.get("use", "sig") != "sig":
        return _refuse(_("its use is {use}, not sig."), use=entry["use"])
    if entry.get("alg", "RS256") != "RS256":
        return _refuse(_("it is for {alg}, not RS256."), alg=entry["alg"])
    return None


def _load_rsa(entry: dict[str, Any]) -> RSAKey | _StrPromise:
    numbers = {name: entry.get(name) for name in ("kty", "n", "e")}
    try:
        key = RSAKey.import_key(cast("Any", numbers))
        size, exponent = key.public_key.key_size, key.public_key.public_numbers().e
    except (JoseError, ValueError, TypeError):
        return _refuse(_("it cannot be read."))
    if not _SHORTEST_KEY <= size <= _LONGEST_KEY:
        return _refuse(_("it has {bits} bits; 2048 to 8192 are accepted."), bits=size)
    if exponent >= _LARGEST_EXPONENT:
        return _refuse(_("its exponent is too large."))
    return key


def _refuse(reason: Any, **details: object) -> _StrPromise:
    shown = {name: _show(value) for name, value in details.items()}
    return format_lazy(reason, **shown)


def _describe_unknown(kid: str, known: KeySet) -> _StrPromise:
    return _refuse(
        _("The token is signed with kid {kid}, the key set has {known}."),
        kid=kid,
        known=_list_names(known.keys),
    )


def _list_names(names: Iterable[str]) -> str:
    shown = [_show(name) for name in names]
    return ", ".join(shown[:_SHOWN_KEYS]) + (", …" if len(shown) > _SHOWN_KEYS else "")


def _show(value: object) -> str:
    # The LMS's, or whoever's who imitates it.
    return "".join(char if char.isprintable() else "�" for char in str(value)[:_SHOWN_LENGTH])

"""The public keys of an LMS, as it publishes them: a JWK set, a JWK or a PEM. No database."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

_SHORTEST_KEY = 2048
# Longer keys and larger exponents make each signature slow to verify.
_LONGEST_KEY = 8192
_EXPONENTS = range(3, 2**32, 2)
#: Key sets that stay loaded in this process.
_KEPT = 2048
_SHOWN_KEYS = 5
_SHOWN_LENGTH = 64
#: What counts of a JWK (RFC 7517 §4, RFC 7518 §6.3.1); certificates and addresses do not.
_MEMBERS = ("kty", "kid", "use", "alg", "n", "e")

_Entry = dict[str, Any]


class NotAKeySet(ValueError):
    """Not public keys; ``text`` says what it is."""

    def __init__(self, text: str | _StrPromise) -> None:
        self.text = text
        super().__init__(text)


@dataclass(frozen=True, kw_only=True, repr=False)
class PublicKey:
    """A key that RS256 signatures are verified with, or else the ``problem`` with it."""

    loaded: RSAPublicKey | None = None
    problem: str | _StrPromise = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class KeySet:
    """Keys by their ``kid``; ``nameless`` is the one key of a set that gives it no ``kid``."""

    named: Mapping[str, PublicKey]
    nameless: PublicKey | None = None

    def find(self, kid: str) -> PublicKey | None:
        """The key for tokens of this ``kid``."""
        return self.named.get(kid, self.nameless)

    @property
    def names(self) -> str:
        """The first few of its ``kid``, to be shown."""
        shown = [show(kid) for kid in self.named]
        return ", ".join(shown[:_SHOWN_KEYS]) + (", …" if len(shown) > _SHOWN_KEYS else "")

    @property
    def problem(self) -> str | _StrPromise:
        """Why none of its keys can be used; empty if one can."""
        keys = {**self.named, **({"": self.nameless} if self.nameless else {})}
        if not keys:
            return _("There is no key in it, or none with a kid.")
        if any(key.loaded for key in keys.values()):
            return ""
        return next(describe_problem(kid, key) for kid, key in keys.items())


@lru_cache(maxsize=_KEPT)
def load_key_set(text: str) -> KeySet:
    """The keys of a text, loaded once per process; none if it is not a key set."""
    try:
        return parse_key_set(text)
    except NotAKeySet:
        return KeySet(named={})


def parse_key_set(text: str) -> KeySet:
    """The keys of a JWK set, a JWK (RFC 7517) or a public RSA key in PEM. Raises NotAKeySet."""
    entries = _read_entries(text)
    if len(entries) == 1 and "kid" not in entries[0]:
        return KeySet(named={}, nameless=_load(entries))
    named: dict[str, list[_Entry]] = {}
    for entry in entries:
        if isinstance(kid := entry.get("kid"), str):
            named.setdefault(kid, []).append(entry)
    return KeySet(named={kid: _load(found) for kid, found in named.items()})


def validate_key_set(text: str) -> None:
    """Refuse what an administrator entered if no signature can be verified with it."""
    if "PRIVATE KEY-----" in text or any("d" in entry for entry in _read_entries(text)):
        raise NotAKeySet(
            _(
                "This is a private key, which only the LMS may have: let it make a new pair, and "
                "enter the public key."
            )
        )
    if problem := parse_key_set(text).problem:
        raise NotAKeySet(problem)


def normalize_key_set(text: str) -> str:
    """The same keys as a JWK set without what does not count. Raises NotAKeySet."""
    kept = [
        {name: entry[name] for name in _MEMBERS if name in entry} for entry in _read_entries(text)
    ]
    return json.dumps({"keys": kept})


def _read_entries(text: str) -> list[_Entry]:
    return _read_pem(text) if text.lstrip().startswith("-----BEGIN") else _read_json(text)


def _read_pem(text: str) -> list[_Entry]:
    try:
        key = load_pem_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise NotAKeySet(_("This is not a public key in PEM.")) from None
    if not isinstance(key, RSAPublicKey):
        raise NotAKeySet(_("This is not an RSA key, and RSA is needed."))
    numbers = key.public_numbers()
    return [{"kty": "RSA", "n": _encode(numbers.n), "e": _encode(numbers.e)}]


def _read_json(text: str) -> list[_Entry]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if isinstance(parsed, dict):
        keys = [parsed] if "kty" in parsed else parsed.get("keys")
        if isinstance(keys, list):
            return [key for key in keys if isinstance(key, dict)]
    raise NotAKeySet(_("This is neither a JWK set nor a JWK nor a public key in PEM."))


def _load(entries: list[_Entry]) -> PublicKey:
    # RFC 7517 §4.5: keys of different types may share a kid.
    keys = [entry for entry in entries if entry.get("kty") == "RSA"]
    if not keys:
        return _refuse(_("its type is {kty}, and RSA is needed"), kty=entries[0].get("kty"))
    if any(key != keys[0] for key in keys):
        return _refuse(_("several different keys have this kid"))
    key = keys[0]
    if key.get("use", "sig") != "sig":
        return _refuse(_("its use is {use}, and sig is needed"), use=key["use"])
    if key.get("alg", "RS256") != "RS256":
        return _refuse(_("its algorithm is {alg}, and RS256 is needed"), alg=key["alg"])
    return _load_numbers(key.get("n"), key.get("e"))


def _load_numbers(encoded_modulus: object, encoded_exponent: object) -> PublicKey:
    try:
        modulus, exponent = _decode(encoded_modulus), _decode(encoded_exponent)
        size = modulus.bit_length()
        if not _SHORTEST_KEY <= size <= _LONGEST_KEY:
            return _refuse(_("it has {size} bits, and 2048 to 8192 are accepted"), size=size)
        if exponent not in _EXPONENTS:
            return _refuse(_("its exponent is not usual"))
        return PublicKey(loaded=RSAPublicNumbers(exponent, modulus).public_key())
    except (ValueError, TypeError, AttributeError):
        return _refuse(_("it cannot be read"))


def _refuse(reason: _StrPromise, **shown: object) -> PublicKey:
    values = {name: show(value) for name, value in shown.items()}
    return PublicKey(problem=format_lazy(reason, **values))


def describe_problem(kid: str, key: PublicKey) -> _StrPromise:
    """A sentence about a key that cannot be used; ``kid`` is empty if it has none."""
    if not kid:
        return format_lazy(_("The key cannot be used: {problem}."), problem=key.problem)
    return format_lazy(
        _("Key {kid} of the key set cannot be used: {problem}."),
        kid=show(kid),
        problem=key.problem,
    )


def show(value: object) -> str:
    """As much of what an LMS sent, or whoever imitates it, as can be shown and stored."""
    text = "".join(char if char.isprintable() else "�" for char in str(value)[:_SHOWN_LENGTH])
    return f"“{text}”" if text != text.strip() or not text else text


def _decode(text: Any) -> int:
    # RFC 7515 §2: base64url without padding.
    standard = text.replace("-", "+").replace("_", "/").encode("ascii")
    return int.from_bytes(a2b_base64(standard + b"=" * (-len(standard) % 4), strict_mode=True))


def _encode(number: int) -> str:
    size = (number.bit_length() + 7) // 8
    return urlsafe_b64encode(number.to_bytes(size)).rstrip(b"=").decode()

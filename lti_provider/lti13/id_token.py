"""Read an id_token exactly (RFC 7515 §3.1, RFC 7519), and check its signature. Nothing is fetched.

Until the signature is checked, header and claims only say which registration and key to look up.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from lti_provider.exceptions import (
    CriticalHeader,
    MalformedToken,
    MissingKeyId,
    TokenSignatureInvalid,
    UnsupportedAlgorithm,
)

HEADER_LIMIT = 1024
#: How deep lists and objects may lie in one another; launches need five.
DEPTH_LIMIT = 32

# Characters within strings are not counted: a title may hold any number of brackets.
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|([\[{])|[\]}]', re.DOTALL)
_PARTS = {
    5: _("The token is encrypted (five parts): switch encryption off for this tool in the LMS."),
}
_INTEGER_LENGTH = 20
_SHOWN = 60


class _Registry(jws.JWSRegistry):
    # In base64url. An 8192-bit key makes signatures of 1366 characters.
    max_header_length = HEADER_LIMIT * 4 // 3 + 3
    max_signature_length = 1400


# Members of the header that nobody knows are ignored (RFC 7515 §4), unless "crit" lists them.
_REGISTRY = _Registry(algorithms=["RS256"], strict_check_header=False)


@dataclass(frozen=True, kw_only=True, repr=False)
class IdToken:
    """An id_token that was read, not verified; ``text`` is the token as it was posted."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    @property
    def kid(self) -> str:
        """Which key the platform says that it signed with. After ``check_header``."""
        kid: str = self.header["kid"]
        return kid


@sensitive_variables()
def read_id_token(text: str) -> IdToken:
    """The header and the claims of a compact JWS. Raises MalformedToken."""
    parts = text.split(".")
    if len(parts) != 3:
        raise MalformedToken(_PARTS.get(len(parts), "") if text else _("The form has no token."))
    header, payload, signature = parts
    decoded = _decode(header)
    if len(decoded) > HEADER_LIMIT:
        raise MalformedToken(
            format_lazy(_("The token's header is longer than {limit} bytes."), limit=HEADER_LIMIT)
        )
    _decode(signature)
    return IdToken(text=text, header=_parse(decoded), claims=_parse(_decode(payload)))


def check_header(token: IdToken) -> None:
    """Check how the token says that it was signed (Security Framework 1.0 §5.1.3, §5.4, §6.3).

    What a header names as its own key (``jku``, ``jwk``, ``x5u``, ``x5c``) is never read. Raises
    UnsupportedAlgorithm, CriticalHeader, MissingKeyId.
    """
    if (algorithm := token.header.get("alg")) != "RS256":
        raise UnsupportedAlgorithm(
            format_lazy(
                _("The token's algorithm is {found}; only RS256 is accepted."),
                found=show(algorithm),
            )
        )
    if "crit" in token.header:
        raise CriticalHeader(
            format_lazy(
                _("The token's header asks for {found}, which this site does not know."),
                found=show(token.header["crit"]),
            )
        )
    kid = token.header.get("kid")
    if not isinstance(kid, str) or not kid:
        raise MissingKeyId


@sensitive_variables()
def check_signature(token: IdToken, key: RSAKey) -> None:
    """Check the signature over exactly the bytes that came. Raises TokenSignatureInvalid.

    joserfc takes the loaded key as it is: 39 µs, of which the bare check of RSA 2048 is 19.
    """
    try:
        jws.deserialize_compact(token.text, key, registry=_REGISTRY)
    except (JoseError, ValueError):
        raise TokenSignatureInvalid(
            format_lazy(
                _(
                    "The signature does not hold with the LMS's key {kid}. Compare the key set of "
                    "the registration with the one that the LMS shows; a proxy that changes forms "
                    "breaks signatures too."
                ),
                kid=show(token.kid),
            )
        ) from None


def show(value: object) -> str:
    """A value of a token for a hint: short, printable, and in quotes where it is text."""
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _decode(part: str) -> bytes:
    try:
        decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        decoded = b""
    # There is one way to write each text: else the same token would have several.
    if base64.urlsafe_b64encode(decoded).decode().rstrip("=") != part:
        raise MalformedToken(_("A part of the token is not base64url."))
    return decoded


def _parse(decoded: bytes) -> dict[str, Any]:
    try:
        text = decoded.decode()
        _check_depth(text)
        found = _DECODER.decode(text)
    except ValueError:
        raise MalformedToken(_("A part of the token is not JSON in UTF-8.")) from None
    if not isinstance(found, dict):
        raise MalformedToken(_("A part of the token is not a JSON object."))
    return found


def _check_depth(text: str) -> None:
    # The parser calls itself for each bracket. Few brackets cannot lie deep.
    if text.count("[") + text.count("{") <= DEPTH_LIMIT:
        return
    depth = 0
    for match in _BRACKETS.finditer(text):
        if match[0][0] != '"':
            depth += 1 if match[1] else -1
        if depth > DEPTH_LIMIT:
            raise MalformedToken(_("Lists and objects lie too deep in one another in the token."))


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        raise MalformedToken(_("A member is twice in an object of the token."))
    return built


def _parse_integer(digits: str) -> int:
    if len(digits) > _INTEGER_LENGTH:
        raise MalformedToken(_("A number in the token is too large."))
    return int(digits)


def _refuse_constant(_name: str) -> NoReturn:
    raise MalformedToken(_("NaN and Infinity are not JSON."))


# Built once: that costs as much as to read a header.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_object, parse_int=_parse_integer, parse_constant=_refuse_constant
)

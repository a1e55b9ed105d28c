"""Whom an id_token is from and for, when, and to which login (Security Framework 1.0 §5.1.3)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from django.utils.crypto import constant_time_compare
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import (
    OtherAudience,
    OtherNonce,
    OtherTokenIssuer,
    TokenBeforeLogin,
    TokenExpired,
    TokenNotYetValid,
    TokenTimeInvalid,
)
from lti_provider.lti13.id_token import show
from lti_provider.lti13.state import LoginState
from lti_provider.models import LtiRegistration

# In the year 2286. A larger number is not one of seconds, but of milliseconds perhaps.
_LATEST = 10_000_000_000


def check_issuer(claims: Mapping[str, Any], registration: LtiRegistration) -> None:
    """Check that the registration's LMS made the token (step 2). Raises OtherTokenIssuer."""
    if (found := claims.get("iss")) != registration.issuer:
        raise OtherTokenIssuer(
            format_lazy(
                _(
                    "The token's issuer is {found}, the registration's {known}: they have to be "
                    "equal to the letter, a slash at the end included."
                ),
                found=show(found),
                known=show(registration.issuer),
            )
        )


def check_audience(claims: Mapping[str, Any], registration: LtiRegistration) -> None:
    """Check that the token is for this site (steps 3 to 5). Raises OtherAudience.

    For more audiences than this site, ``azp`` has to say that it is for this site.
    """
    own, azp, named = registration.client_id, claims.get("azp"), claims.get("aud")
    if not is_for(claims, own):
        raise OtherAudience(
            format_lazy(
                _("The token is for client {found}, this registration is {own}."),
                found=show(named),
                own=show(own),
            )
        )
    is_only_ours = not isinstance(named, list) or all(each == own for each in named)
    if azp != own and not (azp is None and is_only_ours):
        raise OtherAudience(
            format_lazy(
                _("The token is for {found}, of which {azp} was authorized; this site is {own}."),
                found=show(named),
                azp=show(azp),
                own=show(own),
            )
        )


def is_for(claims: Mapping[str, Any], client_id: str) -> bool:
    """Whether a client is among the token's audiences, of which there may be one or a list."""
    named = claims.get("aud")
    return named == client_id or (isinstance(named, list) and client_id in named)


def check_times(
    claims: Mapping[str, Any], registration: LtiRegistration, state: LoginState
) -> float:
    """Check ``exp``, ``iat`` and ``nbf`` (steps 7 and 8), and return ``iat``.

    Raises TokenTimeInvalid, TokenExpired, TokenNotYetValid, TokenBeforeLogin.
    """
    now, leeway = time.time(), registration.clock_leeway
    expires_at, issued_at = _read_time(claims, "exp"), _read_time(claims, "iat")
    starts_at = issued_at if claims.get("nbf") is None else _read_time(claims, "nbf")
    if expires_at <= now - leeway:
        raise TokenExpired(_insert(_EXPIRED, now - expires_at, leeway, now - issued_at))
    if (ahead := max(issued_at, starts_at) - now) > leeway:
        raise TokenNotYetValid(_insert(_AHEAD, ahead, leeway))
    if (before := state.issued_at - issued_at) > leeway:
        raise TokenBeforeLogin(_insert(_BEFORE, before, leeway))
    return issued_at


_EXPIRED = _(
    "By this site's clock the token expired {seconds} s ago, and was signed {age} s ago; the "
    "registration allows {leeway} s. Set both clocks, or raise the registration's clock leeway. If "
    "the clocks are right, an old page was sent again."
)
_AHEAD = _(
    "The LMS's clock is {seconds} s ahead of this site's; the registration allows {leeway} s. Set "
    "both clocks, or raise the registration's clock leeway."
)
_BEFORE = _(
    "The token was signed {seconds} s before the login that it answers; the registration allows "
    "{leeway} s. Either the LMS's clock is behind, or it sends old tokens again."
)


def _insert(sentence: Any, seconds: float, leeway: int, age: float = 0) -> Any:
    return format_lazy(sentence, seconds=round(seconds), leeway=leeway, age=round(age))


def _read_time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    seconds = get_seconds(value)
    if seconds is None:
        raise TokenTimeInvalid(
            format_lazy(
                _("The token's {name} is {found}, which is not a number of seconds since 1970."),
                name=name,
                found=show(value),
            )
        )
    return seconds


def get_seconds(value: object) -> float | None:
    """A time of a token (RFC 7519 §2), None if it is not one: texts and booleans are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    # Comparisons with NaN are false.
    return float(value) if 0 < value < _LATEST else None


def get_clock_difference(issued_at: float) -> int:
    """Seconds that the LMS's clock is ahead of ours, the way of the token included."""
    return int(issued_at) - int(time.time())


def check_nonce(claims: Mapping[str, Any], state: LoginState) -> None:
    """Check that the token answers this login (step 9). Raises OtherNonce."""
    nonce = claims.get("nonce")
    # All nonces of this site are ASCII, and so is all that can be compared in constant time.
    if not isinstance(nonce, str) or not nonce.isascii():
        raise OtherNonce
    if not constant_time_compare(nonce, state.nonce):
        raise OtherNonce

"""The keys of a platform, which its tokens are verified with (LTI 1.3 §6).

They are those on file with the registration, or of the address on file; a token names one of them
and brings none.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from joserfc.jwk import RSAKey

from lti_provider.egress import EgressError, HttpAnswer, request
from lti_provider.exceptions import KeySetUnavailable, UnknownSigningKey, UnsuitableKey
from lti_provider.models import LtiRegistration
from lti_provider.models.public_keys import describe_problem, normalize_key_set, show
from lti_provider.origins import get_host

logger = logging.getLogger("lti_provider")

#: Seconds for a whole fetch.
_TIMEOUT = 5
# Seconds between two looks at what another process fetches, and how many.
_PAUSE = 0.1
_LOOKS = 80
#: How long keys are kept, whatever the platform asks for, and if it asks for nothing.
_SHORTEST, _LONGEST = timedelta(minutes=5), timedelta(days=1)
_USUAL = timedelta(hours=1)


def find_key(registration: LtiRegistration, kid: str) -> RSAKey:
    """The public key that the registration's platform calls ``kid``.

    It is known in nearly all cases; otherwise the platform is asked, once a minute at most. That
    takes seconds, so no transaction may be open. Keys that have expired count until newer ones are
    here.

    Raises UnknownSigningKey, UnsuitableKey and, where nobody can tell, KeySetUnavailable.
    """
    key = registration.get_key_set().find(kid)
    is_usable = key is not None and key.loaded is not None
    if not (is_usable and registration.are_keys_fresh) and registration.jwks_uri:
        _refresh(registration, may_wait=not is_usable)
        key = registration.get_key_set().find(kid)
    if key is None:
        raise _build_refusal(registration, kid)
    if key.loaded is None:
        raise UnsuitableKey(describe_problem(kid, key))
    return RSAKey.import_key(key.loaded)


def _refresh(registration: LtiRegistration, *, may_wait: bool) -> None:
    if registration.begin_key_fetch():
        _fetch(registration)
    elif may_wait:
        _wait(registration)


def _wait(registration: LtiRegistration) -> None:
    for _look in range(_LOOKS):
        if not registration.is_key_fetch_running:
            return
        time.sleep(_PAUSE)
        registration.read_key_set()


def _fetch(registration: LtiRegistration) -> None:
    try:
        answer = request_key_set(registration)
        keys = read_keys(answer)
    except EgressError as error:
        return _fail(registration, error.code)
    registration.end_key_fetch(keys, _find_lifetime(answer))


def request_key_set(registration: LtiRegistration) -> HttpAnswer:
    """Ask the platform for its keys. Raises EgressError."""
    url = registration.jwks_uri
    return request(
        "GET",
        url,
        headers={"Accept": "application/json, */*"},
        hosts=[get_host(url)],
        networks=registration.service_network_list,
        timeout=_TIMEOUT,
        plain_to_networks_only=True,
    )


def read_keys(answer: HttpAnswer) -> str:
    """The keys that a platform answered with, to be stored. Raises EgressError."""
    if answer.status != 200:
        raise EgressError(f"status_{answer.status}")
    try:
        return normalize_key_set(answer.body.decode())
    except ValueError:
        raise EgressError("not_a_key_set") from None


def _fail(registration: LtiRegistration, code: str) -> None:
    logger.warning(
        "key_set_not_fetched registration=%s code=%s",
        registration.pk,
        code,
        extra={"event": "key_set_not_fetched", "registration": registration.pk, "code": code},
    )
    registration.fail_key_fetch(code)


def _find_lifetime(answer: HttpAnswer) -> timedelta:
    # RFC 9111 §5.2.2.
    given = ",".join(answer.headers.get_all("Cache-Control", []))
    for directive in given.lower().split(","):
        name, _equals, value = directive.strip().partition("=")
        if name in ("no-cache", "no-store"):
            return _SHORTEST
        seconds = value.strip('"')
        if name == "max-age" and seconds.isascii() and seconds.isdigit():
            return min(max(timedelta(seconds=int(seconds[:9])), _SHORTEST), _LONGEST)
    return _USUAL


def _build_refusal(
    registration: LtiRegistration, kid: str
) -> UnknownSigningKey | KeySetUnavailable:
    if not registration.jwks_uri or not registration.has_key_fetch_failed:
        return UnknownSigningKey(
            format_lazy(
                _("The token is signed with kid {kid}, the key set has {names}."),
                kid=show(kid),
                names=registration.get_key_set().names or _("no keys"),
            )
        )
    if not registration.key_set_problem:
        return KeySetUnavailable()
    return KeySetUnavailable(f"{registration.jwks_uri}: {registration.key_set_problem}")

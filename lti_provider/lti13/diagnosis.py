"""What the launch log says of a refused launch of LTI 1.3; nothing here accepts anything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider.exceptions import (
    LaunchRefused,
    TokenSignatureInvalid,
    UnknownClient,
    UnknownIssuer,
    UnknownRegistration,
    UnknownSigningKey,
)
from lti_provider.lti13.claims import (
    IDENTITY,
    IMPERSONAL,
    IMPERSONAL_MEMBERS,
    NAMES,
    is_identifier,
)
from lti_provider.lti13.id_token import show
from lti_provider.lti13.token_checks import get_clock_difference, get_seconds, is_for
from lti_provider.message import PersonalData
from lti_provider.models import (
    Explanation,
    LtiRegistration,
    LtiUnknownSender,
    UnknownSender,
)

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

_SHOWN = 8000
_SHOWN_URL = 2000
_REGISTRATIONS_TRIED = 20
_KEPT = {PersonalData.NONE: (), PersonalData.NAME: NAMES, PersonalData.NAME_EMAIL: IDENTITY}


@dataclass(frozen=True, kw_only=True, repr=False)
class Evidence:
    """What is left of a login or launch when it is refused; ``claims`` need not be verified.

    ``passed`` are the checks that held, by name in their order, ``failed`` is the one that did
    not. Both are blank at a login.
    """

    issuer: str = ""
    client_id: str = ""
    target_link_uri: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    passed: tuple[str, ...] = ()
    failed: str = ""


@sensitive_variables()
def explain(refusal: LaunchRefused) -> Explanation:
    """What the launch log says of a refused login or launch.

    Of a launch, ``signed_text`` are two lines, ``passed: token, registration, …`` and
    ``failed: key``, then a blank line and an object with ``header`` and ``claims`` as indented
    JSON, cut at 8000 characters. A "*" stands for personal data that the consumer does not keep,
    and for all of it if nobody vouches for the claims or no consumer is known. The token itself is
    never in it.
    """
    evidence: Evidence = refusal.evidence
    person = evidence.claims.get("sub") if refusal.consumer is not None else None
    return Explanation(
        hint=_guess_cause(refusal, evidence),
        user_id=person if is_identifier(person) else "",
        launch_url=_make_visible(evidence.target_link_uri)[:_SHOWN_URL],
        clock_difference=_get_clock_difference(evidence.claims),
        signed_text=_describe(refusal, evidence)[:_SHOWN],
        unknown_sender=_get_unknown_sender(refusal, evidence),
    )


def _get_clock_difference(claims: Mapping[str, Any]) -> int | None:
    issued_at = get_seconds(claims.get("iat"))
    difference = 0 if issued_at is None else get_clock_difference(issued_at)
    # What the integers of every database hold.
    return None if issued_at is None or abs(difference) >= 2**31 else difference


@sensitive_variables()
def _describe(refusal: LaunchRefused, evidence: Evidence) -> str:
    if not evidence.failed:
        return ""
    lines = [f"passed: {', '.join(evidence.passed)}", f"failed: {evidence.failed}"]
    if evidence.header:
        shown = _list_shown(refusal, evidence)
        claims = {name: _mask(name, value, shown) for name, value in evidence.claims.items()}
        token = {"header": evidence.header, "claims": claims}
        lines += ["", json.dumps(token, indent=1, ensure_ascii=False)]
    return _make_visible("\n".join(lines))


def _list_shown(refusal: LaunchRefused, evidence: Evidence) -> frozenset[str]:
    # Whoever it names can have it erased, by consumer and id; of others nothing is kept.
    if refusal.consumer is None or not is_identifier(evidence.claims.get("sub")):
        return IMPERSONAL
    # The message is there only if signature and claims held.
    is_genuine = refusal.message is not None
    policy = refusal.consumer.personal_data_kept if is_genuine else PersonalData.NONE
    return IMPERSONAL.union(("sub", *_KEPT[policy]))


def _mask(name: str, value: Any, shown: frozenset[str]) -> Any:
    if name in shown or not value:
        return value
    if name not in IMPERSONAL_MEMBERS or not isinstance(value, dict):
        return "*"
    members = IMPERSONAL_MEMBERS[name]
    return {
        member: inner if member in members or not inner else "*" for member, inner in value.items()
    }


def _make_visible(text: str) -> str:
    # As JSON writes what cannot be seen, turns a line around, or is no character at all.
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )


def _get_unknown_sender(refusal: LaunchRefused, evidence: Evidence) -> UnknownSender | None:
    kinds = LtiUnknownSender.Kind
    if isinstance(refusal, UnknownIssuer) and refusal.registration is None:
        return UnknownSender(kind=kinds.ISSUER, text=evidence.issuer)
    if isinstance(refusal, UnknownClient) and refusal.registration is None:
        return UnknownSender(kind=kinds.CLIENT, text=evidence.client_id)
    if isinstance(refusal, UnknownRegistration):
        issuer = evidence.issuer or evidence.claims.get("iss")
        return UnknownSender(kind=kinds.ISSUER, text=issuer) if is_identifier(issuer) else None
    return None


def _guess_cause(refusal: LaunchRefused, evidence: Evidence) -> str | _StrPromise:
    # Why a key is unknown or a signature does not hold; other refusals say it themselves.
    if not isinstance(refusal, UnknownSigningKey | TokenSignatureInvalid):
        return ""
    registration: LtiRegistration = refusal.registration
    issuer = evidence.claims.get("iss")
    if issuer != registration.issuer:
        return format_lazy(_OTHER_LMS, found=show(issuer), known=show(registration.issuer))
    if not is_for(evidence.claims, registration.client_id):
        found = show(evidence.claims.get("aud"))
        return format_lazy(_OTHER_CLIENT, found=found, own=show(registration.client_id))
    owner = _find_owner(registration, evidence.header["kid"])
    if owner is not None:
        kid = show(evidence.header["kid"])
        return format_lazy(_OTHER_KEYS, kid=kid, issuer=owner.issuer, client=owner.client_id)
    return ""


_OTHER_LMS = _(
    "The token says that it is from {found}; this registration is for {known}. If the LMS has a "
    "new address, change issuer, endpoints and key set here; else it is a different LMS, which "
    "needs its own registration."
)
_OTHER_CLIENT = _(
    "The token is for client {found}, this registration is {own}: the LMS has several tools, and "
    "the login was answered for a different one. Compare client id and key set on both sides."
)
_OTHER_KEYS = _(
    "Key {kid} is in the key set of the registration of {issuer} with client {client}: the key set "
    "of this registration is a different LMS's, or an old one."
)


def _find_owner(registration: LtiRegistration, kid: str) -> LtiRegistration | None:
    others = LtiRegistration.objects.exclude(pk=registration.pk).order_by("-pk")
    text = json.dumps(kid)
    for other in others[:_REGISTRATIONS_TRIED]:
        if text in other.jwks or text in other.fetched_jwks:
            return other
    return None

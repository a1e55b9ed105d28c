"""What the launch log says of a refused launch of LTI 1.3; nothing here accepts anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lti_provider.exceptions import LaunchRefused, UnknownClient, UnknownIssuer
from lti_provider.models import Explanation, LtiUnknownSender, UnknownSender


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


def explain(refusal: LaunchRefused) -> Explanation:
    """What the launch log says of a refused login or launch."""
    evidence: Evidence = refusal.evidence
    return Explanation(
        launch_url=evidence.target_link_uri, unknown_sender=_get_unknown_sender(refusal, evidence)
    )


def _get_unknown_sender(refusal: LaunchRefused, evidence: Evidence) -> UnknownSender | None:
    if isinstance(refusal, UnknownIssuer):
        return UnknownSender(kind=LtiUnknownSender.Kind.ISSUER, text=evidence.issuer)
    if isinstance(refusal, UnknownClient):
        return UnknownSender(kind=LtiUnknownSender.Kind.CLIENT, text=evidence.client_id)
    return None

"""Which dialect of LTI a launch or a grade speaks: both reach the wings through here only."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Protocol

from django.http import HttpRequest

from lti_provider import lti11, lti13
from lti_provider.exceptions import LaunchRefused
from lti_provider.form import read_form
from lti_provider.lti11 import outcomes
from lti_provider.lti13 import keys
from lti_provider.models import Attempt, Explanation, LtiResult, VerifiedLaunch

Login = lti13.Login


class Sender(Protocol):
    """Sends and reads grades in the dialect of the launch that named them."""

    def send_score(self, result: LtiResult) -> Attempt:
        """Send the newest score of a result."""

    def read_score(self, result: LtiResult) -> Decimal | None:
        """Ask the LMS for a result's score. Raises ScoreNotRead."""


_SENDERS: dict[str, Sender] = {LtiResult.Service.BASIC_OUTCOMES: outcomes}


def is_launch(request: HttpRequest) -> bool:
    """Whether a request looks like a launch or a login: nobody else is to see what it posted."""
    return not request.POST.keys().isdisjoint({lti11.PROOF, lti13.PROOF, lti13.HINT})


def is_login_by_address(request: HttpRequest) -> bool:
    """Whether a request looks like a login by GET: nobody else is to see its query."""
    return request.GET.keys() >= lti13.LOGIN


def verify(request: HttpRequest) -> VerifiedLaunch:
    """The launch of a request whose signature holds. Raises LaunchRefused; nothing is written."""
    body = read_form(request)
    names = {name for name, _value in body}
    if lti11.PROOF in names or names.isdisjoint(lti13.ANSWER):
        return lti11.verify(request, body)
    return lti13.verify(request, body)


def read_login(request: HttpRequest, registration_pk: int | None = None) -> Login:
    """The login that a request asks for. Raises LaunchRefused; nothing is written.

    ``registration_pk`` is the one of the address, where an LMS does not name its registration.
    """
    return lti13.read_login(request, registration_pk)


def explain(refusal: LaunchRefused) -> Explanation:
    """What the launch log says of a refused request; its ``evidence`` is the wing's."""
    if refusal.evidence is None:
        return Explanation()
    is_lti13 = isinstance(refusal.evidence, lti13.Evidence)
    return lti13.explain(refusal) if is_lti13 else lti11.explain(refusal)


def get_key_set() -> dict[str, Any]:
    """The public keys of this site, for whoever checks what it signs; private parts are in none."""
    return keys.get_key_set()


def get_public_pem() -> str:
    """The public key that this site signs with, for an LMS that takes no key set URL."""
    return keys.get_public_pem()


def get_sender(result: LtiResult) -> Sender | None:
    """The sender of a result's grade service; None if no launch named one that is known."""
    return _SENDERS.get(result.service)

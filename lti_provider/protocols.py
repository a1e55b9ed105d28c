"""Which dialect of LTI: the only room that knows its wing."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from lti_provider.lti11 import outcomes
from lti_provider.models import Attempt, LtiResult


class Sender(Protocol):
    """Sends and reads grades in the dialect of the launch that named them."""

    def send_score(self, result: LtiResult) -> Attempt:
        """Send the newest score of a result."""

    def read_score(self, result: LtiResult) -> Decimal | None:
        """Ask the LMS for a result's score. Raises ScoreNotRead."""


_SENDERS: dict[str, Sender] = {LtiResult.Service.BASIC_OUTCOMES: outcomes}


def get_sender(result: LtiResult) -> Sender | None:
    """The sender of a result's grade service; None if no launch named one that is known."""
    return _SENDERS.get(result.service)

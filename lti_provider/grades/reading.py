"""Read a grade in the LMS's gradebook."""

from __future__ import annotations

from decimal import Decimal

from lti_provider.exceptions import ScoreNotRead
from lti_provider.models import LtiResult
from lti_provider.models.attempt import describe_reason
from lti_provider.protocols import get_sender


def read_score(result: LtiResult) -> Decimal | None:
    """Ask the LMS now which score it has, as a share of 1; None for no grade.

    It takes as long as the LMS does, up to ``LTI_PROVIDER_GRADE_TIMEOUT``: call it outside of
    transactions. Raises ScoreNotRead.
    """
    sender = get_sender(result)
    if sender is None:
        raise ScoreNotRead("no_service", describe_reason("no_service", ""))
    return sender.read_score(result)

"""Submit a score for a result that was looked up; ``request.lti`` has the same for its own."""

from __future__ import annotations

from lti_provider.models import LtiResult
from lti_provider.models.score import Number


def submit_score(
    result: LtiResult,
    given: Number,
    maximum: Number = 1,
    *,
    submission_text: str | None = None,
    submission_url: str | None = None,
) -> LtiResult:
    """``LtiResult.submit_score``: part of the caller's transaction, the newest wins."""
    return result.submit_score(
        given, maximum, submission_text=submission_text, submission_url=submission_url
    )


def delete_score(result: LtiResult) -> LtiResult:
    """``LtiResult.delete_score``: take the grade out of the gradebook."""
    return result.delete_score()

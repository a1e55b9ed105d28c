"""How long to wait: after an attempt, while a host does not answer, for what may still arrive."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from lti_provider.conf import conf
from lti_provider.models import Attempt, Verdict
from lti_provider.models.service_host import FAILURE_THRESHOLD

#: A refused grade is sent again after these times: LMSs reopen assignments.
REFUSED_DELAYS = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))
FIRST_DELAY = timedelta(seconds=30)
LONGEST_DELAY = timedelta(hours=6)
SHORTEST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)


def get_lease_duration() -> timedelta:
    """Time for one exchange, and until a message that was cut off no longer takes effect."""
    return timedelta(seconds=3 * conf.grade_timeout)


def get_late_arrival_limit() -> timedelta:
    """How long a message may still take effect after its sender stopped waiting."""
    return timedelta(seconds=2 * conf.grade_timeout)


def compute_retry_delay(attempt: Attempt, attempts: int, refusals: int) -> timedelta:
    """Full jitter from 30 s to 6 h, or what the LMS asked for; refusals wait longer."""
    if attempt.verdict is Verdict.REFUSED:
        return REFUSED_DELAYS[refusals - 1] * random.uniform(0.8, 1.2)  # noqa: S311
    doubled: timedelta = FIRST_DELAY * 2 ** min(attempts, 20)
    delay = min(doubled, LONGEST_DELAY) * random.random()  # noqa: S311
    if attempt.may_have_arrived:
        delay += get_late_arrival_limit()
    return max(delay, _get_asked_delay(attempt))


def compute_pause(attempt: Attempt, failures: int) -> timedelta:
    """What the LMS asked for, else nothing until the breaker opens, then up to 15 minutes."""
    if attempt.retry_after is not None:
        return _get_asked_delay(attempt)
    if attempt.code == "throttled":
        return SHORTEST_PAUSE
    if failures < FAILURE_THRESHOLD:
        return timedelta(0)
    doubled: timedelta = SHORTEST_PAUSE * 2 ** min(failures - FAILURE_THRESHOLD, 20)
    return min(doubled, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311


def get_later(first: datetime | None, second: datetime) -> datetime:
    """The later of two times, the first of which may be missing."""
    return max(first, second) if first else second


def _get_asked_delay(attempt: Attempt) -> timedelta:
    return timedelta(seconds=min(attempt.retry_after or 0, LONGEST_DELAY.total_seconds()))

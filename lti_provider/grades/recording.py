"""Write how attempts to send grades ended, and when the next ones follow."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from lti_provider.conf import conf
from lti_provider.grades.delays import (
    REFUSED_DELAYS,
    compute_pause,
    compute_retry_delay,
    get_late_arrival_limit,
    get_later,
)
from lti_provider.models import Attempt, Destination, LtiResult, LtiServiceBreaker, Verdict
from lti_provider.models.attempt import UNAUTHORIZED
from lti_provider.models.result import ANSWER_LENGTH


def record_attempt(result: LtiResult, attempt: Attempt) -> LtiResult.State | None:
    """Write how an attempt to send ``result``, as it was leased, ended.

    Returns its new state, or None if a newer score is to be sent now.
    """
    now = timezone.now()
    stored = LtiResult.objects.filter(pk=result.pk)
    leased = stored.filter(lease_token=result.lease_token)
    changes: dict[str, Any] = {
        "lease_token": "",
        "last_attempt_at": now,
        "last_code": attempt.code,
        "last_text": attempt.text[:ANSWER_LENGTH],
    }
    if attempt.verdict is Verdict.DELIVERED:
        changes |= {"delivered_version": result.version, "delivered_at": now}
    update = changes | _build_update(result, attempt, now)
    if leased.filter(version=result.version).update(**update):
        vars(result).update(update)
        return LtiResult.State(result.state)
    wait = get_late_arrival_limit() if attempt.may_have_arrived else timedelta(0)
    newer = {"state": LtiResult.State.WAITING, "next_attempt_at": now + wait}
    if not leased.update(**changes, **newer) and attempt.host_answered is not None:
        # Somebody took over while this process was away: what it sent may have come last.
        stored.exclude(last_code="given_up").queue()
    return None


def _build_update(result: LtiResult, attempt: Attempt, now: datetime) -> dict[str, Any]:
    first = result.first_attempt_at or now
    refusals = result.refusals + (attempt.verdict is Verdict.REFUSED)
    if attempt.code == UNAUTHORIZED and result.lti_consumer.accepts_previous_secret:
        # The LMS is about to get the new secret: nothing fails for lack of it meanwhile.
        first, refusals = now, min(refusals, len(REFUSED_DELAYS))
    given_up = now - first > timedelta(days=conf.grade_retry_days)
    changed = {
        "attempts": result.attempts + 1,
        "refusals": refusals,
        "first_attempt_at": first,
        "next_attempt_at": None,
    }
    if attempt.verdict is Verdict.DELIVERED:
        return {**changed, "state": LtiResult.State.DELIVERED}
    if attempt.verdict is Verdict.FINAL or given_up or refusals > len(REFUSED_DELAYS):
        return {**changed, "state": LtiResult.State.FAILED}
    wait = compute_retry_delay(attempt, result.attempts, refusals)
    return {**changed, "state": LtiResult.State.WAITING, "next_attempt_at": now + wait}


def record_failure(destination: Destination, attempt: Attempt) -> None:
    """Count an attempt without an answer, and pause the destination."""
    now = timezone.now()
    breakers = LtiServiceBreaker.objects.all()
    breaker = LtiServiceBreaker(lti_consumer_id=destination.consumer, host=destination.host)
    breakers.bulk_create([breaker], ignore_conflicts=True)
    with transaction.atomic(using=breakers.db):
        breakers.for_destination(destination).update(
            failures=F("failures") + 1, last_code=attempt.code, last_text=attempt.text
        )
        breaker = breakers.for_destination(destination).get()
        breaker.failing_since = breaker.failing_since or now
        breaker.paused_until = get_later(
            breaker.paused_until, now + compute_pause(attempt, breaker.failures)
        )
        breaker.save(update_fields=["failing_since", "paused_until"])

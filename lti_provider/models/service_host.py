"""Hosts that take grades: leases within their limits, and circuit breakers."""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Self

from django.db import connections, models, router, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.conf import conf
from lti_provider.models.attempt import Attempt, describe_reason
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.result import (
    ANSWER_LENGTH,
    HOST_LENGTH,
    LEASE_LENGTH,
    LONGEST_DELAY,
    LtiResult,
    LtiResultQuerySet,
)

#: After this many attempts in a row without an answer the circuit is open.
FAILURE_THRESHOLD = 5
SHORTEST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
BATCH_SIZE = 10
#: An idle host may get what its rate allows in this time at once.
BURST = timedelta(seconds=1)


class Destination(NamedTuple):
    """One consumer's grade service: its failures do not count for another consumer at the host."""

    consumer: int
    host: str


class HostBusy(Exception):
    """The host has as many requests as all deliverers together may send it now."""


@dataclass(frozen=True)
class Lease:
    """Results that one deliverer may send to their destination, one after the other."""

    destination: Destination
    token: str
    results: Sequence[LtiResult]
    #: Whether this is the trial request after an attempt without an answer.
    is_trial: bool


def get_lease_duration() -> timedelta:
    """Time for one exchange, and until a message that was cut off no longer takes effect."""
    return timedelta(seconds=3 * conf.grade_timeout)


class LtiServiceHostQuerySet(PrimaryQuerySet["LtiServiceHost"]):
    def lease(self, destination: Destination) -> Lease | None:
        """Reserve due results within the host's limits, which hold for all deliverers together.

        None if there are none, or the breaker lets none through. Raises HostBusy.
        """
        while True:
            # Durable: a reservation that others cannot see yet is none.
            with transaction.atomic(using=self.db, durable=True):
                # The first statement writes: whoever wants the same host waits here, on every
                # database, and SQLite never has to turn a read lock into a write lock.
                if self.filter(host=destination.host).update(claims=F("claims") + 1):
                    return self.get(host=destination.host)._lease_due(destination, timezone.now())
            self.bulk_create([LtiServiceHost(host=destination.host)], ignore_conflicts=True)


class LtiServiceHost(models.Model):
    """One host, whatever consumers use it: how many requests it gets, and how fast."""

    host = models.CharField(_("host"), max_length=HOST_LENGTH, unique=True)
    claims = models.PositiveBigIntegerField(default=0, editable=False)
    next_request_at = models.DateTimeField(null=True, editable=False)

    objects = LtiServiceHostQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        default_permissions = ()

    def __str__(self) -> str:
        return self.host

    def _lease_due(self, destination: Destination, now: datetime) -> Lease | None:
        alias = router.db_for_write(type(self), instance=self)
        at_host = LtiResult.objects.using(alias).filter(service_host=self.host)
        allowance = self._get_allowance(now)
        if not allowance or _count_leases(at_host, now) >= conf.grade_concurrency:
            raise HostBusy
        results = at_host.filter(lti_consumer=destination.consumer)
        breaker = (
            LtiServiceBreaker.objects.using(alias).for_destination(destination).first()
            or LtiServiceBreaker()
        )
        if breaker.is_paused(now) or (breaker.is_circuit_open and _count_leases(results, now)):
            return None
        skip = connections[alias].features.has_select_for_update_skip_locked
        due = results.due(now).order_by("next_attempt_at", "pk")
        # A result whose new score is not committed yet is somebody's locked row.
        size = min(allowance, 1 if breaker.failures else BATCH_SIZE)
        chosen = list(due.select_for_update(skip_locked=skip).values_list("pk", flat=True)[:size])
        token = secrets.token_hex(LEASE_LENGTH // 2)
        leased = at_host.lease(chosen, token, now + get_lease_duration()) if chosen else []
        if not leased:
            return None
        self.next_request_at = (
            self._get_earliest_request(now) + len(leased) * get_request_interval()
        )
        self.save(update_fields=["next_request_at"])
        return Lease(destination, token, leased, is_trial=breaker.failures > 0)

    def _get_earliest_request(self, now: datetime) -> datetime:
        return get_later(self.next_request_at, now - max(BURST, get_request_interval()))

    def _get_allowance(self, now: datetime) -> int:
        saved = (now - self._get_earliest_request(now)) / get_request_interval()
        # The rounding of timedeltas must not cost a whole request.
        return int(saved + 0.001)


class LtiServiceBreakerQuerySet(PrimaryQuerySet["LtiServiceBreaker"]):
    def for_destination(self, destination: Destination) -> Self:
        """The breaker of a destination; none if nothing ever failed there."""
        return self.filter(lti_consumer=destination.consumer, host=destination.host)

    def record_answer(self, destination: Destination) -> None:
        """Close the circuit: the host has answered."""
        self.for_destination(destination).filter(failures__gt=0).update(
            failures=0, failing_since=None, paused_until=None
        )

    def record_failure(self, destination: Destination, attempt: Attempt) -> None:
        """Count an attempt without an answer, and pause the destination."""
        now = timezone.now()
        breaker = LtiServiceBreaker(lti_consumer_id=destination.consumer, host=destination.host)
        self.bulk_create([breaker], ignore_conflicts=True)
        with transaction.atomic(using=self.db):
            self.for_destination(destination).update(
                failures=F("failures") + 1, last_code=attempt.code, last_text=attempt.text
            )
            breaker = self.for_destination(destination).get()
            breaker.failing_since = breaker.failing_since or now
            breaker.paused_until = get_later(
                breaker.paused_until, now + compute_pause(attempt, breaker.failures)
            )
            breaker.save(update_fields=["failing_since", "paused_until"])


class LtiServiceBreaker(models.Model):
    """The pause and the circuit breaker of one consumer at one host.

    A signed launch may name any host, so they never count for another consumer's grades.
    """

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.CASCADE,
        related_name="lti_service_breakers",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    host = models.CharField(_("host"), max_length=HOST_LENGTH)
    failures = models.PositiveIntegerField(_("attempts without an answer"), default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True)
    paused_until = models.DateTimeField(_("paused until"), null=True)
    last_code = models.CharField(_("last problem"), max_length=20, blank=True)
    last_text = models.CharField(max_length=ANSWER_LENGTH, blank=True, editable=False)

    objects = LtiServiceBreakerQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("service host")
        verbose_name_plural = _("service hosts")
        ordering = ("host", "pk")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "host"), name="lti_breaker_of_destination"
            ),
        )

    def __str__(self) -> str:
        return self.host

    @property
    def reason(self) -> str:
        """Why attempts failed, in words; empty while they do not."""
        return describe_reason(self.last_code, self.last_text) if self.failures else ""

    @property
    def is_circuit_open(self) -> bool:
        """Whether only a trial request is let through."""
        return self.failures >= FAILURE_THRESHOLD

    def is_paused(self, now: datetime) -> bool:
        """Whether nothing is sent for now."""
        return self.paused_until is not None and self.paused_until > now


def _count_leases(results: LtiResultQuerySet, now: datetime) -> int:
    running = results.filter(state=LtiResult.State.SENDING, next_attempt_at__gt=now)
    return running.values("lease_token").distinct().count()


def get_request_interval() -> timedelta:
    """The time between two requests to a host at ``LTI_PROVIDER_GRADE_RATE``."""
    return timedelta(seconds=1 / conf.grade_rate)


def get_later(first: datetime | None, second: datetime) -> datetime:
    """The later of two times, the first of which may be missing."""
    return max(first, second) if first else second


def compute_pause(attempt: Attempt, failures: int) -> timedelta:
    """What the LMS asked for, else nothing until the breaker opens, then up to 15 minutes."""
    if attempt.retry_after is not None:
        return timedelta(seconds=min(attempt.retry_after, LONGEST_DELAY.total_seconds()))
    if attempt.code == "throttled":
        return SHORTEST_PAUSE
    if failures < FAILURE_THRESHOLD:
        return timedelta(0)
    doubled: timedelta = SHORTEST_PAUSE * 2 ** min(failures - FAILURE_THRESHOLD, 20)
    return min(doubled, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311

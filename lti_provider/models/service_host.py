"""What deliverers know of the hosts that take grades, and what they may send them."""

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
from lti_provider.models.attempt import Attempt, describe
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.result import (
    HOST_LENGTH,
    LEASE_LENGTH,
    LONGEST_DELAY,
    SAID_LENGTH,
    LtiResult,
    LtiResultQuerySet,
)

#: So many attempts in a row without an answer stop the others.
FAILURES = 5
SHORTEST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
BATCH = 10
#: A host that was left alone may get this much of its rate at once.
BURST = timedelta(seconds=1)


class Route(NamedTuple):
    """Where grades of one consumer go: what fails there says nothing about another consumer's."""

    consumer: int
    host: str


class HostBusy(Exception):
    """A host has as many requests as it may have now, whoever would send more."""


@dataclass(frozen=True)
class Lease:
    """Results of one consumer that one deliverer may send to one host, one after the other."""

    route: Route
    token: str
    results: Sequence[LtiResult]
    #: Whether the last attempt got no answer.
    is_trial: bool


def lease_time() -> timedelta:
    """One exchange, and longer than another for what may still land."""
    return timedelta(seconds=3 * conf.grade_timeout)


class LtiServiceHostQuerySet(PrimaryQuerySet["LtiServiceHost"]):
    def lease(self, route: Route) -> Lease | None:
        """Reserve due results of ``route`` within its host's limits, over all deliverers.

        Raises HostBusy.
        """
        while True:
            # Durable: a reservation that others cannot see yet is none.
            with transaction.atomic(using=self.db, durable=True):
                # The first statement writes: whoever wants the same host waits here, on every
                # database, and SQLite never has to turn a read lock into a write lock.
                if self.filter(host=route.host).update(claims=F("claims") + 1):
                    return self.get(host=route.host)._lease(route, timezone.now())
            self.bulk_create([LtiServiceHost(host=route.host)], ignore_conflicts=True)


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

    def _lease(self, route: Route, now: datetime) -> Lease | None:
        alias = router.db_for_write(type(self), instance=self)
        at_host = LtiResult.objects.using(alias).filter(service_host=self.host)
        allowance = self._allowance(now)
        if not allowance or _count_leases(at_host, now) >= conf.grade_concurrency:
            raise HostBusy
        mine = at_host.filter(lti_consumer=route.consumer)
        breaker = LtiServiceBreaker.objects.using(alias).on(route).first() or LtiServiceBreaker()
        if breaker.is_paused(now) or (breaker.is_circuit_open and _count_leases(mine, now)):
            return None
        skip = connections[alias].features.has_select_for_update_skip_locked
        due = mine.due(now).order_by("next_attempt_at", "pk")
        # A result whose new score is not committed yet is somebody's locked row.
        size = min(allowance, 1 if breaker.failures else BATCH)
        chosen = list(due.select_for_update(skip_locked=skip).values_list("pk", flat=True)[:size])
        token = secrets.token_hex(LEASE_LENGTH // 2)
        leased = at_host.lease(chosen, token, now + lease_time()) if chosen else []
        if not leased:
            return None
        self.next_request_at = self._earliest(now) + len(leased) * spacing()
        self.save(update_fields=["next_request_at"])
        return Lease(route, token, leased, is_trial=breaker.failures > 0)

    def _earliest(self, now: datetime) -> datetime:
        return later(self.next_request_at, now - max(BURST, spacing()))

    def _allowance(self, now: datetime) -> int:
        saved = (now - self._earliest(now)) / spacing()
        # The rounding of timedeltas must not cost a whole request.
        return int(saved + 0.001)


class LtiServiceBreakerQuerySet(PrimaryQuerySet["LtiServiceBreaker"]):
    def on(self, route: Route) -> Self:
        """The one of a route, if anything ever failed there."""
        return self.filter(lti_consumer=route.consumer, host=route.host)

    def answered(self, route: Route) -> None:
        """Close the breaker."""
        self.on(route).filter(failures__gt=0).update(
            failures=0, failing_since=None, paused_until=None
        )

    def failed(self, route: Route, attempt: Attempt) -> None:
        """Count an attempt without an answer; many in a row pause the route."""
        now = timezone.now()
        named = LtiServiceBreaker(lti_consumer_id=route.consumer, host=route.host)
        self.bulk_create([named], ignore_conflicts=True)
        with transaction.atomic(using=self.db):
            self.on(route).update(
                failures=F("failures") + 1, last_code=attempt.code, last_text=attempt.text
            )
            breaker = self.on(route).get()
            breaker.failing_since = breaker.failing_since or now
            breaker.paused_until = later(
                breaker.paused_until, now + pause_after(attempt, breaker.failures)
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
    last_text = models.CharField(max_length=SAID_LENGTH, blank=True, editable=False)

    objects = LtiServiceBreakerQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("grade host")
        verbose_name_plural = _("grade hosts")
        ordering = ("host", "pk")
        constraints = (
            models.UniqueConstraint(fields=("lti_consumer", "host"), name="lti_breaker_of_route"),
        )

    def __str__(self) -> str:
        return self.host

    @property
    def reason(self) -> str:
        """Why attempts failed, in words; empty while they do not."""
        return describe(self.last_code, self.last_text) if self.failures else ""

    @property
    def is_circuit_open(self) -> bool:
        """Whether the breaker lets only a trial through."""
        return self.failures >= FAILURES

    def is_paused(self, now: datetime) -> bool:
        """Whether nothing is sent at all."""
        return self.paused_until is not None and self.paused_until > now


def _count_leases(results: LtiResultQuerySet, now: datetime) -> int:
    running = results.filter(state=LtiResult.State.SENDING, next_attempt_at__gt=now)
    return running.values("lease_token").distinct().count()


def spacing() -> timedelta:
    """The time between two requests at the rate that one host gets."""
    return timedelta(seconds=1 / conf.grade_rate)


def later(one: datetime | None, other: datetime) -> datetime:
    """The later of two times, the first of which may be missing."""
    return max(one, other) if one else other


def pause_after(attempt: Attempt, failures: int) -> timedelta:
    """What the LMS asked for, else nothing until the breaker opens, then up to 15 minutes."""
    if attempt.retry_after is not None:
        return timedelta(seconds=min(attempt.retry_after, LONGEST_DELAY.total_seconds()))
    if attempt.code == "throttled":
        return SHORTEST_PAUSE
    if failures < FAILURES:
        return timedelta(0)
    doubled: timedelta = SHORTEST_PAUSE * 2 ** min(failures - FAILURES, 20)
    return min(doubled, LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311

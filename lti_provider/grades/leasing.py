"""Reserve due grades for one deliverer, within the limits of their host."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone

from lti_provider.conf import conf
from lti_provider.grades.delays import get_later, get_lease_duration
from lti_provider.models import Destination, LtiResult, LtiServiceBreaker, LtiServiceHost
from lti_provider.models.result import LEASE_LENGTH, LtiResultQuerySet

BATCH_SIZE = 10
#: An idle host may get what its rate allows in this time at once.
BURST = timedelta(seconds=1)


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


def lease_due(destination: Destination) -> Lease | None:
    """Reserve due results within the host's limits, which hold for all deliverers together.

    None if there are none, or the breaker lets none through. Raises HostBusy.
    """
    hosts = LtiServiceHost.objects.all()
    while True:
        # Durable: a reservation that others cannot see yet is none.
        with transaction.atomic(using=hosts.db, durable=True):
            # The first statement writes: whoever wants the same host waits here, on every
            # database, and SQLite never has to turn a read lock into a write lock.
            if hosts.filter(host=destination.host).update(claims=F("claims") + 1):
                host = hosts.get(host=destination.host)
                return _lease_at(host, destination, hosts.db, timezone.now())
        hosts.bulk_create([LtiServiceHost(host=destination.host)], ignore_conflicts=True)


def _lease_at(
    host: LtiServiceHost, destination: Destination, alias: str, now: datetime
) -> Lease | None:
    at_host = LtiResult.objects.using(alias).filter(service_host=host.host)
    allowance = _get_allowance(host, now)
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
    host.next_request_at = _get_earliest_request(host, now) + len(leased) * _get_request_interval()
    host.save(update_fields=["next_request_at"])
    return Lease(destination, token, leased, is_trial=breaker.failures > 0)


def _count_leases(results: LtiResultQuerySet, now: datetime) -> int:
    running = results.filter(state=LtiResult.State.SENDING, next_attempt_at__gt=now)
    return running.values("lease_token").distinct().count()


def _get_allowance(host: LtiServiceHost, now: datetime) -> int:
    saved = (now - _get_earliest_request(host, now)) / _get_request_interval()
    # The rounding of timedeltas must not cost a whole request.
    return int(saved + 0.001)


def _get_earliest_request(host: LtiServiceHost, now: datetime) -> datetime:
    return get_later(host.next_request_at, now - max(BURST, _get_request_interval()))


def _get_request_interval() -> timedelta:
    # The time between two requests to a host at LTI_PROVIDER_GRADE_RATE.
    return timedelta(seconds=1 / conf.grade_rate)

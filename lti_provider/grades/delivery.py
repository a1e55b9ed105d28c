"""The deliverer: leases due grades, sends them and records each attempt."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from django.db import Error, close_old_connections
from django.db.models import Min
from django.utils import timezone

from lti_provider.conf import conf
from lti_provider.grades.leasing import HostBusy, Lease, lease_due
from lti_provider.grades.recording import record_attempt, record_failure
from lti_provider.models import Attempt, Destination, LtiResult, LtiServiceBreaker, Verdict
from lti_provider.protocols import get_sender
from lti_provider.signals import score_delivered, score_failed

logger = logging.getLogger("lti_provider")

WORKERS = 16
#: How often a deliverer with work looks for more of it.
_BUSY_INTERVAL = 0.25


@dataclass
class DeliveryReport:
    """How many attempts of a run delivered a score, and how the others ended."""

    delivered: int = 0
    retried: int = 0
    failed: int = 0
    superseded: int = 0
    released: int = 0
    seconds: float = 0

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, to report."""
        return asdict(self)


@dataclass
class _RunningLease:
    """A lease whose results a worker is sending."""

    lease: Lease
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _WorkerMessage:
    """From a worker to the deliverer's thread: an attempt, or without one the end of a lease."""

    running: _RunningLease
    result: LtiResult | None = None
    attempt: Attempt | None = None


class Deliverer:
    """Sends due grades, to several hosts at a time, to each within its limits.

    Any number of deliverers may run at once. Only the thread that calls ``run`` uses the database,
    and never inside a transaction while something is sent.
    """

    def __init__(self, *, workers: int = WORKERS) -> None:
        self.report = DeliveryReport()
        self._workers = workers
        self._messages: SimpleQueue[_WorkerMessage | None] = SimpleQueue()
        self._stopping = Event()
        self._running: list[_RunningLease] = []
        #: Destinations with due grades, and those of them that are not known to be at a limit.
        self._due: list[Destination] = []
        self._ready: list[Destination] = []
        #: When each due destination was last leased, on the monotonic clock.
        self._turns: dict[Destination, float] = {}
        self._next_refresh = 0.0
        self._is_database_lost = False

    def stop(self) -> None:
        """End after the requests that are on their way; may be called by a signal handler."""
        self._stopping.set()
        self._messages.put(None)

    def run(
        self,
        *,
        forever: bool = False,
        interval: float = 2.0,
        progress: Callable[[DeliveryReport], None] = lambda report: None,
    ) -> DeliveryReport:
        """Deliver what is due: all of it, or on and on until ``stop``.

        ``interval`` is how many seconds an idle deliverer waits before it looks again. What is
        paused is left for later. A database error ends it, unless it runs ``forever``.
        """
        started = time.monotonic()
        with ThreadPoolExecutor(self._workers, "lti-deliver") as pool:
            while True:
                if not self._stopping.is_set():
                    with self._survive_database_errors(forever=forever, idle=interval):
                        self._refresh_due(idle=interval, forever=forever)
                        self._start_leases(pool)
                if not self._running and (self._stopping.is_set() or not (forever or self._due)):
                    break
                with self._survive_database_errors(forever=forever, idle=interval):
                    self._handle_messages(max(self._next_refresh - time.monotonic(), 0))
                self.report.seconds = round(time.monotonic() - started, 3)
                progress(self.report)
        return self.report

    @contextmanager
    def _survive_database_errors(self, *, forever: bool, idle: float) -> Iterator[None]:
        # What could not be written is sent again as soon as its lease ends.
        try:
            yield
        except Error as error:
            if not forever:
                raise
            if not self._is_database_lost:
                name = type(error).__name__
                logger.error(
                    "deliverer_lost_database error=%s",
                    name,
                    extra={"event": "deliverer_lost_database", "error": name},
                )
            self._is_database_lost = True
            self._ready = []
            self._next_refresh = time.monotonic() + idle
            close_old_connections()

    def _refresh_due(self, *, idle: float, forever: bool) -> None:
        if time.monotonic() < self._next_refresh:
            return
        if forever and not self._running:
            close_old_connections()
        LtiResult.objects.recover_expired_leases()
        self._due = self._ready = self._find_due()
        self._turns = {destination: self._turns.get(destination, 0) for destination in self._due}
        if self._is_database_lost:
            self._is_database_lost = False
            logger.info("deliverer_found_database", extra={"event": "deliverer_found_database"})
        busy = self._running or self._due
        self._next_refresh = time.monotonic() + (_BUSY_INTERVAL if busy else idle)

    def _find_due(self) -> list[Destination]:
        now = timezone.now()
        due = LtiResult.objects.due(now).values_list("lti_consumer", "service_host")
        waiting = due.annotate(since=Min("next_attempt_at")).order_by("since")
        destinations = [Destination(consumer, host) for consumer, host, _since in waiting]
        paused = LtiServiceBreaker.objects.filter(
            lti_consumer__in={destination.consumer for destination in destinations},
            paused_until__gt=now,
        )
        later = set(paused.values_list("lti_consumer", "host")) if destinations else set()
        return [destination for destination in destinations if destination not in later]

    def _start_leases(self, pool: ThreadPoolExecutor) -> None:
        # In turn, the consumers with the fewest leases first, and no second lease for any while
        # more than half of the workers are busy: neither a slow host nor a consumer with much to
        # send must delay another consumer's grades.
        for destination in sorted(self._ready, key=self._get_priority):
            while destination in self._ready and len(self._running) < self._get_limit(destination):
                lease = self._try_lease(destination)
                if lease is not None:
                    running = _RunningLease(lease)
                    self._running.append(running)
                    pool.submit(self._run_lease, running)

    def _try_lease(self, destination: Destination) -> Lease | None:
        try:
            lease = lease_due(destination)
        except HostBusy:
            self._ready = [other for other in self._ready if other.host != destination.host]
            return None
        if lease is None:
            self._ready = [other for other in self._ready if other != destination]
        else:
            self._turns[destination] = time.monotonic()
        return lease

    def _get_priority(self, destination: Destination) -> tuple[int, float]:
        return self._count_running(destination.consumer), self._turns.get(destination, 0)

    def _count_running(self, consumer: int) -> int:
        return sum(running.lease.destination.consumer == consumer for running in self._running)

    def _get_limit(self, destination: Destination) -> int:
        return self._workers // 2 if self._count_running(destination.consumer) else self._workers

    def _run_lease(self, running: _RunningLease) -> None:
        try:
            self._send_results(running)
        finally:
            self._messages.put(_WorkerMessage(running))

    def _send_results(self, running: _RunningLease) -> None:
        for result in running.lease.results:
            # The last request ends one timeout before the lease does.
            if self._stopping.is_set() or time.monotonic() > running.started + conf.grade_timeout:
                break
            attempt = _send_score(result)
            self._messages.put(_WorkerMessage(running, result, attempt))
            if attempt.host_answered is False or attempt.retry_after is not None:
                break

    def _handle_messages(self, timeout: float) -> None:
        try:
            message = self._messages.get(timeout=timeout)
            while True:
                if message is not None:
                    self._handle_message(message)
                message = self._messages.get_nowait()
        except Empty:
            return

    def _handle_message(self, message: _WorkerMessage) -> None:
        if message.result is None or message.attempt is None:
            self._end_lease(message.running)
            return
        if message.attempt.is_unsupported:
            message.result.lti_consumer.record_unsupported(message.result.operation)
        self._record_attempt(message.result, message.attempt)
        self._update_breaker(message.running.lease, message.attempt)

    def _end_lease(self, running: _RunningLease) -> None:
        self._running.remove(running)
        # Whoever waits for the same host may have a turn now.
        host = running.lease.destination.host
        self._ready = [other for other in self._due if other.host == host] + [
            other for other in self._ready if other.host != host
        ]
        if not self._running:
            self._next_refresh = 0
        self.report.released += LtiResult.objects.release_lease(running.lease.token)

    def _update_breaker(self, lease: Lease, attempt: Attempt) -> None:
        if attempt.host_answered is False or attempt.retry_after or attempt.code == "throttled":
            record_failure(lease.destination, attempt)
            if attempt.host_answered is False:
                self._fail_unreachable(lease.destination)
        elif attempt.host_answered and lease.is_trial:
            LtiServiceBreaker.objects.record_answer(lease.destination)

    def _record_attempt(self, result: LtiResult, attempt: Attempt) -> None:
        state = record_attempt(result, attempt)
        fields = _get_log_fields(result)
        if attempt.verdict is Verdict.DELIVERED and state is not None:
            self.report.delivered += 1
            logger.info(
                "score_delivered consumer=%(consumer)s result=%(result)s code=%(code)s",
                fields,
                extra={"event": "score_delivered", **fields},
            )
            score_delivered.send_robust(sender=LtiResult, result=result)
        elif state is None:
            self.report.superseded += 1
        elif state == LtiResult.State.WAITING:
            self.report.retried += 1
            logger.info(
                "score_delayed consumer=%(consumer)s result=%(result)s code=%(code)s",
                fields,
                extra={"event": "score_delayed", **fields},
            )
        else:
            self._report_failure(result)

    def _fail_unreachable(self, destination: Destination) -> None:
        limit = timezone.now() - timedelta(days=conf.grade_retry_days)
        breaker = LtiServiceBreaker.objects.for_destination(destination)
        if breaker.filter(failing_since__lt=limit).exists():
            for result in LtiResult.objects.fail_unreachable(*destination, before=limit):
                self._report_failure(result)

    def _report_failure(self, result: LtiResult) -> None:
        self.report.failed += 1
        fields = _get_log_fields(result)
        logger.warning(
            "score_failed consumer=%(consumer)s result=%(result)s code=%(code)s",
            fields,
            extra={"event": "score_failed", **fields},
        )
        score_failed.send_robust(sender=LtiResult, result=result)


def _send_score(result: LtiResult) -> Attempt:
    sender = get_sender(result)
    if sender is None:
        return Attempt(verdict=Verdict.FINAL, code="no_service", host_answered=None)
    return sender.send_score(result)


def _get_log_fields(result: LtiResult) -> dict[str, Any]:
    return {
        "consumer": result.lti_consumer_id,
        "result": result.pk,
        "code": result.last_code,
    }


def deliver_due(*, workers: int = WORKERS) -> DeliveryReport:
    """Deliver what is due now, once: for cron, Celery and ``django.tasks``.

    Raises RuntimeError inside a transaction.
    """
    return Deliverer(workers=workers).run()

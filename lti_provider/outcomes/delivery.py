"""The engine: reserves due grades, sends them, and writes what came of each."""

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
from lti_provider.models import (
    Attempt,
    Lease,
    LtiResult,
    LtiServiceBreaker,
    LtiServiceHost,
    Route,
    Verdict,
)
from lti_provider.models.service_host import HostBusy
from lti_provider.outcomes.sending import send
from lti_provider.signals import score_delivered, score_failed

logger = logging.getLogger("lti_provider")

WORKERS = 16
#: How often a deliverer with work looks for more of it.
_BUSY_INTERVAL = 0.25


@dataclass
class DeliveryReport:
    """What a run did: attempts by what came of them."""

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
class _Errand:
    """A lease in the hands of one worker."""

    lease: Lease
    started: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class _News:
    """From a worker: what came of a result, or, without one, that it is done."""

    errand: _Errand
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
        self._news: SimpleQueue[_News | None] = SimpleQueue()
        self._stopping = Event()
        self._running: list[_Errand] = []
        #: With due grades, and of these, not known to be at a limit.
        self._due: list[Route] = []
        self._ready: list[Route] = []
        #: When each that is due had its last turn.
        self._turns: dict[Route, float] = {}
        self._look_again = 0.0
        self._is_database_lost = False

    def stop(self) -> None:
        """End after the requests that are on their way; may be called by a signal handler."""
        self._stopping.set()
        self._news.put(None)

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
                    with self._outlasting(forever=forever, idle=interval):
                        self._look(idle=interval, forever=forever)
                        self._start(pool)
                if not self._running and (self._stopping.is_set() or not (forever or self._due)):
                    break
                with self._outlasting(forever=forever, idle=interval):
                    self._listen(max(self._look_again - time.monotonic(), 0))
                self.report.seconds = round(time.monotonic() - started, 3)
                progress(self.report)
        return self.report

    @contextmanager
    def _outlasting(self, *, forever: bool, idle: float) -> Iterator[None]:
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
            self._look_again = time.monotonic() + idle
            close_old_connections()

    def _look(self, *, idle: float, forever: bool) -> None:
        if time.monotonic() < self._look_again:
            return
        if forever and not self._running:
            close_old_connections()
        self._due = self._ready = self._routes_due()
        self._turns = {route: self._turns.get(route, 0) for route in self._due}
        if self._is_database_lost:
            self._is_database_lost = False
            logger.info("deliverer_found_database", extra={"event": "deliverer_found_database"})
        busy = self._running or self._due
        self._look_again = time.monotonic() + (_BUSY_INTERVAL if busy else idle)

    def _routes_due(self) -> list[Route]:
        now = timezone.now()
        LtiResult.objects.recover()
        due = LtiResult.objects.due(now).values_list("lti_consumer", "service_host")
        waiting = due.annotate(since=Min("next_attempt_at")).order_by("since")
        routes = [Route(consumer, host) for consumer, host, _since in waiting]
        paused = LtiServiceBreaker.objects.filter(
            lti_consumer__in={route.consumer for route in routes}, paused_until__gt=now
        )
        later = set(paused.values_list("lti_consumer", "host")) if routes else set()
        return [route for route in routes if route not in later]

    def _start(self, pool: ThreadPoolExecutor) -> None:
        # In turn, the consumers with the fewest errands first, and no second errand for any while
        # more than half of the workers are busy: neither a slow host nor a consumer with much to
        # send must delay another consumer's grades.
        for route in sorted(self._ready, key=self._priority):
            while route in self._ready and len(self._running) < self._limit_for(route):
                lease = self._lease(route)
                if lease is not None:
                    errand = _Errand(lease)
                    self._running.append(errand)
                    pool.submit(self._work, errand)

    def _lease(self, route: Route) -> Lease | None:
        try:
            lease = LtiServiceHost.objects.lease(route)
        except HostBusy:
            self._ready = [other for other in self._ready if other.host != route.host]
            return None
        if lease is None:
            self._ready = [other for other in self._ready if other != route]
        else:
            self._turns[route] = time.monotonic()
        return lease

    def _priority(self, route: Route) -> tuple[int, float]:
        return self._errands_of(route.consumer), self._turns.get(route, 0)

    def _errands_of(self, consumer: int) -> int:
        return sum(errand.lease.route.consumer == consumer for errand in self._running)

    def _limit_for(self, route: Route) -> int:
        return self._workers // 2 if self._errands_of(route.consumer) else self._workers

    def _work(self, errand: _Errand) -> None:
        try:
            self._send_all(errand)
        finally:
            self._news.put(_News(errand))

    def _send_all(self, errand: _Errand) -> None:
        for result in errand.lease.results:
            # The last request ends one timeout before the lease does.
            if self._stopping.is_set() or time.monotonic() > errand.started + conf.grade_timeout:
                break
            attempt = send(result)
            self._news.put(_News(errand, result, attempt))
            if attempt.host_answers is False or attempt.retry_after is not None:
                break

    def _listen(self, patience: float) -> None:
        try:
            news = self._news.get(timeout=patience)
            while True:
                if news is not None:
                    self._write(news)
                news = self._news.get_nowait()
        except Empty:
            return

    def _write(self, news: _News) -> None:
        route = news.errand.lease.route
        if news.result is None or news.attempt is None:
            self._running.remove(news.errand)
            # Whoever waits for the same host may have a turn now.
            self._ready = [other for other in self._due if other.host == route.host] + [
                other for other in self._ready if other.host != route.host
            ]
            if not self._running:
                self._look_again = 0
            self.report.released += LtiResult.objects.release(news.errand.lease.token)
            return
        if news.attempt.remember_unsupported:
            news.result.lti_consumer.remember_unsupported(news.result.operation)
        self._record(news.result, news.attempt)
        self._note_host(news.errand.lease, news.attempt)

    def _note_host(self, lease: Lease, attempt: Attempt) -> None:
        if attempt.host_answers is False or attempt.retry_after or attempt.code == "throttled":
            LtiServiceBreaker.objects.failed(lease.route, attempt)
            if attempt.host_answers is False:
                self._expire(lease.route)
        elif attempt.host_answers and lease.is_trial:
            LtiServiceBreaker.objects.answered(lease.route)

    def _record(self, result: LtiResult, attempt: Attempt) -> None:
        state = LtiResult.objects.record(result, attempt)
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
            self._fail(result)

    def _expire(self, route: Route) -> None:
        limit = timezone.now() - timedelta(days=conf.grade_retry_days)
        if LtiServiceBreaker.objects.on(route).filter(failing_since__lt=limit).exists():
            for result in LtiResult.objects.expire(route.consumer, route.host, limit):
                self._fail(result)

    def _fail(self, result: LtiResult) -> None:
        self.report.failed += 1
        fields = _get_log_fields(result)
        logger.warning(
            "score_failed consumer=%(consumer)s result=%(result)s code=%(code)s",
            fields,
            extra={"event": "score_failed", **fields},
        )
        score_failed.send_robust(sender=LtiResult, result=result)


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

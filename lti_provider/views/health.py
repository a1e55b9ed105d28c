"""HealthView: whether the site can take launches, for monitoring."""

from __future__ import annotations

import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Thread

from django.contrib.auth.decorators import login_not_required
from django.db import Error, connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache

from lti_provider.models import LtiConsumer
from lti_provider.views.decorated import DecoratedView, non_atomic_requests

# Leaves an answer within two seconds some time for the rest of the site.
_PATIENCE = 1.5
_PROBES = BoundedSemaphore(4)


class HealthView(DecoratedView):
    """Whether launches have a database: one read, no session, nothing but ok or fail.

    ``{"status": "ok"}`` with 200, ``{"status": "fail"}`` with 503, within two seconds.
    """

    decorators = (login_not_required, never_cache, non_atomic_requests)
    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponse:
        """Read one row of the table that a launch reads first."""
        if _is_database_answering():
            return JsonResponse({"status": "ok"})
        return JsonResponse({"status": "fail"}, status=503)


def _is_database_answering() -> bool:
    # A database's own timeouts differ by product, are the site's to set, and few hold while
    # connecting or when a network swallows what is sent. So a thread asks, over a connection of
    # its own; those that hang are a few at most, and no other starts until one of them ends.
    ends = time.monotonic() + _PATIENCE
    if not _PROBES.acquire(timeout=_PATIENCE):
        return False
    answers: SimpleQueue[bool] = SimpleQueue()
    Thread(target=_probe_database, args=(answers,), daemon=True, name="lti-health").start()
    try:
        return answers.get(timeout=max(ends - time.monotonic(), 0))
    except Empty:
        return False


def _probe_database(answers: SimpleQueue[bool]) -> None:
    answered = False
    try:
        with suppress(Error):
            LtiConsumer.objects.exists()
            answered = True
    finally:
        connections.close_all()
        _PROBES.release()
        answers.put(answered)

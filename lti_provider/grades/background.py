"""An attempt right after the commit, in a thread of the process that submitted the score.

For small sites without a deliverer of their own. It ends with its process, and what it could not
deliver at once waits for ``lti_deliver`` or for the next score.
"""

from __future__ import annotations

import logging
from threading import Lock, Thread
from typing import Any

from django.db import connections

from lti_provider.conf import conf
from lti_provider.grades.delivery import deliver_due

logger = logging.getLogger("lti_provider")

_WORKERS = 4


class Background:
    """Delivers in at most one thread, which runs once more for scores that came meanwhile."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._is_requested = False
        self._thread: Thread | None = None

    def on_score_submitted(self, **_signal: Any) -> None:
        """Receiver of ``score_submitted``; does nothing unless the site switched it on."""
        if not conf.grade_background:
            return
        with self._lock:
            self._is_requested = True
            if self._thread is None:
                self._thread = Thread(target=self._run, daemon=True, name="lti-background")
                self._thread.start()

    def wait(self) -> None:
        """Wait until the thread has ended, for tests."""
        while (thread := self._thread) is not None:
            thread.join()

    def _run(self) -> None:
        try:
            while self._take_request():
                deliver_due(workers=_WORKERS)
        except Exception:
            logger.exception(
                "score_background_delivery_failed",
                extra={"event": "score_background_delivery_failed"},
            )
            with self._lock:
                self._thread = None
        finally:
            connections.close_all()

    def _take_request(self) -> bool:
        with self._lock:
            is_requested, self._is_requested = self._is_requested, False
            if not is_requested:
                self._thread = None
            return is_requested


background = Background()

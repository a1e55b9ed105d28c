"""Deliver grades."""

from __future__ import annotations

import json
import signal
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error

from lti_provider.grades import Deliverer, DeliveryReport
from lti_provider.grades.delivery import WORKERS
from lti_provider.models import LtiResult


class Command(BaseCommand):
    """Any number of these may run at once; SIGTERM ends one after the requests on their way."""

    help = "Sends submitted grades to the LMSs' gradebooks."

    def add_arguments(self, parser: ArgumentParser) -> None:
        mode = parser.add_mutually_exclusive_group()
        mode.add_argument("--once", action="store_true", help="send what is due and end (default)")
        mode.add_argument("--loop", action="store_true", help="go on until SIGTERM or Ctrl-C")
        parser.add_argument(
            "--interval",
            type=float,
            default=2.0,
            help="seconds between two looks while nothing is due, with --loop (default 2)",
        )
        parser.add_argument(
            "--workers",
            type=int,
            default=WORKERS,
            help=f"requests at a time, to all hosts together (default {WORKERS})",
        )

    def handle(
        self,
        *args: Any,
        loop: bool = False,
        interval: float = 2.0,
        workers: int = WORKERS,
        **options: Any,
    ) -> None:
        deliverer = Deliverer(workers=workers)
        numbers = (signal.SIGTERM, signal.SIGINT)
        before = [signal.signal(number, lambda *_: deliverer.stop()) for number in numbers]
        try:
            deliverer.run(forever=loop, interval=interval, progress=self._show_progress)
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
        self._write_report(deliverer.report)

    def _show_progress(self, report: DeliveryReport) -> None:
        if self.stdout.isatty():
            self.stdout.write(f"\r\x1b[K{_format_report(report)}", ending="")
            self.stdout.flush()

    def _write_report(self, report: DeliveryReport) -> None:
        waiting = _count_waiting()
        if self.stdout.isatty():
            shown = "unknown" if waiting is None else waiting
            self.stdout.write(f"\r\x1b[K{_format_report(report)}; {shown} waiting")
            return
        line = {"event": "lti_deliver", **report.as_dict(), "waiting": waiting}
        self.stdout.write(json.dumps(line))


def _count_waiting() -> int | None:
    # None while there is no database.
    with suppress(Error):
        return LtiResult.objects.pending().count()
    return None


def _format_report(report: DeliveryReport) -> str:
    return f"{report.delivered} delivered, {report.retried} to be retried, {report.failed} failed"

"""Say what would stop launches or grades of this deployment."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from ssl import CERT_NONE, SSLContext, create_default_context
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError

from lti_provider.doctor import (
    Finding,
    FrontDoor,
    end_sessions,
    examine_deployment,
    examine_door,
    temporary_consumer,
    temporary_platform,
)
from lti_provider.management.consumer import find_consumer
from lti_provider.status import Level

_EXIT_STATUS = {Level.OK: 0, Level.NOTE: 0, Level.WARNING: 1, Level.ERROR: 2}


class Command(BaseCommand):
    """Exit status: 0 nothing to do, 1 warnings, 2 errors, 3 there is no such consumer."""

    help = (
        "Says what would stop launches or grades of this deployment: settings, database, clocks, "
        "consumers, and with --url what proxies in front of the site do to a launch. "
        "Exit status: 0 nothing to do, 1 warnings, 2 errors, 3 no such consumer."
    )
    # They are among what is examined, and a broken one must not keep the doctor away.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--url", help="launch through the front door: https://your.site/")
        parser.add_argument(
            "--consumer",
            help="launch as the LTI consumer with this key, number or name; without it, as one "
            "that is removed afterwards",
        )
        parser.add_argument("--target", metavar="PATH", help="launch this page")
        parser.add_argument("--ca-file", metavar="FILE", help="certificates to trust, in PEM")
        parser.add_argument("--insecure", action="store_true", help="trust any certificate")
        parser.add_argument("--timeout", type=float, default=10.0, help="seconds for an answer")
        parser.add_argument("--json", action="store_true", help="for monitoring")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = []
        for finding in self._examine(options):
            findings.append(finding)
            if not options["json"]:
                self._write_finding(finding)
        status = max((_EXIT_STATUS[finding.level] for finding in findings), default=0)
        if options["json"]:
            report = {"status": status, "findings": [asdict(finding) for finding in findings]}
            self.stdout.write(json.dumps(report, indent=2, ensure_ascii=False))
        if status:
            sys.exit(status)

    def _examine(self, options: dict[str, Any]) -> Iterator[Finding]:
        names = set()
        for finding in examine_deployment():
            names.add(finding.name)
            yield finding
        # Without tables there is nobody to launch as.
        if options["url"] and names.isdisjoint({"no_database", "no_tables"}):
            yield from self._examine_front_door(options)

    def _examine_front_door(self, options: dict[str, Any]) -> Iterator[Finding]:
        if urlsplit(options["url"]).scheme not in ("http", "https"):
            raise CommandError("--url takes an address such as https://your.site/.")
        with ExitStack() as stack:
            stack.enter_context(_exit_on_sigterm())
            named = options["consumer"]
            known = None if named is None else find_consumer(named)
            consumer = known or stack.enter_context(temporary_consumer())
            # A consumer in use is launched as its LMS launches it.
            by_lti13 = known is None or known.issuer or not known.speaks_lti11
            platform = stack.enter_context(temporary_platform(consumer)) if by_lti13 else None
            target = options["target"]
            door = FrontDoor(
                url=options["url"],
                consumer=consumer,
                tls=_build_tls_context(options),
                target=consumer.get_first_target() if target is None else target,
                timeout=options["timeout"],
                platform=platform,
            )
            sessions: list[str] = []
            stack.callback(end_sessions, sessions)
            if options["insecure"]:
                text = "The certificate was not looked at (--insecure)."
                yield Finding(name="insecure", level=Level.NOTE, text=text)
            yield from examine_door(door, sessions)

    def _write_finding(self, finding: Finding) -> None:
        style = {Level.ERROR: self.style.ERROR, Level.WARNING: self.style.WARNING}
        text = f"{finding.level}: {finding.name}: {finding.text}"
        self.stdout.write(style.get(finding.level, self.style.SUCCESS)(text))
        if finding.hint:
            self.stdout.write(f"  {finding.hint}")


def _build_tls_context(options: dict[str, Any]) -> SSLContext:
    if options["ca_file"] and not Path(options["ca_file"]).is_file():
        raise CommandError(f"There is no file {options['ca_file']}.")
    context = create_default_context(cafile=options["ca_file"])
    if options["insecure"]:
        context.check_hostname = False
        context.verify_mode = CERT_NONE
    return context


@contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    # Service managers send it; the temporary consumer is removed then, as after Ctrl-C.
    before = signal.signal(signal.SIGTERM, lambda *_signal: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

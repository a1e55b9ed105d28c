"""Delete what is past its retention."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from lti_provider.conf import conf
from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiKey,
    LtiLaunch,
    LtiResult,
    LtiUnknownSender,
    LtiUser,
)
from lti_provider.trial_cleanup import remove_trials

_BATCH = 1000


class Command(BaseCommand):
    """In short batches, so that launches go on meanwhile; several may run at once."""

    help = (
        "Deletes launches older than LTI_PROVIDER_LAUNCH_RETENTION_DAYS, except nonces that still "
        "refuse a replay, unknown senders and waiting deployments not seen since, this site's own "
        "keys that were in its key set last before then, accounts of guests and test users that "
        "nobody signed in to for LTI_PROVIDER_GUEST_RETENTION_DAYS, and what trial launches made. "
        "Run it every day, such as by cron: "
        "17 3 * * * cd /srv/site && .venv/bin/python manage.py lti_purge"
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, help="keep this many days instead of the setting's")
        parser.add_argument(
            "--guest-days", type=int, help="keep guests this many days instead of the setting's"
        )

    def handle(
        self,
        *args: Any,
        days: int | None = None,
        guest_days: int | None = None,
        **options: Any,
    ) -> None:
        before = _subtract_days(conf.launch_retention_days if days is None else days)
        waiting = self._run_in_batches("waiting launches", None, LtiLaunch.objects.forget_people)
        launches = self._run_in_batches(
            "launches",
            LtiLaunch.objects.past(before).count,
            lambda: LtiLaunch.objects.purge(before),
        )
        guests = self._purge_guests(
            _subtract_days(conf.guest_retention_days if guest_days is None else guest_days)
        )
        trials = self._remove_trials()
        ended = LtiConsumer.objects.forget_secrets(before)
        grades = LtiResult.objects.purge_anonymized()
        senders = LtiUnknownSender.objects.purge(before)
        deployments = LtiDeployment.objects.purge(before)
        keys = LtiKey.objects.purge(before)
        self.stdout.write(
            f"Deleted {launches} launches received before {before:%Y-%m-%d %H:%M}, {guests} guest "
            f"accounts, {trials} people of trial launches, {ended} previous secrets, {keys} keys "
            f"of this site, {senders} unknown senders, {deployments} waiting deployments and "
            f"{grades} grades of erased people; emptied {waiting} launches never entered."
        )

    def _run_in_batches(
        self, what: str, count: Callable[[], int] | None, delete: Callable[[], int]
    ) -> int:
        total = count() if count is not None and self.stdout.isatty() else 0
        done = 0
        while batch := delete():
            done += batch
            self._show_progress(what, done, total)
        return done

    def _purge_guests(self, before: datetime) -> int:
        guests = LtiUser.objects.guests(before).order_by("pk")
        total = guests.count() if self.stdout.isatty() else 0
        last, seen, deleted = 0, 0, 0
        while pks := list(guests.filter(pk__gt=last).values_list("pk", flat=True)[:_BATCH]):
            for pk in pks:
                deleted += LtiUser.objects.purge_guest(pk, before)
                seen += 1
                self._show_progress("guests", seen, total)
            last = pks[-1]
        return deleted

    def _remove_trials(self) -> int:
        # As long as their sessions may last, somebody may still look.
        before = timezone.now() - timedelta(hours=conf.session_hours)
        consumers = LtiConsumer.objects.order_by("pk")
        return sum(remove_trials(consumer, before) for consumer in consumers.iterator())

    def _show_progress(self, what: str, done: int, total: int) -> None:
        if not self.stdout.isatty():
            return
        share = f" of {max(done, total)}" if total else ""
        self.stdout.write(f"\r\033[K{what}: {done}{share}", ending="\r")
        self.stdout.flush()


def _subtract_days(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)

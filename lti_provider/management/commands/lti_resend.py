"""Send grades again."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from lti_provider.management.consumer import find_consumer
from lti_provider.models import LtiResult
from lti_provider.models.result import LtiResultQuerySet
from lti_provider.models.score import format_number

_ANY = "any"


class Command(BaseCommand):
    """Makes the grades due again; ``lti_deliver`` sends them."""

    help = "Sends grades again, from the first attempt on; without --state those that failed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--consumer", help="the LTI consumer's key, number or name")
        parser.add_argument("--link", help="resource_link_id of the activity in the LMS")
        parser.add_argument("--lti-user-id", help="the person's user_id in that LMS")
        parser.add_argument("--since", type=_parse_time, help="submitted at or after this ISO time")
        parser.add_argument("--until", type=_parse_time, help="submitted before this ISO time")
        parser.add_argument(
            "--state",
            choices=[*LtiResult.State.values, _ANY],
            default=LtiResult.State.FAILED.value,
            help="only grades in this state (default failed)",
        )
        parser.add_argument("--dry-run", action="store_true", help="only list them")

    def handle(self, *args: Any, dry_run: bool = False, **options: Any) -> None:
        results = _filter_results(**options)
        if dry_run or int(options["verbosity"]) > 1:
            self._list_results(results)
        if dry_run:
            self.stdout.write(f"{results.count()} grades would be sent again.")
        else:
            self.stdout.write(f"{results.resend()} grades will be sent again.")

    def _list_results(self, results: LtiResultQuerySet) -> None:
        listed = results.select_related("lti_consumer", "lti_user", "resource_link")
        for result in listed.order_by("pk").iterator(chunk_size=500):
            self.stdout.write(
                f"{result.pk}: {result.lti_consumer} / {result.resource_link} / "
                f"{result.lti_user}: {_format_score(result)}, {result.state}. "
                f"{result.reason}".rstrip()
            )


def _format_score(result: LtiResult) -> str:
    if result.score_given is None or result.score_maximum is None:
        return "deletion"
    return f"{format_number(result.score_given)} of {format_number(result.score_maximum)}"


def _filter_results(
    *,
    consumer: str | None = None,
    link: str | None = None,
    lti_user_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    state: str = _ANY,
    **_options: Any,
) -> LtiResultQuerySet:
    results = LtiResult.objects.submitted()
    wanted: list[tuple[str, Any]] = [
        ("resource_link__resource_link_id", link),
        ("lti_user__lti_user_id", lti_user_id),
        ("submitted_at__gte", since),
        ("submitted_at__lt", until),
        ("state", None if state == _ANY else state),
    ]
    if consumer is not None:
        results = results.filter(lti_consumer=find_consumer(consumer))
    return results.filter(Q(*[pair for pair in wanted if pair[1] is not None]))


def _parse_time(text: str) -> datetime:
    try:
        day = parse_date(text)
        at = datetime(day.year, day.month, day.day) if day else parse_datetime(text)  # noqa: DTZ001
    except ValueError:
        at = None
    if at is None:
        raise ArgumentTypeError(f"{text!r} is not an ISO date or time, such as 2026-09-01T08:00.")
    return at if timezone.is_aware(at) else timezone.make_aware(at)

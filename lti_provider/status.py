"""The status of a consumer, as its set-up page and ``lti_doctor`` show it.

Each line costs a bounded number of indexed reads, however many launches are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import (
    InvalidSignature,
    LaunchRefused,
    OtherInstallation,
    SecretUnreadable,
    StaleTimestamp,
)
from lti_provider.models import LtiConsumer, LtiDeployment, LtiLaunch, LtiRegistration

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


class Level(StrEnum):
    """How serious a line, or a finding of ``lti_doctor``, is."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, kw_only=True)
class StatusLine:
    """One line of the status; ``launch`` is the log entry with the details."""

    name: str
    label: str | _StrPromise
    text: str | _StrPromise
    level: Level = Level.OK
    at: datetime | None = None
    launch: LtiLaunch | None = None


_REGISTRATIONS_READ = 20
_WAITING_COUNTED = 100


@dataclass(frozen=True)
class RecentLaunches:
    """The newest launches of a consumer and its registrations, read once for all lines."""

    consumer: LtiConsumer
    accepted: LtiLaunch | None
    refused: LtiLaunch | None
    other_installation: LtiLaunch | None
    registrations: tuple[LtiRegistration, ...]

    @classmethod
    def for_consumer(cls, consumer: LtiConsumer) -> RecentLaunches:
        """Read the last accepted launch and the last refusal of each code, trial launches aside."""
        newest = LtiLaunch.objects.newest_refusals(consumer)
        refused = [launch for launch in newest.values() if not launch.is_trial]
        return cls(
            consumer,
            LtiLaunch.objects.newest(consumer),
            max(refused, key=lambda launch: launch.pk, default=None),
            newest.get(OtherInstallation.code),
            tuple(LtiRegistration.objects.of_consumer(consumer)[:_REGISTRATIONS_READ]),
        )


#: Refusals that stop all launches of a consumer.
_STOPPING = frozenset(
    kind.code for kind in (InvalidSignature, SecretUnreadable, StaleTimestamp, OtherInstallation)
)


_NOT_SET_UP = _("It has neither an LTI 1.3 registration nor a key of LTI 1.1: nothing launches.")


def _describe_consumer(recent: RecentLaunches) -> Iterator[StatusLine]:
    label = _("Consumer")
    if not recent.consumer.is_active:
        text = _("Not active: its launches are refused.")
        yield StatusLine(name="inactive", label=label, text=text, level=Level.NOTE)
    elif not recent.consumer.speaks_lti11:
        if not recent.registrations:
            yield StatusLine(name="not_set_up", label=label, text=_NOT_SET_UP, level=Level.NOTE)
    elif recent.consumer.is_secret_unreadable:
        text = SecretUnreadable.hint
        yield StatusLine(name="secret_unreadable", label=label, text=text, level=Level.ERROR)
    elif not recent.consumer.stored_secret:
        text = _("It has no secret: its launches are refused.")
        yield StatusLine(name="no_secret", label=label, text=text, level=Level.ERROR)


def _describe_last_launch(recent: RecentLaunches) -> Iterator[StatusLine]:
    launch = recent.accepted
    if launch is None:
        text, level = _("None yet."), Level.NOTE
    elif launch.entered_at is None:
        text, level = _("Accepted, not opened."), Level.OK
    else:
        text, level = _("Opened."), Level.OK
    yield StatusLine(
        name="last_launch",
        label=_("Last launch"),
        text=text,
        level=level,
        at=None if launch is None else launch.received_at,
        launch=launch,
    )


def _describe_last_refusal(recent: RecentLaunches) -> Iterator[StatusLine]:
    launch, label = recent.refused, _("Last refusal")
    if launch is None:
        yield StatusLine(name="last_refusal", label=label, text=_("None."))
        return
    kind = LaunchRefused.by_code().get(launch.refusal_code)
    cause = launch.refusal_hint or (kind.public_text if kind else "")
    text = format_lazy("{}: {}", launch.refusal_code, cause) if cause else launch.refusal_code
    is_last = recent.accepted is None or recent.accepted.pk < launch.pk
    stops = is_last and launch.refusal_code in _STOPPING
    yield StatusLine(
        name="last_refusal",
        label=label,
        text=text,
        level=Level.WARNING if stops else Level.NOTE,
        at=launch.received_at,
        launch=launch,
    )


def _describe_clock(recent: RecentLaunches) -> Iterator[StatusLine]:
    measured = [
        launch
        for launch in (recent.accepted, recent.refused)
        if launch is not None and launch.clock_difference is not None
    ]
    if not measured:
        return
    launch = max(measured, key=lambda measured: measured.pk)
    seconds = launch.clock_difference or 0
    # Timestamps are whole seconds, and a launch is on its way for a while.
    text = (
        _("The LMS's clock is {seconds} s ahead of ours.")
        if seconds > 1
        else _("The LMS's clock is {seconds} s behind ours.")
        if seconds < -1
        else _("Both clocks agree.")
    )
    close = abs(seconds) <= recent.consumer.window / 2
    yield StatusLine(
        name="clock",
        label=_("Clock difference"),
        text=format_lazy(text, seconds=abs(seconds)),
        level=Level.OK if close else Level.WARNING,
        launch=launch,
    )


def _describe_installations(recent: RecentLaunches) -> Iterator[StatusLine]:
    known = [str(each) for each in recent.consumer.installations.all()]
    text = ", ".join(known) or _("None named yet.")
    yield StatusLine(name="installation", label=_("Installation"), text=text)
    other = recent.other_installation
    if other is None or recent.consumer.find_installation(other.message.installation.guid):
        return
    seen = other.message.installation.guid
    yield StatusLine(
        name="other_installation",
        label=_("Another installation"),
        text=format_lazy(
            _("“{seen}” was refused: accept it, or make a second consumer for it."), seen=seen
        )
        if seen
        else _("One that named none was refused: accept it, or make a second consumer for it."),
        level=Level.WARNING,
        at=other.received_at,
        launch=other,
    )


def _describe_registrations(recent: RecentLaunches) -> Iterator[StatusLine]:
    label = _("LTI 1.3")
    known = {each.pk for each in recent.registrations}
    placed = LtiDeployment.objects.filter(registration__in=known, lti_consumer=recent.consumer)
    with_deployment = set(placed.values_list("registration", flat=True).distinct())
    for each in recent.registrations:
        if not each.is_active:
            text = _("The registration of client {client} is not active.")
            yield _build_line(each, "registration_inactive", label, text, Level.NOTE)
        elif each.pk not in with_deployment:
            text = _("Client {client} has no deployment yet: enter its id, or launch once.")
            yield _build_line(each, "no_deployment", label, text, Level.NOTE)
        if each.jwks_error:
            text = _("The keys of the LMS could not be fetched from {url}. {error}")
            yield _build_line(each, "key_set", label, text, Level.WARNING, at=each.jwks_tried_at)


def _build_line(
    registration: LtiRegistration,
    name: str,
    label: _StrPromise,
    text: _StrPromise,
    level: Level,
    at: datetime | None = None,
) -> StatusLine:
    known = {
        "client": registration.client_id,
        "url": registration.jwks_uri,
        "error": registration.key_set_problem,
    }
    return StatusLine(name=name, label=label, text=format_lazy(text, **known), level=level, at=at)


def _describe_waiting(recent: RecentLaunches) -> Iterator[StatusLine]:
    known = [each.pk for each in recent.registrations]
    waiting = LtiDeployment.objects.waiting().filter(registration__in=known)
    if count := waiting.order_by()[:_WAITING_COUNTED].count():
        text = _("Waiting for an administrator: {count}.")
        yield StatusLine(
            name="waiting_deployments",
            label=_("Deployments"),
            text=format_lazy(text, count=count),
            level=Level.WARNING,
        )


#: Further lines go here.
_DESCRIBERS: tuple[Callable[[RecentLaunches], Iterator[StatusLine]], ...] = (
    _describe_consumer,
    _describe_registrations,
    _describe_waiting,
    _describe_last_launch,
    _describe_last_refusal,
    _describe_clock,
    _describe_installations,
)


def get_status_lines(recent: RecentLaunches) -> list[StatusLine]:
    """The status of a consumer, line by line."""
    return [line for describe in _DESCRIBERS for line in describe(recent)]

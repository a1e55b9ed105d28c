"""Attempt: how one attempt to deliver a grade ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

#: The LMS refused the signature; the other secret of a rotation may be the one that it has.
UNAUTHORIZED = "unauthorized"

#: Why a grade is not delivered, by code; ``{text}`` is what the LMS said.
REASONS: dict[str, str | _StrPromise] = {
    "refused": _("The LMS refused the grade: “{text}”"),
    "unsupported": _("The LMS cannot do this with a grade: “{text}”"),
    UNAUTHORIZED: _(
        "The LMS did not accept the signature: compare the shared secret and the clocks."
    ),
    "processing": _("The LMS is still working on the grade."),
    "throttled": _("The LMS asked to wait."),
    "client_error": _("The LMS answered with HTTP status {text}."),
    "server_error": _("The LMS has a problem: HTTP status {text}."),
    "redirect": _(
        "The LMS's grade service has moved (HTTP status {text}); redirects are not followed."
    ),
    "not_understood": _("The LMS's answer was not about grades (HTTP {text})."),
    "not_a_score": _("The LMS answered “{text}”, which is not a score."),
    "too_large": _("The LMS's answer was too large."),
    "timeout": _("The LMS did not answer in time."),
    "unreachable": _("The LMS could not be reached."),
    "unknown_host": _("The LMS's host name {text} could not be found."),
    "certificate": _("The LMS's certificate is not valid for {text}."),
    "address_not_public": _(
        "{text} is not at a public address: list its network on the LTI consumer if it is yours."
    ),
    "not_https": _("{text} is not an https address, nor in a network that the LTI consumer lists."),
    "host_not_known": _(
        "No launch named {text} as a host that takes grades: add it on the LTI consumer, or launch "
        "again."
    ),
    "no_service": _("The LMS named no place to send the grade to."),
    "not_sendable": _("The LMS's id of this grade has characters that cannot be sent."),
    "consumer_inactive": _("The LTI consumer is not active."),
    "no_credentials": _(
        "The LTI consumer has no key or no secret to sign with: enter both if the LMS speaks LTI "
        "1.1."
    ),
    "secret_unreadable": _(
        "The LTI consumer's secret was encrypted with a key that this site does not have."
    ),
    "interrupted": _("The attempt was interrupted."),
    "given_up": _("Somebody here gave up sending it."),
    "internal_error": _("Something went wrong on this site; its log has more."),
}


class Operation(StrEnum):
    """A request to the gradebook."""

    REPLACE = "replace"
    READ = "read"
    DELETE = "delete"


class Verdict(Enum):
    """Whether an attempt delivered the score, and else when the next one follows."""

    DELIVERED = auto()
    #: Again soon, for days.
    RETRY = auto()
    #: Again a few times, slowly: LMSs reopen assignments, administrators correct settings.
    REFUSED = auto()
    #: Never again by itself.
    FINAL = auto()


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How one attempt to deliver a score ended.

    ``code`` is a key of ``REASONS``, empty for success; ``text``, from the LMS, completes it.
    ``retry_after`` is in seconds, as the LMS asked. ``may_have_arrived`` is True if the message may
    still take effect although nobody answered. ``host_answered`` is None if nothing was sent.
    """

    verdict: Verdict
    code: str = ""
    text: str = ""
    retry_after: float | None = None
    may_have_arrived: bool = False
    host_answered: bool | None = True
    is_unsupported: bool = False


def describe_reason(code: str, text: str) -> str:
    """The reason for a code, in words."""
    # The LMS's text may have braces, which str.format would read.
    return str(REASONS.get(code, code)).replace("{text}", text)

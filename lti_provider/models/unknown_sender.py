"""LtiUnknownSender: who launched and is known to nobody, mostly because of a typing mistake."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.message import make_storable
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.primary import PrimaryQuerySet

#: How many senders are kept, of all kinds together.
ROWS = 40
TEXT_LENGTH = 64
_WRITES_A_MINUTE = 10
_ATTEMPTS = 3
_READ = ("slot", "turn", "sender_digest", "count")


class SenderKind(models.TextChoices):
    """What a launch named that nobody knows."""

    KEY = "key", _("Consumer key")
    ISSUER = "issuer", _("Issuer")
    CLIENT = "client", _("Client id")


@dataclass(frozen=True, kw_only=True)
class UnknownSender:
    """What a refused launch named: any text, of any length, verified by nobody."""

    kind: SenderKind
    text: str

    @property
    def storable_text(self) -> str:
        """The text, less what databases do not take: NUL and lone surrogates."""
        return make_storable(self.text)

    @property
    def digest(self) -> str:
        """What tells senders apart, to the letter and in full length."""
        return digest(self.kind, self.storable_text)


@dataclass(frozen=True)
class _Row:
    """What decides about a write, which each launch of a flood reads."""

    slot: int
    turn: int
    sender_digest: str
    count: int


class LtiUnknownSenderQuerySet(PrimaryQuerySet["LtiUnknownSender"]):
    def newest(self) -> LtiUnknownSenderQuerySet:
        """All of them, the newest first."""
        return self.order_by("-turn")

    def record(self, sender: UnknownSender) -> None:
        """Count a launch of a sender that nobody knows; the oldest one makes room.

        At most ten launches a minute are written, over all processes: a write takes the next turn
        of the minute, and of those that want the same turn the database lets one through.
        """
        # An attempt fails only where another process wrote meanwhile.
        for _attempt in range(_ATTEMPTS):
            now = timezone.now()
            rows = [_Row(*values) for values in self.newest().values_list(*_READ)]
            turn = _find_turn(rows, now)
            if turn is None or self._write(sender, rows, turn=turn, last_seen_at=now):
                return

    def _write(self, sender: UnknownSender, rows: Sequence[_Row], **seen: Any) -> bool:
        new = _describe(sender)
        known = (row for row in rows if row.sender_digest == new["sender_digest"])
        same = next(known, None)
        free = sorted({*range(1, ROWS + 1)} - {row.slot for row in rows})
        try:
            # Its failure must not end a transaction of the request.
            with transaction.atomic(using=self.db):
                if same is not None:
                    return self._replace(same, count=same.count + 1, **seen)
                new |= {"count": 1, "first_seen_at": seen["last_seen_at"], **seen}
                if not free:
                    return self._replace(rows[-1], **new)
                self.create(slot=free[0], **new)
                return True
        except IntegrityError:
            return False

    def _replace(self, row: _Row, **changes: Any) -> bool:
        return bool(self.filter(slot=row.slot, turn=row.turn).update(**changes))

    def forget(self, sender: UnknownSender) -> None:
        """Delete a sender that is known from now on."""
        self.filter(sender_digest=sender.digest).delete()

    def purge(self, before: datetime) -> int:
        """Delete those last seen before ``before``."""
        return self.filter(last_seen_at__lt=before).delete()[0]


def _find_turn(rows: Sequence[_Row], now: datetime) -> int | None:
    first = int(now.timestamp()) // 60 * _WRITES_A_MINUTE
    turns = range(first, first + _WRITES_A_MINUTE)
    turn = max((row.turn for row in rows if row.turn in turns), default=first - 1) + 1
    return turn if turn in turns else None


def _describe(sender: UnknownSender) -> dict[str, Any]:
    return {
        "kind": sender.kind,
        "text": sender.storable_text[:TEXT_LENGTH],
        "sender_digest": sender.digest,
    }


class LtiUnknownSender(models.Model):
    """A sender whose launches were refused because nobody knows it; the newest few are kept.

    Strangers write here, so nothing of it is believed: administrators compare it to what they
    typed.
    """

    Kind = SenderKind

    # One of a fixed number, so that the table cannot grow.
    slot = models.PositiveSmallIntegerField(primary_key=True)
    # Counts up with each write: the minute's number, and in its last digit the write's.
    turn = models.PositiveBigIntegerField(editable=False)
    kind = models.CharField(max_length=8, choices=SenderKind)
    text = models.CharField(max_length=TEXT_LENGTH)
    sender_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    count = models.PositiveIntegerField(_("launches"), default=1)
    first_seen_at = models.DateTimeField(_("first seen"))
    last_seen_at = models.DateTimeField(_("last seen"))

    objects = LtiUnknownSenderQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("unknown sender")
        verbose_name_plural = _("unknown senders")
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(fields=("turn",), name="lti_sender_turn"),
            models.UniqueConstraint(fields=("sender_digest",), name="lti_sender"),
        )

    def __str__(self) -> str:
        return self.visible_text

    @property
    def is_cut(self) -> bool:
        """Whether the sender's text was longer than what is kept of it."""
        return self.sender_digest != digest(self.kind, self.text)

    @property
    def visible_text(self) -> str:
        """The text with a name for each character that cannot be seen or moves its neighbors."""
        shown = "".join(char if _is_plain(char) else f"[U+{ord(char):04X}]" for char in self.text)
        return f"{shown}…" if self.is_cut else shown


def _is_plain(char: str) -> bool:
    # Marks are printed over the characters before them.
    return char.isprintable() and not unicodedata.category(char).startswith("M")

"""Hosts that take grades: how many requests they got, and circuit breakers."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Self

from django.db import models
from django.utils.translation import gettext_lazy as _

from lti_provider.models.attempt import describe_reason
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.result import ANSWER_LENGTH, HOST_LENGTH

#: After this many attempts in a row without an answer the circuit is open.
FAILURE_THRESHOLD = 5


class Destination(NamedTuple):
    """One consumer's grade service: its failures do not count for another consumer at the host."""

    consumer: int
    host: str


class LtiServiceHost(models.Model):
    """One host, whatever consumers use it: how many requests it gets, and how fast."""

    host = models.CharField(_("host"), max_length=HOST_LENGTH, unique=True)
    claims = models.PositiveBigIntegerField(default=0, editable=False)
    next_request_at = models.DateTimeField(null=True, editable=False)

    objects = PrimaryQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        default_permissions = ()

    def __str__(self) -> str:
        return self.host


class LtiServiceBreakerQuerySet(PrimaryQuerySet["LtiServiceBreaker"]):
    def for_destination(self, destination: Destination) -> Self:
        """The breaker of a destination; none if nothing ever failed there."""
        return self.filter(lti_consumer=destination.consumer, host=destination.host)

    def record_answer(self, destination: Destination) -> None:
        """Close the circuit: the host has answered."""
        self.for_destination(destination).filter(failures__gt=0).update(
            failures=0, failing_since=None, paused_until=None
        )


class LtiServiceBreaker(models.Model):
    """The pause and the circuit breaker of one consumer at one host.

    A signed launch may name any host, so they never count for another consumer's grades.
    """

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.CASCADE,
        related_name="lti_service_breakers",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    host = models.CharField(_("host"), max_length=HOST_LENGTH)
    failures = models.PositiveIntegerField(_("attempts without an answer"), default=0)
    failing_since = models.DateTimeField(_("failing since"), null=True)
    paused_until = models.DateTimeField(_("paused until"), null=True)
    last_code = models.CharField(_("last problem"), max_length=20, blank=True)
    last_text = models.CharField(max_length=ANSWER_LENGTH, blank=True, editable=False)

    objects = LtiServiceBreakerQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("service host")
        verbose_name_plural = _("service hosts")
        ordering = ("host", "pk")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "host"), name="lti_breaker_of_destination"
            ),
        )

    def __str__(self) -> str:
        return self.host

    @property
    def reason(self) -> str:
        """Why attempts failed, in words; empty while they do not."""
        return describe_reason(self.last_code, self.last_text) if self.failures else ""

    @property
    def is_circuit_open(self) -> bool:
        """Whether only a trial request is let through."""
        return self.failures >= FAILURE_THRESHOLD

    def is_paused(self, now: datetime) -> bool:
        """Whether nothing is sent for now."""
        return self.paused_until is not None and self.paused_until > now

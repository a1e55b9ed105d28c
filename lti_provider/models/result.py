"""LtiResult: one person's grade for one activity, and how far it got."""

from __future__ import annotations

import secrets
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from django.db import IntegrityError, models, router, transaction
from django.db.models import Case, F, Value, When
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import InvalidScore
from lti_provider.message import GradeService
from lti_provider.models.attempt import UNAUTHORIZED, Operation, describe_reason
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.context import LtiContext, LtiResourceLink
from lti_provider.models.digest import DIGEST_LENGTH, DigestJoin
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.score import (
    DECIMALS,
    DIGITS,
    Number,
    compute_share,
    is_sendable_text,
    parse_score,
)
from lti_provider.models.user import LtiUser
from lti_provider.origins import get_host
from lti_provider.signals import score_submitted

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser
    from django.utils.functional import _StrPromise

HOST_LENGTH = 261
ANSWER_LENGTH = 300
LEASE_LENGTH = 32

_ANONYMIZED = "anonymized:"


def anonymized_digest() -> str:
    """A ``user_digest`` for the grade of a person who was erased before it was sent."""
    return f"{_ANONYMIZED}{secrets.token_hex(16)}"


class LtiResultQuerySet(PrimaryQuerySet["LtiResult"]):
    def for_user(self, user: AbstractBaseUser) -> Self:
        """The results of an account, of every LMS it is launched from."""
        return self.filter(lti_user__user=user)

    def at_link(self, resource_link: LtiResourceLink) -> Self:
        """The results of one activity in one course."""
        return self.filter(resource_link=resource_link)

    def of_class(self, resource_link: LtiResourceLink) -> Self:
        """The results of one activity in one course, less those of test users."""
        tested = LtiUser.objects.filter(
            lti_consumer=resource_link.lti_consumer_id, is_test_user=True
        )
        return self.at_link(resource_link).exclude(user_digest__in=tested.values("lti_user_digest"))

    def submitted(self) -> Self:
        """Those with a score, or a deletion, that was ever submitted."""
        return self.filter(version__gt=0)

    def undelivered(self) -> Self:
        """Those whose newest score the LMS does not have, failed ones too."""
        return self.submitted().exclude(state=LtiResult.State.DELIVERED)

    def purge_anonymized(self) -> int:
        """Delete grades of erased people that need not be sent any more; count them."""
        anonymized = self.filter(user_digest__startswith=_ANONYMIZED)
        finished = (LtiResult.State.NOTHING, LtiResult.State.DELIVERED, LtiResult.State.FAILED)
        return anonymized.filter(state__in=finished).delete()[0]

    def pending(self) -> Self:
        """Those that are still to be sent, or are being sent."""
        return self.filter(state__in=(LtiResult.State.WAITING, LtiResult.State.SENDING))

    def due(self, now: datetime) -> Self:
        """Those that may be sent now."""
        return self.filter(state=LtiResult.State.WAITING, next_attempt_at__lte=now)

    def sync_from_launch(
        self,
        consumer: LtiConsumer,
        service: GradeService | None,
        *,
        user_digest: str,
        link_digest: str,
        known: LtiResult | None,
        rotation: int = 0,
    ) -> LtiResult | None:
        """Create or update the result whose service a launch names; ``known`` saves a read.

        ``rotation`` says which of the consumer's secrets signed the launch. A launch that names no
        service, such as a teacher's, changes nothing. Writes once, and only what changed.
        """
        if service is None:
            return known
        named: dict[str, Any] = {
            "rotation": rotation,
            "service": service.service,
            "service_url": service.url,
            "service_host": get_host(service.url),
            "remote_id": service.remote_id,
            "accepts": ",".join(service.accepts),
        }
        result = known or self._create_from_launch(consumer, user_digest, link_digest, named)
        changed = {name: value for name, value in named.items() if getattr(result, name) != value}
        if changed:
            vars(result).update(changed)
            self.filter(pk=result.pk).update(**changed)
        if "rotation" in changed:
            self.filter(pk=result.pk).retry_unauthorized()
        return result

    def _create_from_launch(
        self, consumer: LtiConsumer, user_digest: str, link_digest: str, named: dict[str, Any]
    ) -> LtiResult:
        identity: dict[str, Any] = {
            "lti_consumer": consumer,
            "user_digest": user_digest,
            "link_digest": link_digest,
        }
        result = LtiResult(**identity, **named)
        try:
            with transaction.atomic(using=self.db):
                result.save(force_insert=True, using=self.db)
        except IntegrityError:
            # A simultaneous launch of the same person was faster; an older snapshot hides it.
            if (faster := self.filter(**identity).first()) is None:
                raise
            return faster
        return result

    def submit(self, given: Number, maximum: Number = 1) -> int:
        """Make ``given`` of ``maximum`` the newest score of these results; count them.

        Raises InvalidScore.
        """
        points, whole = parse_score(given, maximum)
        return self.queue(score_given=points, score_maximum=whole, data_name="", data="")

    def delete_scores(self) -> int:
        """Make a deletion the newest submission of these results; count them."""
        return self.queue(score_given=None, score_maximum=None, data_name="", data="")

    def resend(self) -> int:
        """Send the newest scores again, from the first attempt on; count them."""
        asked = LtiConsumer.objects.exclude(unsupported_operations="")
        consumers = self.order_by().values_list("lti_consumer", flat=True).distinct()
        asked.filter(pk__in=list(consumers)).update(unsupported_operations="")
        return self.submitted().queue()

    def queue(self, **submission: Any) -> int:
        """Make the newest submission, or a new one, due from the first attempt on; count them.

        What is on its way stays leased: the next attempt waits until that one ended.
        """
        now = timezone.now()
        return self.order_by().update(
            version=F("version") + 1,
            state=Case(
                When(lease_token="", then=Value(LtiResult.State.WAITING.value)), default=F("state")
            ),
            next_attempt_at=Case(
                When(lease_token="", then=Value(now, output_field=models.DateTimeField())),
                default=F("next_attempt_at"),
            ),
            submitted_at=now,
            first_attempt_at=None,
            attempts=0,
            refusals=0,
            **submission,
        )

    def retry_unauthorized(self) -> int:
        """Make what waits since its signature was refused due now."""
        refused = self.filter(state=LtiResult.State.WAITING, last_code=UNAUTHORIZED)
        return refused.update(next_attempt_at=timezone.now(), refusals=0)

    def give_up(self) -> int:
        """Stop trying, until somebody resends; what is on its way may still arrive."""
        return self.pending().update(
            version=F("version") + 1,
            state=LtiResult.State.FAILED,
            lease_token="",
            next_attempt_at=None,
            last_code="given_up",
            last_text="",
        )

    def lease(self, chosen: list[int], token: str, until: datetime) -> list[LtiResult]:
        """Reserve these for one deliverer; return those that it got."""
        waiting = self.filter(pk__in=chosen, state=LtiResult.State.WAITING, lease_token="")
        waiting.update(state=LtiResult.State.SENDING, lease_token=token, next_attempt_at=until)
        leased = self.filter(pk__in=chosen, lease_token=token).select_related("lti_consumer")
        return list(leased.order_by("next_attempt_at", "pk"))

    def release_lease(self, token: str) -> int:
        """Give back what a deliverer leased and did not send; count it."""
        return self.filter(lease_token=token).update(
            state=LtiResult.State.WAITING, lease_token="", next_attempt_at=timezone.now()
        )

    def recover_expired_leases(self) -> int:
        """Take back what a deliverer leased that died meanwhile; count it."""
        now = timezone.now()
        lost = self.filter(state=LtiResult.State.SENDING, next_attempt_at__lte=now)
        # An update takes SQLite's only write lock, even for no row.
        if not lost.exists():
            return 0
        return lost.update(
            state=LtiResult.State.WAITING,
            lease_token="",
            last_code="interrupted",
            last_text="",
            attempts=F("attempts") + 1,
        )

    def fail_unreachable(self, consumer: int, host: str, before: datetime) -> list[LtiResult]:
        """Fail what waits for an unreachable host since before a time; return it."""
        old = self.filter(
            lti_consumer=consumer,
            service_host=host,
            state=LtiResult.State.WAITING,
            submitted_at__lt=before,
        )[:1000]
        failed = {
            "state": LtiResult.State.FAILED,
            "next_attempt_at": None,
            "last_code": "unreachable",
        }
        waiting = self.filter(state=LtiResult.State.WAITING)
        ended = []
        for result in old:
            if waiting.filter(pk=result.pk, version=result.version).update(**failed):
                vars(result).update(failed)
                ended.append(result)
        return ended


class LtiResult(models.Model):
    """A person's grade for one activity; there is one for each consumer, link and user.

    It stays who it is when the account behind the LTI user changes or goes.
    """

    class State(models.TextChoices):
        NOTHING = "nothing", _("No score yet")
        WAITING = "waiting", _("Waiting to be sent")
        SENDING = "sending", _("Being sent")
        DELIVERED = "delivered", _("Sent")
        FAILED = "failed", _("Failed")

    class Service(models.TextChoices):
        """How a grade is sent and read."""

        BASIC_OUTCOMES = "basic_outcomes", _("Basic Outcomes (LTI 1.1)")

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.PROTECT,
        related_name="lti_results",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    user_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    link_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    #: Blank until a launch names one.
    service = models.CharField(_("grade service"), max_length=20, choices=Service, blank=True)
    service_url = models.TextField(_("grade service URL"), blank=True)
    service_host = models.CharField(_("host"), max_length=HOST_LENGTH, blank=True)
    remote_id = models.TextField(_("id in the LMS"), blank=True)
    accepts = models.CharField(_("accepted beside scores"), max_length=20, blank=True)
    #: Which secret signed the launch that named them: that of so many rotations.
    rotation = models.PositiveIntegerField(default=0, editable=False)

    score_given = models.DecimalField(
        _("points"), max_digits=DIGITS, decimal_places=DECIMALS, null=True
    )
    score_maximum = models.DecimalField(
        _("maximum"), max_digits=DIGITS, decimal_places=DECIMALS, null=True
    )
    data_name = models.CharField(max_length=4, blank=True, editable=False)
    data = models.TextField(_("the learner's work"), blank=True)
    version = models.PositiveBigIntegerField(_("submissions"), default=0)
    submitted_at = models.DateTimeField(_("submitted at"), null=True)

    state = models.CharField(
        _("state"), max_length=10, choices=State, default=State.NOTHING, editable=False
    )
    delivered_version = models.PositiveBigIntegerField(default=0, editable=False)
    delivered_at = models.DateTimeField(_("delivered at"), null=True)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    refusals = models.PositiveIntegerField(_("refusals"), default=0)
    first_attempt_at = models.DateTimeField(_("first attempt at"), null=True)
    last_attempt_at = models.DateTimeField(_("last attempt at"), null=True)
    last_code = models.CharField(_("last answer"), max_length=20, blank=True)
    last_text = models.CharField(max_length=ANSWER_LENGTH, blank=True, editable=False)
    #: While it is being sent: when its lease ends.
    next_attempt_at = models.DateTimeField(_("next attempt at"), null=True)
    lease_token = models.CharField(max_length=LEASE_LENGTH, blank=True, editable=False)

    # The digests join, so that neither a deleted account nor a deleted link takes a grade along.
    lti_user = DigestJoin(
        LtiUser,
        from_fields=("lti_consumer", "user_digest"),
        to_fields=("lti_consumer", "lti_user_digest"),
        related_name="lti_results",
    )
    resource_link = DigestJoin(
        LtiResourceLink,
        from_fields=("lti_consumer", "link_digest"),
        to_fields=("lti_consumer", "resource_link_digest"),
        related_name="lti_results",
    )

    objects = LtiResultQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("grade")
        verbose_name_plural = _("grades")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "user_digest", "link_digest"), name="lti_result_of_person"
            ),
        )
        indexes = (
            models.Index(fields=("lti_consumer", "link_digest"), name="lti_result_of_link"),
            models.Index(
                fields=("state", "next_attempt_at", "lti_consumer", "service_host"),
                name="lti_result_due",
            ),
            models.Index(
                fields=("service_host", "state", "lti_consumer", "next_attempt_at"),
                name="lti_result_of_host",
            ),
        )

    def __str__(self) -> str:
        return f"{self.pk}"

    def submit_score(
        self,
        given: Number,
        maximum: Number = 1,
        *,
        submission_text: str | None = None,
        submission_url: str | None = None,
    ) -> Self:
        """Make ``given`` of ``maximum`` the grade; the newest submission wins.

        Part of the caller's transaction: once that is committed, the score will be delivered or
        end visibly failed. ``submission_url`` or ``submission_text``, the learner's work for who
        grades it, goes along where the LMS accepts it, else it is left out. Raises InvalidScore.
        """
        points, whole = parse_score(given, maximum)
        offered = {"url": submission_url or "", "text": submission_text or ""}
        if not all(map(is_sendable_text, offered.values())):
            raise InvalidScore("The text or URL has control characters, which cannot be sent.")
        taken = [name for name in self.accepts.split(",") if offered.get(name)]
        name = taken[0] if taken else ""
        return self._submit(
            score_given=points, score_maximum=whole, data_name=name, data=offered.get(name, "")
        )

    def delete_score(self) -> Self:
        """Take the grade out of the gradebook; like a score, and as safely."""
        return self._submit(score_given=None, score_maximum=None, data_name="", data="")

    def _submit(self, **submission: Any) -> Self:
        alias = router.db_for_write(type(self), instance=self)
        stored = type(self)._default_manager.using(alias).filter(pk=self.pk)
        if not stored.queue(**submission):
            raise type(self).DoesNotExist
        vars(self).update(submission)
        self.version += 1
        if self.state != self.State.SENDING:
            self.state = self.State.WAITING
        send = partial(score_submitted.send_robust, sender=LtiResult, result=self)
        transaction.on_commit(send, using=alias, robust=True)
        return self

    @property
    def state_text(self) -> str | _StrPromise:
        """How far the newest score got, in a sentence for the learner."""
        return {
            self.State.NOTHING.value: _("There is no grade yet."),
            self.State.WAITING.value: _("Your grade is waiting to be sent to your course."),
            self.State.SENDING.value: _("Your grade is being sent to your course."),
            self.State.DELIVERED.value: _("Your grade was sent to your course."),
            self.State.FAILED.value: _(
                "Your grade could not be sent to your course. Please tell your teacher."
            ),
        }[self.state]

    @property
    def operation(self) -> Operation:
        """The request that sends the newest submission."""
        return Operation.DELETE if self.score_given is None else Operation.REPLACE

    @property
    def score(self) -> Decimal | None:
        """The newest score as a share of 1, to six decimals; None if there is none."""
        if self.score_given is None or self.score_maximum is None:
            return None
        return compute_share(self.score_given, self.score_maximum)

    @property
    def is_submitted(self) -> bool:
        """Whether anything was ever submitted."""
        return self.version > 0

    @property
    def context(self) -> LtiContext | None:
        """The course, if the LMS named one."""
        return self.resource_link.lti_context if self.resource_link else None

    @property
    def reason(self) -> str:
        """Why the newest score is not delivered, in words for a teacher; else empty."""
        if self.state == self.State.DELIVERED or not self.last_code:
            return ""
        return describe_reason(self.last_code, self.last_text)

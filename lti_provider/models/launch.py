"""LtiLaunch: replay check, one-time handle and log line of one launch, in one row."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone, translation
from django.utils.translation import gettext_lazy as _

from lti_provider.conf import conf
from lti_provider.exceptions import LaunchRefused
from lti_provider.message import LaunchMessage, Person, PersonalData
from lti_provider.models import prepared
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.context import LtiContext, LtiResourceLink, digest_link
from lti_provider.models.digest import DIGEST_LENGTH, DigestJoin, digest
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.registration import LtiRegistration
from lti_provider.models.result import LtiResult
from lti_provider.models.user import LtiUser
from lti_provider.models.verification import Explanation, VerifiedLaunch

_WITH_ALL = (
    "lti_consumer",
    "lti_user",
    "lti_user__user",
    "resource_link",
    "resource_link__lti_context",
    "result",
)
_PURGE_BATCH = 1000

#: Seconds between a trial launch of an administrator and the session that it may still become.
TRIAL_LIFETIME = 600


class LtiLaunchQuerySet(PrimaryQuerySet["LtiLaunch"]):
    def accept(
        self,
        verified: VerifiedLaunch,
        *,
        target: str,
        launch_url: str = "",
        foreign_origin: str = "",
    ) -> LtiLaunch:
        """Claim the nonce and issue a one-time handle, in one insert.

        Raises IntegrityError if the nonce or the login was used before: see ``is_used``.
        """
        consumer, message = verified.consumer, verified.message
        handle = verified.handle or secrets.token_urlsafe(32)
        # A visitor without an id is a guest of this launch, never a shared account.
        person = (message.person.user_id,) if message.person.user_id else ("", handle)
        launch = LtiLaunch(
            lti_consumer=consumer,
            registration=verified.registration,
            nonce_digest=digest(verified.nonce),
            nonce_expires_at=verified.nonce_expires_at,
            handle_digest=digest(handle),
            user_digest=digest(*person),
            link_digest=digest_link(message),
            stored_message=message.without_personal_data(consumer.personal_data_kept).to_json(),
            stored_identity=message.identity if consumer.require_user_account else None,
            target=target,
            clock_difference=verified.clock_difference,
            signed_with=verified.signed_with or "",
            session_epoch=consumer.session_epoch,
            launch_url=launch_url,
            foreign_origin=foreign_origin,
            is_trial=verified.is_trial,
        )
        launch.save(force_insert=True, using=self.db)
        launch.handle = handle
        return launch

    def is_used(self, verified: VerifiedLaunch) -> bool:
        """Whether a launch of the consumer had this nonce, or one of any consumer this login."""
        same = models.Q(lti_consumer=verified.consumer, nonce_digest=digest(verified.nonce))
        if verified.handle:
            same |= models.Q(handle_digest=digest(verified.handle))
        return self.filter(same).exists()

    def with_handle(self, handle: str) -> LtiLaunch | None:
        """The launch that issued ``handle``, with all that belongs to it, in one read."""
        return prepared.find_one(self, "handle_digest", digest(handle), _WITH_ALL)

    def with_all(self) -> LtiLaunchQuerySet:
        """Join consumer, user, link, course and grade."""
        return self.select_related(*_WITH_ALL)

    def accepted(self) -> LtiLaunchQuerySet:
        """Launches whose signature held and that passed the consumer's policy."""
        return self.filter(refusal_code="")

    def refused(self) -> LtiLaunchQuerySet:
        """The bounded log of refusals."""
        # Said with "greater", it is a range of the index, which "unequal" is not.
        return self.filter(refusal_code__gt="")

    def newest(self, consumer: LtiConsumer) -> LtiLaunch | None:
        """The consumer's last accepted launch, trial launches aside."""
        own = self.accepted().filter(lti_consumer=consumer, is_trial=False)
        return own.order_by("-pk").first()

    def newest_refusals(self, consumer: LtiConsumer) -> dict[str, LtiLaunch]:
        """The consumer's last refusal of each code; the log of refusals is bounded."""
        refused = self.refused().filter(lti_consumer=consumer)
        newest = refused.order_by().values("refusal_code").annotate(newest=models.Max("pk"))
        pks = [row["newest"] for row in newest]
        return {launch.refusal_code: launch for launch in self.filter(pk__in=pks)}

    def refuse(
        self, refusal: LaunchRefused, explain: Callable[[LaunchRefused], Explanation]
    ) -> LtiLaunch | None:
        """Log a refusal of a known consumer or registration, the newest of each code only.

        At most a fifth of what is kept is written in a minute, so that a flood does not grow the
        table, slows nothing down, and pushes out only older rows of its own code. None: not
        written, and ``explain`` was not called.
        """
        consumer: LtiConsumer | None = refusal.consumer
        whose: dict[str, Any] = {"lti_consumer": consumer}
        if consumer is None:
            whose["registration"] = refusal.registration
        same = self.filter(**whose, refusal_code=refusal.code).order_by("-pk")
        recent = list(same.values_list("pk", "received_at")[: conf.refusals_kept])
        burst = max(1, conf.refusals_kept // 5)
        since = timezone.now() - timedelta(minutes=1)
        if len([at for _pk, at in recent[:burst] if at > since]) >= burst:
            return None
        with translation.override(settings.LANGUAGE_CODE):
            launch = _build_refused(refusal, explain(refusal))
        launch.save(force_insert=True, using=self.db)
        if len(recent) >= conf.refusals_kept:
            same.filter(pk__lte=recent[-1][0]).delete()
        return launch

    def forget_people(self, batch: int = _PURGE_BATCH) -> int:
        """Drop the personal data of up to ``batch`` launches that nobody entered in time."""
        too_old = timezone.now() - timedelta(seconds=conf.account_lifetime)
        waiting = self.filter(stored_identity__isnull=False, received_at__lt=too_old).order_by("pk")
        pks = list(waiting.values_list("pk", flat=True)[:batch])
        return self.filter(pk__in=pks).update(stored_identity=None)

    def past(self, before: datetime) -> LtiLaunchQuerySet:
        """Launches received before ``before``, except those whose nonce still counts."""
        ended = models.Q(nonce_expires_at=None) | models.Q(nonce_expires_at__lt=timezone.now())
        return self.filter(ended, received_at__lt=before)

    def purge(self, before: datetime, batch: int = _PURGE_BATCH) -> int:
        """Delete up to ``batch`` launches received before ``before``, live nonces excepted."""
        old = self.past(before).order_by("pk")
        return self.filter(pk__in=list(old.values_list("pk", flat=True)[:batch])).delete()[0]


class LtiLaunch(models.Model):
    """A launch, accepted or refused; ``request.lti.launch`` is one of these.

    Personal data is kept only as far as the consumer's policy says.
    """

    # None only for what was refused before the consumer was known, which nobody enters.
    lti_consumer: models.ForeignKey[LtiConsumer, LtiConsumer] = models.ForeignKey(  # type: ignore[misc]
        LtiConsumer,
        on_delete=models.CASCADE,
        null=True,
        related_name="lti_launches",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    registration = models.ForeignKey(
        LtiRegistration,
        on_delete=models.CASCADE,
        null=True,
        editable=False,
        related_name="lti_launches",
        db_index=False,
        verbose_name=_("registration"),
    )
    received_at = models.DateTimeField(_("received at"), default=timezone.now)
    entered_at = models.DateTimeField(_("entered at"), null=True, editable=False)
    nonce_digest = models.CharField(max_length=DIGEST_LENGTH, null=True, editable=False)  # noqa: DJ001
    nonce_expires_at = models.DateTimeField(_("nonce kept until"), null=True, editable=False)
    handle_digest = models.CharField(  # noqa: DJ001
        max_length=DIGEST_LENGTH, null=True, editable=False
    )
    user_digest = models.CharField(max_length=DIGEST_LENGTH, blank=True, editable=False)
    link_digest = models.CharField(max_length=DIGEST_LENGTH, blank=True, editable=False)
    stored_message = models.JSONField(_("message"), default=dict, editable=False)
    # What connecting an account has to show; it goes as soon as the launch is entered or too old.
    stored_identity = models.JSONField(null=True, editable=False)
    connection_refusal_code = models.CharField(max_length=40, blank=True, editable=False)
    target = models.TextField(_("target"), blank=True)
    signed_with = models.CharField(
        _("signed with"), max_length=8, choices=LtiConsumer.SecretUse, blank=True, editable=False
    )
    refusal_code = models.CharField(_("refusal"), max_length=40, blank=True)
    refusal_hint = models.TextField(_("what to do"), blank=True)
    launch_url = models.TextField(_("launch URL as this site computed it"), blank=True)
    clock_difference = models.IntegerField(
        _("clock difference"),
        null=True,
        help_text=_("Seconds; positive if the LMS's clock is ahead of ours."),
    )
    signed_text = models.TextField(_("what the signature should cover"), blank=True)
    is_trial = models.BooleanField(default=False, editable=False)
    session_epoch = models.PositiveBigIntegerField(default=0, editable=False)
    foreign_origin = models.CharField(
        _("foreign origin"),
        max_length=255,
        blank=True,
        help_text=_("The browser's Origin, where it is not known to be the LMS's."),
    )

    # The digests join without a foreign key each, so that a launch is one insert.
    lti_user = DigestJoin(
        LtiUser,
        from_fields=("lti_consumer", "user_digest"),
        to_fields=("lti_consumer", "lti_user_digest"),
        related_name="lti_launches",
    )
    resource_link = DigestJoin(
        LtiResourceLink,
        from_fields=("lti_consumer", "link_digest"),
        to_fields=("lti_consumer", "resource_link_digest"),
        related_name="lti_launches",
    )
    result = DigestJoin(
        LtiResult,
        from_fields=("lti_consumer", "user_digest", "link_digest"),
        to_fields=("lti_consumer", "user_digest", "link_digest"),
        related_name="lti_launches",
    )

    #: Of a launch that was accepted just now; only its digest is stored.
    handle: str = ""

    objects = LtiLaunchQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("launch")
        verbose_name_plural = _("launch log")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "nonce_digest"), name="lti_nonce_of_consumer"
            ),
            models.UniqueConstraint(fields=("handle_digest",), name="lti_handle"),
            models.CheckConstraint(
                condition=models.Q(lti_consumer__isnull=False) | models.Q(refusal_code__gt=""),
                name="lti_accepted_of_consumer",
            ),
        )
        indexes = (
            models.Index(fields=("lti_consumer", "refusal_code", "id"), name="lti_launch_log"),
            models.Index(
                fields=("registration", "refusal_code", "id"), name="lti_registration_log"
            ),
        )

    def __str__(self) -> str:
        return f"{self.pk}"

    def claim(self) -> bool:
        """Use up the handle; False if it was used before. One conditional update."""
        now = timezone.now()
        unused = type(self).objects.filter(pk=self.pk, entered_at=None)
        if not unused.update(entered_at=now, stored_identity=None):
            return False
        if self.stored_identity is not None:
            vars(self).pop("message", None)
        self.entered_at, self.stored_identity = now, None
        return True

    def record_connection_refusal(self, code: str) -> None:
        """Let the page that waits for the connection know how it ended; blank: it may go on."""
        self.connection_refusal_code = code
        self.save(update_fields=["connection_refusal_code"])

    @property
    def needs_account(self) -> bool:
        """Whether the person has to connect an account before this launch shows its content."""
        connected = self.lti_user is not None and self.lti_user.is_connected
        return self.lti_consumer.require_user_account and not connected

    @property
    def is_over(self) -> bool:
        """Whether the consumer was deactivated since, even if it is active again."""
        consumer = self.lti_consumer
        return not consumer.is_active or consumer.session_epoch != self.session_epoch

    @property
    def is_expired(self) -> bool:
        """Whether the handle's lifetime is over; signing in or up takes its time."""
        if self._waits_for_account:
            return self._is_older_than(conf.account_lifetime)
        return self._is_older_than(TRIAL_LIFETIME if self.is_made_here else conf.enter_lifetime)

    @property
    def trial_minutes(self) -> int:
        """How long a trial launch may still be opened; 0 if it may not."""
        seconds = TRIAL_LIFETIME - (timezone.now() - self.received_at).total_seconds()
        return max(0, math.ceil(seconds / 60))

    @property
    def is_made_here(self) -> bool:
        """Whether an administrator made it, to try: no LMS, or who plays one, signed it."""
        return self.is_trial and not self.signed_with and not self.had_login

    def _is_older_than(self, seconds: float) -> bool:
        return timezone.now() - self.received_at > timedelta(seconds=seconds)

    @property
    def _waits_for_account(self) -> bool:
        connected_at = self.lti_user.connected_at if self.lti_user is not None else None
        waited = connected_at is None or connected_at > self.received_at
        return self.lti_consumer.require_user_account and waited

    @cached_property
    def message(self) -> LaunchMessage:
        """What the LMS said, less what the consumer's policy does not keep."""
        message = LaunchMessage.from_json(self.stored_message)
        return message.with_identity(self.stored_identity) if self.stored_identity else message

    @property
    def context(self) -> LtiContext | None:
        """The course, if the LMS named one."""
        return self.resource_link.lti_context if self.resource_link else None

    @property
    def locale(self) -> str | None:
        """The language of ``settings.LANGUAGES`` that the LMS asked for, if there is one."""
        return self.message.locale

    @property
    def return_url(self) -> str | None:
        """Where the LMS wants the person back, if it said so."""
        return self.message.presentation.return_url

    @property
    def had_login(self) -> bool:
        """Whether a login came before it and has bound it to its browser."""
        return self.registration_id is not None

    @property
    def said_origins(self) -> tuple[str, ...]:
        """The LMS's origins as far as the launch and its registration say them."""
        said = [self.message.return_origin]
        if self.registration is not None:
            said.append(self.registration.authorization_origin)
        return tuple(origin for origin in dict.fromkeys(said) if origin)

    @property
    def frame_origins(self) -> tuple[str, ...]:
        """Who may frame this launch's pages: the consumer's origins, else ``said_origins``."""
        return self.lti_consumer.frame_origin_list or self.said_origins


def _build_refused(refusal: LaunchRefused, explanation: Explanation) -> LtiLaunch:
    consumer: LtiConsumer | None = refusal.consumer
    message: LaunchMessage = refusal.message or LaunchMessage()
    if consumer is None:
        # People of an LMS that nobody knows could not be found to have it erased.
        message = replace(message, person=Person(), custom={})
    user_id = message.person.user_id or explanation.user_id
    # Whoever it names can have it erased, verified or not; of who is not named nothing is kept.
    user_digest = refusal.user_digest or (digest(user_id) if user_id else "")
    kept = consumer.personal_data_kept if consumer and user_digest else PersonalData.NONE
    return LtiLaunch(
        lti_consumer=consumer,
        registration=refusal.registration,
        refusal_code=refusal.code,
        refusal_hint=str(explanation.hint or refusal.hint),
        user_digest=user_digest,
        stored_message=message.without_personal_data(kept).to_json(),
        launch_url=explanation.launch_url,
        clock_difference=explanation.clock_difference,
        signed_text=explanation.signed_text,
        is_trial=refusal.is_trial or explanation.is_trial,
        foreign_origin=refusal.foreign_origin,
    )

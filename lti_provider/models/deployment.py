"""LtiDeployment: one place of this tool in an LMS that speaks LTI 1.3, or one that waits to be."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import IntegrityError, models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.message import IDENTIFIER_LENGTH, make_storable
from lti_provider.models import prepared
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.credentials import STAMP_INTERVAL
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.registration import LtiRegistration, describe_other_issuer

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

#: How many deployments of one registration may wait; the one not seen for longest makes room.
WAITING_KEPT = 50
_WAITING_WRITES_A_MINUTE = 10


class LtiDeploymentQuerySet(PrimaryQuerySet["LtiDeployment"]):
    def with_id(self, registration_pk: int, deployment_id: str) -> LtiDeployment | None:
        """The deployment, with registration, consumer and its first installation, in one read."""
        found = digest(str(registration_pk), deployment_id)
        related = ("registration", "lti_consumer", "lti_consumer__installation")
        return prepared.find_one(self, "deployment_digest", found, related)

    def waiting(self) -> LtiDeploymentQuerySet:
        """Those that wait for an administrator, the last seen first."""
        newest = models.F("last_seen_at").desc(nulls_last=True)
        return self.filter(lti_consumer=None, is_active=True).order_by(newest, "-pk")

    def record_waiting(self, deployment: LtiDeployment) -> None:
        """Note what a refused launch said of a deployment that waits, or is to wait from now on.

        Of each registration the newest 50 are kept, and ten a minute are written. One that has a
        consumer, or that an administrator refused, stays as it is.
        """
        now, waiting = timezone.now(), self.waiting().filter(registration=deployment.registration)
        known = list(waiting.values_list("pk", "last_seen_at"))
        since = now - timedelta(minutes=1)
        recent = [pk for pk, at in known if at is not None and at > since]
        if len(recent) >= _WAITING_WRITES_A_MINUTE:
            return
        stored = self.filter(deployment_digest=deployment.digest).order_by("pk").first()
        if stored is None:
            self._add_waiting(deployment.description, now)
            oldest = [pk for pk, _at in known[WAITING_KEPT - 1 :]]
            self.filter(pk__in=oldest, lti_consumer=None, is_active=True).delete()
        elif stored.is_waiting and stored.pk not in recent:
            said = {name: deployment.description[name] for name in _SAID}
            said |= {"first_seen_at": stored.first_seen_at or now, "last_seen_at": now}
            self.filter(pk=stored.pk, lti_consumer=None, is_active=True).update(**said)

    def _add_waiting(self, description: dict[str, Any], now: datetime) -> None:
        try:
            # Its failure must not end a transaction of the request.
            with transaction.atomic(using=self.db):
                self.create(**description, first_seen_at=now, last_seen_at=now)
        except IntegrityError:
            # A simultaneous launch wrote it.
            return

    def purge(self, before: datetime) -> int:
        """Delete those that wait and were last seen before ``before``."""
        return self.filter(lti_consumer=None, is_active=True, last_seen_at__lt=before).delete()[0]


# What a launch says of its deployment, beside its id.
_SAID = ("instance_guid", "installation_name", "product")


class LtiDeployment(models.Model):
    """One place of this tool in an LMS (LTI 1.3 §3.1.3).

    Only issuer, client id and deployment id together lead to a consumer. Without a consumer the
    deployment waits for an administrator, and installation and product are what its launch said.
    """

    registration = models.ForeignKey(
        LtiRegistration,
        on_delete=models.CASCADE,
        related_name="deployments",
        db_index=False,
        verbose_name=_("registration"),
    )
    deployment_id = models.CharField(
        _("deployment id"),
        max_length=IDENTIFIER_LENGTH,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("To the letter as the LMS shows it, such as 1 or 7:8865aa05b4b79b64a91a."),
    )
    deployment_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="deployments",
        verbose_name=_("LTI consumer"),
    )
    instance_guid = models.CharField(
        _("instance guid"), max_length=IDENTIFIER_LENGTH, blank=True, editable=False
    )
    installation_name = models.CharField(
        _("installation"), max_length=IDENTIFIER_LENGTH, blank=True, editable=False
    )
    product = models.CharField(
        _("product"), max_length=IDENTIFIER_LENGTH, blank=True, editable=False
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Without it, its launches are refused.")
    )
    first_seen_at = models.DateTimeField(_("first seen"), null=True, editable=False)
    last_seen_at = models.DateTimeField(_("last seen"), null=True, editable=False)

    objects = LtiDeploymentQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("LTI 1.3 deployment")
        verbose_name_plural = _("LTI 1.3 deployments")
        ordering = ("registration", "pk")
        constraints = (
            models.UniqueConstraint(fields=("deployment_digest",), name="lti_deployment"),
        )
        indexes = (
            models.Index(
                fields=("registration", "lti_consumer", "last_seen_at"),
                name="lti_deployment_log",
            ),
        )

    def __str__(self) -> str:
        return self.deployment_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the digest that the deployment id is found by."""
        self.deployment_digest = self.digest
        if (fields := kwargs.get("update_fields")) is not None and "deployment_id" in fields:
            kwargs["update_fields"] = {*fields, "deployment_digest"}
        super().save(*args, **kwargs)

    def clean(self) -> None:
        """Refuse an id that the registration has already, and a consumer of a different issuer."""
        super().clean()
        if not hasattr(self, "registration"):
            return
        same = LtiDeployment.objects.filter(deployment_digest=self.digest).exclude(pk=self.pk)
        if same.exists():
            text = _("This registration has a deployment with this id.")
            raise ValidationError({"deployment_id": text}, code="unique")
        if self.lti_consumer and not self.lti_consumer.accepts_issuer(self.registration.issuer):
            raise ValidationError({"lti_consumer": describe_other_issuer(self.lti_consumer)})

    @property
    def digest(self) -> str:
        """What finds it: registration and deployment id, to the letter."""
        return digest(str(self.registration_id), self.deployment_id)

    @property
    def is_waiting(self) -> bool:
        """Whether an administrator has to say to which consumer it belongs."""
        return self.lti_consumer_id is None and self.is_active

    @property
    def description(self) -> dict[str, Any]:
        """What a launch said of it: names are cut and lose what databases do not take."""
        return {
            "registration_id": self.registration_id,
            "deployment_id": self.deployment_id,
            "instance_guid": self.instance_guid,
            "installation_name": make_storable(self.installation_name)[:IDENTIFIER_LENGTH],
            "product": make_storable(self.product)[:IDENTIFIER_LENGTH],
        }

    def join(self, consumer: LtiConsumer, guid: str) -> bool:
        """Let it belong to ``consumer`` from now on; False if an administrator said otherwise.

        ``guid`` is the installation that launched.

        Of simultaneous first launches one makes the row, and the others find it.
        """
        rows, said = type(self).objects, {**self.description, "instance_guid": guid}
        stored, _created = rows.get_or_create(
            deployment_digest=self.digest, defaults={**said, "lti_consumer": consumer}
        )
        if stored.is_waiting:
            rows.filter(pk=stored.pk, lti_consumer=None, is_active=True).update(
                lti_consumer=consumer, instance_guid=guid
            )
        self.pk, self._state.adding, self._state.db = stored.pk, False, stored._state.db
        self.refresh_from_db()
        return self.is_active and self.lti_consumer_id == consumer.pk

    def assign(self, consumer: LtiConsumer, by: AbstractBaseUser | None = None) -> None:
        """Let one that waits belong to ``consumer``, and accept the installation that it named.

        Raises ValidationError if the consumer's LMS is a different one, or if somebody decided
        meanwhile.
        """
        with transaction.atomic(using=router.db_for_write(type(self))):
            waiting = type(self).objects.filter(pk=self.pk, lti_consumer=None, is_active=True)
            if not waiting.update(lti_consumer=consumer):
                raise ValidationError(_("Somebody decided about this deployment meanwhile."))
            issuer = self.registration.issuer
            # A launch that waited was signed in the name of this issuer.
            is_seen = self.last_seen_at is not None
            if not (consumer.learn_issuer(issuer) if is_seen else consumer.accepts_issuer(issuer)):
                raise describe_other_issuer(consumer)
            if self.instance_guid and consumer.find_installation(self.instance_guid) is None:
                consumer.accept_installation(self.instance_guid, by)
        self.lti_consumer = consumer

    def refuse(self) -> bool:
        """Refuse one that waits, now and later; False if somebody decided meanwhile."""
        waiting = type(self).objects.filter(pk=self.pk, lti_consumer=None, is_active=True)
        return bool(waiting.update(is_active=False))

    def accepts_installation(self, guid: str) -> bool:
        """Whether no different installation has launched by this deployment."""
        return self.instance_guid in ("", guid)

    def learn_installation(self, guid: str) -> bool:
        """Pin the installation that launched first; False if a different one did.

        Of simultaneous first launches the first to be written wins.
        """
        if guid and not self.instance_guid:
            unknown = type(self).objects.filter(pk=self.pk, instance_guid="")
            unknown.update(instance_guid=guid)
            self.refresh_from_db(fields=["instance_guid"])
        return self.accepts_installation(guid)

    def record_seen(self) -> None:
        """Record an accepted launch, once in an hour at most."""
        now = timezone.now()
        if self.last_seen_at is None or now - self.last_seen_at > STAMP_INTERVAL:
            seen = {"first_seen_at": self.first_seen_at or now, "last_seen_at": now}
            type(self).objects.filter(pk=self.pk).update(**seen)

"""LtiInstallation: one running LMS whose launches a consumer accepts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models.credentials import STAMP_INTERVAL
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.primary import PrimaryQuerySet


class LtiInstallation(models.Model):
    """An installation that a consumer accepts, by the guid that its launches name.

    The first one is the consumer's ``instance_guid`` too, so that its launches need no read of
    their own. A blank guid stands for launches that name none.
    """

    lti_consumer = models.ForeignKey(
        "LtiConsumer",
        on_delete=models.CASCADE,
        related_name="installations",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    guid = models.CharField(
        _("instance guid"),
        max_length=IDENTIFIER_LENGTH,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("To the letter what the LMS sends as tool_consumer_instance_guid."),
    )
    guid_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    first_seen_at = models.DateTimeField(_("first seen"), null=True, editable=False)
    last_seen_at = models.DateTimeField(_("last seen"), null=True, editable=False)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        editable=False,
        related_name="+",
        verbose_name=_("accepted by"),
    )

    objects = PrimaryQuerySet["LtiInstallation"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("installation")
        verbose_name_plural = _("accepted installations")
        ordering = ("pk",)
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "guid_digest"), name="lti_installation_of_consumer"
            ),
        )

    def __str__(self) -> str:
        return self.guid or "-"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the digest that the guid is compared by."""
        self.guid_digest = digest(self.guid)
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Delete it: its next launch is refused, unless no installation is left."""
        with transaction.atomic(using=self._state.db):
            deleted = super().delete(*args, **kwargs)
            self.lti_consumer.forget_installation(self.guid)
        return deleted

    def record_seen(self) -> None:
        """Record an accepted launch, once in an hour at most."""
        now = timezone.now()
        if self.last_seen_at is None or now - self.last_seen_at > STAMP_INTERVAL:
            first_seen_at = Coalesce("first_seen_at", now, output_field=models.DateTimeField())
            type(self).objects.filter(pk=self.pk).update(
                first_seen_at=first_seen_at, last_seen_at=now
            )

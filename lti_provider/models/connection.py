"""LtiConnectionEvent: who connected or disconnected which account, when, from where and how."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.primary import PrimaryQuerySet


class LtiConnectionEvent(models.Model):
    """One line of the history of connections, kept for the administrator."""

    class Kind(models.TextChoices):
        CONNECTED = "connected", _("Connected")
        DISCONNECTED = "disconnected", _("Disconnected")

    class How(models.TextChoices):
        CONFIRMED = "confirmed", _("The person signed in and confirmed")
        BY_PERSON = "person", _("The person, on the page of connections")
        BY_ADMINISTRATOR = "administrator", _("An administrator")

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        # The history tells who could open which account, and which accounts launches made.
        on_delete=models.PROTECT,
        related_name="lti_connection_events",
        verbose_name=_("LTI consumer"),
    )
    lti_user_id = models.CharField(_("LTI user id"), max_length=IDENTIFIER_LENGTH)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="lti_connection_events",
        db_index=False,
        verbose_name=_("account"),
    )
    former_user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="former_lti_connection_events",
        verbose_name=_("anonymous account before"),
    )
    kind = models.CharField(_("kind"), max_length=12, choices=Kind)
    how = models.CharField(_("how"), max_length=16, choices=How)
    done_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="+",
        verbose_name=_("done by"),
    )
    address = models.GenericIPAddressField(_("from address"), null=True)
    happened_at = models.DateTimeField(_("at"), auto_now_add=True)

    objects = PrimaryQuerySet["LtiConnectionEvent"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("connection event")
        verbose_name_plural = _("history of connections")
        indexes = (models.Index(fields=("user", "kind"), name="lti_connection_event_of_user"),)

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.lti_user_id}"

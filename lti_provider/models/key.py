"""LtiKey: a key pair of this site, which signs what it sends to LMSs that speak LTI 1.3."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self, cast

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.secret import SecretField, decrypt_all

logger = logging.getLogger("lti_provider")

#: How long a new key is published before it signs: until then LMSs have read the key set again.
PUBLISHED_BEFORE = timedelta(days=1)
#: How long a key stays published once a newer one signs: what it signed is checked until then.
PUBLISHED_AFTER = timedelta(days=30)
# An RSA key of 4096 bits takes 3,300.
_PEM_LENGTH = 8000


class LtiKeyQuerySet(PrimaryQuerySet["LtiKey"]):
    def with_superseded_at(self) -> Self:
        """Each with ``superseded_at``: when the next key signs in its place, None if none will."""
        # One that was retired before it signed has never taken anybody's place.
        signed = Q(retired_at=None) | Q(retired_at__gt=F("signs_from"))
        newer = LtiKey.objects.filter(signed, number__gt=OuterRef("number")).order_by("signs_from")
        return self.annotate(superseded_at=Subquery(newer.values("signs_from")[:1]))

    def published(self) -> Self:
        """The keys that the key set has now, newest first."""
        # A new key is published from the moment it is there, whatever the clocks of two hosts say.
        long_ago = timezone.now() - PUBLISHED_AFTER
        in_use = Q(superseded_at=None) | Q(superseded_at__gt=long_ago)
        return self.with_superseded_at().filter(in_use, retired_at=None).order_by("-number")

    def signing(self) -> Self:
        """Of the published keys those that may sign, newest first: the first one does."""
        return self.published().filter(signs_from__lte=timezone.now())

    def waiting(self) -> Self:
        """Of the published keys those whose time to sign has yet to come, newest first."""
        return self.published().filter(signs_from__gt=timezone.now())

    def purge(self, before: datetime) -> int:
        """Delete the keys that the key set had last before ``before``; count them."""
        replaced = Q(superseded_at__lt=before - PUBLISHED_AFTER)
        past = self.with_superseded_at().filter(replaced | Q(retired_at__lt=before))
        # Not every database deletes by a subquery on the same table.
        pks = list(past.values_list("pk", flat=True))
        deleted, _by_model = self.filter(pk__in=pks).delete()
        return deleted


class LtiKey(models.Model):
    """A key pair: published first, signing later, and published still when it signs no more."""

    # Counts up, so that of two processes that make the first key one is refused.
    number = models.PositiveIntegerField(unique=True, editable=False)
    kid = models.CharField(
        _("key id"), max_length=64, unique=True, editable=False, help_text=_("By RFC 7638.")
    )
    private_key = SecretField(_("private key"), max_length=_PEM_LENGTH, editable=False)
    public_jwk = models.JSONField(_("public key"), editable=False)
    published_from = models.DateTimeField(_("published from"), default=timezone.now)
    signs_from = models.DateTimeField(_("signs from"), default=timezone.now)
    retired_at = models.DateTimeField(_("retired at"), null=True, blank=True)

    objects = LtiKeyQuerySet.as_manager()

    if TYPE_CHECKING:
        #: With ``with_superseded_at()``.
        superseded_at: datetime | None

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("key of this site")
        verbose_name_plural = _("keys of this site")
        ordering = ("number",)
        default_permissions = ()

    def __str__(self) -> str:
        return self.kid

    @property
    def is_readable(self) -> bool:
        """Whether the private key is not encrypted with a key that this site does not have."""
        field = cast("SecretField", self._meta.get_field("private_key"))
        return decrypt_all(field.value_from_object(self)) != [None]

    def sign_now(self) -> None:
        """Sign from now on if its time is yet to come. Saves the change."""
        if self.signs_from <= timezone.now():
            return
        self.signs_from = timezone.now()
        self.save(update_fields=["signs_from"])
        logger.info(
            "lti_key_signs_early kid=%s",
            self.kid,
            extra={"event": "lti_key_signs_early", "kid": self.kid},
        )

    def retire(self) -> None:
        """Take the key out of the key set for good. Saves the change."""
        self.retired_at = timezone.now()
        self.save(update_fields=["retired_at"])
        logger.info(
            "lti_key_retired kid=%s", self.kid, extra={"event": "lti_key_retired", "kid": self.kid}
        )

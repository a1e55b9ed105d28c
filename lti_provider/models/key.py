"""LtiKey: a key pair of this site, which signs what it sends to LMSs that speak LTI 1.3."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.secret import SecretField

# An RSA key of 4096 bits takes 3,300.
_PEM_LENGTH = 8000


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

    objects = PrimaryQuerySet["LtiKey"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("key of this site")
        verbose_name_plural = _("keys of this site")
        ordering = ("number",)
        default_permissions = ()

    def __str__(self) -> str:
        return self.kid

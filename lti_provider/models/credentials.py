"""Lti11Credentials: key and secret of LTI 1.1, which an LMS may do without."""

from __future__ import annotations

import logging
import secrets
from datetime import datetime, timedelta
from typing import Any, TypeVar, cast

from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxValueValidator,
    MinValueValidator,
    ProhibitNullCharactersValidator,
)
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider.conf import conf
from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.secret import SecretField, decrypt_all
from lti_provider.models.unknown_sender import LtiUnknownSender, SenderKind, UnknownSender

logger = logging.getLogger("lti_provider")

#: How exact "last used" and "last seen" are: they are written once in this time at most.
STAMP_INTERVAL = timedelta(hours=1)
#: The widest timestamp window, in seconds. Nonces are kept so long: a window can be widened.
LONGEST_WINDOW = 86400
_PAIR = _("Enter a key and a secret, or leave both blank: then the LMS does not speak LTI 1.1.")
#: What a consumer without credentials is said to be.
NOT_SPOKEN = _("This LTI consumer does not speak LTI 1.1: it has neither a key nor a secret.")

_CREDENTIALS = (
    "consumer_secret",
    "secret_used_at",
    "previous_secret",
    "previous_secret_until",
    "previous_secret_used_at",
    "rotations",
)


def generate_key() -> str:
    """A consumer key that needs no escaping anywhere: 96 random bits."""
    return f"lti-{secrets.token_hex(12)}"


def generate_secret() -> str:
    """A shared secret that needs no escaping anywhere: 256 random bits."""
    return secrets.token_hex(32)


C_co = TypeVar("C_co", bound="Lti11Credentials", covariant=True)


class Lti11CredentialsQuerySet(PrimaryQuerySet[C_co]):
    def forget_secrets(self, before: datetime) -> int:
        """Drop previous secrets whose overlap ended before ``before``; count them."""
        ended = self.filter(previous_secret_until__lt=before)
        return ended.update(previous_secret="", previous_secret_until=None)


class Lti11Credentials(models.Model):
    """The credentials and limits with which an LMS speaks LTI 1.1.

    The key identifies the LMS, nothing else does. Without a key the LMS does not speak LTI 1.1: no
    request is ever verified or signed, and the secret is blank.
    """

    class SecretUse(models.TextChoices):
        CURRENT = "current", _("The present secret")
        PREVIOUS = "previous", _("The previous secret")

    class SignatureMethod(models.TextChoices):
        HMAC_SHA1 = "HMAC-SHA1", _("HMAC-SHA1 or HMAC-SHA256")
        HMAC_SHA256 = "HMAC-SHA256", _("HMAC-SHA256 only")

    consumer_key = models.CharField(  # noqa: DJ001 - many may have none, "" is unique
        _("consumer key"),
        max_length=IDENTIFIER_LENGTH,
        null=True,
        blank=True,
        default=generate_key,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_(
            "Copy it into the LMS, or enter the key that the LMS already has. Leave key and secret "
            "blank if the LMS does not speak LTI 1.1."
        ),
    )
    consumer_key_digest = models.CharField(  # noqa: DJ001
        max_length=DIGEST_LENGTH, null=True, editable=False
    )
    consumer_secret = SecretField(
        _("consumer secret"),
        blank=True,
        default=generate_secret,
        help_text=_("Shared with the LMS only. It signs launches and grades."),
    )
    secret_used_at = models.DateTimeField(_("secret last used"), null=True, editable=False)
    previous_secret = SecretField(_("previous secret"), blank=True, default="", editable=False)
    previous_secret_until = models.DateTimeField(
        _("previous secret accepted until"), null=True, editable=False
    )
    previous_secret_used_at = models.DateTimeField(
        _("previous secret last used"), null=True, editable=False
    )
    rotations = models.PositiveIntegerField(default=0, editable=False)
    expires_at = models.DateTimeField(
        _("credentials expire"),
        null=True,
        blank=True,
        help_text=_("From then on no secret of this consumer is accepted; blank for never."),
    )
    minimum_signature_method = models.CharField(
        _("signature methods"),
        max_length=16,
        choices=SignatureMethod,
        default=SignatureMethod.HMAC_SHA1,
        help_text=_("Nearly every LMS signs with HMAC-SHA1."),
    )
    timestamp_window = models.PositiveIntegerField(
        _("timestamp window"),
        null=True,
        blank=True,
        validators=[MinValueValidator(30), MaxValueValidator(LONGEST_WINDOW)],
        help_text=_("Seconds that the LMS's clock may differ; blank for the site's setting."),
    )

    class Meta:
        abstract = True
        constraints = (
            models.UniqueConstraint(fields=("consumer_key_digest",), name="lti_consumer_key"),
        )

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the digest that finds the key, which is unknown no longer; a blank is none."""
        self.consumer_key = self.consumer_key or None
        self.consumer_key_digest = digest(self.consumer_key) if self.consumer_key else None
        fields = kwargs.get("update_fields")
        if fields is not None and "consumer_key" in fields:
            kwargs["update_fields"] = {*fields, "consumer_key_digest"}
        super().save(*args, **kwargs)
        if self.consumer_key and (fields is None or "consumer_key" in fields):
            known = UnknownSender(kind=SenderKind.KEY, text=self.consumer_key)
            LtiUnknownSender.objects.using(self._state.db).forget(known)

    def clean(self) -> None:
        """Refuse a key without a secret and a secret without a key.

        Where both are blank, the previous secret goes too.
        """
        super().clean()
        if self.consumer_key and self.stored_secret == "":
            raise ValidationError({"consumer_secret": _PAIR})
        if not self.consumer_key and self.stored_secret:
            raise ValidationError({"consumer_key": _PAIR})
        if not self.consumer_key:
            self.previous_secret, self.previous_secret_until = "", None
            self.previous_secret_used_at = self.secret_used_at = None

    @property
    def speaks_lti11(self) -> bool:
        """Whether there is a key to launch with."""
        return bool(self.consumer_key)

    @property
    def signing_key(self) -> str:
        """The consumer key, to sign with. Raises ValueError if there is none."""
        if not self.consumer_key:
            raise ValueError(f"{self}: {NOT_SPOKEN}")
        return self.consumer_key

    @property
    def accepts_previous_secret(self) -> bool:
        """Whether the secret before the present one is still accepted beside it."""
        until = self.previous_secret_until
        return until is not None and timezone.now() < until

    @property
    def is_expired(self) -> bool:
        """Whether the credentials have expired."""
        return self.expires_at is not None and self.expires_at <= timezone.now()

    @property
    def stored_secrets_in_force(self) -> tuple[str, str]:
        """The present and the previous secret as they are stored, blank where not accepted."""
        if self.is_expired or not self.speaks_lti11:
            return "", ""
        previous = self._get_stored("previous_secret") if self.accepts_previous_secret else ""
        return self.stored_secret, previous

    @property
    def stored_secrets(self) -> tuple[str, str]:
        """The present and the previous secret as they are stored, accepted or not."""
        return self.stored_secret, self._get_stored("previous_secret")

    @property
    def is_secret_unreadable(self) -> bool:
        """Whether the present secret is encrypted with a key that this site does not have."""
        return decrypt_all(self.stored_secret) == [None]

    def get_secret(self, use: SecretUse) -> str:
        """The present or the previous secret."""
        previous = use == self.SecretUse.PREVIOUS
        return self.previous_secret if previous else self.consumer_secret

    @property
    def stored_secret(self) -> str:
        """The present secret as it is stored, perhaps encrypted: to keep, not to show."""
        return self._get_stored("consumer_secret")

    def _get_stored(self, name: str) -> str:
        field = cast("SecretField", self._meta.get_field(name))
        stored: str = field.value_from_object(self)
        return stored

    @sensitive_variables()
    def rotate_secret(self, until: datetime, secret: str = "") -> None:
        """Take a new secret, ``secret`` or a generated one; accept the old one until ``until``.

        A secret that was accepted beside the old one ends at once. Saves the change. Raises
        ValueError if there is no key.
        """
        if not self.speaks_lti11:
            raise ValueError(f"{self}: {NOT_SPOKEN}")
        self.previous_secret = self.stored_secret
        self.previous_secret_until = until
        self.previous_secret_used_at, self.secret_used_at = self.secret_used_at, None
        self.consumer_secret = secret or generate_secret()
        self.rotations += 1
        self.save(update_fields=[*_CREDENTIALS])
        logger.info(
            "secret_rotated consumer=%s",
            self.pk,
            extra={"event": "secret_rotated", "consumer": self.pk},
        )

    def end_previous_secret(self) -> None:
        """Accept the present secret only, from now on. Saves the change."""
        if self.accepts_previous_secret:
            self.previous_secret_until = timezone.now()
            self.save(update_fields=["previous_secret_until"])
            logger.info(
                "previous_secret_ended consumer=%s",
                self.pk,
                extra={"event": "previous_secret_ended", "consumer": self.pk},
            )

    def record_secret_use(self, use: SecretUse) -> bool:
        """Record when a secret last signed a launch, once in an hour at most.

        True if it is the first use of a secret that a rotation brought.
        """
        name = {
            self.SecretUse.CURRENT: "secret_used_at",
            self.SecretUse.PREVIOUS: "previous_secret_used_at",
        }[use]
        now = timezone.now()
        noted: datetime | None = getattr(self, name)
        if noted is not None and now - noted <= STAMP_INTERVAL:
            return False
        # A rotation meanwhile has moved the stamp; the next launch writes it then.
        same = type(self)._default_manager.filter(pk=self.pk, **{name: noted})
        written = same.update(**{name: now})
        is_first = noted is None and use == self.SecretUse.CURRENT
        return bool(written and is_first and self.rotations)

    def get_rotation(self, use: str) -> int:
        """The number of the secret that signed a launch: how many rotations came before it."""
        return self.rotations - (use == self.SecretUse.PREVIOUS)

    @sensitive_variables()
    def get_signing_secrets(self, rotation: int) -> list[str]:
        """The secret that came with ``rotation``, and while two are accepted, the other one."""
        previous = self._get_stored("previous_secret") if self.accepts_previous_secret else ""
        (earlier,) = decrypt_all(previous)
        both = [self.consumer_secret, *([earlier] if earlier else [])]
        return both[::-1] if rotation == self.rotations - 1 else both

    @property
    def window(self) -> int:
        """Seconds that a launch's timestamp may differ from our clock, both ways."""
        asked = conf.timestamp_window if self.timestamp_window is None else self.timestamp_window
        return min(asked, LONGEST_WINDOW)

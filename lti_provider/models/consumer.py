"""LtiConsumer: one external LMS."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Self, cast

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
from lti_provider.message import IDENTIFIER_LENGTH, LaunchMessage, PersonalData
from lti_provider.models import prepared
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.join import DigestJoin
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.secret import SecretField, decrypt_all
from lti_provider.origins import get_host, is_path, normalize_origin

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from lti_provider.models.installation import LtiInstallation

logger = logging.getLogger("lti_provider")

#: How many hosts launches may teach a consumer; the oldest one makes room.
SERVICE_HOSTS_LEARNED = 10

#: The marker cookie carries the origins, and a browser keeps about 4 kB in one cookie.
FRAME_ORIGINS_LENGTH = 2000

#: How exact "last used" and "last seen" are: they are written once in this time at most.
STAMP_INTERVAL = timedelta(hours=1)
_FOLLOWS = {
    "consumer_key": "consumer_key_digest",
    "instance_guid": "instance_guid_digest",
    "is_active": "session_epoch",
}
#: The widest timestamp window, in seconds. Nonces are kept so long: a window can be widened.
LONGEST_WINDOW = 86400

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


def validate_frame_origins(text: str) -> None:
    """Refuse lines that are not origins, with what to write instead."""
    for line in text.split():
        normalize_origin(line)


def validate_launch_targets(text: str) -> None:
    """Refuse lines that are not paths from the site's root."""
    for line in text.splitlines():
        if line.strip() and not is_path(line.strip()):
            raise ValidationError(
                _("“%(text)s” is not a path such as /courses/algebra/."),
                code="invalid_path",
                params={"text": line.strip()},
            )


def validate_service_hosts(text: str) -> None:
    """Refuse lines that are not hosts."""
    for line in text.split():
        if get_host(f"https://{line}/") != line.lower().removesuffix(":443"):
            raise ValidationError(
                _("“%(text)s” is not a host such as lms.example.edu or localhost:8080."),
                code="invalid_host",
                params={"text": line},
            )


def validate_service_networks(text: str) -> None:
    """Refuse lines that are not networks, with what to write instead."""
    for line in text.split():
        try:
            ip_network(line)
        except ValueError:
            raise ValidationError(
                _("“%(text)s” is not a network such as 10.20.0.0/16 or fd00:20::/48."),
                code="invalid_network",
                params={"text": line},
            ) from None


class LtiConsumerQuerySet(PrimaryQuerySet["LtiConsumer"]):
    def with_key(self, consumer_key: str) -> LtiConsumer | None:
        """The consumer with exactly this key, and its first installation, in one indexed read."""
        return prepared.find_one(
            self, "consumer_key_digest", digest(consumer_key), ("installation",)
        )

    def update(self, **kwargs: Any) -> int:
        """Update; deactivating consumers ends their sessions."""
        if kwargs.get("is_active", True) is not True:
            kwargs.setdefault("session_epoch", models.F("session_epoch") + 1)
        return super().update(**kwargs)

    def forget_secrets(self, before: datetime) -> int:
        """Drop previous secrets whose overlap ended before ``before``; count them."""
        ended = self.filter(previous_secret_until__lt=before)
        return ended.update(previous_secret="", previous_secret_until=None)


class LtiConsumer(models.Model):
    """An external LMS that may launch this site's pages.

    Key and secret are its LTI 1.1 credentials. The key identifies the consumer, nothing else does.
    """

    class GuidPolicy(models.TextChoices):
        PIN = "pin", _("Pin: refuse launches from another installation")
        RECORD = "record", _("Record: only note the first installation seen")

    class PersonalDataPolicy(models.TextChoices):
        NONE = PersonalData.NONE.value, _("Nothing")
        NAME = PersonalData.NAME.value, _("Name")
        NAME_EMAIL = PersonalData.NAME_EMAIL.value, _("Name and e-mail address")

    class AccountMatch(models.TextChoices):
        EMAIL = "email", _("The account with the e-mail address that the LMS sends")
        ANY = "any", _("Any account that the learner signs in with and confirms")

    class OriginCheck(models.TextChoices):
        OFF = "off", _("Off")
        REPORT = "report", _("Report: note foreign origins in the launch log")
        ENFORCE = "enforce", _("Enforce: refuse launches from foreign origins")

    class SecretUse(models.TextChoices):
        CURRENT = "current", _("The present secret")
        PREVIOUS = "previous", _("The previous secret")

    class SignatureMethod(models.TextChoices):
        HMAC_SHA1 = "HMAC-SHA1", _("HMAC-SHA1 or HMAC-SHA256")
        HMAC_SHA256 = "HMAC-SHA256", _("HMAC-SHA256 only")

    consumer_name = models.CharField(
        _("consumer name"),
        max_length=255,
        help_text=_("What people here call this LMS."),
    )
    consumer_key = models.CharField(
        _("consumer key"),
        max_length=IDENTIFIER_LENGTH,
        default=generate_key,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("Copy it into the LMS, or enter the key that the LMS already has."),
    )
    consumer_key_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    consumer_secret = SecretField(
        _("consumer secret"),
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
    instance_guid = models.CharField(
        _("instance guid"),
        max_length=IDENTIFIER_LENGTH,
        blank=True,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("Leave blank: the LMS fills it in with its first launch."),
    )
    instance_guid_digest = models.CharField(max_length=DIGEST_LENGTH, blank=True, editable=False)
    guid_policy = models.CharField(
        _("when another installation launches"),
        max_length=8,
        choices=GuidPolicy,
        default=GuidPolicy.PIN,
        help_text=_("User ids are unique in one installation only; pinning keeps two apart."),
    )
    require_user_account = models.BooleanField(
        _("require user account"),
        default=False,
        help_text=_(
            "Learners sign in with an account of this site at their first launch, and it is "
            "connected to them. What they did before, without one, stays with the anonymous "
            "account."
        ),
    )
    account_match = models.CharField(
        _("account to connect"),
        max_length=8,
        choices=AccountMatch,
        default=AccountMatch.EMAIL,
        help_text=_("Either way the learner has to sign in and to confirm."),
    )
    allow_staff = models.BooleanField(
        _("staff accounts"),
        default=False,
        help_text=_("Let this LMS sign in staff and superusers. Whoever runs it could be them."),
    )
    is_active = models.BooleanField(
        _("active"),
        default=True,
        help_text=_(
            "Without it, launches are refused, and sessions that came from this LMS end at their "
            "next request."
        ),
    )
    # Sessions remember the number that they were made under; deactivating counts it up.
    session_epoch = models.PositiveBigIntegerField(default=0, editable=False)
    personal_data = models.CharField(
        _("personal data kept"),
        max_length=16,
        choices=PersonalDataPolicy,
        default=PersonalDataPolicy.NONE,
        help_text=_("Kept on accounts that launches created, never copied to other accounts."),
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
    frame_origins = models.TextField(
        _("frame origins"),
        blank=True,
        max_length=FRAME_ORIGINS_LENGTH,
        validators=[validate_frame_origins],
        help_text=_(
            "Who may show launched pages in a frame, one origin a line, such as "
            "https://lms.example.edu. Blank: the origin of the LMS's signed return URL."
        ),
    )
    origin_check = models.CharField(
        _("origin check"),
        max_length=8,
        choices=OriginCheck,
        default=OriginCheck.OFF,
        help_text=_(
            "Compare the Origin that the browser sends with a launch to the frame origins. "
            "Browsers that do not tell it are let through."
        ),
    )
    launch_targets = models.TextField(
        _("launch targets"),
        blank=True,
        validators=[validate_launch_targets],
        help_text=_(
            "Paths that this LMS may launch, one a line, such as /courses/algebra/. "
            "Blank: every path that the site allows."
        ),
    )
    service_hosts = models.TextField(
        _("service hosts"),
        blank=True,
        validators=[validate_service_hosts],
        help_text=_(
            "Hosts that this site may ask for this LMS, to take grades for example: one a line, "
            "such as lms.example.edu. Leave blank: signed launches fill it in."
        ),
    )
    service_networks = models.TextField(
        _("service networks"),
        blank=True,
        validators=[validate_service_networks],
        help_text=_(
            "Only public addresses are asked. If this LMS is on a private network, list it here, "
            "one network a line, such as 10.20.0.0/16."
        ),
    )
    unsupported_operations = models.CharField(
        _("unsupported operations"), max_length=30, blank=True, editable=False
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    installation = DigestJoin(
        "LtiInstallation",
        from_fields=("id", "instance_guid_digest"),
        to_fields=("lti_consumer", "guid_digest"),
        related_name="+",
    )

    objects = LtiConsumerQuerySet.as_manager()

    _stored_guid: str | None = ""

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("LTI consumer")
        verbose_name_plural = _("LTI consumers")
        ordering = ("consumer_name", "pk")
        constraints = (
            models.UniqueConstraint(fields=("consumer_key_digest",), name="lti_consumer_key"),
        )

    def __str__(self) -> str:
        return self.consumer_name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the digests that find key and guid; accept a new ``instance_guid``."""
        self.consumer_key_digest = digest(self.consumer_key)
        self.instance_guid_digest = digest(self.instance_guid)
        if (fields := kwargs.get("update_fields")) is not None:
            kwargs["update_fields"] = {
                *fields,
                *(_FOLLOWS[name] for name in _FOLLOWS.keys() & {*fields}),
            }
        names = fields or ("instance_guid",)
        is_guid_set = "instance_guid" in names and self.instance_guid != self._stored_guid
        known = {name: getattr(self, name) for name in self._get_stale_names(is_guid_set)}
        for name in known:
            setattr(self, name, models.F(name))
        if not self.is_active and "session_epoch" in known:
            self.session_epoch = models.F("session_epoch") + 1
        try:
            super().save(*args, **kwargs)
        finally:
            for name, value in known.items():
                setattr(self, name, value)
        if is_guid_set:
            self._stored_guid = self.instance_guid
            if self.instance_guid:
                self._add_installation(self.instance_guid)

    def _get_stale_names(self, is_guid_set: bool) -> tuple[str, ...]:
        # Not written back from memory: sessions that a deactivation ended would live again, and an
        # installation that a launch taught meanwhile would be forgotten.
        if self._state.adding:
            return ()
        guid = () if is_guid_set else ("instance_guid", "instance_guid_digest")
        return ("session_epoch", *guid)

    @classmethod
    def from_db(
        cls,
        db: str | None,
        field_names: Collection[str],
        values: Collection[Any],
        **options: Any,
    ) -> Self:
        consumer = super().from_db(db, field_names, values, **options)
        consumer._stored_guid = vars(consumer).get("instance_guid")
        return consumer

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        self._stored_guid = vars(self).get("instance_guid")

    def clean(self) -> None:
        """Normalize origins and refuse a key that a different consumer has, to the letter."""
        super().clean()
        self.frame_origins = "\n".join(
            dict.fromkeys(normalize_origin(line) for line in self.frame_origins.split())
        )
        hosts = self.service_hosts.lower().split()
        self.service_hosts = "\n".join(dict.fromkeys(h.removesuffix(":443") for h in hosts))
        self.service_networks = "\n".join(dict.fromkeys(self.service_networks.split()))
        taken = LtiConsumer.objects.with_key(self.consumer_key)
        if taken is not None and taken.pk != self.pk:
            raise ValidationError(
                {"consumer_key": _("Another LTI consumer has this key.")}, code="unique"
            )

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
        if self.is_expired:
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

        A secret that was accepted beside the old one ends at once. Saves the change.
        """
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

    def set_active(self, active: bool) -> None:
        """Activate or deactivate. Deactivating ends the sessions that came from this LMS."""
        self.is_active = active
        self.save(update_fields=["is_active"])
        if active:
            logger.info(
                "consumer_activated consumer=%s",
                self.pk,
                extra={"event": "consumer_activated", "consumer": self.pk},
            )
        else:
            logger.info(
                "consumer_deactivated consumer=%s",
                self.pk,
                extra={"event": "consumer_deactivated", "consumer": self.pk},
            )

    def record_secret_use(self, use: SecretUse) -> None:
        """Record when a secret last signed a launch, once in an hour at most."""
        name = {
            self.SecretUse.CURRENT: "secret_used_at",
            self.SecretUse.PREVIOUS: "previous_secret_used_at",
        }[use]
        now = timezone.now()
        noted: datetime | None = getattr(self, name)
        if noted is None or now - noted > STAMP_INTERVAL:
            # A rotation meanwhile has moved the stamp; the next launch writes it then.
            written = type(self).objects.filter(pk=self.pk, **{name: noted}).update(**{name: now})
            if written and noted is None and self.rotations and use == self.SecretUse.CURRENT:
                # The LMS has the new secret now: what it refused has waited for this.
                self.lti_results.retry_unauthorized()

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

    @property
    def personal_data_kept(self) -> PersonalData:
        """``personal_data`` as PersonalData."""
        return PersonalData(self.personal_data)

    @property
    def frame_origin_list(self) -> tuple[str, ...]:
        """The origins of ``frame_origins``, in order."""
        return tuple(self.frame_origins.split())

    @property
    def launch_target_list(self) -> tuple[str, ...]:
        """The paths of ``launch_targets``, in order."""
        return tuple(line.strip() for line in self.launch_targets.splitlines() if line.strip())

    @property
    def service_host_list(self) -> tuple[str, ...]:
        """The hosts of ``service_hosts``, in order."""
        return tuple(self.service_hosts.split())

    @property
    def service_network_list(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of ``service_networks``, in order."""
        return tuple(ip_network(line) for line in self.service_networks.split())

    def learn_service_host(self, host: str) -> None:
        """Add a host that a verified launch named to the service hosts.

        Whoever signs launches knows the secret that signs grades, so it may also say where they
        go; a grade whose address came from elsewhere goes nowhere.
        """
        known = self.service_host_list
        if host in known:
            return
        hosts = "\n".join((*known, host)[-SERVICE_HOSTS_LEARNED:])
        # Of two simultaneous launches the second one's host waits for its next launch.
        learned = type(self).objects.filter(pk=self.pk, service_hosts=self.service_hosts)
        if learned.update(service_hosts=hosts):
            logger.info(
                "service_host_learned consumer=%s host=%s",
                self.pk,
                host,
                extra={"event": "service_host_learned", "consumer": self.pk, "host": host},
            )
        self.service_hosts = hosts

    def supports(self, operation: str) -> bool:
        """Whether the LMS may do this with grades: it has never said that it does not."""
        return operation not in self.unsupported_operations.split()

    def record_unsupported(self, operation: str) -> None:
        """Record that the LMS does not do this with grades; a resend asks again."""
        if self.supports(operation):
            self.unsupported_operations = f"{self.unsupported_operations} {operation}".strip()
            self.save(update_fields=["unsupported_operations"])

    def is_foreign_origin(self, origin: str, message: LaunchMessage) -> bool:
        """Whether a launch's ``Origin`` header (RFC 6454) names a different site than this LMS.

        A missing or ``null`` one names nobody. Without frame origins, the signed return URL's
        origin is the LMS's; without that, nobody is known to be foreign.
        """
        if self.origin_check == self.OriginCheck.OFF or origin in ("", "null"):
            return False
        own = self.get_frame_origins(message.return_origin)
        return bool(own) and origin.lower() not in own

    def get_frame_origins(self, return_origin: str | None) -> tuple[str, ...]:
        """The LMS's origins: the consumer's, else ``return_origin``, of the signed return URL."""
        return self.frame_origin_list or ((return_origin,) if return_origin else ())

    def find_installation(self, guid: str) -> LtiInstallation | None:
        """The accepted installation ``guid``, to the letter, which may be blank.

        The first one of a consumer that ``with_key`` found was read with it.
        """
        if guid == self.instance_guid:
            first: LtiInstallation | None = self.installation
            return first
        return self.installations.filter(guid_digest=digest(guid)).first()

    def learns_installation(self, guid: str) -> bool:
        """Whether an accepted launch of ``guid`` may be the first to name an installation."""
        return bool(guid) and not self.instance_guid

    def learn_installation(self, guid: str) -> bool:
        """Accept the installation that launched first; False if a different one did.

        Of simultaneous first launches the first to be written wins.
        """
        unknown = type(self).objects.filter(
            ~models.Exists(self.installations.all()),
            pk=self.pk,
            instance_guid_digest=digest(""),
        )
        learned = unknown.update(instance_guid=guid, instance_guid_digest=digest(guid))
        if learned:
            self._add_installation(guid).record_seen()
        self.refresh_from_db(fields=["instance_guid", "instance_guid_digest"])
        return bool(learned) or self.installations.filter(guid_digest=digest(guid)).exists()

    def accept_installation(self, guid: str, accepted_by: AbstractBaseUser | None = None) -> None:
        """Accept launches of one more installation, beside those that are accepted already."""
        self._add_installation(guid, accepted_by)
        if not self.instance_guid:
            self._set_first_installation(guid)

    def forget_installation(self, guid: str) -> None:
        """Make the oldest installation that is left the first one, if ``guid`` was."""
        if self.instance_guid == guid:
            left = self.installations.first()
            self._set_first_installation(left.guid if left else "")

    def _set_first_installation(self, guid: str) -> None:
        self.instance_guid = guid
        self.save(update_fields=["instance_guid"])

    def _add_installation(
        self, guid: str, accepted_by: AbstractBaseUser | None = None
    ) -> LtiInstallation:
        added, _created = self.installations.get_or_create(
            guid_digest=digest(guid),
            defaults={"guid": guid, "accepted_by": cast("Any", accepted_by)},
        )
        return added

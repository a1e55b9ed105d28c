"""LtiConsumer: one external LMS."""

from __future__ import annotations

import logging
from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Any, Self, cast

from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from lti_provider.conf import conf
from lti_provider.message import IDENTIFIER_LENGTH, PersonalData
from lti_provider.models import prepared
from lti_provider.models.credentials import Lti11Credentials, Lti11CredentialsQuerySet
from lti_provider.models.digest import DIGEST_LENGTH, DigestJoin, digest
from lti_provider.models.installation import LtiInstallation
from lti_provider.origins import get_host, is_path, normalize_origin
from lti_provider.products import PRODUCTS, get_product

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("lti_provider")

#: How many hosts launches may teach a consumer; the oldest one makes room.
SERVICE_HOSTS_LEARNED = 10

#: The marker cookie carries the origins, and a browser keeps about 4 kB in one cookie.
FRAME_ORIGINS_LENGTH = 2000

_FOLLOWS = {
    "instance_guid": "instance_guid_digest",
    "is_active": "session_epoch",
}


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


def validate_product(code: str) -> None:
    """Refuse a product that is not known here, with those that are."""
    if get_product(code) is None:
        raise ValidationError(
            _("“%(code)s” is not one of the products %(known)s."),
            code="invalid_product",
            params={"code": code, "known": ", ".join(each.code for each in PRODUCTS)},
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


class LtiConsumerQuerySet(Lti11CredentialsQuerySet["LtiConsumer"]):
    def with_key(self, consumer_key: str) -> LtiConsumer | None:
        """The consumer with exactly this key, and its first installation, in one indexed read.

        A blank key is nobody's.
        """
        if not consumer_key:
            return None
        return prepared.find_one(
            self, "consumer_key_digest", digest(consumer_key), ("installation",)
        )

    def update(self, **kwargs: Any) -> int:
        """Update; deactivating consumers ends their sessions."""
        if kwargs.get("is_active", True) is not True:
            kwargs.setdefault("session_epoch", models.F("session_epoch") + 1)
        return super().update(**kwargs)


class LtiConsumer(Lti11Credentials):
    """An external LMS that may launch this site's pages, and how far it is trusted."""

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

    consumer_name = models.CharField(
        _("consumer name"),
        max_length=255,
        help_text=_("What people here call this LMS."),
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
        help_text=_(
            "Kept on accounts that launches created, never copied to other accounts. Teachers see "
            "on this site what is kept: with “Nothing”, random user names."
        ),
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
    product = models.CharField(
        _("product"),
        max_length=32,
        blank=True,
        validators=[validate_product],
        help_text=_("Which product this LMS is. Its steps are shown first."),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    # That of the first launch by LTI 1.3: a different issuer is a different LMS.
    issuer = models.CharField(_("issuer"), max_length=IDENTIFIER_LENGTH, blank=True, editable=False)

    installation = DigestJoin(
        LtiInstallation,
        from_fields=("id", "instance_guid_digest"),
        to_fields=("lti_consumer", "guid_digest"),
        related_name="+",
    )

    objects = LtiConsumerQuerySet.as_manager()

    _stored_guid: str | None = ""

    class Meta(Lti11Credentials.Meta):
        base_manager_name = "objects"
        verbose_name = _("LTI consumer")
        verbose_name_plural = _("LTI consumers")
        ordering = ("consumer_name", "pk")

    def __str__(self) -> str:
        return self.consumer_name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the digests that find key and guid; accept a new ``instance_guid``."""
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
        taken = LtiConsumer.objects.with_key(self.consumer_key or "")
        if taken is not None and taken.pk != self.pk:
            raise ValidationError(
                {"consumer_key": _("Another LTI consumer has this key.")}, code="unique"
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

    def record_secret_use(self, use: Lti11Credentials.SecretUse) -> bool:
        """Record when a secret last signed a launch, once in an hour at most.

        The first use of a secret that a rotation brought sends again what the LMS refused before.
        """
        is_first = super().record_secret_use(use)
        if is_first:
            self.lti_results.retry_unauthorized()
        return is_first

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

    def get_first_target(self) -> str:
        """A path to try: the first launch target, else the first launchable path of the site.

        Blank for the default target, or if there is nothing to launch.
        """
        if self.launch_target_list:
            return self.launch_target_list[0]
        if conf.default_target is None and conf.launchable_paths:
            return conf.launchable_paths[0]
        return ""

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

    def is_foreign_origin(self, origin: str, own: Collection[str]) -> bool:
        """Whether a launch's ``Origin`` header (RFC 6454) names a different site than this LMS.

        A missing or ``null`` one names nobody. ``own`` is of ``get_frame_origins``; if that is
        empty, nobody is known to be foreign.
        """
        if self.origin_check == self.OriginCheck.OFF or origin in ("", "null"):
            return False
        return bool(own) and origin.lower() not in own

    def get_frame_origins(self, *said: str | None) -> tuple[str, ...]:
        """The LMS's origins: the consumer's, else those that a verified launch ``said``.

        They are of the signed return URL and, in LTI 1.3, of the authorization endpoint.
        """
        return self.frame_origin_list or tuple(filter(None, dict.fromkeys(said)))

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

    def accepts_issuer(self, issuer: str) -> bool:
        """Whether no different issuer has launched as this consumer: a consumer is one LMS."""
        return self.issuer in ("", issuer)

    def learn_issuer(self, issuer: str) -> bool:
        """Keep the issuer that launched first; False if a different one did.

        Of simultaneous first launches the first to be written wins.
        """
        if not self.issuer:
            type(self).objects.filter(pk=self.pk, issuer="").update(issuer=issuer)
            self.refresh_from_db(fields=["issuer"])
        return self.accepts_issuer(issuer)

    def accept_installation(self, guid: str, accepted_by: AbstractBaseUser | None = None) -> None:
        """Accept launches of one more installation, beside those that are accepted already.

        Deployments of LTI 1.3 learn anew which of the accepted ones is theirs.
        """
        self._add_installation(guid, accepted_by)
        self.deployments.exclude(instance_guid=guid).update(instance_guid="")
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

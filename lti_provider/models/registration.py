"""LtiRegistration: how this site and an LMS that speaks LTI 1.3 know each other."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, cast
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxValueValidator,
    ProhibitNullCharactersValidator,
)
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models import prepared
from lti_provider.models.consumer import LtiConsumer, validate_service_networks
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.primary import PrimaryQuerySet
from lti_provider.models.public_keys import KeySet, NotAKeySet, load_key_set, validate_key_set
from lti_provider.models.unknown_sender import LtiUnknownSender, SenderKind, UnknownSender
from lti_provider.origins import get_origin, is_http_url
from lti_provider.products import is_shared_issuer

#: Seconds that a platform's clock may differ from ours, unless its registration says otherwise.
CLOCK_LEEWAY = 60
LONGEST_CLOCK_LEEWAY = 300
_URL_LENGTH = 1000

# Only the fetching of keys writes these fields; ``save`` leaves in the table what it finds there.
_NO_KEY_SET = {
    "fetched_jwks": "",
    "jwks_tried_at": None,
    "jwks_fetched_at": None,
    "jwks_expires_at": None,
    "jwks_error": "",
}
# Where keys are fetched from, and how. If one changes, fetched keys and failures are forgotten.
_KEY_SET_SOURCE = frozenset({"jwks_uri", "service_networks"})
#: Between two attempts to fetch the keys of a registration, on all processes.
KEY_FETCH_INTERVAL = timedelta(minutes=1)
# An attempt that takes longer has ended with its process.
_LONGEST_KEY_FETCH = timedelta(seconds=10)

#: Why keys were not fetched, by code; ``status_404`` and its like are not listed.
KEY_SET_PROBLEMS: dict[str, Any] = {
    "timeout": _("The LMS did not answer in time."),
    "unreachable": _("The LMS could not be reached."),
    "unknown_host": _("The host name {host} could not be found."),
    "certificate": _("The certificate is not valid for {host}."),
    "address_not_public": _(
        "{host} is not at a public address: list its network on the registration if it is yours."
    ),
    "not_https": _(
        "Keys are fetched by https, and by plain http only from networks that are listed on the "
        "registration."
    ),
    "host_not_known": _("The key set URL is not an http or https address."),
    "too_large": _("The answer was too large."),
    "not_a_key_set": _("The answer was not a key set."),
}


def describe_key_set_problem(code: str, host: str) -> str:
    """The problem of ``jwks_error`` in words; empty for none."""
    status = code.removeprefix("status_")
    if status == code:
        return str(KEY_SET_PROBLEMS.get(code, code)).format(host=host)
    if status.startswith("3"):
        text = _("It has moved (HTTP status {status}); redirects are not followed.")
    else:
        text = _("The LMS answered with HTTP status {status}.")
    return str(text).format(status=status)


def validate_endpoint(text: str) -> None:
    """Refuse what is not an absolute http(s) URL."""
    if not is_http_url(text):
        raise ValidationError(
            _("“%(text)s” is not an address such as https://lms.example.edu/auth."),
            code="invalid_url",
            params={"text": text},
        )


def _endpoint(verbose_name: Any, *, blank: bool = False, help_text: Any = "") -> Any:
    return models.CharField(
        verbose_name,
        max_length=_URL_LENGTH,
        blank=blank,
        validators=[ProhibitNullCharactersValidator(), validate_endpoint],
        help_text=help_text,
    )


class LtiRegistrationQuerySet(PrimaryQuerySet["LtiRegistration"]):
    def with_client(self, issuer: str, client_id: str) -> LtiRegistration | None:
        """The registration with exactly this issuer and client id, in one indexed read."""
        found = digest(issuer, client_id)
        return prepared.find_one(self, "registration_digest", found, ())

    def of_consumer(self, consumer: LtiConsumer) -> LtiRegistrationQuerySet:
        """Those that the consumer has deployments of, and those whose deployments are to be its."""
        own = self.filter(deployments__lti_consumer=consumer).order_by().values("pk")
        return self.filter(models.Q(pk__in=own) | models.Q(lti_consumer=consumer)).order_by("pk")

    def of_issuer(self, issuer: str) -> LtiRegistrationQuerySet:
        """All registrations with exactly this issuer."""
        return self.filter(issuer_digest=digest(issuer))

    def update(self, **kwargs: Any) -> int:
        """Update; keys that were fetched from elsewhere are forgotten."""
        if not _KEY_SET_SOURCE.isdisjoint(kwargs):
            kwargs = _NO_KEY_SET | kwargs
        return super().update(**kwargs)


class LtiRegistration(models.Model):
    """How this site is known to a platform (LTI 1.3 §3.1.3, Security Framework 1.0 §5.1.1).

    Issuer and client id identify it together, to the letter. Nothing of it changes because of a
    launch or of another request that nobody of ours asked for; what is fetched of ``jwks_uri``
    aside.
    """

    class NewDeployments(models.TextChoices):
        APPROVE = "approve", _("Approve: they wait for an administrator")
        JOIN = "join", _("Join: they belong to the LTI consumer below")

    issuer = models.CharField(
        _("issuer"),
        max_length=IDENTIFIER_LENGTH,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("To the letter as the LMS sends it, such as https://lms.example.edu."),
    )
    issuer_digest = models.CharField(max_length=DIGEST_LENGTH, db_index=True, editable=False)
    client_id = models.CharField(
        _("client id"),
        max_length=IDENTIFIER_LENGTH,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("What the LMS calls this site; it makes it when the tool is added there."),
    )
    registration_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    authorization_endpoint = _endpoint(
        _("authorization endpoint"),
        help_text=_("Where a login sends the browser; also called authentication request URL."),
    )
    token_endpoint = _endpoint(
        _("token endpoint"),
        blank=True,
        help_text=_("Where this site asks for leave to send grades; also called access token URL."),
    )
    token_audience = models.CharField(
        _("token audience"),
        max_length=_URL_LENGTH,
        blank=True,
        validators=[ProhibitNullCharactersValidator()],
        help_text=_("Blank for the token endpoint; Brightspace has one of its own."),
    )
    jwks_uri = _endpoint(
        _("key set URL"),
        blank=True,
        help_text=_("Where the LMS publishes its keys; also called public keyset URL."),
    )
    jwks = models.TextField(
        _("key set"),
        blank=True,
        max_length=64 * 1024,
        help_text=_("Only for an LMS without a key set URL: its public key as JWK, JWKS or PEM."),
    )
    new_deployments = models.CharField(
        _("deployments that nobody knows"),
        max_length=8,
        choices=NewDeployments,
        default=NewDeployments.APPROVE,
    )
    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("LTI consumer"),
        help_text=_(
            "Whose registration this is. New deployments that join belong to this LTI consumer."
        ),
    )
    service_networks = models.TextField(
        _("service networks"),
        blank=True,
        validators=[validate_service_networks],
        help_text=_(
            "Only public addresses are asked, and by https. If this LMS is on a private network, "
            "list it here, one network a line, such as 10.20.0.0/16."
        ),
    )
    clock_leeway = models.PositiveIntegerField(
        _("clock leeway"),
        default=CLOCK_LEEWAY,
        validators=[MaxValueValidator(LONGEST_CLOCK_LEEWAY)],
        help_text=_("Seconds that the LMS's clock may differ from ours."),
    )
    is_active = models.BooleanField(
        _("active"), default=True, help_text=_("Without it, its launches are refused.")
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    fetched_jwks = models.TextField(blank=True, editable=False)
    jwks_tried_at = models.DateTimeField(_("keys last asked for"), null=True, editable=False)
    jwks_fetched_at = models.DateTimeField(_("keys fetched"), null=True, editable=False)
    jwks_expires_at = models.DateTimeField(_("keys kept until"), null=True, editable=False)
    # Why the last attempt failed, a code; blank if it did not.
    jwks_error = models.CharField(max_length=40, blank=True, editable=False)

    objects = LtiRegistrationQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("LTI 1.3 registration")
        verbose_name_plural = _("LTI 1.3 registrations")
        ordering = ("issuer", "pk")
        constraints = (
            models.UniqueConstraint(fields=("registration_digest",), name="lti_registration"),
        )

    def __str__(self) -> str:
        return f"{self.issuer} ({self.client_id})"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, with the digests that issuer and client id are found by."""
        self.issuer_digest = digest(self.issuer)
        self.registration_digest = digest(self.issuer, self.client_id)
        if not self._state.adding:
            kwargs["update_fields"] = self._list_saved_fields(kwargs.get("update_fields"))
        super().save(*args, **kwargs)
        senders = LtiUnknownSender.objects.using(self._state.db)
        senders.forget(UnknownSender(kind=SenderKind.ISSUER, text=self.issuer))
        senders.forget(UnknownSender(kind=SenderKind.CLIENT, text=self.client_id))

    def _list_saved_fields(self, wanted: Collection[str] | None) -> set[str]:
        every = {field.name for field in self._meta.concrete_fields if not field.primary_key}
        names = every - _NO_KEY_SET.keys() if wanted is None else set(wanted)
        if _KEY_SET_SOURCE & names and self._has_moved():
            vars(self).update(_NO_KEY_SET)
            names |= _NO_KEY_SET.keys()
        return names

    def _has_moved(self) -> bool:
        source = sorted(_KEY_SET_SOURCE)
        stored = type(self).objects.filter(pk=self.pk).values(*source).first()
        return bool(stored != {name: getattr(self, name) for name in source})

    def clean(self) -> None:
        """Refuse a pair that a different registration has, one without keys, and unsafe joining."""
        super().clean()
        self._check_joining()
        self._check_issuer()
        self.service_networks = "\n".join(dict.fromkeys(self.service_networks.split()))
        taken = LtiRegistration.objects.with_client(self.issuer, self.client_id)
        if taken is not None and taken.pk != self.pk:
            raise ValidationError(
                {"client_id": _("Another registration has this issuer and client id.")},
                code="unique",
            )
        self._check_keys()

    def _check_keys(self) -> None:
        if not self.jwks_uri and not self.jwks:
            raise ValidationError(
                {"jwks_uri": _("Enter the key set URL, or the key set itself.")}, code="required"
            )
        if self.jwks:
            try:
                validate_key_set(self.jwks)
            except NotAKeySet as error:
                invalid = ValidationError(error.text, code="invalid_key_set")
                raise ValidationError({"jwks": invalid}) from None

    def _check_joining(self) -> None:
        if self.new_deployments != self.NewDeployments.JOIN:
            return
        if is_shared_issuer(self.issuer):
            text = _("One client id of this issuer serves all schools: new deployments must wait.")
            raise ValidationError({"new_deployments": text}, code="shared_issuer")
        if self.lti_consumer is None:
            text = _("Choose the LTI consumer that new deployments join.")
            raise ValidationError({"lti_consumer": text}, code="required")
        if not self.lti_consumer.accepts_issuer(self.issuer):
            raise ValidationError({"lti_consumer": describe_other_issuer(self.lti_consumer)})

    def _check_issuer(self) -> None:
        if self._state.adding:
            return
        consumers = LtiConsumer.objects.filter(deployments__registration=self).distinct()
        for consumer in consumers:
            if not consumer.accepts_issuer(self.issuer):
                raise ValidationError({"issuer": describe_other_issuer(consumer)})

    @property
    def joined_consumer(self) -> LtiConsumer | None:
        """Whom a deployment that nobody knows joins; None: it waits for an administrator."""
        joins = self.new_deployments == self.NewDeployments.JOIN
        return self.lti_consumer if joins and not is_shared_issuer(self.issuer) else None

    @property
    def service_network_list(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of ``service_networks``, in order."""
        return tuple(ip_network(line) for line in self.service_networks.split())

    @property
    def authorization_origin(self) -> str:
        """Origin (RFC 6454) of the authorization endpoint, whose pages post the launches."""
        return get_origin(self.authorization_endpoint)

    def get_key_set(self) -> KeySet:
        """The LMS's keys, as far as they are known here."""
        return load_key_set(self.fetched_jwks if self.jwks_uri else self.jwks)

    @property
    def are_keys_fresh(self) -> bool:
        """Whether the LMS need not be asked for its keys."""
        expires = self.jwks_expires_at
        return not self.jwks_uri or (expires is not None and timezone.now() < expires)

    @property
    def is_key_fetch_running(self) -> bool:
        """Whether a process asks the LMS for its keys right now."""
        tried = self.jwks_tried_at
        has_ended = tried == self.jwks_fetched_at or bool(self.jwks_error)
        return not has_ended and _is_within(_LONGEST_KEY_FETCH, tried)

    @property
    def has_key_fetch_failed(self) -> bool:
        """Whether the last attempt to fetch the LMS's keys brought none."""
        return self.jwks_fetched_at is None or self.jwks_fetched_at != self.jwks_tried_at

    @property
    def key_set_problem(self) -> str:
        """Why the last attempt to fetch the LMS's keys failed, in words; empty if it did not."""
        host = urlsplit(self.jwks_uri).hostname or ""
        return describe_key_set_problem(self.jwks_error, host)

    def begin_key_fetch(self) -> bool:
        """Whether the caller has to fetch the LMS's keys now: one process does, once a minute.

        If it is a different process, what that one has stored so far is read.
        """
        if _is_within(KEY_FETCH_INTERVAL, self.jwks_tried_at):
            return False
        unchanged = type(self).objects.filter(
            pk=self.pk, jwks_tried_at=self.jwks_tried_at, jwks_uri=self.jwks_uri
        )
        begun = {"jwks_tried_at": timezone.now(), "jwks_error": ""}
        if not unchanged.update(**begun):
            self.read_key_set()
            return False
        vars(self).update(begun)
        return True

    def end_key_fetch(self, jwks: str, keep_for: timedelta) -> None:
        """Store the keys that were fetched."""
        tried_at = cast("datetime", self.jwks_tried_at)
        self._store_key_fetch(
            fetched_jwks=jwks, jwks_fetched_at=tried_at, jwks_expires_at=tried_at + keep_for
        )

    def fail_key_fetch(self, code: str) -> None:
        """Store why no keys were fetched; those that are known stay."""
        self._store_key_fetch(jwks_error=code)

    def _store_key_fetch(self, **fields: Any) -> None:
        # The result of an attempt is dropped if the registration has changed since it began.
        attempt = type(self).objects.filter(pk=self.pk, jwks_tried_at=self.jwks_tried_at)
        if attempt.update(**fields):
            vars(self).update(fields)
        else:
            self.read_key_set()

    def read_key_set(self) -> None:
        """Read what processes have fetched since this registration was read."""
        stored = type(self).objects.filter(pk=self.pk).values(*_NO_KEY_SET).first()
        vars(self).update(stored or _NO_KEY_SET)


def _is_within(interval: timedelta, moment: datetime | None) -> bool:
    # A moment in the future was written by a clock that was ahead: it does not hold anything up.
    return moment is not None and abs(timezone.now() - moment) < interval


def describe_other_issuer(consumer: LtiConsumer) -> Any:
    """Why a deployment of a different issuer cannot belong to the consumer."""
    text = _("“%(name)s” has launched as %(issuer)s: a different issuer is a different LMS.")
    return ValidationError(
        text, code="other_issuer", params={"name": consumer, "issuer": consumer.issuer}
    )

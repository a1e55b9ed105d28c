"""Verify a signed launch request (RFC 5849 §3.2). Nothing is written here."""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass

from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider.exceptions import (
    ConsumerInactive,
    InvalidSignature,
    LaunchRefused,
    MalformedRequest,
    SecretUnreadable,
    StaleTimestamp,
    UnknownConsumerKey,
    UnsupportedSignatureMethod,
    VerifiedLaunchRefused,
    WeakSignatureMethod,
)
from lti_provider.lti11.form import LaunchForm, read_form
from lti_provider.lti11.signature import METHODS, base_string, sign
from lti_provider.message import LaunchMessage, Pairs
from lti_provider.models import LtiConsumer
from lti_provider.models.secret import decrypt_all

_TIMESTAMP = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, repr=False)
class VerifiedRequest:
    """A request that somebody signed who knows the consumer's secret.

    ``pairs`` are exactly what the signature covers, less ``oauth_signature`` itself.
    """

    consumer: LtiConsumer
    form: LaunchForm
    pairs: Pairs
    signed_with: LtiConsumer.SecretUse = LtiConsumer.SecretUse.CURRENT

    @property
    def timestamp(self) -> int:
        """Seconds since 1970 on the LMS's clock."""
        return int(self.form.oauth["oauth_timestamp"])

    @property
    def nonce(self) -> str:
        """Of any form; unique for consumer and window."""
        return self.form.oauth["oauth_nonce"]


@sensitive_variables()
def verify(request: HttpRequest) -> VerifiedRequest:
    """Read a launch request and check its signature and clock.

    Raises MalformedRequest, UnsupportedSignatureMethod, UnknownConsumerKey, InvalidSignature,
    SecretUnreadable, and, once the signature held, StaleTimestamp, ConsumerInactive,
    WeakSignatureMethod.
    """
    form, signed_with = read_form(request), None
    consumer = LtiConsumer.objects.with_key(form.oauth.get("oauth_consumer_key", ""))
    try:
        _check_protocol(form.oauth)
        if consumer is None:
            raise UnknownConsumerKey
        verified = _check_signature(form, consumer)
        signed_with = verified.signed_with
        _check_policy(verified, form.oauth["oauth_signature_method"])
    except LaunchRefused as refusal:
        held = isinstance(refusal, VerifiedLaunchRefused)
        message = LaunchMessage((*form.body, *form.query)) if held else None
        known = {"consumer": consumer, "form": form, "message": message}
        raise refusal.with_details(**known, signed_with=signed_with) from None
    return verified


@sensitive_variables()
def _check_signature(form: LaunchForm, consumer: LtiConsumer) -> VerifiedRequest:
    secrets = decrypt_all(*consumer.stored_secrets_in_force)
    try:
        for pairs in _list_readings(form):
            text = base_string(form.url, pairs)
            for use, secret in zip(LtiConsumer.SecretUse, secrets, strict=True):
                # An empty secret never verifies.
                if secret and _is_signed_with(secret, text, form.oauth):
                    return VerifiedRequest(consumer, form, pairs, use)
    except ValueError:
        raise MalformedRequest(
            _("The request's Host header is not a host with a valid port.")
        ) from None
    raise SecretUnreadable if None in secrets else InvalidSignature


@sensitive_variables()
def _is_signed_with(secret: str, text: str, oauth: dict[str, str]) -> bool:
    made = sign(text, secret, oauth["oauth_signature_method"])
    return hmac.compare_digest(made.encode(), oauth["oauth_signature"].encode())


def _check_protocol(oauth: dict[str, str]) -> None:
    for name in ("oauth_consumer_key", "oauth_signature_method", "oauth_signature", "oauth_nonce"):
        if not oauth.get(name):
            raise MalformedRequest(format_lazy(_("{name} is missing or empty."), name=name))
    if not _TIMESTAMP.fullmatch(oauth.get("oauth_timestamp", "")):
        raise MalformedRequest(_("oauth_timestamp is not a number of seconds."))
    if oauth["oauth_signature_method"] not in METHODS or oauth.get("oauth_token"):
        raise UnsupportedSignatureMethod
    if oauth.get("oauth_version", "1.0") != "1.0":
        raise UnsupportedSignatureMethod(_("oauth_version is not 1.0."))


def _list_readings(form: LaunchForm) -> list[Pairs]:
    body = tuple(pair for pair in form.body if pair[0] != "oauth_signature")
    # Canvas copies the launch URL's query into the body and signs it once. Leaving out query
    # pairs that the body repeats to the letter loses nothing: every value is still covered.
    once = tuple(pair for pair in form.query if pair not in body)
    readings = [(*body, *form.query)]
    return readings if len(once) == len(form.query) else [*readings, (*body, *once)]


def _check_policy(verified: VerifiedRequest, method: str) -> None:
    consumer = verified.consumer
    if abs(verified.timestamp - time.time()) > consumer.window:
        raise StaleTimestamp
    if not consumer.is_active:
        raise ConsumerInactive
    if consumer.minimum_signature_method == "HMAC-SHA256" and method != "HMAC-SHA256":
        raise WeakSignatureMethod

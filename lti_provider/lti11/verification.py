"""Verify a signed launch request (RFC 5849 §3.2). Nothing is written here."""

from __future__ import annotations

import hmac
import re
import time
from dataclasses import dataclass
from datetime import timedelta

from django.http import HttpRequest
from django.utils import timezone
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
    UnsupportedMessageType,
    UnsupportedSignatureMethod,
    WeakSignatureMethod,
)
from lti_provider.form import Pairs
from lti_provider.lti11.content_items import build_empty_selection
from lti_provider.lti11.diagnosis import Evidence
from lti_provider.lti11.form import LaunchForm, read_launch_form
from lti_provider.lti11.parameters import check_launch, is_lti_name, read_message
from lti_provider.lti11.signature import METHODS, base_string, sign
from lti_provider.models import LtiConsumer, VerifiedLaunch
from lti_provider.models.credentials import LONGEST_WINDOW
from lti_provider.models.secret import decrypt_all
from lti_provider.trial import is_trial_launch

_TIMESTAMP = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, repr=False)
class SignedRequest:
    """A request that somebody signed who knows the consumer's secret.

    ``pairs`` are exactly what the signature covers, less ``oauth_signature`` itself.
    """

    form: LaunchForm
    consumer: LtiConsumer
    pairs: Pairs
    signed_with: LtiConsumer.SecretUse


@sensitive_variables()
def verify(request: HttpRequest, body: Pairs) -> VerifiedLaunch:
    """Read a launch request whose form is ``body``; check signature, clock and that it is a launch.

    Raises what ``verify_signature`` raises and, once the signature held, StaleTimestamp,
    ConsumerInactive, WeakSignatureMethod and what ``check_launch`` raises.
    """
    signed = verify_signature(request, body)
    consumer, oauth = signed.consumer, signed.form.oauth
    evidence, message = Evidence(request, signed.form), read_message(signed.pairs)
    timestamp = int(oauth["oauth_timestamp"])
    try:
        _check_policy(consumer, timestamp, oauth["oauth_signature_method"])
        check_launch(signed.pairs)
    except LaunchRefused as refusal:
        if isinstance(refusal, UnsupportedMessageType):
            reply = build_empty_selection(signed.form, signed.pairs, consumer, signed.signed_with)
            refusal.with_details(reply=reply)
        known = {"consumer": consumer, "message": message, "evidence": evidence}
        raise refusal.with_details(**known) from None
    # To the second, which two readings of the clock miss by a little.
    nonce_counts = timedelta(seconds=timestamp + LONGEST_WINDOW + 0.5 - time.time())
    return VerifiedLaunch(
        consumer=consumer,
        message=message,
        nonce=oauth["oauth_nonce"],
        nonce_expires_at=(timezone.now() + nonce_counts).replace(microsecond=0),
        query=tuple(pair for pair in signed.form.query if not is_lti_name(pair[0])),
        clock_difference=timestamp - int(time.time()),
        signed_with=signed.signed_with,
        is_trial=is_trial_launch(consumer, message),
        evidence=evidence,
    )


@sensitive_variables()
def verify_signature(request: HttpRequest, body: Pairs) -> SignedRequest:
    """Read a request whose form is ``body`` and check its signature, and nothing else.

    Raises MalformedRequest, UnsupportedSignatureMethod, UnknownConsumerKey, InvalidSignature,
    SecretUnreadable.
    """
    form = read_launch_form(request, body)
    consumer = LtiConsumer.objects.with_key(form.oauth.get("oauth_consumer_key", ""))
    try:
        _check_protocol(form.oauth)
        if consumer is None:
            raise UnknownConsumerKey
        return _check_signature(form, consumer)
    except LaunchRefused as refusal:
        raise refusal.with_details(consumer=consumer, evidence=Evidence(request, form)) from None


@sensitive_variables()
def _check_signature(form: LaunchForm, consumer: LtiConsumer) -> SignedRequest:
    secrets = decrypt_all(*consumer.stored_secrets_in_force)
    try:
        for pairs in _list_readings(form):
            text = base_string(form.url, pairs)
            for use, secret in zip(LtiConsumer.SecretUse, secrets, strict=True):
                # An empty secret never verifies.
                if secret and _is_signed_with(secret, text, form.oauth):
                    return SignedRequest(form, consumer, pairs, use)
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


def _check_policy(consumer: LtiConsumer, timestamp: int, method: str) -> None:
    if abs(timestamp - time.time()) > consumer.window:
        raise StaleTimestamp
    if not consumer.is_active:
        raise ConsumerInactive
    if consumer.minimum_signature_method == "HMAC-SHA256" and method != "HMAC-SHA256":
        raise WeakSignatureMethod

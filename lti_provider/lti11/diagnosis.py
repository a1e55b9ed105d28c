"""Why a signature did not hold. For the administrator's log only: nothing here accepts anything."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from django.conf import settings
from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider.exceptions import InvalidSignature, LaunchRefused, UnknownConsumerKey
from lti_provider.form import Pairs
from lti_provider.lti11.form import LaunchForm
from lti_provider.lti11.parameters import is_personal_name
from lti_provider.lti11.signature import base_string, sign
from lti_provider.models import (
    Explanation,
    LtiConsumer,
    LtiLaunch,
    LtiUnknownSender,
    UnknownSender,
)
from lti_provider.models.secret import decrypt_all
from lti_provider.trial import is_trial_launch

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

_SHOWN = 8000
_HOSTS_TRIED = 6
_CONSUMERS_TRIED = 20
# What the integers of every database hold.
_LARGEST_DIFFERENCE = 2**31 - 1


@dataclass(frozen=True, repr=False)
class Evidence:
    """What is left of a launch request when it is refused."""

    request: HttpRequest
    form: LaunchForm


@dataclass(frozen=True, repr=False)
class _Supposition:
    url: str
    pairs: Pairs
    secret: str
    sentence: str | _StrPromise


@sensitive_variables()
def explain(refusal: LaunchRefused) -> Explanation:
    """What the launch log says of a refused request, with the likely cause of a wrong signature."""
    evidence: Evidence = refusal.evidence
    form = evidence.form
    explanation = Explanation(
        user_id=dict(form.body).get("user_id", ""),
        launch_url=form.url,
        clock_difference=_get_clock_difference(form.oauth),
        is_trial=refusal.message is not None and is_trial_launch(refusal.consumer, refusal.message),
        unknown_sender=_get_unknown_sender(refusal, form),
    )
    if not isinstance(refusal, InvalidSignature):
        return explanation
    signed = (*_without_signature(form), *form.query)
    return replace(
        explanation,
        hint=_diagnose(evidence, refusal.consumer),
        signed_text=base_string(form.url, _mask(signed))[:_SHOWN],
    )


def _get_unknown_sender(refusal: LaunchRefused, form: LaunchForm) -> UnknownSender | None:
    if not isinstance(refusal, UnknownConsumerKey):
        return None
    return UnknownSender(kind=LtiUnknownSender.Kind.KEY, text=form.oauth["oauth_consumer_key"])


def _get_clock_difference(oauth: dict[str, str]) -> int | None:
    try:
        difference = int(oauth["oauth_timestamp"]) - int(time.time())
    except (KeyError, ValueError):
        return None
    return difference if abs(difference) <= _LARGEST_DIFFERENCE else None


def _without_signature(form: LaunchForm) -> Pairs:
    return tuple(pair for pair in form.body if pair[0] != "oauth_signature")


@sensitive_variables()
def _diagnose(evidence: Evidence, consumer: LtiConsumer) -> str | _StrPromise:
    # What would have to differ for the signature to hold.
    form = evidence.form
    for supposition in _list_suppositions(evidence.request, form, consumer):
        if _explains_signature(supposition, form.oauth):
            return supposition.sentence
    if not consumer.stored_secret:
        return _("The consumer has no secret: enter the one that the LMS uses.")
    return _guess_cause(consumer)


@sensitive_variables()
def _explains_signature(supposition: _Supposition, oauth: dict[str, str]) -> bool:
    try:
        text = base_string(supposition.url, supposition.pairs)
    except ValueError:  # a forwarded host that is none
        return False
    made = sign(text, supposition.secret, oauth["oauth_signature_method"])
    return hmac.compare_digest(made.encode(), oauth["oauth_signature"].encode())


@sensitive_variables()
def _list_suppositions(
    request: HttpRequest, form: LaunchForm, consumer: LtiConsumer
) -> Iterator[_Supposition]:
    body = _without_signature(form)
    secret, previous = (text or "" for text in decrypt_all(*consumer.stored_secrets))
    signed = (*body, *form.query)
    if secret and consumer.is_expired:
        yield _Supposition(form.url, signed, secret, _insert_time(_EXPIRED, consumer.expires_at))
    if previous and not consumer.accepts_previous_secret:
        ended = _insert_time(_ENDED, consumer.previous_secret_until)
        yield _Supposition(form.url, signed, previous, ended)
    if secret:
        for url, sentence in _list_other_urls(request, form.url):
            yield _Supposition(url, signed, secret, sentence)
        if form.query:
            yield _Supposition(form.url, body, secret, _QUERY_UNSIGNED)
            yield _Supposition(form.url, (*signed, *form.query), secret, _QUERY_TWICE)
    for other in {secret.strip(), f"{secret} ", f" {secret}", f"{secret}\n"} - {secret, ""}:
        yield _Supposition(form.url, signed, other, _BLANKS)
    others = LtiConsumer.objects.exclude(pk=consumer.pk).exclude(consumer_secret="")
    for other_consumer in others[:_CONSUMERS_TRIED]:
        (other_secret,) = decrypt_all(other_consumer.stored_secret)
        sentence = format_lazy(
            _("It was signed with the secret of “{name}”: the LMS has the wrong key or secret."),
            name=other_consumer.consumer_name,
        )
        if other_secret:
            yield _Supposition(form.url, signed, other_secret, sentence)


def _insert_time(sentence: str | _StrPromise, moment: datetime | None) -> str | _StrPromise:
    return format_lazy(sentence, at=f"{moment:%Y-%m-%d %H:%M %Z}")


_EXPIRED = _(
    "The secret is the right one, but the credentials of this consumer expired at {at}: rotate "
    "the secret, or let them expire later."
)
_ENDED = _(
    "It was signed with the previous secret, which was accepted until {at}: copy the present one "
    "into the LMS."
)
_QUERY_UNSIGNED = _("The LMS did not sign the launch URL's query: leave the query out there.")
_QUERY_TWICE = _("The LMS counted the launch URL's query twice: leave the query out there.")
_BLANKS = _("The secrets differ only by blanks at the beginning or end: copy it again.")
_SCHEME = _(
    "The LMS posted to {url}, but this site sees {seen}. If a proxy ends TLS, "
    "set SECURE_PROXY_SSL_HEADER; else correct the launch URL in the LMS."
)
_HOST = _(
    "The LMS posted to {url}, but this site sees {seen}. Make the proxy pass on the Host header, "
    "or set USE_X_FORWARDED_HOST; else correct the launch URL in the LMS."
)
_PATH = _("The LMS signed {url}, but the request came to {seen}: correct the launch URL there.")


def _list_other_urls(request: HttpRequest, seen: str) -> Iterator[tuple[str, str | _StrPromise]]:
    scheme, host, path, _query, _fragment = urlsplit(seen)
    for other_host in (host, *_list_other_hosts(request, host)):
        for other_scheme in (scheme, "https" if scheme == "http" else "http"):
            url = urlunsplit((other_scheme, other_host, path, "", ""))
            if url != seen:
                sentence = _SCHEME if other_host == host else _HOST
                yield url, format_lazy(sentence, url=url, seen=seen)
    for other_path in (path.rstrip("/"), f"{path}/", unquote(path)):
        url = urlunsplit((scheme, host, other_path, "", ""))
        if url != seen:
            yield url, format_lazy(_PATH, url=url, seen=seen)


def _list_other_hosts(request: HttpRequest, host: str) -> list[str]:
    forwarded = request.META.get("HTTP_X_FORWARDED_HOST", "").split(",")
    allowed = [name for name in settings.ALLOWED_HOSTS if name.strip("*.") == name]
    named = (*forwarded, request.META.get("HTTP_HOST", ""), host.rpartition(":")[0], *allowed)
    hosts = dict.fromkeys(name.strip() for name in named)
    return [name for name in hosts if name and name != host][:_HOSTS_TRIED]


def _guess_cause(consumer: LtiConsumer) -> str | _StrPromise:
    if LtiLaunch.objects.accepted().filter(lti_consumer=consumer).exists():
        return _(
            "Launches of this consumer worked before: something was changed on the way, "
            "or one side has a different secret now."
        )
    return _("The LMS most likely has another secret: copy it there again.")


def _mask(pairs: Pairs) -> Pairs:
    # Whatever the consumer lets us keep: nobody vouches for this message.
    return tuple(
        (name, "*" if value and is_personal_name(name) else value) for name, value in pairs
    )

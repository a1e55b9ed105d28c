"""The one place that turns a refusal into an answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import translation
from django.views.decorators.debug import sensitive_variables

from lti_provider import lti11
from lti_provider.exceptions import (
    ConnectionRefused,
    InvalidSignature,
    LaunchRefused,
    ReturnableRefusal,
    SiteUnavailable,
    UnsupportedMessageType,
)
from lti_provider.message import LaunchMessage
from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.origins import add_query
from lti_provider.pages import render_page
from lti_provider.signals import connection_refused, launch_refused

logger = logging.getLogger("lti_provider")

_MESSAGE_LENGTH = 300
# What the integers of every database hold.
_LARGEST_DIFFERENCE = 2**31 - 1


class SeeOther(HttpResponseRedirect):
    """303: the next request is a GET, whatever this one was."""

    status_code = 303


def refuse(
    request: HttpRequest,
    refusal: LaunchRefused,
    answer: Callable[[], HttpResponse] | None = None,
) -> HttpResponse:
    """Log and report a refusal; send the person back to the LMS or show our own page.

    ``answer`` makes a page with more to it.
    """
    consumer = None if refusal.consumer is None else refusal.consumer.pk
    logger.warning(
        "launch_refused code=%s consumer=%s",
        refusal.code,
        consumer,
        extra={"event": "launch_refused", "code": refusal.code, "consumer": consumer},
    )
    signal = connection_refused if isinstance(refusal, ConnectionRefused) else launch_refused
    is_outage = isinstance(refusal, SiteUnavailable)
    # A receiver may need the database that has just failed.
    send = signal.send_robust if is_outage else signal.send
    send(sender=type(refusal), request=request, refusal=refusal, consumer=refusal.consumer)
    if refusal.consumer is not None and not is_outage:
        _log_refusal(request, refusal)
    with translation.override(_get_language(refusal)):
        return _send_back_or_show(refusal) if answer is None else answer()


def _get_language(refusal: LaunchRefused) -> str:
    locale = refusal.message.locale if refusal.message is not None else None
    return locale or translation.get_language() or settings.LANGUAGE_CODE


def _send_back_or_show(refusal: LaunchRefused) -> HttpResponse:
    message: LaunchMessage | None = refusal.message
    back = message.return_url if message is not None else None
    if message is not None and message.is_selection:
        # The only one that comes after the consumer's own policy.
        may_sign = isinstance(refusal, UnsupportedMessageType)
        if back and may_sign and lti11.may_sign_for(back):
            return _select_nothing(refusal, message, back)
        # Nothing but a signed selection is understood there.
        back = None
    if back and isinstance(refusal, ReturnableRefusal):
        return SeeOther(_with_message(back, str(refusal.public_text), refusal.code))
    lms = refusal.consumer.consumer_name if message is not None else ""
    return render_page(
        "refused",
        {"text": refusal.public_text, "code": refusal.code, "back": back, "lms": lms},
        status=refusal.status,
    )


@sensitive_variables()
def _select_nothing(refusal: LaunchRefused, message: LaunchMessage, url: str) -> HttpResponse:
    consumer: LtiConsumer = refusal.consumer
    text = str(refusal.public_text)[:_MESSAGE_LENGTH]
    pairs = lti11.sign_empty_selection(
        url,
        refusal.form.body,
        text=text,
        code=refusal.code,
        key=consumer.signing_key,
        secret=consumer.get_secret(refusal.signed_with),
        method=refusal.form.oauth["oauth_signature_method"],
    )
    context = {"url": url, "pairs": pairs, "text": text, "code": refusal.code}
    framers = consumer.get_frame_origins(message.return_origin)
    return render_page("select_nothing", context, script="submit", frame_ancestors=framers)


def _with_message(url: str, text: str, code: str) -> str:
    return add_query(url, urlencode({"lti_errormsg": text[:_MESSAGE_LENGTH], "lti_errorlog": code}))


def _log_refusal(request: HttpRequest, refusal: LaunchRefused) -> None:
    try:
        LtiLaunch.objects.refuse(refusal.consumer, refusal, partial(_describe, request, refusal))
    except Error:
        fields = {"code": refusal.code, "consumer": refusal.consumer.pk}
        logger.exception(
            "launch_refused_not_logged code=%(code)s consumer=%(consumer)s",
            fields,
            extra={"event": "launch_refused_not_logged", **fields},
        )


def _describe(request: HttpRequest, refusal: LaunchRefused) -> dict[str, Any]:
    details: dict[str, Any] = {"foreign_origin": refusal.foreign_origin}
    if refusal.form is not None:
        details["launch_url"] = refusal.form.url
        details["clock_difference"] = _get_clock_difference(refusal.form.oauth)
    if refusal.message is not None:
        kept = refusal.message.without_personal_data(refusal.consumer.personal_data_kept)
        details["message_pairs"] = kept.pairs
    if isinstance(refusal, InvalidSignature):
        diagnosis = lti11.diagnose(request, refusal.form, refusal.consumer)
        refusal.with_details(hint=diagnosis.cause)
        details["base_string"] = diagnosis.base_string
    return details


def _get_clock_difference(parameters: dict[str, str]) -> int | None:
    try:
        difference = int(parameters["oauth_timestamp"]) - int(time.time())
    except (KeyError, ValueError):
        return None
    return difference if abs(difference) <= _LARGEST_DIFFERENCE else None

"""The one place that turns a refusal into an answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.db import Error
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import translation
from django.views.decorators.debug import sensitive_variables

from lti_provider import protocols
from lti_provider.exceptions import (
    ConnectionRefused,
    LaunchRefused,
    ReturnableRefusal,
    SiteUnavailable,
)
from lti_provider.message import LaunchMessage
from lti_provider.models import LtiConsumer, LtiDeployment, LtiLaunch, LtiUnknownSender
from lti_provider.origins import add_query, get_origin
from lti_provider.pages import render_page
from lti_provider.signals import connection_refused, launch_refused

logger = logging.getLogger("lti_provider")

_MESSAGE_LENGTH = 300


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
    consumer = _get_consumer_pk(refusal)
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
    if not is_outage:
        _keep(refusal)
    with translation.override(_get_language(refusal)):
        return _send_back_or_show(refusal) if answer is None else answer()


def _get_consumer_pk(refusal: LaunchRefused) -> Any:
    return None if refusal.consumer is None else refusal.consumer.pk


def _keep(refusal: LaunchRefused) -> None:
    if refusal.deployment is not None:
        _record_deployment(refusal)
    if refusal.consumer is None and refusal.registration is None:
        _record_sender(refusal)
    else:
        _log_refusal(refusal)


def _get_language(refusal: LaunchRefused) -> str:
    locale = refusal.message.locale if refusal.message is not None else None
    return locale or translation.get_language() or settings.LANGUAGE_CODE


def _send_back_or_show(refusal: LaunchRefused) -> HttpResponse:
    if refusal.reply is not None:
        return _select_nothing(refusal)
    message: LaunchMessage | None = refusal.message
    back = message.presentation.return_url if message is not None else None
    if back and isinstance(refusal, ReturnableRefusal):
        return SeeOther(_with_message(back, str(refusal.public_text), refusal.code))
    is_known = message is not None and refusal.consumer is not None
    lms = refusal.consumer.consumer_name if is_known else ""
    return render_page(
        "refused",
        {"text": refusal.public_text, "code": refusal.code, "back": back, "lms": lms},
        status=refusal.status,
    )


@sensitive_variables()
def _select_nothing(refusal: LaunchRefused) -> HttpResponse:
    consumer: LtiConsumer = refusal.consumer
    url, text = refusal.reply.url, str(refusal.public_text)[:_MESSAGE_LENGTH]
    pairs = refusal.reply.sign(text, refusal.code)
    context = {"url": url, "pairs": pairs, "text": text, "code": refusal.code}
    framers = consumer.get_frame_origins(get_origin(url))
    return render_page("select_nothing", context, script="submit", frame_ancestors=framers)


def _with_message(url: str, text: str, code: str) -> str:
    return add_query(url, urlencode({"lti_errormsg": text[:_MESSAGE_LENGTH], "lti_errorlog": code}))


def _log_refusal(refusal: LaunchRefused) -> None:
    try:
        LtiLaunch.objects.refuse(refusal, protocols.explain)
    except Error:
        fields = {"code": refusal.code, "consumer": _get_consumer_pk(refusal)}
        logger.exception(
            "launch_refused_not_logged code=%(code)s consumer=%(consumer)s",
            fields,
            extra={"event": "launch_refused_not_logged", **fields},
        )


def _record_deployment(refusal: LaunchRefused) -> None:
    try:
        LtiDeployment.objects.record_waiting(refusal.deployment)
    except Error:
        logger.exception(
            "deployment_not_recorded code=%s",
            refusal.code,
            extra={"event": "deployment_not_recorded", "code": refusal.code},
        )


def _record_sender(refusal: LaunchRefused) -> None:
    sender = protocols.explain(refusal).unknown_sender
    if sender is None:
        return
    try:
        LtiUnknownSender.objects.record(sender)
    except Error:
        logger.exception(
            "unknown_sender_not_recorded code=%s",
            refusal.code,
            extra={"event": "unknown_sender_not_recorded", "code": refusal.code},
        )

"""Send one score, or read it, and judge the LMS's answer. No database."""

from __future__ import annotations

import logging
import re
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime

from django.views.decorators.debug import sensitive_variables

from lti_provider.conf import conf
from lti_provider.egress import EgressError, Forbidden, HttpAnswer, request
from lti_provider.exceptions import ScoreNotRead
from lti_provider.lti11.outcome_xml import (
    CodeMajor,
    NotAnOutcome,
    NotAScore,
    NotXml,
    OutcomeAnswer,
    build_request,
    parse_answer,
)
from lti_provider.lti11.signing import build_authorization
from lti_provider.models import Attempt, LtiResult, Verdict
from lti_provider.models.attempt import UNAUTHORIZED, Operation, describe_reason
from lti_provider.models.result import ANSWER_LENGTH

logger = logging.getLogger("lti_provider")

_TRANSIENT = (408, 425, 429)
# Canvas throttles with a 403 that says so in words.
_THROTTLED = re.compile(rb"rate.?limit", re.IGNORECASE)
# Moodle and Open edX refuse a signature with HTTP 200 and in words.
_SIGNATURE = re.compile("signature", re.IGNORECASE)
_SHOWN_LENGTH = 40


@sensitive_variables()
def send_score(result: LtiResult) -> Attempt:
    """Send the newest score of a result, signed with the secret that its LMS has."""
    refused = _find_local_problem(result, result.operation)
    if refused is not None:
        return refused
    try:
        answer, may_have_arrived = _send_message(result, result.operation)
        attempt = judge_answer(answer)
        return replace(attempt, may_have_arrived=True) if may_have_arrived else attempt
    except NotXml:
        return Attempt(verdict=Verdict.FINAL, code="not_sendable", host_answered=None)
    except Forbidden as error:
        return Attempt(
            verdict=Verdict.REFUSED, code=error.code, text=error.text, host_answered=None
        )
    except EgressError as error:
        return Attempt(
            verdict=Verdict.RETRY,
            code=error.code,
            text=error.text,
            may_have_arrived=error.may_have_arrived,
            host_answered=False,
        )
    except Exception:
        logger.exception(
            "score_not_sent result=%s",
            result.pk,
            extra={"event": "score_not_sent", "result": result.pk},
        )
        return Attempt(
            verdict=Verdict.RETRY, code="internal_error", may_have_arrived=True, host_answered=None
        )


@sensitive_variables()
def read_score(result: LtiResult) -> Decimal | None:
    """Ask the LMS for a result's score (LTI 1.1 §6.1.2). Raises ScoreNotRead."""
    refused = _find_local_problem(result, Operation.READ)
    if refused is not None:
        raise _build_read_error(refused.code, refused.text)
    try:
        answer, _may_have_arrived = _send_message(result, Operation.READ)
        outcome = parse_answer(answer.body)
        if outcome.code is CodeMajor.SUCCESS:
            return outcome.score
    except EgressError as error:
        raise _build_read_error(error.code, error.text) from None
    except NotXml:
        raise _build_read_error("not_sendable", "") from None
    except NotAScore as error:
        raise _build_read_error(
            "not_a_score", _clean_description(str(error))[:_SHOWN_LENGTH]
        ) from None
    except NotAnOutcome:
        attempt = judge_http(answer)
        raise _build_read_error(attempt.code, attempt.text) from None
    attempt = judge_outcome(outcome, answer)
    if attempt.is_unsupported:
        result.lti_consumer.record_unsupported(Operation.READ)
    raise _build_read_error(attempt.code, attempt.text)


def judge_answer(answer: HttpAnswer) -> Attempt:
    """Judge an answer: only imsx_codeMajor in its namespace can make it a success."""
    try:
        outcome = parse_answer(answer.body)
    except NotAnOutcome:
        return judge_http(answer)
    return judge_outcome(outcome, answer)


def judge_outcome(outcome: OutcomeAnswer, answer: HttpAnswer) -> Attempt:
    """Judge an answer that is an outcome (LTI 1.1 §6.1.3)."""
    text = _clean_description(outcome.description)
    wait = _parse_retry_after(answer)
    match outcome.code:
        case CodeMajor.SUCCESS:
            return Attempt(verdict=Verdict.DELIVERED)
        case CodeMajor.PROCESSING:
            return Attempt(
                verdict=Verdict.RETRY, code="processing", may_have_arrived=True, retry_after=wait
            )
        case CodeMajor.UNSUPPORTED:
            return Attempt(
                verdict=Verdict.FINAL, code="unsupported", text=text, is_unsupported=True
            )
    if answer.status == 429 or wait is not None:
        return Attempt(verdict=Verdict.RETRY, code="throttled", text=text, retry_after=wait)
    refused = UNAUTHORIZED if _SIGNATURE.search(text) else "refused"
    return Attempt(verdict=Verdict.REFUSED, code=refused, text=text)


def judge_http(answer: HttpAnswer) -> Attempt:
    """Judge an answer that is not an outcome, by its HTTP status."""
    status, text, wait = answer.status, str(answer.status), _parse_retry_after(answer)
    if _is_throttled(answer):
        return Attempt(verdict=Verdict.RETRY, code="throttled", retry_after=wait)
    if status >= 500 or status in _TRANSIENT:
        return Attempt(
            verdict=Verdict.RETRY,
            code="server_error",
            text=text,
            retry_after=wait,
            # A gateway may have given up on what goes on behind it.
            may_have_arrived=status in (502, 504),
            host_answered=False,
        )
    if status == 401:
        return Attempt(verdict=Verdict.REFUSED, code=UNAUTHORIZED)
    if status >= 400:
        return Attempt(verdict=Verdict.REFUSED, code="client_error", text=text)
    if status >= 300:
        return Attempt(verdict=Verdict.REFUSED, code="redirect", text=text)
    return Attempt(verdict=Verdict.RETRY, code="not_understood", text=text, host_answered=False)


def _find_local_problem(result: LtiResult, operation: Operation) -> Attempt | None:
    consumer = result.lti_consumer
    if not consumer.is_active:
        return Attempt(verdict=Verdict.RETRY, code="consumer_inactive", host_answered=None)
    if not (consumer.speaks_lti11 and consumer.stored_secret):
        return Attempt(verdict=Verdict.RETRY, code="no_credentials", host_answered=None)
    if consumer.is_secret_unreadable:
        return Attempt(verdict=Verdict.RETRY, code="secret_unreadable", host_answered=None)
    if not consumer.supports(operation):
        return Attempt(
            verdict=Verdict.FINAL, code="unsupported", text=operation, host_answered=None
        )
    return None


@sensitive_variables()
def _send_message(result: LtiResult, operation: Operation) -> tuple[HttpAnswer, bool]:
    # A second secret gets what the first one left of the time that a lease counts on.
    ends = time.monotonic() + conf.grade_timeout
    secret, *other = result.lti_consumer.get_signing_secrets(result.rotation)
    answer = _post_message(result, operation, secret, conf.grade_timeout)
    if not other or judge_answer(answer).code != UNAUTHORIZED:
        return answer, False
    try:
        return _post_message(result, operation, other[0], ends - time.monotonic()), False
    except EgressError as error:
        # The host did answer: what it said of the first secret counts.
        return answer, error.may_have_arrived


@sensitive_variables()
def _post_message(
    result: LtiResult, operation: Operation, secret: str, timeout: float
) -> HttpAnswer:
    consumer = result.lti_consumer
    body = build_request(
        operation,
        result.remote_id,
        message_id=str(uuid.uuid4()),
        score=result.score if operation is Operation.REPLACE else None,
        data=(result.data_name, result.data) if result.data_name else None,
    )
    signed = build_authorization(result.service_url, body, key=consumer.signing_key, secret=secret)
    return request(
        "POST",
        result.service_url,
        headers={"Authorization": signed, "Content-Type": "application/xml"},
        body=body,
        hosts=consumer.service_host_list,
        networks=consumer.service_network_list,
        timeout=timeout,
    )


def _is_throttled(answer: HttpAnswer) -> bool:
    asks_to_wait = bool(answer.headers.get("Retry-After"))
    if answer.status == 403:
        return asks_to_wait or bool(_THROTTLED.search(answer.body))
    return answer.status == 429 or (answer.status == 503 and asks_to_wait)


def _parse_retry_after(answer: HttpAnswer) -> float | None:
    # RFC 9110 §10.2.3: seconds, or a date.
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
        aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return max((aware - datetime.now(UTC)).total_seconds(), 0)


def _clean_description(description: str) -> str:
    # Open edX repeats the whole request after its reason.
    words = " ".join(description.partition("<")[0].split())
    return "".join(char for char in words if char.isprintable())[:ANSWER_LENGTH]


def _build_read_error(code: str, text: str) -> ScoreNotRead:
    return ScoreNotRead(code, describe_reason(code, text))

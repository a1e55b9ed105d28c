"""Basic Outcomes messages (LTI 1.1 §6): requests to bytes, answers from bytes. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any
from xml.etree.ElementTree import (
    Element,
    ParseError,
    SubElement,
    TreeBuilder,
    tostring,
)

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from lti_provider.models.attempt import Operation
from lti_provider.models.score import is_sendable_text

NAMESPACE = "http://www.imsglobal.org/services/ltiv1p1/xsd/imsoms_v1p0"

_DEPTH = 32
# Canvas gives more than 1 for extra credit, others 100; an exponent is Java's way.
_NUMBER = re.compile(r"[+-]?[0-9]{0,9}\.?[0-9]{0,30}(E[+-]?[0-9]{1,2})?", re.IGNORECASE)
_STATUS = "imsx_POXHeader/imsx_POXResponseHeaderInfo/imsx_statusInfo"
_SCORE = "imsx_POXBody/readResultResponse/result/resultScore/textString"


class CodeMajor(StrEnum):
    """imsx_codeMajor, which alone says how a request ended (LTI 1.1 §6.1.3)."""

    SUCCESS = "success"
    PROCESSING = "processing"
    FAILURE = "failure"
    UNSUPPORTED = "unsupported"


class NotXml(ValueError):
    """Text with characters that XML cannot carry."""


class NotAnOutcome(ValueError):
    """An answer that is not an imsx_POXEnvelopeResponse with exactly one known code."""


class NotAScore(ValueError):
    """A score that is not a number, or too long to be one."""


@dataclass(frozen=True)
class OutcomeAnswer:
    """An LMS's answer: its code, its description and, to a read, its score."""

    code: CodeMajor
    description: str
    score_text: str

    @property
    def score(self) -> Decimal | None:
        """The score of a read, None if there is no grade. Raises NotAScore."""
        if not self.score_text:
            return None
        if not _NUMBER.fullmatch(self.score_text):
            raise NotAScore(self.score_text)
        try:
            return Decimal(self.score_text)
        except InvalidOperation:
            raise NotAScore(self.score_text) from None


def format_score(score: Decimal) -> str:
    """A decimal with a point, without exponent: 0.0, 0.85, 1.0 (LTI 1.1 §6.1.1)."""
    text = f"{score:f}"
    whole, _point, fraction = text.partition(".")
    return f"{whole}.{fraction.rstrip('0') or '0'}"


def build_request(
    operation: Operation,
    sourcedid: str,
    *,
    message_id: str,
    score: Decimal | None = None,
    data: tuple[str, str] | None = None,
) -> bytes:
    """An imsx_POXEnvelopeRequest; ``data`` is ``("text" | "url", value)`` for the grader.

    The sourcedid comes out of any XML parser as it went in. Raises NotXml.
    """
    if not is_sendable_text(sourcedid):
        raise NotXml(sourcedid)
    envelope = Element("imsx_POXEnvelopeRequest", xmlns=NAMESPACE)
    info = _add_elements(envelope, "imsx_POXHeader", "imsx_POXRequestHeaderInfo")
    SubElement(info, "imsx_version").text = "V1.0"
    SubElement(info, "imsx_messageIdentifier").text = message_id
    record = _add_elements(envelope, "imsx_POXBody", f"{operation}ResultRequest", "resultRecord")
    _add_elements(record, "sourcedGUID", "sourcedId").text = sourcedid
    if score is not None:
        result = SubElement(record, "result")
        result_score = SubElement(result, "resultScore")
        SubElement(result_score, "language").text = "en"
        SubElement(result_score, "textString").text = format_score(score)
        if data is not None:
            name, value = data
            _add_elements(result, "resultData", name).text = value
    body: bytes = tostring(envelope, encoding="utf-8", xml_declaration=True)
    # A parser reads a bare CR as LF (XML 1.0 §2.11), and ElementTree writes it bare.
    return body.replace(b"\r", b"&#13;")


def parse_answer(body: bytes) -> OutcomeAnswer:
    """Read an answer, whatever its media type. Raises NotAnOutcome."""
    parser: Any = DefusedXMLParser(target=_ShallowBuilder(), forbid_dtd=True)
    try:
        parser.feed(body)
        envelope = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise NotAnOutcome(type(error).__name__) from None
    if envelope.tag != _qualify_name("imsx_POXEnvelopeResponse"):
        raise NotAnOutcome("envelope")
    codes = envelope.findall(_qualify_path(f"{_STATUS}/imsx_codeMajor"))
    try:
        (code,) = codes
        major = CodeMajor((code.text or "").strip().lower())
    except ValueError:
        raise NotAnOutcome("imsx_codeMajor") from None
    return OutcomeAnswer(
        code=major,
        description=_find_text(envelope, f"{_STATUS}/imsx_description"),
        score_text=_find_text(envelope, _SCORE),
    )


class _ShallowBuilder(TreeBuilder):
    """Builds the tree of an answer; raises NotAnOutcome if it is deeper than answers are."""

    depth = 0

    def start(self, tag: Any, attrs: Any, /) -> Element:
        self.depth += 1
        if self.depth > _DEPTH:
            raise NotAnOutcome("depth")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def _add_elements(parent: Element, *names: str) -> Element:
    for name in names:
        parent = SubElement(parent, name)
    return parent


def _qualify_name(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _qualify_path(names: str) -> str:
    return "/".join(map(_qualify_name, names.split("/")))


def _find_text(envelope: Element, names: str) -> str:
    return (envelope.findtext(_qualify_path(names)) or "").strip()

"""One strict parse of a posted form. What cannot be read in exactly one way is refused."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from django.http import HttpRequest, RawPostDataException
from django.http.request import UnreadablePostError
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import MalformedRequest

BODY_LIMIT = 64 * 1024
PAIRS_LIMIT = 500

#: Names and values in the order that they came in, decoded once.
Pairs = tuple[tuple[str, str], ...]

_MEDIA_TYPE_LENGTH = 200
_MEDIA_TYPE = re.compile(
    r"application/x-www-form-urlencoded[ \t]*"
    r'(;[ \t]*charset=("utf-8"|utf-8)[ \t]*(;[ \t]*)?)?',
    re.IGNORECASE,
)
_VISIBLE_ASCII = re.compile(rb"[\x21-\x7e]*")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def read_form(request: HttpRequest) -> Pairs:
    """The pairs of a request's body, no name twice. Raises MalformedRequest."""
    media_type = request.META.get("CONTENT_TYPE", "")
    if len(media_type) > _MEDIA_TYPE_LENGTH or not _MEDIA_TYPE.fullmatch(media_type):
        raise MalformedRequest(
            _("The Content-Type is not application/x-www-form-urlencoded in UTF-8.")
        )
    pairs = _parse(_read_body(request))
    if len({name for name, _value in pairs}) < len(pairs):
        raise MalformedRequest(_("A parameter is twice in the form."))
    return pairs


def read_query(request: HttpRequest) -> Pairs:
    """The pairs of a request's query, empty ones between two "&" left out.

    Raises MalformedRequest.
    """
    return parse_query(request.META.get("QUERY_STRING", ""))


def parse_query(query: str) -> Pairs:
    """The pairs of a query, empty ones between two "&" left out. Raises MalformedRequest."""
    return _parse(query.encode(), blank_segments=True)


def check_count(count: int) -> None:
    """Refuse more pairs than anybody needs. Raises MalformedRequest."""
    if count > PAIRS_LIMIT:
        raise MalformedRequest(
            format_lazy(_("There are more than {limit} parameters."), limit=PAIRS_LIMIT)
        )


def _read_body(request: HttpRequest) -> bytes:
    try:
        announced = int(request.META.get("CONTENT_LENGTH") or 0)
        body = request.body if announced <= BODY_LIMIT else None
    except (ValueError, RawPostDataException, UnreadablePostError):
        raise MalformedRequest(_("The request's body could not be read.")) from None
    if body is None or len(body) > BODY_LIMIT:
        raise MalformedRequest(
            format_lazy(_("The form is larger than {limit} bytes."), limit=BODY_LIMIT)
        )
    return body


def _parse(encoded: bytes, *, blank_segments: bool = False) -> Pairs:
    # Neither "&" nor "=" can be part of an escape, so what holds for the whole holds for each part.
    if not _VISIBLE_ASCII.fullmatch(encoded) or _BROKEN_ESCAPE.search(encoded):
        raise MalformedRequest(_("A parameter is not percent-encoded."))
    if b"%00" in encoded:
        raise MalformedRequest(_("A parameter holds a NUL character."))
    segments = encoded.split(b"&") if encoded else []
    if blank_segments:
        segments = [segment for segment in segments if segment]
    check_count(len(segments))
    return tuple(_parse_pair(segment) for segment in segments)


def _parse_pair(segment: bytes) -> tuple[str, str]:
    name, _equals, value = segment.partition(b"=")
    if not name:
        raise MalformedRequest(_("A parameter has no name."))
    return _decode(name), _decode(value)


def _decode(encoded: bytes) -> str:
    plain = encoded.replace(b"+", b" ")
    try:
        return (unquote_to_bytes(plain) if b"%" in plain else plain).decode()
    except UnicodeDecodeError:
        raise MalformedRequest(_("A parameter is not in UTF-8.")) from None

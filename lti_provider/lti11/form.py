"""One strict parse of a launch request. What cannot be read in exactly one way is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote_to_bytes

from django.http import HttpRequest, RawPostDataException
from django.http.request import UnreadablePostError
from django.utils.http import RFC3986_SUBDELIMS
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import MalformedRequest
from lti_provider.lti11.parameters import Pairs, is_core_name

BODY_LIMIT = 64 * 1024
PAIRS_LIMIT = 500

_MEDIA_TYPE_LENGTH = 200
_MEDIA_TYPE = re.compile(
    r"application/x-www-form-urlencoded[ \t]*"
    r'(;[ \t]*charset=("utf-8"|utf-8)[ \t]*(;[ \t]*)?)?',
    re.IGNORECASE,
)
# What a path may hold as it is (RFC 3986 §3.3), and what reverse() leaves so.
_UNESCAPED = f"{RFC3986_SUBDELIMS}/~:@"
_VISIBLE_ASCII = re.compile(rb"[\x21-\x7e]*")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


def is_launch(request: HttpRequest) -> bool:
    """Whether a request brings a form with a consumer key, verified or not."""
    return "oauth_consumer_key" in request.POST


@dataclass(frozen=True, repr=False)
class LaunchForm:
    """What was posted, to the letter: the URL without query, and the pairs of query and body."""

    url: str
    query: Pairs
    body: Pairs

    @cached_property
    def oauth(self) -> dict[str, str]:
        """The OAuth parameters of the body, as the form has them, decoded once."""
        return {name: value for name, value in self.body if name.startswith("oauth_")}


def read_form(request: HttpRequest) -> LaunchForm:
    """Read a launch request (RFC 5849 §3.4.1.3.1, LTI 1.1 §4.1).

    Raises MalformedRequest.
    """
    media_type = request.META.get("CONTENT_TYPE", "")
    if len(media_type) > _MEDIA_TYPE_LENGTH or not _MEDIA_TYPE.fullmatch(media_type):
        raise MalformedRequest(
            _("The Content-Type is not application/x-www-form-urlencoded in UTF-8.")
        )
    form = LaunchForm(
        url=f"{request.scheme}://{request.get_host()}{quote(request.path, safe=_UNESCAPED)}",
        query=_parse(request.META.get("QUERY_STRING", "").encode(), blank_segments=True),
        body=_parse(_read_body(request)),
    )
    _check_names(form)
    return form


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
    if len(segments) > PAIRS_LIMIT:
        raise MalformedRequest(
            format_lazy(_("There are more than {limit} parameters."), limit=PAIRS_LIMIT)
        )
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


def _check_names(form: LaunchForm) -> None:
    if len(form.query) + len(form.body) > PAIRS_LIMIT:
        raise MalformedRequest(
            format_lazy(_("There are more than {limit} parameters."), limit=PAIRS_LIMIT)
        )
    if len({name for name, _value in form.body}) < len(form.body):
        raise MalformedRequest(_("A parameter is twice in the form."))
    for name, _value in form.query:
        if name.startswith("oauth_") or is_core_name(name):
            raise MalformedRequest(
                format_lazy(
                    _("The launch URL's query holds {name}, which belongs in the form."),
                    name=name[:100],
                )
            )

"""URLs, hosts, origins and paths, read the same way everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit, urlunsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

_HTTP_URL = re.compile(r"https?://[\x21\x23-\x3b\x3d\x3f-\x5b\x5d-\x7e]+", re.IGNORECASE)
_HOST = re.compile(r"\w([\w.-]*\w)?|[0-9a-f:.]+", re.ASCII | re.IGNORECASE)
_PATH = re.compile(r"/[^\s?#\\]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_http_url(url: str) -> bool:
    """Whether a URL is absolute, http(s), without user name and without what browsers mend."""
    return _split_http_url(url) is not None


def get_host(url: str) -> str:
    """The host of an http(s) URL in lower case, with its port unless it is the scheme's default.

    Empty if ``is_http_url`` is false.
    """
    parts = _split_http_url(url)
    if parts is None:
        return ""
    name = (parts.hostname or "").lower()
    host = f"[{name}]" if ":" in name else name
    is_default = parts.port in (None, _DEFAULT_PORTS[parts.scheme])
    return host if is_default else f"{host}:{parts.port}"


def get_port(url: str) -> int:
    """The port to connect to, of an http(s) URL."""
    parts = urlsplit(url)
    return parts.port or _DEFAULT_PORTS[parts.scheme]


def get_origin(url: str) -> str:
    """The origin (RFC 6454) of an http(s) URL as browsers write it; empty for any other URL."""
    parts = _split_http_url(url)
    return f"{parts.scheme}://{get_host(url)}" if parts is not None else ""


def normalize_origin(text: str) -> str:
    """An origin (RFC 6454) as browsers write it: lower case, no default port, no path.

    Raises ValidationError for anything else, wildcards included.
    """
    url = text.strip().rstrip("/").lower()
    parts = _split_http_url(url)
    if parts is None or parts.path or parts.query or parts.fragment:
        raise ValidationError(
            _(
                "“%(text)s” is not an origin such as https://lms.example.edu or "
                "http://localhost:8080."
            ),
            code="invalid_origin",
            params={"text": text},
        )
    return get_origin(url)


# A launch asks of its two URLs again and again, and the next one often has the same.
@lru_cache(maxsize=256)
def _split_http_url(url: str) -> SplitResult | None:
    # A browser reads a backslash as a slash and drops tabs: what is not plain is not followed.
    if not _HTTP_URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        _port = parts.port
    except ValueError:
        return None
    if parts.username is not None or not _HOST.fullmatch(parts.hostname or ""):
        return None
    return parts


def add_query(url: str, query: str) -> str:
    """The URL with ``query``, which is encoded, after the query that it has."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def is_path(text: str) -> bool:
    """Whether a text is a path from the site's root, without query and backslashes."""
    return bool(_PATH.fullmatch(text))


def contains_path(prefix: str, path: str) -> bool:
    """Whether ``path`` is ``prefix`` or below it, in whole segments."""
    return path == prefix or path.startswith(prefix.rstrip("/") + "/")


def is_under(path: str, prefixes: Iterable[str]) -> bool:
    """Whether ``path`` is one of these paths or below one, wherever a browser takes it.

    A browser would fold dot segments, doubled slashes and backslashes of a redirect.
    """
    segments = path.removeprefix("/").split("/")
    is_plain = not {".", ".."} & set(segments) and "" not in segments[:-1] and "\\" not in path
    return is_plain and any(contains_path(prefix, path) for prefix in prefixes)

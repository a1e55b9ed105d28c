"""OAuth 1.0 signatures (RFC 5849) made by the tests themselves: neither ours nor oauthlib's."""

import base64
import hmac
import itertools
import time
from collections.abc import Iterable
from urllib.parse import parse_qsl, quote, urlsplit

Pairs = list[tuple[str, str]]

_HASHES = {"HMAC-SHA1": "sha1", "HMAC-SHA256": "sha256", "HMAC-SHA512": "sha512"}
_serial = itertools.count()


def encode(text: str) -> str:
    return quote(text, safe="-._~")


def base_string(url: str, pairs: Iterable[tuple[str, str]]) -> str:
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}[parts.scheme]
    host = parts.hostname if parts.port in (None, default) else f"{parts.hostname}:{parts.port}"
    normalised = "&".join(
        f"{name}={value}" for name, value in sorted((encode(n), encode(v)) for n, v in pairs)
    )
    uri = f"{parts.scheme}://{host}{parts.path or '/'}"
    return "&".join(("POST", encode(uri), encode(normalised)))


def signature(text: str, secret: str, method: str = "HMAC-SHA1") -> str:
    key = f"{encode(secret)}&".encode()
    return base64.b64encode(hmac.digest(key, text.encode(), _HASHES[method])).decode()


def sign(
    url: str,
    fields: Iterable[tuple[str, str]],
    *,
    key: str,
    secret: str,
    method: str = "HMAC-SHA1",
    timestamp: int | str | None = None,
    nonce: str | None = None,
    query: Iterable[tuple[str, str]] | None = None,
) -> Pairs:
    pairs = [
        *fields,
        ("oauth_consumer_key", key),
        ("oauth_signature_method", method),
        ("oauth_timestamp", str(int(time.time()) if timestamp is None else timestamp)),
        ("oauth_nonce", f"nonce-{next(_serial)}" if nonce is None else nonce),
    ]
    if query is None:
        query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    text = base_string(url, [*pairs, *query])
    return [*pairs, ("oauth_signature", signature(text, secret, method))]

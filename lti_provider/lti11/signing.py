"""Sign messages: a launch as an LMS does, and what is not a form (OAuth Request Body Hash 1.0)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, quote, urlsplit

from django.views.decorators.debug import sensitive_variables

from lti_provider.lti11.signature import base_string, sign


@sensitive_variables()
def sign_launch(
    url: str,
    fields: Mapping[str, str] | Iterable[tuple[str, str]],
    *,
    key: str,
    secret: str,
    method: str = "HMAC-SHA1",
    timestamp: int | None = None,
    nonce: str | None = None,
) -> list[tuple[str, str]]:
    """The form that an LMS would post to ``url``: ``fields``, OAuth parameters and signature.

    The query of ``url`` is signed too, as RFC 5849 asks; ``timestamp`` is in seconds since 1970.
    """
    given = fields.items() if isinstance(fields, Mapping) else fields
    pairs = [
        *given,
        ("oauth_version", "1.0"),
        ("oauth_consumer_key", key),
        ("oauth_signature_method", method),
        ("oauth_timestamp", str(int(time.time()) if timestamp is None else timestamp)),
        ("oauth_nonce", secrets.token_hex(16) if nonce is None else nonce),
    ]
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    text = base_string(url, [*pairs, *query])
    return [*pairs, ("oauth_signature", sign(text, secret, method))]


@sensitive_variables()
def build_authorization(url: str, body: bytes, *, key: str, secret: str) -> str:
    """The ``Authorization`` header (RFC 5849 §3.5.1) of ``body`` POSTed to ``url``.

    HMAC-SHA1, which is all that LMSs take here; each call has a nonce and a time of its own.
    """
    parameters = [
        ("oauth_version", "1.0"),
        ("oauth_consumer_key", key),
        ("oauth_nonce", secrets.token_hex(16)),
        ("oauth_timestamp", str(int(time.time()))),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_body_hash", base64.b64encode(hashlib.sha1(body).digest()).decode()),  # noqa: S324
    ]
    query = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    signed = sign(base_string(url, [*parameters, *query]), secret)
    written = [f'{name}="{quote(value, safe="~")}"' for name, value in parameters]
    return f'OAuth {", ".join(written)}, oauth_signature="{quote(signed, safe="~")}"'

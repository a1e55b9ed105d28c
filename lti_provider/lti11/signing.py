"""Sign a launch as an LMS does."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit

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

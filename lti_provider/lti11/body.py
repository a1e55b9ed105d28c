"""Sign a message that is no form (OAuth Request Body Hash 1.0)."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from urllib.parse import parse_qsl, quote, urlsplit

from django.views.decorators.debug import sensitive_variables

from lti_provider.lti11.signature import base_string, sign


@sensitive_variables()
def authorization(url: str, body: bytes, *, key: str, secret: str) -> str:
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

"""Base string and HMAC of RFC 5849 §3.4, through oauthlib's low-level functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from django.views.decorators.debug import sensitive_variables
from oauthlib.oauth1.rfc5849 import signature

#: The methods that LTI LMSs use; PLAINTEXT and RSA are not among them.
METHODS = ("HMAC-SHA1", "HMAC-SHA256")


def base_string(url: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The signature base string (RFC 5849 §3.4.1) of ``pairs`` POSTed to ``url``.

    ``url`` is absolute; its query does not count, ``pairs`` have to hold it. Raises ValueError if
    the URL has no valid host or port.
    """
    normalized = signature.normalize_parameters(cast("Any", pairs))
    return signature.signature_base_string("POST", signature.base_string_uri(url), normalized)


@sensitive_variables()
def sign(text: str, secret: str, method: str = "HMAC-SHA1") -> str:
    """Base64 of the HMAC (RFC 5849 §3.4.2) of a base string, without a token secret."""
    make: dict[str, Any] = {
        "HMAC-SHA1": signature.sign_hmac_sha1_with_client,
        "HMAC-SHA256": signature.sign_hmac_sha256_with_client,
    }
    return str(make[method](text, _Client(secret)))


@dataclass(frozen=True, repr=False)
class _Client:
    client_secret: str
    resource_owner_secret: str = ""

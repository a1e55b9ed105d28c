"""Exact comparison of identifiers on every database."""

from __future__ import annotations

import hashlib

DIGEST_LENGTH = 64


def digest(*identifiers: str) -> str:
    """SHA-256 in lower-case hex of identifiers that hold no NUL.

    MariaDB's usual collations ignore case and trailing blanks; digests are compared instead.
    """
    return hashlib.sha256("\0".join(identifiers).encode()).hexdigest()

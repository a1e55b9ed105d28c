"""Scores that a site submits, as a share of 1."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lti_provider.exceptions import InvalidScore

#: LMSs take four to six decimals.
DECIMALS = 6

# What XML 1.0 §2.2 has no place for, surrogates included; nobody reads the rest in JSON either.
_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Number = int | float | Decimal | Fraction


def normalize_score(given: Number, maximum: Number = 1) -> Decimal:
    """``given`` of ``maximum`` as a share of 1, to six decimals. Raises InvalidScore."""
    points, whole = _parse_number(given, "score"), _parse_number(maximum, "maximum")
    if whole <= 0:
        raise InvalidScore(f"The maximum has to be above 0, not {maximum}.")
    if not 0 <= points <= whole:
        raise InvalidScore(f"A score has to be from 0 to {maximum}, not {given}.")
    nearest = math.floor(points / whole * 10**DECIMALS + Fraction(1, 2))
    return Decimal(nearest).scaleb(-DECIMALS)


def is_sendable_text(text: str) -> bool:
    """Whether every gradebook can be sent ``text``: without control characters."""
    return _UNSENDABLE.search(text) is None


def _parse_number(number: Any, name: str) -> Fraction:
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal | Fraction):
        raise InvalidScore(
            f"The {name} has to be an int, float, Decimal or Fraction, "
            f"not {type(number).__name__} {number!r}."
        )
    try:
        return Fraction(number)
    except (ValueError, OverflowError):
        raise InvalidScore(f"The {name} has to be finite, not {number}.") from None

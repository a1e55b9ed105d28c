"""Scores that a site submits: points of a maximum, and their share of 1."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from lti_provider.exceptions import InvalidScore

#: LMSs take four to six decimals.
DECIMALS = 6
#: As many as SQLite keeps.
DIGITS = 15

# What XML 1.0 §2.2 has no place for, surrogates included; nobody reads the rest in JSON either.
_UNSENDABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Number = int | float | Decimal | Fraction


def parse_score(given: Number, maximum: Number = 1) -> tuple[Decimal, Decimal]:
    """``given`` and ``maximum`` as they are stored. Raises InvalidScore.

    As submitted, if both are exact with nine digits before and six after the point; else the share
    of 1, and 1. A float is the decimal number that Python shows for it: 0.1 is 0.1.
    """
    points, whole = _parse_number(given, "score"), _parse_number(maximum, "maximum")
    if whole <= 0:
        raise InvalidScore(f"The maximum has to be above 0, not {maximum}.")
    if not 0 <= points <= whole:
        raise InvalidScore(f"A score has to be from 0 to {maximum}, not {given}.")
    if _is_exact(points) and _is_exact(whole):
        return _round(points), _round(whole)
    return _round(points / whole), Decimal(1)


def compute_share(given: Decimal, maximum: Decimal) -> Decimal:
    """``given`` of ``maximum`` as a share of 1, to six decimals."""
    return _round(Fraction(given) / Fraction(maximum))


def format_number(number: Decimal) -> str:
    """Plain digits, and a fraction only where there is one: 8, 0.85."""
    return f"{number.normalize():f}"


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
        return Fraction(float.__repr__(number) if isinstance(number, float) else number)
    except (ValueError, OverflowError):
        raise InvalidScore(f"The {name} has to be finite, not {number}.") from None


def _is_exact(number: Fraction) -> bool:
    millionths = number * 10**DECIMALS
    return bool(millionths.denominator == 1 and millionths < 10**DIGITS)


def _round(number: Fraction) -> Decimal:
    # Made of text, as the site's decimal context may round what it computes.
    return Decimal(f"{math.floor(number * 10**DECIMALS + Fraction(1, 2))}e-{DECIMALS}")

"""Finding: one thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass

from lti_provider.status import Level


@dataclass(frozen=True, kw_only=True)
class Finding:
    """``name`` is stable, for whoever watches; ``hint`` says what to do."""

    name: str
    level: Level
    text: str
    hint: str = ""


class Stopped(Exception):
    """Nothing behind this finding can be looked at."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.name)


def error(name: str, text: str, hint: str = "") -> Finding:
    """Launches or grades fail."""
    return Finding(name=name, level=Level.ERROR, text=text, hint=hint)


def warning(name: str, text: str, hint: str = "") -> Finding:
    """Some launches or grades may fail."""
    return Finding(name=name, level=Level.WARNING, text=text, hint=hint)


def note(name: str, text: str, hint: str = "") -> Finding:
    """Good to know."""
    return Finding(name=name, level=Level.NOTE, text=text, hint=hint)


def fine(name: str, text: str) -> Finding:
    """Looked at, and as it should be."""
    return Finding(name=name, level=Level.OK, text=text)

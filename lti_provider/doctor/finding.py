"""Finding: what the doctor says about one thing that it examined."""

from __future__ import annotations

from dataclasses import dataclass

from lti_provider.status import Level


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result; ``name`` is stable, for monitoring, and ``hint`` says what to do."""

    name: str
    level: Level
    text: str
    hint: str = ""


class Stopped(Exception):
    """A finding after which nothing else can be examined."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding
        super().__init__(finding.name)


def error(name: str, text: str, hint: str = "") -> Finding:
    """A finding: launches or grades fail."""
    return Finding(name=name, level=Level.ERROR, text=text, hint=hint)


def warning(name: str, text: str, hint: str = "") -> Finding:
    """A finding: some launches or grades may fail."""
    return Finding(name=name, level=Level.WARNING, text=text, hint=hint)


def note(name: str, text: str, hint: str = "") -> Finding:
    """A finding that is good to know."""
    return Finding(name=name, level=Level.NOTE, text=text, hint=hint)


def fine(name: str, text: str) -> Finding:
    """A finding: this is as it should be."""
    return Finding(name=name, level=Level.OK, text=text)

"""Erase everything that is stored about one person."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from lti_provider.management.person import DataSubjectCommand
from lti_provider.privacy import DataSubject


class Command(DataSubjectCommand):
    """Asks before it erases, except with ``--no-input``."""

    help = (
        "Erases everything that LTI launches stored about one person. An account that a launch "
        "made is deleted with all that hangs on it; a person's own account is only disconnected."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--keep-account",
            action="store_true",
            help="keep an account that a launch made, without name and e-mail, deactivated",
        )
        parser.add_argument("--no-input", action="store_true", help="do not ask")

    def handle_person(self, person: DataSubject, **options: Any) -> None:
        counts = {name: len(rows) for name, rows in person.export().items()}
        if not options["no_input"]:
            self.stdout.write(f"To be erased: {_format_counts(counts)}.")
            if input("Type yes to erase: ") != "yes":
                raise CommandError("Nothing was erased.")
        self.stdout.write(json.dumps(person.erase(keep_account=options["keep_account"])))


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())

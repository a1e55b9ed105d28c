"""DataSubjectCommand: what the commands about one person have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentParser
from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from lti_provider.management.consumer import NOT_FOUND, find_consumer
from lti_provider.privacy import DataSubject


class DataSubjectCommand(BaseCommand, ABC):
    """Finds a person by ``--user``, or by ``--consumer`` and ``--lti-user-id``."""

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--user", help="the account's username or primary key")
        parser.add_argument("--consumer", help="the LTI consumer's key, number or name")
        parser.add_argument("--lti-user-id", help="the person's user_id in that LMS")

    def handle(self, *args: Any, **options: Any) -> None:
        user, consumer, lti_user_id = (
            options[name] for name in ("user", "consumer", "lti_user_id")
        )
        if (user is None) == (consumer is None) or (consumer is None) != (lti_user_id is None):
            raise CommandError("Give either --user, or --consumer and --lti-user-id.")
        if user is not None:
            person = DataSubject.from_account(_find_account(user))
        else:
            person = DataSubject.from_lms(find_consumer(consumer), lti_user_id)
        if not any(rows for rows in person.export().values()):
            raise CommandError("Nothing is stored about this person.", returncode=NOT_FOUND)
        self.handle_person(person, **options)

    @abstractmethod
    def handle_person(self, person: DataSubject, **options: Any) -> None:
        """Export or erase the person's data; for subclasses."""


def _find_account(name: str) -> Any:
    model = get_user_model()
    accounts = model._default_manager
    named = accounts.filter(**{model.USERNAME_FIELD: name})
    # Some databases compare without regard to case.
    found = {each.pk: each for each in named if each.get_username() == name}
    with suppress(ValueError, ValidationError):  # no primary key looks like this
        found |= {each.pk: each for each in accounts.filter(pk=name)}
    if len(found) > 1:
        raise CommandError(f"{name} is the username of one account and the key of another.")
    if not found:
        raise CommandError(f"There is no account {name}.", returncode=NOT_FOUND)
    return next(iter(found.values()))

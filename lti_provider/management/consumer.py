"""How commands name an LTI consumer: by its key, its number or its name."""

from __future__ import annotations

from django.core.management.base import CommandError

from lti_provider.models import LtiConsumer

#: The exit status of a command that does not find whom or what it is about.
NOT_FOUND = 3


def find_consumer(text: str) -> LtiConsumer:
    """Find the consumer with this key, else with this number, else with this name.

    Raises CommandError, which says what to type, if there is none or the name is ambiguous.
    """
    found = LtiConsumer.objects.with_key(text) or _find_by_number(text)
    named = [found] if found is not None else _find_by_name(text)
    if not named:
        raise CommandError(
            f"There is no LTI consumer with the key, number or name “{text}”. "
            "Type one that “manage.py lti_consumer list” shows.",
            returncode=NOT_FOUND,
        )
    if len(named) > 1:
        numbers = ", ".join(str(consumer.pk) for consumer in named)
        raise CommandError(
            f"Several LTI consumers are called “{text}”. Type a number instead: {numbers}."
        )
    return named[0]


def _find_by_number(text: str) -> LtiConsumer | None:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        return None
    return LtiConsumer.objects.filter(pk=int(text)).first()


def _find_by_name(text: str) -> list[LtiConsumer]:
    # Some databases compare without regard to case.
    found = LtiConsumer.objects.filter(consumer_name=text).order_by("pk")
    return [consumer for consumer in found if consumer.consumer_name == text]

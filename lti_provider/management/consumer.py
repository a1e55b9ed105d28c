"""How commands name an LTI consumer."""

from __future__ import annotations

from django.core.management.base import CommandError

from lti_provider.models import LtiConsumer

#: The exit status of a command whose object there is not.
NOT_FOUND = 3


def find_consumer(name: str) -> LtiConsumer:
    """The consumer with this key, else with this number, else of this name.

    Raises CommandError if there is none, or several of the name.
    """
    consumers = LtiConsumer.objects.all()
    if (found := consumers.with_key(name)) is not None:
        return found
    if name.isascii() and name.isdecimal() and len(name) < 19:
        found = consumers.filter(pk=int(name)).first()
    if found is not None:
        return found
    named = [each for each in consumers.filter(consumer_name=name) if each.consumer_name == name]
    if len(named) > 1:
        numbers = ", ".join(str(each.pk) for each in named)
        raise CommandError(f"Several LTI consumers are called {name}: say which of {numbers}.")
    if not named:
        raise CommandError(f"There is no LTI consumer {name}.", returncode=NOT_FOUND)
    return named[0]

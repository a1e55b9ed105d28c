"""Every line of the Python log ``lti_provider``, with stable names and fields.

Fields are ids, codes and host names; none may hold a secret or say anything about a person.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from lti_provider.signals import event_reported

logger = logging.getLogger("lti_provider")


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a site may count on: the name, the level and the names of the fields."""

    name: str
    level: int
    fields: tuple[str, ...]


USER_LAUNCHED = Event(
    # Which of the consumer's secrets signed it, by name.
    name="user_launched",
    level=logging.INFO,
    fields=("consumer", "launch", "secret"),
)
LAUNCH_REFUSED = Event(name="launch_refused", level=logging.WARNING, fields=("code", "consumer"))
LAUNCH_REFUSED_NOT_LOGGED = Event(
    name="launch_refused_not_logged", level=logging.ERROR, fields=("code", "consumer")
)
DATABASE_FAILED = Event(name="database_failed", level=logging.ERROR, fields=("error",))
CONSUMER_ACTIVATED = Event(name="consumer_activated", level=logging.INFO, fields=("consumer",))
CONSUMER_DEACTIVATED = Event(name="consumer_deactivated", level=logging.INFO, fields=("consumer",))
SECRET_ROTATED = Event(name="secret_rotated", level=logging.INFO, fields=("consumer",))
PREVIOUS_SECRET_ENDED = Event(
    name="previous_secret_ended", level=logging.INFO, fields=("consumer",)
)
OUTCOME_HOST_LEARNED = Event(
    name="outcome_host_learned", level=logging.INFO, fields=("consumer", "host")
)
SCORE_DELIVERED = Event(
    name="score_delivered", level=logging.INFO, fields=("consumer", "result", "code")
)
SCORE_DELAYED = Event(
    name="score_delayed", level=logging.INFO, fields=("consumer", "result", "code")
)
SCORE_FAILED = Event(
    name="score_failed", level=logging.WARNING, fields=("consumer", "result", "code")
)
SCORE_NOT_SENT = Event(name="score_not_sent", level=logging.ERROR, fields=("result",))
DELIVERER_LOST_DATABASE = Event(
    # The kind of database error; the deliverer goes on trying.
    name="deliverer_lost_database",
    level=logging.ERROR,
    fields=("error",),
)
DELIVERER_FOUND_DATABASE = Event(name="deliverer_found_database", level=logging.INFO, fields=())
BACKGROUND_DELIVERY_FAILED = Event(
    name="score_background_delivery_failed", level=logging.ERROR, fields=()
)

EVENTS = (
    USER_LAUNCHED,
    LAUNCH_REFUSED,
    LAUNCH_REFUSED_NOT_LOGGED,
    DATABASE_FAILED,
    CONSUMER_ACTIVATED,
    CONSUMER_DEACTIVATED,
    SECRET_ROTATED,
    PREVIOUS_SECRET_ENDED,
    OUTCOME_HOST_LEARNED,
    SCORE_DELIVERED,
    SCORE_DELAYED,
    SCORE_FAILED,
    SCORE_NOT_SENT,
    DELIVERER_LOST_DATABASE,
    DELIVERER_FOUND_DATABASE,
    BACKGROUND_DELIVERY_FAILED,
)


def report(event: Event, *, exc_info: bool = False, **fields: str | int | None) -> None:
    """Log an event and tell the receivers of ``event_reported``.

    The line reads ``name field=value …``; its record has ``event`` and the fields as attributes,
    as formatters that write JSON expect. A receiver that fails does not fail the launch.
    """
    if tuple(sorted(fields)) != tuple(sorted(event.fields)):
        raise TypeError(f"{event.name} has the fields {', '.join(event.fields)}.")
    text = " ".join((event.name, *(f"{name}=%s" for name in event.fields)))
    values = [fields[name] for name in event.fields]
    extra = {"event": event.name, **fields}
    logger.log(event.level, text, *values, exc_info=exc_info, extra=extra)
    event_reported.send_robust(sender=Event, event=event.name, fields=fields)

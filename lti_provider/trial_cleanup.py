"""What trial launches left behind, to be told from what LMSs sent, and to be deleted."""

from __future__ import annotations

from datetime import datetime

from django.db import models, router, transaction

from lti_provider.models import (
    LtiConnectionEvent,
    LtiConsumer,
    LtiContext,
    LtiLaunch,
    LtiUser,
)
from lti_provider.models.digest import digest
from lti_provider.models.user import LtiUserQuerySet
from lti_provider.privacy import DataSubject
from lti_provider.trial import list_trials


def find_trial_people(consumer: LtiConsumer) -> LtiUserQuerySet:
    """The people of the consumer's trial launches."""
    digests = [digest(trial.user_id) for trial in list_trials(consumer)]
    return LtiUser.objects.filter(lti_consumer=consumer, lti_user_digest__in=digests)


def is_of_trial(row: object) -> bool:
    """Whether a row is a person of a trial launch, or of the history of that person's account."""
    if not isinstance(row, LtiUser | LtiConnectionEvent):
        return False
    return row.lti_user_id in {trial.user_id for trial in list_trials(row.lti_consumer)}


def remove_trials(consumer: LtiConsumer, before: datetime | None = None) -> int:
    """Delete the trial launches' people, with accounts that were made for them, and courses.

    With ``before`` only those that nobody used since. What the site's own tables protect stays.
    Returns how many people went.
    """
    people = find_trial_people(consumer)
    if before is not None:
        people = people.unused_since(before)
    found = list(people)
    for person in found:
        _remove_person(person)
    if not find_trial_people(consumer).exists():
        _remove_rest(consumer)
    return len(found)


def _remove_person(person: LtiUser) -> None:
    consumer = person.lti_consumer
    with transaction.atomic(using=router.db_for_write(LtiUser)):
        LtiLaunch.objects.filter(
            lti_consumer=consumer,
            user_digest=person.lti_user_digest,
            is_trial=True,
            signed_with="",
            registration=None,
        ).delete()
        if person.is_connected:
            person.disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, None, None)
        # Without the id that erasing takes from them, they would not be found.
        own = LtiConnectionEvent.objects.filter(
            lti_consumer=consumer, lti_user_id=person.lti_user_id
        )
        events = list(own.values_list("pk", flat=True))
        DataSubject.from_lms(consumer, person.lti_user_id).erase()
        LtiConnectionEvent.objects.filter(pk__in=events).delete()


def _remove_rest(consumer: LtiConsumer) -> None:
    ids = [trial.user_id for trial in list_trials(consumer)]
    LtiConnectionEvent.objects.filter(lti_consumer=consumer, lti_user_id__in=ids).delete()
    digests = [digest(trial.place_id) for trial in list_trials(consumer)]
    courses = LtiContext.objects.filter(lti_consumer=consumer, context_digest__in=digests)
    for course in courses:
        try:
            with transaction.atomic(using=router.db_for_write(LtiContext)):
                course.delete()
        except (models.ProtectedError, models.RestrictedError):
            continue

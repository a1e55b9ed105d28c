"""A consumer and sessions that exist only while the doctor runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import router, transaction
from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiUser
from lti_provider.models.credentials import generate_key

_KEY_PREFIX = "lti-doctor-"
_LEFT_BEHIND = timedelta(hours=1)


@contextmanager
def temporary_consumer() -> Iterator[LtiConsumer]:
    """Make a consumer; remove it with all that its launches made, whatever happens.

    One that an earlier run left behind, because it was killed, is removed too.
    """
    old = LtiConsumer.objects.filter(
        consumer_key__startswith=_KEY_PREFIX, created_at__lt=timezone.now() - _LEFT_BEHIND
    )
    for left_behind in old:
        remove_consumer(left_behind)
    consumer = LtiConsumer.objects.create(
        consumer_name="lti_doctor (temporary)",
        consumer_key=_KEY_PREFIX + generate_key(),
        guid_policy=LtiConsumer.GuidPolicy.RECORD,
    )
    try:
        yield consumer
    finally:
        remove_consumer(consumer)


def remove_consumer(consumer: LtiConsumer) -> None:
    """Delete a temporary consumer and the accounts that its launches made.

    Where a table of the site's own holds on to an account, the consumer is deactivated.
    """
    people = LtiUser.objects.filter(lti_consumer=consumer, connected_at=None)
    try:
        with transaction.atomic(using=router.db_for_write(LtiUser)):
            accounts = list(people.values_list("user_id", flat=True))
            people.delete()
            get_user_model()._default_manager.filter(pk__in=accounts).delete()
            consumer.delete()
    except (ProtectedError, RestrictedError):
        LtiConsumer.objects.filter(pk=consumer.pk).update(is_active=False)


def end_sessions(keys: list[str]) -> None:
    """Delete the sessions that the launches made."""
    store = import_module(settings.SESSION_ENGINE).SessionStore
    for key in keys:
        store(key).delete()

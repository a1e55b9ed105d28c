"""A consumer, a registration and sessions that exist only while the doctor runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import router, transaction
from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from lti_provider.doctor.front_door import LMS
from lti_provider.lti13.trial_launch import TrialPlatform, build_key_set, make_key
from lti_provider.message import Role
from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration, LtiUser
from lti_provider.models.credentials import generate_key
from lti_provider.trial import DOCTOR, TrialLaunch

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


@contextmanager
def temporary_platform(consumer: LtiConsumer) -> Iterator[TrialPlatform]:
    """Make a registration and a deployment of the consumer; remove both, whatever happens.

    With them go their entries of the launch log. Those that an earlier run left behind are removed
    too; nobody has the key that launches by them. Where a table of the site's own holds on to such
    an entry, the registration is deactivated.
    """
    _remove_registrations(created_at__lt=timezone.now() - _LEFT_BEHIND)
    key, client_id = make_key(), _KEY_PREFIX + generate_key()
    try:
        yield _build_platform(consumer, client_id, key)
    finally:
        _remove_registrations(client_id=client_id)


def _build_platform(consumer: LtiConsumer, client_id: str, key: Any) -> TrialPlatform:
    registration = LtiRegistration.objects.create(
        # A consumer that knows its issuer refuses others.
        issuer=consumer.issuer or LMS,
        client_id=client_id,
        authorization_endpoint=f"{LMS}/authorize",
        jwks=build_key_set(key),
    )
    deployment = LtiDeployment.objects.create(
        registration=registration,
        deployment_id=DOCTOR,
        lti_consumer=consumer,
        instance_guid=consumer.instance_guid,
    )
    trial = TrialLaunch(consumer=consumer, role=Role.LEARNER, title=DOCTOR, return_url=f"{LMS}/")
    return TrialPlatform(deployment=deployment, key=key, trial=trial)


def _remove_registrations(**which: object) -> None:
    ours = LtiRegistration.objects.filter(client_id__startswith=_KEY_PREFIX, **which)
    try:
        ours.delete()
    except (ProtectedError, RestrictedError):
        ours.update(is_active=False)
    # A consumer takes its issuer from its first launch by LTI 1.3.
    LtiConsumer.objects.filter(issuer=LMS).update(issuer="")


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

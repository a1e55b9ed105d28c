"""Trial launches: this site launches itself, to see what an LMS's launches would do.

They are those of a person whom no LMS can name, in a course that no LMS can name. They teach
nothing about the LMS and carry no grade.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone
from django.utils.crypto import salted_hmac

from lti_provider.conf import conf
from lti_provider.message import (
    Context,
    Installation,
    LaunchMessage,
    Person,
    Presentation,
    ResourceLink,
    Role,
)
from lti_provider.models import LtiConsumer, VerifiedLaunch
from lti_provider.models.launch import TRIAL_LIFETIME

_SALT = "lti_provider.trial"

#: Who launches, and what their course and person are called.
TRY_IT = "Try it"
DOCTOR = "lti_doctor"

ROLES = (Role.LEARNER, Role.INSTRUCTOR, Role.TEACHING_ASSISTANT, Role.ADMINISTRATOR)


@dataclass(frozen=True, kw_only=True)
class TrialLaunch:
    """One trial launch; ``title`` names its course and its person."""

    consumer: LtiConsumer
    role: Role
    title: str
    return_url: str = ""
    locale: str = ""

    @property
    def user_id(self) -> str:
        """The same for each consumer, title and role; nobody can guess it who lacks SECRET_KEY."""
        return f"{self.title} {self.role.name} {self._prove(str(self.role))}"

    @property
    def place_id(self) -> str:
        """The id of its course and activity, the same for all roles, and as hard to guess."""
        return f"{self.title} {self._prove('')}"

    def _prove(self, role: str) -> str:
        value = f"{self.consumer.pk}/{self.title}/{role}"
        return salted_hmac(_SALT, value, algorithm="sha256").hexdigest()[:32]

    @property
    def message(self) -> LaunchMessage:
        """What it says. An account of this site never has its address."""
        name = self.role.name
        return LaunchMessage(
            person=Person(
                user_id=self.user_id,
                full_name=f"{self.title} {name}",
                given_name=self.title,
                family_name=name,
                email=f"{self._prove(str(self.role))}@lti.invalid",
            ),
            roles=frozenset({self.role}),
            context=Context(id=self.place_id, title=self.title),
            resource_link=ResourceLink(id=self.place_id, title=self.title),
            # A consumer that knows its installation refuses others.
            installation=Installation(guid=self.consumer.instance_guid, name=self.title),
            presentation=Presentation(locale=self.locale, return_url=self.return_url or None),
            custom={key: str(value) for key, value in conf.cartridge.get("custom", {}).items()},
        )

    def verify(self, url: str) -> VerifiedLaunch:
        """It as a launch that this site vouches for; ``url`` is its launch URL."""
        return VerifiedLaunch(
            consumer=self.consumer,
            message=self.message,
            nonce=secrets.token_urlsafe(32),
            nonce_expires_at=timezone.now() + timedelta(seconds=TRIAL_LIFETIME),
            query=(),
            clock_difference=0,
            signed_with=None,
            is_trial=True,
            evidence=None,
            target_url=url,
        )


def list_trials(consumer: LtiConsumer) -> Iterator[TrialLaunch]:
    """Every trial launch that there can be of a consumer, less its language and where it began."""
    for title in (TRY_IT, DOCTOR):
        for role in ROLES:
            yield TrialLaunch(consumer=consumer, role=role, title=title)


def is_trial_launch(consumer: LtiConsumer, message: LaunchMessage) -> bool:
    """Whether this site launched itself, which says nothing about the LMS."""
    user_id = message.person.user_id
    return user_id.startswith((TRY_IT, DOCTOR)) and any(
        trial.user_id == user_id for trial in list_trials(consumer)
    )

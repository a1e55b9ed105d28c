"""Trial launches: what this site sends to itself, to see what an LMS's launches would do.

They are signed with the consumer's secret and go through the same door, as a person whom no LMS
can name, in a course of their own. They teach no installation and carry no grade.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from lti_provider.conf import conf
from lti_provider.form import Pairs
from lti_provider.lti11.signing import sign_launch
from lti_provider.message import LaunchMessage, Role
from lti_provider.models import LtiConsumer

_SALT = "lti_provider.lti11.trial_launch"

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
        return f"{self.title} {self.role.name} {self._proof}"

    @property
    def _proof(self) -> str:
        value = f"{self.consumer.pk}/{self.title}/{self.role}"
        return salted_hmac(_SALT, value, algorithm="sha256").hexdigest()[:32]

    @property
    def fields(self) -> dict[str, str]:
        """The parameters that an LMS would send, without OAuth's."""
        name = self.role.name
        sent = {
            "lti_message_type": "basic-lti-launch-request",
            "lti_version": "LTI-1p0",
            "context_id": self.title,
            "context_title": self.title,
            "resource_link_id": self.title,
            "resource_link_title": self.title,
            "user_id": self.user_id,
            "roles": name,
            "lis_person_name_given": self.title,
            "lis_person_name_family": name,
            "lis_person_name_full": f"{self.title} {name}",
            # No account of this site has it, and nothing is ever delivered there.
            "lis_person_contact_email_primary": f"{self._proof}@lti.invalid",
            "launch_presentation_locale": self.locale,
            "launch_presentation_return_url": self.return_url,
            # A consumer that knows its installation refuses others, and learns from the first.
            "tool_consumer_instance_guid": self.consumer.instance_guid,
            "tool_consumer_instance_name": self.title,
        }
        custom = conf.cartridge.get("custom", {})
        return {key: value for key, value in sent.items() if value} | {
            f"custom_{key}": value for key, value in custom.items()
        }

    @sensitive_variables()
    def sign(self, url: str) -> Pairs:
        """The form to post to ``url``, which is absolute; good for the consumer's window.

        Raises ValueError if the consumer does not speak LTI 1.1.
        """
        method = self.consumer.minimum_signature_method
        return tuple(
            sign_launch(
                url,
                self.fields,
                key=self.consumer.signing_key,
                secret=self.consumer.consumer_secret,
                method=method,
                timestamp=int(time.time()),
            )
        )


def is_trial_launch(consumer: LtiConsumer, message: LaunchMessage) -> bool:
    """Whether this site launched itself, which says nothing about the LMS."""
    user_id = message.person.user_id
    return user_id.startswith((TRY_IT, DOCTOR)) and any(
        TrialLaunch(consumer=consumer, role=role, title=title).user_id == user_id
        for title in (TRY_IT, DOCTOR)
        for role in ROLES
    )

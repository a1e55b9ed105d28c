"""Trial launches as an LMS would send them: signed, and through the same door."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.views.decorators.debug import sensitive_variables

from lti_provider import trial
from lti_provider.form import Pairs
from lti_provider.lti11.signing import sign_launch
from lti_provider.trial import DOCTOR

__all__ = ["DOCTOR", "TrialLaunch"]


@dataclass(frozen=True, kw_only=True)
class TrialLaunch(trial.TrialLaunch):
    """A trial launch that can be signed with the consumer's secret."""

    @property
    def fields(self) -> dict[str, str]:
        """The parameters that an LMS would send, without OAuth's."""
        said = self.message
        sent = {
            "lti_message_type": "basic-lti-launch-request",
            "lti_version": "LTI-1p0",
            "context_id": said.context.id,
            "context_title": said.context.title,
            "resource_link_id": said.resource_link.id,
            "resource_link_title": said.resource_link.title,
            "user_id": said.person.user_id,
            "roles": self.role.name,
            "lis_person_name_given": said.person.given_name,
            "lis_person_name_family": said.person.family_name,
            "lis_person_name_full": said.person.full_name,
            "lis_person_contact_email_primary": said.person.email,
            "launch_presentation_locale": self.locale,
            "launch_presentation_return_url": self.return_url,
            "tool_consumer_instance_guid": said.installation.guid,
            "tool_consumer_instance_name": said.installation.name,
        }
        return {key: value for key, value in sent.items() if value} | {
            f"custom_{key}": value for key, value in said.custom.items()
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

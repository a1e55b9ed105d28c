"""Tables, constraints and querysets."""

from lti_provider.models.attempt import Attempt, Verdict
from lti_provider.models.connection import LtiConnectionEvent
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.context import LtiContext, LtiResourceLink
from lti_provider.models.deployment import LtiDeployment
from lti_provider.models.installation import LtiInstallation
from lti_provider.models.key import LtiKey
from lti_provider.models.launch import LtiLaunch
from lti_provider.models.registration import LtiRegistration
from lti_provider.models.result import LtiResult
from lti_provider.models.service_host import Destination, LtiServiceBreaker, LtiServiceHost
from lti_provider.models.unknown_sender import LtiUnknownSender, UnknownSender
from lti_provider.models.user import LtiUser
from lti_provider.models.verification import Explanation, VerifiedLaunch

__all__ = [
    "Attempt",
    "Destination",
    "Explanation",
    "LtiConnectionEvent",
    "LtiConsumer",
    "LtiContext",
    "LtiDeployment",
    "LtiInstallation",
    "LtiKey",
    "LtiLaunch",
    "LtiRegistration",
    "LtiResourceLink",
    "LtiResult",
    "LtiServiceBreaker",
    "LtiServiceHost",
    "LtiUnknownSender",
    "LtiUser",
    "UnknownSender",
    "Verdict",
    "VerifiedLaunch",
]

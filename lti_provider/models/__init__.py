"""Tables, constraints and querysets."""

from lti_provider.models.attempt import Attempt, Fate
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.installation import LtiInstallation
from lti_provider.models.launch import LtiLaunch
from lti_provider.models.link import LtiLinkEvent
from lti_provider.models.person import Person
from lti_provider.models.place import LtiContext, LtiResourceLink
from lti_provider.models.result import LtiResult
from lti_provider.models.service_host import Lease, LtiServiceBreaker, LtiServiceHost, Route
from lti_provider.models.user import LtiUser

__all__ = [
    "Attempt",
    "Fate",
    "Lease",
    "LtiConsumer",
    "LtiContext",
    "LtiInstallation",
    "LtiLaunch",
    "LtiLinkEvent",
    "LtiResourceLink",
    "LtiResult",
    "LtiServiceBreaker",
    "LtiServiceHost",
    "LtiUser",
    "Person",
    "Route",
]

"""The administrator's pages."""

from lti_provider.admin.consumer import LtiConsumerAdmin
from lti_provider.admin.launch import LtiLaunchAdmin
from lti_provider.admin.people import LtiConnectionEventAdmin, LtiResourceLinkAdmin, LtiUserAdmin
from lti_provider.admin.registration import LtiDeploymentAdmin, LtiRegistrationAdmin
from lti_provider.admin.result import LtiResultAdmin, LtiServiceBreakerAdmin

__all__ = [
    "LtiConnectionEventAdmin",
    "LtiConsumerAdmin",
    "LtiDeploymentAdmin",
    "LtiLaunchAdmin",
    "LtiRegistrationAdmin",
    "LtiResourceLinkAdmin",
    "LtiResultAdmin",
    "LtiServiceBreakerAdmin",
    "LtiUserAdmin",
]

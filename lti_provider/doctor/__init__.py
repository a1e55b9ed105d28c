"""Examines a deployment: what stops its launches or grades?"""

from lti_provider.doctor.deployment import examine_deployment
from lti_provider.doctor.door import examine_door
from lti_provider.doctor.finding import Finding
from lti_provider.doctor.front_door import FrontDoor
from lti_provider.doctor.temporary import end_sessions, temporary_consumer, temporary_platform

__all__ = [
    "Finding",
    "FrontDoor",
    "end_sessions",
    "examine_deployment",
    "examine_door",
    "temporary_consumer",
    "temporary_platform",
]

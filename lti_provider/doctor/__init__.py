"""Examines a deployment: what stops its launches or grades?"""

from lti_provider.doctor.deployment import examine_deployment
from lti_provider.doctor.door import FrontDoor, examine_door
from lti_provider.doctor.finding import Finding
from lti_provider.doctor.temporary import end_sessions, temporary_consumer

__all__ = [
    "Finding",
    "FrontDoor",
    "end_sessions",
    "examine_deployment",
    "examine_door",
    "temporary_consumer",
]

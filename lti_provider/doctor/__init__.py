"""What would stop launches or grades of a deployment, by name."""

from lti_provider.doctor.deployment import examine_deployment
from lti_provider.doctor.door import FrontDoor, examine_door, first_target
from lti_provider.doctor.finding import Finding
from lti_provider.doctor.visit import end_sessions, temporary_consumer

__all__ = [
    "Finding",
    "FrontDoor",
    "end_sessions",
    "examine_deployment",
    "examine_door",
    "first_target",
    "temporary_consumer",
]

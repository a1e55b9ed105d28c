"""Deliver the grades that a site submitted to the LMS's gradebook, and read them there."""

from lti_provider.outcomes.background import background
from lti_provider.outcomes.delivery import Deliverer, DeliveryReport, deliver_due
from lti_provider.outcomes.sending import read_score, send_score

__all__ = [
    "Deliverer",
    "DeliveryReport",
    "background",
    "deliver_due",
    "read_score",
    "send_score",
]

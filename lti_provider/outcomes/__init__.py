"""Grades: submit them, and deliver what was submitted to the LMS's gradebook."""

from lti_provider.outcomes.background import background
from lti_provider.outcomes.delivery import Deliverer, DeliveryReport, deliver_due
from lti_provider.outcomes.sending import read_score, send
from lti_provider.outcomes.submission import delete_score, submit_score

__all__ = [
    "Deliverer",
    "DeliveryReport",
    "background",
    "delete_score",
    "deliver_due",
    "read_score",
    "send",
    "submit_score",
]

"""Deliver the grades that a site submitted to the LMS's gradebook, and read them there."""

from lti_provider.grades.background import background
from lti_provider.grades.delivery import Deliverer, DeliveryReport, deliver_due
from lti_provider.grades.reading import read_score

__all__ = ["Deliverer", "DeliveryReport", "background", "deliver_due", "read_score"]

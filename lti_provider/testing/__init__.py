"""For a site's own tests: sign launches, shaped like those of real LMSs, and play the LMS."""

from lti_provider.lti11 import sign_launch
from lti_provider.testing.lms import FakeLms
from lti_provider.testing.profiles import PROFILES
from lti_provider.testing.server import LmsServer

__all__ = ["PROFILES", "FakeLms", "LmsServer", "sign_launch"]

"""For a site's own tests: sign launches, shaped like those of real LMSs, and play the LMS."""

from lti_provider.lti11 import sign_launch
from lti_provider.testing.lms import FakeLms, get_framed_session
from lti_provider.testing.profiles import PROFILES
from lti_provider.testing.server import LmsServer

__all__ = ["PROFILES", "FakeLms", "LmsServer", "get_framed_session", "sign_launch"]

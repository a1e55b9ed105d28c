"""For a site's own tests: sign launches, shaped like those of real LMSs, and play the LMS."""

from lti_provider.lti11 import sign_launch
from lti_provider.testing.lms import FakeLms, get_framed_session
from lti_provider.testing.platform import FakePlatform
from lti_provider.testing.platform_profiles import PLATFORM_PROFILES
from lti_provider.testing.profiles import PROFILES
from lti_provider.testing.server import LmsServer

__all__ = [
    "PLATFORM_PROFILES",
    "PROFILES",
    "FakeLms",
    "FakePlatform",
    "LmsServer",
    "get_framed_session",
    "sign_launch",
]

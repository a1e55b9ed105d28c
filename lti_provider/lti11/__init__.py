"""OAuth 1.0 (RFC 5849) as LTI 1.1 uses it: verify a request, sign a message.

Only this room and ``testing`` import oauthlib.
"""

from lti_provider.lti11.body import authorization
from lti_provider.lti11.content_items import may_sign_for, sign_empty_selection
from lti_provider.lti11.diagnosis import Diagnosis, diagnose
from lti_provider.lti11.signature import base_string, sign
from lti_provider.lti11.signing import sign_launch
from lti_provider.lti11.verification import VerifiedRequest, verify

__all__ = [
    "Diagnosis",
    "VerifiedRequest",
    "authorization",
    "base_string",
    "diagnose",
    "may_sign_for",
    "sign",
    "sign_empty_selection",
    "sign_launch",
    "verify",
]

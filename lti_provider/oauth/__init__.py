"""OAuth 1.0 (RFC 5849) as LTI 1.1 uses it: verify a request, sign a message.

Only this room and ``testing`` import oauthlib.
"""

from lti_provider.oauth.body import authorization
from lti_provider.oauth.diagnosis import Diagnosis, diagnose
from lti_provider.oauth.launch import sign_launch
from lti_provider.oauth.selection import may_sign_for, sign_empty_selection
from lti_provider.oauth.signature import base_string, sign
from lti_provider.oauth.verification import VerifiedRequest, verify

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

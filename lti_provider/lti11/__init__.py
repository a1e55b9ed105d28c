"""The wing of LTI 1.1: OAuth-signed forms (RFC 5849), Basic Outcomes, tool configurations.

Only this room and ``testing`` import oauthlib.
"""

from lti_provider.lti11.diagnosis import explain
from lti_provider.lti11.form import PROOF
from lti_provider.lti11.signing import sign_launch
from lti_provider.lti11.verification import verify

__all__ = ["PROOF", "explain", "sign_launch", "verify"]

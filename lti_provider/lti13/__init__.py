"""The wing of LTI 1.3: OpenID Connect logins, signed tokens, and LTI Advantage services.

Only this room and ``testing`` import joserfc.
"""

from lti_provider.lti13.diagnosis import Evidence, explain
from lti_provider.lti13.login import HINT, LOGIN, Login, read_login
from lti_provider.lti13.verification import ANSWER, PROOF, verify

__all__ = [
    "ANSWER",
    "HINT",
    "LOGIN",
    "PROOF",
    "Evidence",
    "Login",
    "explain",
    "read_login",
    "verify",
]

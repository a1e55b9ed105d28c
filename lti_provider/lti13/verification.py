"""Verify a launch of LTI 1.3 (Security Framework 1.0 §5.1.3). Nothing is written here."""

from __future__ import annotations

from django.http import HttpRequest

from lti_provider.form import Pairs
from lti_provider.lti13.state import LoginState
from lti_provider.models import VerifiedLaunch

#: The name that every launch of LTI 1.3 has in its form, verified or not.
PROOF = "id_token"
#: What a form has that answers a login; where the platform refused, there is no token.
ANSWER = frozenset({PROOF, "state"})


def verify(request: HttpRequest, body: Pairs) -> VerifiedLaunch:
    """Check the token that was posted with the state of its login. Raises LaunchRefused."""
    state = LoginState.read(dict(body).get("state", ""))
    raise NotImplementedError(state.nonce)

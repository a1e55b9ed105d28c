"""JwksView: the public keys of this site."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import cache_control

from lti_provider import protocols
from lti_provider.views.decorated import DecoratedView, non_atomic_requests

#: Seconds that an LMS or a proxy may keep the key set. A new key waits longer than this before it
#: signs, and a retired one is believed so long at most.
MAX_AGE = 3600


class JwksView(DecoratedView):
    """The key set of this site, with which LMSs check what it signs. Anybody may read it.

    It is ``application/json``, as the key sets of LMSs are: ``application/jwk-set+json`` (RFC 7517
    §8.5) says no more, and not every HTTP client takes it for JSON.
    """

    decorators = (
        login_not_required,
        cache_control(public=True, max_age=MAX_AGE),
        non_atomic_requests,
    )
    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponse:
        """The public halves only; one read, no session."""
        return JsonResponse(protocols.get_key_set())

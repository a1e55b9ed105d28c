"""SignOutView: the end of a launch's session, for people who share computers."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect

from lti_provider import frames
from lti_provider.pages import render_page
from lti_provider.views.attempt import answer_outages
from lti_provider.views.decorated import DecoratedView, non_atomic_requests

if TYPE_CHECKING:
    from lti_provider.current_launch import LtiRequest


class SignOutView(DecoratedView):
    """Ends the session of this frame or window, whoever made it, and leads back to the LMS."""

    http_method_names = ["get", "post"]
    decorators = (login_not_required, never_cache, csrf_protect, non_atomic_requests)

    @answer_outages
    def get(self, request: HttpRequest) -> HttpResponse:
        """Offer it to who followed a link, or say that it is done."""
        token = get_token(request) if request.user.is_authenticated else ""
        return _render_page(request, token, _find_way_back(request))

    @answer_outages
    def post(self, request: HttpRequest) -> HttpResponse:
        """Sign out."""
        back = _find_way_back(request)
        logout(request)
        return _render_page(request, "", back)


def _find_way_back(request: HttpRequest) -> str | None:
    return cast("LtiRequest", request).lti.return_url or frames.find_way_back(request)


def _render_page(request: HttpRequest, token: str, back: str | None) -> HttpResponse:
    marker = frames.FrameMarker.read(request)
    return render_page(
        "sign_out",
        {"csrf_token": token, "back": back},
        frame_ancestors=("'self'", *(marker.origins if marker else ())),
    )

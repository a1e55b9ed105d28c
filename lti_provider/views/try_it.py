"""TryView: opens a trial launch in the browser that its address is pasted into."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import translation
from django.views.decorators.csrf import csrf_exempt

from lti_provider import binding
from lti_provider.exceptions import LaunchExpired, UnknownHandle
from lti_provider.models import LtiLaunch
from lti_provider.pages import render_page
from lti_provider.views.handle import HandleView, check_own_page
from lti_provider.views.refusal import SeeOther


class TryView(HandleView):
    """Lets whoever has the address of a trial launch open it, once.

    Launches of an LMS are bound to the browser that launched, and cannot be opened here.
    """

    http_method_names = ["get", "post"]
    decorators = (csrf_exempt, *HandleView.decorators)

    def get(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Show what would be opened; whatever fetches addresses by itself uses nothing up."""
        _check_trial(launch)
        said = launch.message
        context = {
            "lms": launch.lti_consumer.consumer_name,
            "title": said.resource_link.title,
            "roles": ", ".join(map(str, said.roles)),
            "page": urlsplit(launch.target).path,
            "minutes": launch.trial_minutes,
        }
        with translation.override(launch.locale or translation.get_language()):
            return render_page("try_launch", context, frame_ancestors=())

    def post(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Bind the launch to this window's browser, and enter it as any other."""
        _check_trial(launch)
        check_own_page(request, launch, handle)
        path = reverse("lti_provider:enter", args=[handle])
        response = SeeOther(path)
        binding.bind_handle_top_level(request, response, handle, path)
        return response


def _check_trial(launch: LtiLaunch) -> None:
    if not launch.is_made_here:
        raise UnknownHandle
    if not launch.trial_minutes:
        raise LaunchExpired

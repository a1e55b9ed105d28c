"""LoginView: sends the browser to the LMS, which says who is there."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from lti_provider import binding, protocols
from lti_provider.error_reports import LaunchReporterFilter
from lti_provider.exceptions import LaunchRefused
from lti_provider.views.attempt import answer_outages
from lti_provider.views.decorated import DecoratedView, non_atomic_requests
from lti_provider.views.refusal import SeeOther, refuse


class LoginView(DecoratedView):
    """Answers the unsigned request that begins a launch, by GET or POST, and stores nothing."""

    http_method_names = ["get", "post"]
    decorators = (
        csrf_exempt,
        login_not_required,
        never_cache,
        sensitive_variables(),
        non_atomic_requests,
    )

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        request.exception_reporter_filter = LaunchReporterFilter()

    @answer_outages
    def get(self, request: HttpRequest, registration: int | None = None) -> HttpResponseBase:
        """Redirect to the LMS. The browser gets a cookie that its launch has to come back to."""
        try:
            login = protocols.read_login(request, registration)
        except LaunchRefused as refusal:
            return refuse(request, refusal)
        state = login.begin()
        redirect_uri = request.build_absolute_uri(reverse("lti_provider:launch"))
        response = SeeOther(login.get_authorization_url(state, redirect_uri))
        binding.bind_login(request, response, state.handle)
        return response

    post = get

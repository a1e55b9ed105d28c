"""LoginView: sends the browser to the LMS, which says who is there."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from lti_provider import binding, frames, protocols
from lti_provider.error_reports import LaunchReporterFilter, hide_query
from lti_provider.exceptions import LaunchRefused
from lti_provider.pages import render_page
from lti_provider.protocols import Login
from lti_provider.views.attempt import answer_outages
from lti_provider.views.decorated import DecoratedView, non_atomic_requests
from lti_provider.views.refusal import SeeOther, refuse


class LoginView(DecoratedView):
    """Answers the unsigned request that begins a launch, by GET or POST, and stores nothing.

    The browser gets a cookie that its launch has to bring back. Before the LMS is asked, whose hint
    may be good only once, a frame shows that it keeps that cookie: it asks the same a second time.
    """

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

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return super().dispatch(request, *args, **kwargs)
        finally:
            # Logs and reports show of a request all that its address has.
            hide_query(request)

    @answer_outages
    def get(self, request: HttpRequest, registration: int | None = None) -> HttpResponseBase:
        """Redirect to the LMS, find out about the frame first, or offer a new window."""
        try:
            login = protocols.read_login(request, registration)
        except LaunchRefused as refusal:
            return refuse(request, refusal)
        if login.is_repeated and binding.is_bound(request, login.handle):
            return self._redirect(request, login)
        is_unsure = frames.may_be_framed(request) and frames.find_frame(request) is None
        if login.is_repeated and is_unsure:
            return self._offer_new_window(request, login)
        if login.is_repeated:
            # The state in the address may have been issued to a different browser.
            login = login.begin_anew()
        response = self._ask_again(request, login) if is_unsure else self._redirect(request, login)
        binding.bind_login(request, response, login.handle)
        return response

    post = get

    def _redirect(self, request: HttpRequest, login: Login) -> HttpResponseBase:
        redirect_uri = request.build_absolute_uri(reverse("lti_provider:launch"))
        return SeeOther(login.get_authorization_url(redirect_uri))

    def _ask_again(self, request: HttpRequest, login: Login) -> HttpResponseBase:
        if request.method == "GET":
            return SeeOther(f"{request.path}?{urlencode(login.repeated_fields)}")
        # Hints of any length stay in the form.
        context = {"action": request.path, "pairs": login.repeated_fields}
        return render_page("repeat_login", context, script="submit")

    def _offer_new_window(self, request: HttpRequest, login: Login) -> HttpResponseBase:
        return render_page("new_window", {"action": request.path, "pairs": login.fields})

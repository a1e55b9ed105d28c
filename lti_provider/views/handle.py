"""HandleView: what the views of a launch's one-time handle share."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare, salted_hmac
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables

from lti_provider.error_reports import LaunchReporterFilter
from lti_provider.exceptions import (
    ConsumerInactive,
    ForeignOrigin,
    LaunchExpired,
    LaunchRefused,
    LaunchUsed,
    UnknownHandle,
)
from lti_provider.form import Pairs
from lti_provider.models import LtiLaunch
from lti_provider.views.attempt import answer_outages
from lti_provider.views.decorated import DecoratedView, Decorators, R, non_atomic_requests
from lti_provider.views.refusal import refuse

_SALT = "lti_provider.views.handle"
_PROOF = "lti_proof"


class HandleView(DecoratedView):
    """Finds the launch of the URL's handle, and refuses one that cannot be entered."""

    decorators: ClassVar[Decorators] = (
        login_not_required,
        never_cache,
        sensitive_variables(),
        non_atomic_requests,
    )
    launch: LtiLaunch | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        request.exception_reporter_filter = LaunchReporterFilter()

    @answer_outages
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            self.launch = LtiLaunch.objects.with_handle(kwargs["handle"])
            if self.launch is None:
                raise UnknownHandle
            if self.launch.entered_at is not None:
                return self.answer_used(request, self.launch, kwargs["handle"])
            if self.launch.is_expired:
                raise LaunchExpired
            if self.launch.is_over:
                raise ConsumerInactive
            return super().dispatch(request, self.launch, **kwargs)
        except LaunchRefused as refusal:
            if self.launch and LtiLaunch.objects.with_handle(kwargs["handle"]) is None:
                # Erased meanwhile, with its person: what is in memory must not be logged.
                return refuse(request, UnknownHandle())
            return refuse(request, self.add_known_details(refusal))

    def answer_used(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Answer where the launch was entered before. Raises LaunchUsed."""
        raise LaunchUsed

    def add_known_details(self, refusal: R) -> R:
        if self.launch is not None:
            refusal.with_details(
                consumer=self.launch.lti_consumer,
                message=self.launch.message,
                foreign_origin=self.launch.foreign_origin,
                user_digest=self.launch.user_digest,
                is_trial=self.launch.is_trial,
            )
        return refusal


def check_own_page(request: HttpRequest, launch: LtiLaunch, handle: str) -> None:
    """Admit only POSTs of our own page, where a browser without cookies has no CSRF token.

    Where a login has bound a launch to its browser, only that browser was shown this page, with the
    launch's secret in it: a form of ours that somebody else made post here does not have it.
    Raises ForeignOrigin.
    """
    if request.headers.get("Origin") != f"{request.scheme}://{request.get_host()}":
        raise ForeignOrigin
    given = request.POST.get(_PROOF, "")
    if launch.had_login and not constant_time_compare(given, get_page_secret(handle)):
        raise ForeignOrigin


def list_proof(handle: str) -> Pairs:
    """What the form of a page about a launch posts, for ``check_own_page``."""
    return ((_PROOF, get_page_secret(handle)),)


def get_page_secret(handle: str) -> str:
    """What only our own pages about a launch know."""
    return salted_hmac(_SALT, handle, algorithm="sha256").hexdigest()

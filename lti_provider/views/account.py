"""Connecting an account: sign in on the site, confirm, and go on in the course's own frame."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.mixins import AccessMixin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils import translation
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.utils.text import format_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from lti_provider import binding, frames, sessions
from lti_provider.backends import get_lti_backend
from lti_provider.exceptions import (
    ConnectionDeclined,
    ConnectionRefused,
    EmailMissing,
    OtherBrowser,
)
from lti_provider.models import LtiConnectionEvent, LtiConsumer, LtiLaunch, LtiUser
from lti_provider.pages import render_page
from lti_provider.products import get_email_setting
from lti_provider.signals import user_connected
from lti_provider.views.attempt import answer_outages
from lti_provider.views.decorated import DecoratedView, non_atomic_requests
from lti_provider.views.handle import HandleView, check_own_page, get_page_secret, list_proof
from lti_provider.views.refusal import SeeOther, refuse


def ask_to_sign_in(
    request: HttpRequest, launch: LtiLaunch, handle: str, *, framed: bool
) -> HttpResponseBase:
    """The first page of a launch that needs an account.

    In a frame the site's sign-in opens in a window of its own, and the page waits for the
    connection. Raises EmailMissing if nobody could be connected anyway.
    """
    if launch.lti_consumer.account_match == LtiConsumer.AccountMatch.EMAIL:
        _check_email(launch)
    if not framed and request.user.is_authenticated:
        return _redirect_to_confirmation(request, handle, framed=False)
    context = {
        "launch": launch,
        "framed": framed,
        "start_url": reverse("lti_provider:account_start", args=[handle]),
        "state_url": reverse("lti_provider:account_state", args=[handle]),
        "enter_url": request.path,
        "secret": get_page_secret(handle),
        "pairs": list_proof(handle),
    }
    with translation.override(launch.locale or translation.get_language()):
        return render_page(
            "sign_in",
            context,
            script="wait_for_connection" if framed else None,
            frame_ancestors=("'self'", *launch.frame_origins) if framed else (),
        )


def _check_email(launch: LtiLaunch) -> None:
    if launch.message.person.email:
        return
    family = launch.message.installation.product
    setting = get_email_setting(family)
    text = format_lazy("{} {}", EmailMissing.public_text, setting)
    raise EmailMissing(setting).with_details(public_text=text)


def _redirect_to_confirmation(
    request: HttpRequest, handle: str, *, framed: bool
) -> HttpResponseBase:
    path = reverse("lti_provider:account", args=[handle])
    response = SeeOther(f"{path}?framed=1" if framed else path)
    binding.bind_handle_top_level(request, response, handle, path)
    return response


class AccountStartView(HandleView):
    """Leads from the page in the frame, and from no other page, to the site's sign-in."""

    http_method_names = ["post"]
    decorators = (csrf_exempt, *HandleView.decorators)

    def post(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Bind the handle to this browser and go to the confirmation, which asks to sign in."""
        check_own_page(request, launch, handle)
        launch.record_connection_refusal("")
        return _redirect_to_confirmation(request, handle, framed=bool(request.POST.get("framed")))


class AccountView(AccessMixin, HandleView):
    """Names both identities and connects them if the person says so; never framed."""

    http_method_names = ["get", "post"]

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        frames.forbid_framing(response)
        return response

    # Sets the token's cookie on a site without Django's CSRF middleware too.
    @method_decorator(csrf_protect)
    def get(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Ask for a confirmation, or say why this account cannot be connected."""
        if (instead := self._find_other_answer(request, launch, handle)) is not None:
            return instead
        try:
            get_lti_backend().may_connect(request.user, launch)
        except ConnectionRefused as refusal:
            return self._refuse_connection(request, launch, refusal)
        return self._render_page("confirm_connection", request, launch)

    @method_decorator(csrf_protect)
    def post(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Connect, decline, or sign out to sign in with a different account."""
        if (instead := self._find_other_answer(request, launch, handle)) is not None:
            return instead
        if "confirm" not in request.POST:
            launch.record_connection_refusal(ConnectionDeclined.code)
            return self._refuse_connection(request, launch, ConnectionDeclined())
        try:
            self._connect(request, launch)
        except ConnectionRefused as refusal:
            return self._refuse_connection(request, launch, refusal)
        return self._answer_connected(request, launch, handle)

    def answer_used(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """A reload, after the course's frame has gone on, says again how it ended."""
        if _is_for_frame(request) and binding.is_bound_top_level(request, handle):
            return self._render_page("connected", request, launch)
        return super().answer_used(request, launch, handle)

    def _find_other_answer(
        self, request: HttpRequest, launch: LtiLaunch, handle: str
    ) -> HttpResponseBase | None:
        if not binding.is_bound_top_level(request, handle):
            raise OtherBrowser
        if not launch.needs_account:
            return self._answer_connected(request, launch, handle)
        if "another" in request.POST:
            launch.record_connection_refusal("")
            logout(request)
        if not request.user.is_authenticated:
            return self.handle_no_permission()
        if sessions.is_launch_session(request):
            return self._render_page("sign_in", request, launch)
        return None

    def _answer_connected(
        self, request: HttpRequest, launch: LtiLaunch, handle: str
    ) -> HttpResponseBase:
        if _is_for_frame(request):
            return self._render_page("connected", request, launch)
        return SeeOther(reverse("lti_provider:enter", args=[handle]))

    def _connect(self, request: HttpRequest, launch: LtiLaunch) -> None:
        user: Any = request.user
        get_lti_backend().may_connect(user, launch)
        lti_user, is_new = LtiUser.objects.connect(
            launch.lti_consumer,
            launch.message.person.user_id,
            launch.user_digest,
            user,
            sessions.get_client_address(request),
        )
        if is_new:
            user_connected.send(sender=LtiUser, request=request, lti_user=lti_user, launch=launch)

    def _refuse_connection(
        self, request: HttpRequest, launch: LtiLaunch, refusal: ConnectionRefused
    ) -> HttpResponse:
        return refuse(
            request,
            self.add_known_details(refusal),
            lambda: self._render_page("connection_refused", request, launch, refusal),
        )

    def _render_page(
        self,
        name: str,
        request: HttpRequest,
        launch: LtiLaunch,
        refusal: ConnectionRefused | None = None,
    ) -> HttpResponse:
        context = {
            "launch": launch,
            "account": _get_account_name(request.user),
            "csrf_token": get_token(request),
            "refusal": refusal,
            "declined": isinstance(refusal, ConnectionDeclined),
            "back": launch.return_url,
        }
        with translation.override(launch.locale or translation.get_language()):
            return render_page(
                name, context, status=refusal.status if refusal else 200, frame_ancestors=()
            )


def _is_for_frame(request: HttpRequest) -> bool:
    return "framed" in request.GET


def _get_account_name(user: Any) -> str:
    username = str(user.get_username())
    full_name = str(user.get_full_name()) if hasattr(user, "get_full_name") else ""
    return f"{full_name} ({username})" if full_name and full_name != username else username


class AccountStateView(DecoratedView):
    """Tells the page that waits in the frame, by its secret, how far the connection is."""

    http_method_names = ["get"]
    decorators = (login_not_required, never_cache, non_atomic_requests)

    @answer_outages
    def get(self, request: HttpRequest, handle: str) -> HttpResponse:
        """JSON with ``state``: ``waiting``, ``connected``, ``declined`` or ``ended``."""
        given = request.headers.get("X-Lti-Secret", "")
        launch = LtiLaunch.objects.with_handle(handle)
        if launch is None or not constant_time_compare(given, get_page_secret(handle)):
            return JsonResponse({"state": "ended"}, status=404)
        return JsonResponse({"state": _get_state(launch)})


def _get_state(launch: LtiLaunch) -> str:
    over = launch.entered_at is not None or launch.is_expired
    if over or not launch.lti_consumer.is_active:
        return "ended"
    if not launch.needs_account:
        return "connected"
    return "declined" if launch.connection_refusal_code else "waiting"


class ConnectionsView(DecoratedView):
    """The learner's page of LTI connections: what is connected, and how to undo it."""

    http_method_names = ["get", "post"]
    decorators = (never_cache, csrf_protect, non_atomic_requests)

    @answer_outages
    @method_decorator(login_required)
    def get(self, request: HttpRequest) -> HttpResponse:
        """List the connections of the account that is signed in."""
        user: Any = request.user
        context = {
            "connections": self._find_connections(user),
            "account": _get_account_name(user),
            "csrf_token": get_token(request),
        }
        return render_page("connections", context, frame_ancestors=())

    @answer_outages
    @method_decorator(login_required)
    def post(self, request: HttpRequest) -> HttpResponseBase:
        """End the connection named ``connection``."""
        user: Any = request.user
        number = request.POST.get("connection")
        for lti_user in self._find_connections(user):
            if str(lti_user.pk) == number:
                lti_user.disconnect(
                    LtiConnectionEvent.How.BY_PERSON, user, sessions.get_client_address(request)
                )
        # Of a session that this ended, the page asks to sign in.
        return SeeOther(request.path)

    def _find_connections(self, user: Any) -> QuerySet[LtiUser]:
        connected = LtiUser.objects.filter(user=user, connected_at__isnull=False)
        return connected.select_related("lti_consumer").order_by("pk")

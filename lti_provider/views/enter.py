"""EnterView: exchanges a launch's one-time handle for a session, in the browser that launched."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

from django.conf import settings
from django.contrib.auth import authenticate
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils import translation
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from lti_provider import binding, frames, sessions
from lti_provider.exceptions import (
    LaunchUsed,
    OtherBrowser,
    UnknownFrameOrigin,
)
from lti_provider.models import LtiLaunch, LtiResourceLink, LtiResult
from lti_provider.models.primary import commit
from lti_provider.pages import render_page
from lti_provider.signals import user_launched
from lti_provider.views.account import ask_to_sign_in
from lti_provider.views.attempt import undo_if_it_fails
from lti_provider.views.handle import HandleView, check_own_page, list_proof
from lti_provider.views.refusal import SeeOther

logger = logging.getLogger("lti_provider")


class EnterView(HandleView):
    """Claims the handle and signs the learner in, in this browser and only once."""

    # A HEAD must not use the handle up.
    http_method_names = ["get", "post"]

    def get(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Sign in and go to the content, or ask first where somebody else is signed in."""
        framed = self._is_framed(request, handle)
        if framed and not launch.frame_origins:
            raise UnknownFrameOrigin
        if not binding.is_bound(request, handle):
            return self._answer_unbound(request, launch, handle, framed=framed)
        question = self._find_question(request, launch, handle, framed=framed)
        if question is None:
            return self._enter(request, launch, handle, framed=framed)
        binding.keep_bound(request, question, handle, request.path)
        return question

    def _answer_unbound(
        self, request: HttpRequest, launch: LtiLaunch, handle: str, *, framed: bool
    ) -> HttpResponseBase:
        # Where a login came before, it has found out whether the frame keeps cookies; who comes
        # without its cookie now may have been sent here by anybody.
        if framed and launch.had_login:
            raise OtherBrowser.in_frame()
        if not framed or frames.FrameMarker.read(request) is not None:
            raise OtherBrowser
        return self._offer_new_window(launch, handle)

    def _find_question(
        self, request: HttpRequest, launch: LtiLaunch, handle: str, *, framed: bool
    ) -> HttpResponseBase | None:
        if framed and frames.is_of_other_frame(request, launch):
            return self._offer_new_window(launch, handle)
        if launch.needs_account:
            return ask_to_sign_in(request, launch, handle, framed=framed)
        if not is_somebody_else(request, launch, framed=framed):
            return None
        # The question must not be framed, so a frame goes on to where it can be asked.
        if framed:
            return self._offer_new_window(launch, handle)
        return self._ask_to_replace_session(request, launch)

    @method_decorator(csrf_protect)
    def post(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Sign in, in place of somebody else: the person was asked and agreed."""
        if not binding.is_bound(request, handle):
            raise OtherBrowser
        return self._enter(request, launch, handle, framed=self._is_framed(request, handle))

    def _enter(
        self, request: HttpRequest, launch: LtiLaunch, handle: str, *, framed: bool
    ) -> HttpResponseBase:
        with undo_if_it_fails(request), commit(router.db_for_write(LtiLaunch)):
            response = enter(request, launch, framed=framed)
        log_launch(launch)
        binding.unbind_handle(request, response, handle, request.path)
        return response

    def _is_framed(self, request: HttpRequest, handle: str) -> bool:
        if frames.may_be_framed(request) and frames.may_be_top_level(request):
            return not binding.is_bound_top_level(request, handle)
        return frames.may_be_framed(request)

    def _offer_new_window(self, launch: LtiLaunch, handle: str) -> HttpResponse:
        action = reverse("lti_provider:window", args=[handle])
        with translation.override(launch.locale or translation.get_language()):
            return render_page(
                "new_window",
                {"action": action, "pairs": list_proof(handle), "launch": launch},
                script="ask_for_full_window" if _supports_full_window(launch) else None,
                frame_ancestors=("'self'", *launch.frame_origins),
            )

    # Sets the token's cookie on a site without Django's CSRF middleware too.
    @method_decorator(csrf_protect)
    def _ask_to_replace_session(self, request: HttpRequest, launch: LtiLaunch) -> HttpResponse:
        context = {
            "title": launch.message.resource_link.title,
            "lms": launch.lti_consumer.consumer_name,
            "signed_in": request.user.get_username(),
            "csrf_token": get_token(request),
            "back": launch.return_url,
        }
        with translation.override(launch.locale or translation.get_language()):
            return render_page("replace_session", context, frame_ancestors=())


def is_somebody_else(request: HttpRequest, launch: LtiLaunch, *, framed: bool) -> bool:
    """Whether this browser is signed in as a different person, who would have to be asked."""
    # A frame has a launch's session, unless it is the window's too or somebody signed in there.
    if not request.user.is_authenticated or (framed and sessions.is_launch_session(request)):
        return False
    return launch.lti_user is None or launch.lti_user.user_id != request.user.pk


def may_enter_at_once(request: HttpRequest, launch: LtiLaunch) -> bool:
    """Whether nothing has to be asked or found out before a frame that keeps our cookies."""
    if not launch.frame_origins or launch.needs_account:
        return False
    return not is_somebody_else(request, launch, framed=True)


def enter(request: HttpRequest, launch: LtiLaunch, *, framed: bool) -> HttpResponseBase:
    """Use the launch up, sign in, and lead to its page; called in a transaction.

    With the session in it, so that whatever fails leaves a launch that still opens one. Raises
    LaunchUsed and what ``LtiBackend.authenticate`` raises.
    """
    if not launch.claim():
        raise LaunchUsed
    user = authenticate(request, launch=launch)
    if user is None:
        raise ImproperlyConfigured(
            "Add 'lti_provider.backends.LtiBackend' to AUTHENTICATION_BACKENDS."
        )
    launch.resource_link = LtiResourceLink.objects.sync_from_launch(
        launch.lti_consumer, launch.message, launch.resource_link
    )
    result = LtiResult.objects.sync_from_launch(
        launch.lti_consumer,
        launch.message.grade_service,
        user_digest=launch.user_digest,
        link_digest=launch.link_digest,
        known=launch.result,
        rotation=launch.lti_consumer.get_rotation(launch.signed_with),
    )
    if result is not None:
        launch.result = result
    sessions.sign_in(request, user, launch, framed=framed)
    user_launched.send(sender=LtiLaunch, request=request, launch=launch, user=user)
    _save_session(request.session)
    return _redirect_to_content(request, launch, framed=framed)


def log_launch(launch: LtiLaunch) -> None:
    """Log a launch that was entered, once that is committed."""
    fields = {
        "consumer": launch.lti_consumer_id,
        "launch": launch.pk,
        "secret": launch.signed_with,
    }
    logger.info(
        "user_launched consumer=%(consumer)s launch=%(launch)s secret=%(secret)s",
        fields,
        extra={"event": "user_launched", **fields},
    )


def _redirect_to_content(
    request: HttpRequest, launch: LtiLaunch, *, framed: bool
) -> HttpResponseBase:
    response = SeeOther(sessions.get_page_url(launch))
    if framed:
        frames.keep_frame_marked(request, response, launch)
    if launch.locale and (framed or settings.LANGUAGE_COOKIE_NAME not in request.COOKIES):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            launch.locale,
            path=settings.LANGUAGE_COOKIE_PATH,
            domain=settings.LANGUAGE_COOKIE_DOMAIN,
            secure=settings.LANGUAGE_COOKIE_SECURE,
            httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
            samesite=settings.LANGUAGE_COOKIE_SAMESITE,
        )
    return response


def _save_session(session: Any) -> None:
    """Save now; the response, which sets the cookie, saves only what changes from here on."""
    session.save()
    save, key, saved = session.save, session.session_key, deepcopy(dict(session.items()))

    def save_changes(must_create: bool = False) -> None:
        if must_create or (session.session_key, dict(session.items())) != (key, saved):
            save(must_create)

    session.save = save_changes


def _supports_full_window(launch: LtiLaunch) -> bool:
    # Canvas launches anew in the whole window if its tool asks for that.
    family = launch.message.installation.product
    return family == "canvas" and bool(launch.launch_url)


class NewWindowView(HandleView):
    """Takes a launch from a frame whose browser keeps no cookies to a window of its own.

    Without cookies there is no CSRF token; ``check_own_page`` does what that would do.
    """

    http_method_names = ["post"]
    decorators = (csrf_exempt, *HandleView.decorators)

    def post(self, request: HttpRequest, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        """Bind the handle to this window's browser."""
        check_own_page(request, launch, handle)
        path = reverse("lti_provider:enter", args=[handle])
        response = SeeOther(path)
        binding.bind_handle_top_level(request, response, handle, path)
        return response

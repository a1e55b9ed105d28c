"""LtiFrameMiddleware: keeps sessions in frames, lets only the LMS frame, gives ``request.lti``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.functional import SimpleLazyObject

from lti_provider import error_reports, frames, sessions
from lti_provider.current_launch import CurrentLaunch
from lti_provider.pages import Page

GetResponse = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class LtiFrameMiddleware:
    """Put it first in ``MIDDLEWARE``: it edits the finished response of marked frames.

    Other requests only get the attributes ``lti`` and ``alti``, which read the session when asked.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        frames.accept_session_cookie(request)
        _add_launch(request)
        if frames.MARKER_COOKIE in request.COOKIES:
            frames.record_framing_refusals(request)
        with sessions.serve(request):
            response = self.get_response(request)
        if isinstance(response, HttpResponseBase):
            return self._finish_response(request, response)
        return self._afinish_response(request, response)

    async def _afinish_response(
        self, request: HttpRequest, response: Awaitable[HttpResponseBase]
    ) -> HttpResponseBase:
        with sessions.serve(request):
            awaited = await response
        marker = frames.find_frame(request)
        if marker is None or not (marker.is_stale or sessions.is_streamed(awaited)):
            return self._finish_response(request, awaited)
        return await sync_to_async(self._finish_response)(request, awaited)

    def _finish_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        sessions.end_with_browser(request, response)
        if sessions.is_streamed(response):
            sessions.keep_serving(request, response)
        marker = frames.find_frame(request)
        if marker is None:
            frames.remember_window(request, response)
            return response
        _give_cookies_to_frame(request, response, marker)
        if _may_be_framed(request, response, marker):
            if marker.is_stale:
                marker = marker.renew()
                marker.set_cookie(request, response)
            frames.allow_framing(response, marker.origins)
        patch_vary_headers(response, ("Cookie", "Sec-Fetch-Dest"))
        return response


def _add_launch(request: Any) -> None:
    request.lti = CurrentLaunch(request)
    request.alti = request.lti.load
    # Hides a launch that fails in a middleware, before it reaches our view.
    request.exception_reporter_filter = SimpleLazyObject(partial(error_reports.get_filter, request))


def _give_cookies_to_frame(
    request: HttpRequest, response: HttpResponseBase, marker: frames.FrameMarker
) -> None:
    kept = set()
    if not marker.is_own_site:
        if not frames.is_framed(request) and sessions.is_persons_own(request):
            # A window may have asked: the person's own session never goes to a frame by mistake.
            kept.add(frames.get_session_cookie(framed=False))
        else:
            frames.rename_session_cookie(response)
    frames.partition_cookies(response, response.cookies.keys() - kept)


def _may_be_framed(
    request: HttpRequest, response: HttpResponseBase, marker: frames.FrameMarker
) -> bool:
    if marker.is_of_login or isinstance(response, Page):
        return False
    if frames.refuses_framing(response) or _is_never_framed(request):
        return False
    # A browser may have lost the marker that its session came with, and have got a different one.
    return sessions.may_be_framed_by(request, response, marker.consumer)


def _is_never_framed(request: HttpRequest) -> bool:
    match = request.resolver_match
    if match is None:
        return False
    return "admin" in match.app_names or str(settings.LOGIN_URL) in (request.path, match.view_name)

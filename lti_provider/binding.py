"""Cookies that bind a launch to the browser that launched, so that its address is worth nothing."""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac

from lti_provider.frames import (
    BOUND_TOP_LEVEL,
    LOGIN_FRAMED,
    LOGIN_TOP_LEVEL,
    may_be_framed,
    may_be_top_level,
    partition_cookies,
)
from lti_provider.models.digest import digest

_SALT = "lti_provider.binding"
_BOUND_FRAMED = "lti_enter_framed"
# Seconds for which the cookie of a login waits for its launch.
_LOGIN_LIFETIME = 600


def bind_handle(request: HttpRequest, response: HttpResponseBase, handle: str, path: str) -> None:
    """Bind a handle to the browser that launched, so that a mailed link is worth nothing.

    ``path`` is the handle's own, so launches in several tabs do not meet.
    """
    if may_be_top_level(request):
        bind_handle_top_level(request, response, handle, path)
    if may_be_framed(request):
        response.set_cookie(
            _BOUND_FRAMED,
            _sign_handle(handle),
            path=path,
            secure=True,
            httponly=True,
            samesite="None",
        )
        partition_cookies(response, [_BOUND_FRAMED])


def bind_handle_top_level(
    request: HttpRequest, response: HttpResponseBase, handle: str, path: str
) -> None:
    """Bind a handle to the browser of a window."""
    response.set_cookie(
        BOUND_TOP_LEVEL,
        _sign_handle(handle),
        path=path,
        secure=request.is_secure(),
        httponly=True,
        samesite="Lax",
    )


def is_bound(request: HttpRequest, handle: str) -> bool:
    """Whether this browser is the one that launched."""
    return is_bound_top_level(request, handle) or _is_bound_framed(request, handle)


def is_bound_top_level(request: HttpRequest, handle: str) -> bool:
    """Whether this browser launched, or went on, in a window."""
    names = (BOUND_TOP_LEVEL, _name_login_cookie(LOGIN_TOP_LEVEL, handle))
    return any(_is_bound_by(name, request, handle) for name in names)


def _is_bound_framed(request: HttpRequest, handle: str) -> bool:
    return _is_bound_by(_BOUND_FRAMED, request, handle) or has_login_of_frame(request, handle)


def has_login_of_frame(request: HttpRequest, handle: str) -> bool:
    """Whether the launch's login was in a frame of this browser that keeps our cookies."""
    return _is_bound_by(_name_login_cookie(LOGIN_FRAMED, handle), request, handle)


def _is_bound_by(cookie: str, request: HttpRequest, handle: str) -> bool:
    return constant_time_compare(request.COOKIES.get(cookie, ""), _sign_handle(handle))


def unbind_handle(request: HttpRequest, response: HttpResponseBase, path: str) -> None:
    """Delete the cookies of a handle that was used."""
    for name in (BOUND_TOP_LEVEL, _BOUND_FRAMED):
        if name in request.COOKIES:
            response.delete_cookie(name, path=path)


def _sign_handle(handle: str) -> str:
    return salted_hmac(_SALT, handle, algorithm="sha256").hexdigest()


def bind_login(request: HttpRequest, response: HttpResponseBase, handle: str) -> None:
    """Bind the launch that a login becomes to the browser of the login, for ten minutes.

    What is posted as its launch may come from anywhere, and sets no such cookie.
    """
    if may_be_top_level(request):
        _set_login_cookie(response, LOGIN_TOP_LEVEL, handle, samesite="Lax", request=request)
    if may_be_framed(request):
        _set_login_cookie(response, LOGIN_FRAMED, handle, samesite="None", request=request)


def _set_login_cookie(response, prefix, handle, samesite, request) -> None:
    name = _name_login_cookie(prefix, handle)
    root = reverse("lti_provider:login").removesuffix("login/")
    response.set_cookie(
        name,
        _sign_handle(handle),
        path=root,
        max_age=_LOGIN_LIFETIME,
        secure=samesite == "None" or request.is_secure(),
        httponly=True,
        samesite=samesite,
    )
    if samesite == "None":
        partition_cookies(response, [name])


def _name_login_cookie(prefix: str, handle: str) -> str:
    return f"{prefix}{digest(handle)[:16]}"

"""Cookies that bind a launch to the browser that launched, so that its address is worth nothing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

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
# Of a window's, and of a frame's, at a time: course pages show more than a few frames.
_LOGINS = 20
# The header of a response has its limits too.
_FORGOTTEN_AT_ONCE = 3
_DIGEST = re.compile(r"[0-9a-f]{16}")
_ISSUE_TIME = re.compile(r"[0-9]{1,12}")


def bind_handle(request: HttpRequest, response: HttpResponseBase, handle: str, path: str) -> None:
    """Bind a handle to the browser that launched, so that a mailed link is worth nothing.

    ``path`` is the handle's own, so launches in several tabs do not meet.
    """
    if may_be_top_level(request):
        bind_handle_top_level(request, response, handle, path)
    if may_be_framed(request):
        _bind_handle_framed(response, handle, path)


def _bind_handle_framed(response: HttpResponseBase, handle: str, path: str) -> None:
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


def _is_bound_by(cookie: str, request: HttpRequest, handle: str) -> bool:
    # In a login's cookie, the time of issue and a "-" come first.
    said = request.COOKIES.get(cookie, "").rpartition("-")[2]
    return constant_time_compare(said, _sign_handle(handle))


def unbind_handle(request: HttpRequest, response: HttpResponseBase, handle: str, path: str) -> None:
    """Delete the cookies of a handle that was used."""
    for name in (BOUND_TOP_LEVEL, _BOUND_FRAMED):
        if name in request.COOKIES:
            response.delete_cookie(name, path=path)
    unbind_login(request, response, handle)


def unbind_login(request: HttpRequest, response: HttpResponseBase, handle: str) -> None:
    """Delete the cookies of a login whose launch was entered."""
    _forget_logins(response, _find_login_cookies(request, handle))


def bind_login(request: HttpRequest, response: HttpResponseBase, handle: str) -> None:
    """Bind the launch that a login becomes to the browser of the login, for ten minutes.

    A launch of it may be posted from anywhere, so it is the login that sets the cookie. The oldest
    ones make room, so that many logins never make a header that servers refuse.
    """
    for prefix in _choose_places(request):
        known = [name for name in request.COOKIES if _is_login_cookie(prefix, name)]
        known.sort(key=lambda name: _get_issue_time(request.COOKIES[name]))
        excess = len(known) + 1 - _LOGINS
        _forget_logins(response, known[: max(0, min(excess, _FORGOTTEN_AT_ONCE))])
        is_framed = prefix == LOGIN_FRAMED
        name = _name_login_cookie(prefix, handle)
        response.set_cookie(
            name,
            f"{int(time.time())}-{_sign_handle(handle)}",
            max_age=_LOGIN_LIFETIME,
            path=_get_root(),
            secure=is_framed or request.is_secure(),
            httponly=True,
            samesite="None" if is_framed else "Lax",
        )
        if is_framed:
            partition_cookies(response, [name])


def keep_bound(request: HttpRequest, response: HttpResponseBase, handle: str, path: str) -> None:
    """Replace a login's cookies, which last ten minutes, by cookies of the handle that last longer.

    Somebody who has to sign up first may take longer. Only in a browser that has them.
    """
    found = _find_login_cookies(request, handle)
    for name in found:
        if name.startswith(LOGIN_FRAMED):
            _bind_handle_framed(response, handle, path)
        else:
            bind_handle_top_level(request, response, handle, path)
    _forget_logins(response, found)


def has_login_of_frame(request: HttpRequest, handle: str) -> bool:
    """Whether the launch's login was in this frame, whose browser keeps our cookies."""
    return _is_bound_by(_name_login_cookie(LOGIN_FRAMED, handle), request, handle)


def _choose_places(request: HttpRequest) -> list[str]:
    places = {LOGIN_TOP_LEVEL: may_be_top_level(request), LOGIN_FRAMED: may_be_framed(request)}
    return [prefix for prefix, is_possible in places.items() if is_possible]


def _find_login_cookies(request: HttpRequest, handle: str) -> list[str]:
    names = [_name_login_cookie(prefix, handle) for prefix in (LOGIN_TOP_LEVEL, LOGIN_FRAMED)]
    return [name for name in names if _is_bound_by(name, request, handle)]


def _forget_logins(response: HttpResponseBase, names: Iterable[str]) -> None:
    for name in names:
        is_framed = name.startswith(LOGIN_FRAMED)
        response.delete_cookie(name, path=_get_root(), samesite="None" if is_framed else "Lax")
        if is_framed:
            partition_cookies(response, [name])


def _is_login_cookie(prefix: str, name: str) -> bool:
    # Not every name that a browser sends may be set.
    return name.startswith(prefix) and bool(_DIGEST.fullmatch(name.removeprefix(prefix)))


def _name_login_cookie(prefix: str, handle: str) -> str:
    return f"{prefix}{digest(handle)[:16]}"


def _get_issue_time(value: str) -> int:
    said = value.partition("-")[0]
    return int(said) if _ISSUE_TIME.fullmatch(said) else 0


def _get_root() -> str:
    # Where all of this app's addresses begin: login, launch and enter.
    path = reverse("lti_provider:login").removesuffix("login/")
    return path[: path.rindex("/") + 1]


def _sign_handle(handle: str) -> str:
    return salted_hmac(_SALT, handle, algorithm="sha256").hexdigest()

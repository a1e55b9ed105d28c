"""Decorators for views that only launches may open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from lti_provider.frames import find_way_back
from lti_provider.message import Role
from lti_provider.pages import render_lost_session, render_wrong_role

if TYPE_CHECKING:
    from lti_provider.current_launch import CurrentLaunch

ViewFunction = Callable[..., Any]
Check = Callable[[HttpRequest, "CurrentLaunch"], HttpResponseBase | None]


def launch_required(view: ViewFunction) -> ViewFunction:
    """Show a page that leads back to the course to whoever comes without a launch."""

    def check(request: HttpRequest, lti: CurrentLaunch) -> HttpResponseBase | None:
        return None if lti else render_lost_session(find_way_back(request))

    return _add_check(view, check)


def role_required(*roles: Role) -> Callable[[ViewFunction], ViewFunction]:
    """Admit only people who have one of ``roles`` in the launch of this request."""

    def check(request: HttpRequest, lti: CurrentLaunch) -> HttpResponseBase | None:
        if not lti:
            return render_lost_session(find_way_back(request))
        return None if any(map(lti.has_role, roles)) else render_wrong_role(lti.return_url)

    return lambda view: _add_check(view, check)


def _add_check(view: ViewFunction, check: Check) -> ViewFunction:
    @wraps(view)
    def sync_view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return check(request, cast("Any", request).lti) or view(request, *args, **kwargs)

    @wraps(view)
    async def async_view(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        refused = check(request, await cast("Any", request).alti())
        return refused or await cast("Awaitable[Any]", view(request, *args, **kwargs))

    return async_view if iscoroutinefunction(view) else sync_view

"""Keeps what an LMS posted, and what opens a launch, out of error reports and debug pages."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, QueryDict
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter

from lti_provider.frames import BINDING_COOKIES
from lti_provider.protocols import is_launch, is_login_by_address

# Of browsers, servers and proxies, with the whole address.
_WITH_QUERY = frozenset(
    {
        *("HTTP_REFERER", "RAW_URI", "REQUEST_URI", "UNENCODED_URL", "HTTP_X_ORIGINAL_URI"),
        *("HTTP_X_ORIGINAL_URL", "HTTP_X_FORWARDED_URI", "HTTP_X_REWRITE_URL"),
    }
)


class LaunchReporterFilter(SafeExceptionReporterFilter):
    """Hides all that was posted, cookies, and variables that are marked as sensitive, in DEBUG too.

    With the address of a launch that failed, which reports show, its cookie would open it.
    """

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        names = () if request is None else request.POST
        return dict.fromkeys(names, self.cleansed_substitute)

    def get_safe_cookies(self, request: HttpRequest) -> dict[str, Any]:
        return dict.fromkeys(request.COOKIES, self.cleansed_substitute)


def get_filter(request: HttpRequest) -> SafeExceptionReporterFilter:
    """The filter of a request that does not reach our views, such as one of a wrong host."""
    if is_login_by_address(request):
        # No filter of Django's is asked about the query.
        hide_query(request)
        return LaunchReporterFilter()
    if is_launch(request) or any(name.startswith(BINDING_COOKIES) for name in request.COOKIES):
        return LaunchReporterFilter()
    return get_default_exception_reporter_filter()


def hide_query(request: HttpRequest) -> None:
    """Take the query out of a request, from wherever a report would show it."""
    request.GET = QueryDict()
    request.META["QUERY_STRING"] = ""
    for name in _WITH_QUERY & request.META.keys():
        del request.META[name]

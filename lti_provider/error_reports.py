"""Keeps what an LMS posted out of error reports and debug pages."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter

from lti_provider.protocols import is_launch


class LaunchReporterFilter(SafeExceptionReporterFilter):
    """Hides all that was posted, and variables that are marked as sensitive, in DEBUG too."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        names = () if request is None else request.POST
        return dict.fromkeys(names, self.cleansed_substitute)


def get_filter(request: HttpRequest) -> SafeExceptionReporterFilter:
    """The filter of a request that does not reach our views, such as one of a wrong host."""
    if is_launch(request):
        return LaunchReporterFilter()
    return get_default_exception_reporter_filter()

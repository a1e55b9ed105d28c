"""Error reports and debug pages that hold nothing of what an LMS posted."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.views.debug import SafeExceptionReporterFilter, get_default_exception_reporter_filter


class LaunchReporterFilter(SafeExceptionReporterFilter):
    """Hides all that was posted, and variables that are marked as sensitive, in DEBUG too."""

    def is_active(self, request: HttpRequest | None) -> bool:
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        names = () if request is None else request.POST
        return dict.fromkeys(names, self.cleansed_substitute)


def filter_of(request: HttpRequest) -> SafeExceptionReporterFilter:
    """The filter of a request that no view of ours has in hand, such as of a host not allowed."""
    if "oauth_consumer_key" in request.POST:
        return LaunchReporterFilter()
    return get_default_exception_reporter_filter()

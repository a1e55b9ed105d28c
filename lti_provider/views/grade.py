"""GradeView: the state of a grade, for the page that shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from lti_provider.models import LtiLaunch, LtiResult

if TYPE_CHECKING:
    from lti_provider.current_launch import LtiRequest


@method_decorator(never_cache, name="dispatch")
class GradeView(View):
    """JSON for the learner whose grade it is and for teachers of the same course.

    ``{"state": "waiting", "text": "…"}``, and for teachers ``"reason"``. 404 for everybody else.
    """

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, pk: int) -> HttpResponseBase:
        """The state of the grade ``pk``, if this launch may see it."""
        launch = cast("LtiRequest", request).lti.launch
        result = LtiResult.objects.select_related("resource_link").filter(pk=pk).first()
        if launch is None or result is None or not _may_see(launch, result):
            return JsonResponse({"state": "unknown"}, status=404)
        return JsonResponse(_build_state(launch, result))


def _may_see(launch: LtiLaunch, result: LtiResult) -> bool:
    if launch.lti_consumer_id != result.lti_consumer_id:
        return False
    if launch.user_digest == result.user_digest:
        return True
    same_link = launch.link_digest == result.link_digest
    course = launch.context
    link = result.resource_link
    same_course = course is not None and link is not None and link.lti_context_id == course.pk
    return launch.message.is_instructor and (same_link or same_course)


def _build_state(launch: LtiLaunch, result: LtiResult) -> dict[str, Any]:
    shown = {"state": result.state, "text": str(result.state_text)}
    if launch.message.is_instructor and result.reason:
        shown["reason"] = result.reason
    return shown

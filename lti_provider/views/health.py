"""HealthView: for whoever watches the site."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import Error, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache

from lti_provider.models import LtiConsumer


@method_decorator(
    (login_not_required, never_cache, transaction.non_atomic_requests), name="dispatch"
)
class HealthView(View):
    """Whether launches have a database: one read, no session, nothing but ok or fail.

    ``{"status": "ok"}`` with 200, ``{"status": "fail"}`` with 503.
    """

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponse:
        """Read one row of the table that a launch reads first."""
        try:
            LtiConsumer.objects.exists()
        except Error:
            return JsonResponse({"status": "fail"}, status=503)
        return JsonResponse({"status": "ok"})

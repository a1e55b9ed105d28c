"""A launch of LTI 1.3 is posted to one address; the view of its launch URL answers it whole."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import include, path

from lti_provider.models import LtiLaunch
from lti_provider.testing import FakeLms, FakePlatform
from lti_provider.views import LaunchView
from tests.urls import content

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

seen: list[str] = []


def guard(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        seen.append(f"decorator {kwargs}")
        if "closed" in kwargs.get("course", ""):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


class CourseLaunchView(LaunchView):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        seen.append("dispatch")
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        seen.append("post")
        return super().post(request, *args, **kwargs)

    def get_success_url(self) -> str:
        seen.append("get_success_url")
        return f"/content/{self.kwargs['course']}/"

    def launch_refused(self, refusal: Any) -> HttpResponseBase:
        seen.append("launch_refused")
        return super().launch_refused(refusal)


class BrokenLaunchView(LaunchView):
    def get_success_url(self) -> str:
        return "/content/"

    def launch_valid(self, launch: LtiLaunch) -> HttpResponseBase:
        seen.append("launch_valid")
        raise IntegrityError("a mistake of the site's own")


urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("lti/course/<str:course>/", guard(CourseLaunchView.as_view())),
    path("lti/broken/", BrokenLaunchView.as_view()),
    path("content/<path:page>", content, name="page"),
]


@pytest.fixture(autouse=True)
def _nothing_was_seen() -> None:
    seen.clear()


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform.create("moodle")


def launch(platform: FakePlatform, client: Client, address: str) -> Any:
    return platform.launch(client, f"http://testserver/lti/{address}", framed=True)


def test_a_decorator_refuses_a_launch_by_either_dialect(client, platform):
    assert launch(platform, client, "course/closed/").status_code == 403
    assert seen == ["decorator {'course': 'closed'}"]
    form = urlencode(FakeLms.create("canvas").sign("/content/"))
    form_type = "application/x-www-form-urlencoded"
    refused = client.post("/lti/course/closed/", form, content_type=form_type)
    assert refused.status_code == 403
    assert not LtiLaunch.objects.exists()


def test_dispatch_post_and_hooks_run_once(client, platform):
    page = launch(platform, client, "course/algebra/")
    assert page.status_code == 200
    assert page.request["PATH_INFO"] == "/content/algebra/"
    assert seen == ["decorator {'course': 'algebra'}", "dispatch", "post", "get_success_url"]


def test_a_refusal_is_answered_by_its_view(client, platform):
    platform.consumer.set_active(False)
    page = launch(platform, client, "course/algebra/")
    assert page.status_code >= 300
    assert "launch_refused" not in seen
    platform.consumer.set_active(True)
    platform.consumer.launch_targets = "/elsewhere/"
    platform.consumer.save()
    launch(platform, client, "course/algebra/")
    assert seen[-1] == "launch_refused"


def test_the_token_is_verified_anew_where_the_view_begins_again(client, platform):
    client.raise_request_exception = False
    assert launch(platform, client, "broken/").status_code == 500
    assert seen == ["launch_valid"] * 2
    assert not LtiLaunch.objects.exists()

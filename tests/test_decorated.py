from collections.abc import Callable

import pytest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import Client, RequestFactory
from django.urls import path

from lti_provider.views import LaunchView
from lti_provider.views.decorated import DecoratedView
from tests.urls import urlpatterns as site


class OwnDispatchView(LaunchView):
    def dispatch(self, request: HttpRequest, *args: object, **kwargs: object) -> HttpResponseBase:
        return super().dispatch(request, *args, **kwargs)


urlpatterns = [path("lti/launch/content/own/", OwnDispatchView.as_view()), *site]


class PlainView(DecoratedView):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("view")


def preceded_by(text: bytes) -> Callable:
    def decorate(view: Callable) -> Callable:
        def decorated(request: HttpRequest) -> HttpResponse:
            return HttpResponse(text + view(request).content)

        return decorated

    return decorate


def test_the_first_decorator_is_the_outermost() -> None:
    class NamedView(PlainView):
        decorators = (preceded_by(b"first "), preceded_by(b"second "))

    assert NamedView.as_view()(RequestFactory().get("/")).content == b"first second view"


def test_decorators_are_applied_once() -> None:
    applied = []

    class CountedView(PlainView):
        decorators = (lambda view: applied.append(view) or view,)

    view = CountedView.as_view()
    for _request in range(3):
        view(RequestFactory().get("/"))
    assert len(applied) == 1


@pytest.mark.urls(__name__)
def test_a_subclass_with_a_dispatch_of_its_own_needs_no_csrf_token() -> None:
    client = Client(enforce_csrf_checks=True)
    assert client.post("/lti/launch/content/own/").status_code == 400

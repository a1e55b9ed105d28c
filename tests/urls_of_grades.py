from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def graded(request: HttpRequest) -> HttpResponse:
    request.lti.submit_score(8, 10)
    return HttpResponse("graded")


def failing(request: HttpRequest) -> HttpResponse:
    request.lti.submit_score(8, 10)
    raise RuntimeError


urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("content/", graded),
    path("content/failing/", failing),
]

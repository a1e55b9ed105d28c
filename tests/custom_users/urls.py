from django.http import HttpResponse
from django.urls import include, path

urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("content/", lambda request: HttpResponse("content")),
]

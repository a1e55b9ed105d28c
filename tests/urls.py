from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def content(request: HttpRequest, page: str = "") -> HttpResponse:
    return HttpResponse(f"content/{page} for {request.user}", content_type="text/plain")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("lti/", include("lti_provider.urls")),
    path("content/", content),
    path("content/<path:page>", content),
]

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("course.urls")),
    path("accounts/", include("django.contrib.auth.urls")),
    path("i18n/", include("django.conf.urls.i18n")),
    path("admin/", admin.site.urls),
    path("lti/", include("lti_provider.urls")),  # LTI, step 4
]

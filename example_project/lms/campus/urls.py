from django.urls import include, path

urlpatterns = [path("", include("courses.urls"))]

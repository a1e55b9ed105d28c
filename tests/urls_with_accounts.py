"""The test site with a page to sign in."""

from django.contrib.auth.views import LoginView
from django.urls import path

from tests.urls import urlpatterns as site

urlpatterns = [
    path("accounts/login/", LoginView.as_view(template_name="admin/login.html"), name="login"),
    *site,
]

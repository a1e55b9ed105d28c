from django.urls import path

from lti_provider.views import LaunchView
from tests.urls import urlpatterns as site

urlpatterns = [path("lti/launch", LaunchView.as_view()), *site]

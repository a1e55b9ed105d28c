"""The site with several ways to sign in: here, at another site and back, and by signing up."""

from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path

from tests.browser.site import urlpatterns as site

SIGN_UP = """<!doctype html><html lang="en"><title>Sign up</title><h1>Sign up</h1>
<form method="post">{% csrf_token %}{{ form.as_p }}<button>Sign up</button></form></html>"""
BACKEND = "django.contrib.auth.backends.ModelBackend"


def to_the_other_site(request: HttpRequest) -> HttpResponse:
    request.session["after"] = request.GET["next"]
    back = urlencode({"back": request.build_absolute_uri("/sso/back/")})
    return redirect(f"{settings.SSO_URL}?{back}")


def from_the_other_site(request: HttpRequest) -> HttpResponse:
    after = request.session["after"]
    login(request, User.objects.get(username="alice"), BACKEND)
    return redirect(after)


def sign_up(request: HttpRequest) -> HttpResponse:
    form = UserCreationForm(request.POST or None)
    if form.is_valid():
        user = form.save(commit=False)
        user.email = "robin.doe@lms.example"
        user.save()
        login(request, user, BACKEND)
        return redirect(request.GET["next"])
    return HttpResponse(engines["django"].from_string(SIGN_UP).render({"form": form}, request))


urlpatterns = [
    path("sso/", to_the_other_site),
    path("sso/back/", from_the_other_site),
    path("sign-up/", sign_up),
    *site,
]

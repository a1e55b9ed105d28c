"""A site like those that are made launchable: it knows nothing of frames."""

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import include, path
from django.views.decorators.clickjacking import xframe_options_deny, xframe_options_exempt
from django.views.decorators.csrf import ensure_csrf_cookie

from lti_provider.decorators import launch_required, role_required
from lti_provider.frames import partition_cookies
from lti_provider.message import Role

PAGE = """<!doctype html>
{% load i18n lti_provider %}{% get_current_language as language %}
<html lang="{{ language }}"><meta charset="utf-8"><title>Quiz</title>
<h1>Quiz</h1>
{% for message in messages %}<p class="message">{{ message }}</p>{% endfor %}
<p>Launch <output id="launch">{{ request.lti.resource_link.resource_link_id }}</output>
for <output id="person">{{ request.lti.person.user_id }}</output>
as <output id="user">{{ request.user.username }}</output></p>
<p>Cookies: <output id="cookies">{{ request.COOKIES.keys|join:" " }}</output></p>
<form method="post" id="quiz">{% csrf_token %}
  <label>Answer <input name="answer"></label><button>Send</button></form>
<form method="post" id="language" action="{% url 'set_language' %}">{% csrf_token %}
  <input type="hidden" name="next" value="{{ request.get_full_path }}">
  <button name="language" value="de">Deutsch</button></form>
<form method="post" id="logout" action="{% url 'logout' %}">{% csrf_token %}
  <button>Log out</button></form>
{% lti_sign_out %}
<a href="/content/quiz/">Again</a> <a href="{% url 'login' %}">Sign in</a>
<button id="script">Count</button> <output id="counted"></output>
<script>
document.getElementById("script").onclick = async () => {
  const token = document.cookie.match(/csrftoken=(\\w+)/);
  const answer = await fetch("/content/count/", {
    method: "POST", headers: {"X-CSRFToken": token ? token[1] : ""},
  });
  document.getElementById("counted").value = answer.ok ? await answer.text() : answer.status;
};
</script>
</html>"""


class Answer(forms.Form):
    answer = forms.CharField()


def shown(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


@ensure_csrf_cookie
def quiz(request: HttpRequest, page: str = "") -> HttpResponse:
    if request.method == "POST":
        form = Answer(request.POST)
        text = f"You said {form.data['answer']}" if form.is_valid() else "Say something"
        messages.info(request, text)
        return redirect(request.get_full_path())
    return shown(request)


def count(request: HttpRequest) -> JsonResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return JsonResponse(request.session["count"], safe=False)


def cookies(request: HttpRequest) -> HttpResponse:
    """Tell which cookies came, and set one of each kind."""
    response = HttpResponse(f"<p id=cookies>{' '.join(sorted(request.COOKIES))}")
    response.headers["Content-Security-Policy"] = "frame-ancestors *"
    response.set_cookie("lax", "1", samesite="Lax")
    response.set_cookie("none", "1", samesite="None", secure=True)
    response.set_cookie("partitioned", "1")
    partition_cookies(response, ["partitioned"])
    return response


urlpatterns = [
    path("cookies/", xframe_options_exempt(cookies)),
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(template_name="admin/login.html"), name="login"),
    path("accounts/logout/", LogoutView.as_view(), name="logout"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("lti/", include("lti_provider.urls")),
    path("content/count/", count),
    path("content/unframed/", xframe_options_deny(shown)),
    path("content/launched/", launch_required(shown)),
    path("content/teachers/", role_required(Role.INSTRUCTOR)(shown)),
    path("content/", quiz),
    path("content/<path:page>", quiz),
]

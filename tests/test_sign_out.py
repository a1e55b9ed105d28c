"""The button that ends the session of a launch, in a frame and in a window."""

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.views import LoginView
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import include, path

from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation
from tests.connecting import Course, Window, attribute, text_of, to_confirmation

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

URL = "/lti/sign-out/"
PAGE = "{% load lti_provider %}<i>{{ request.user.username }}</i>{% lti_sign_out %}"


def show(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string(PAGE).render({}, request))


def write(request: HttpRequest) -> HttpResponse:
    request.session["draft"] = "mine"
    return HttpResponse()


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.session.get("draft", "nothing"))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("content/", show),
    path("content/write/", write),
    path("content/read/", read),
    path("lti/", include("lti_provider.urls")),
    path("accounts/login/", LoginView.as_view(template_name="admin/login.html"), name="login"),
]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def browser() -> Client:
    return Client(enforce_csrf_checks=True)


@pytest.fixture(params=[True, False], ids=["in a frame", "in a window"])
def framed(request) -> bool:
    return request.param


def open_page(browser: Client, url: str, *, framed: bool):
    own = {**navigation(framed=framed), "Sec-Fetch-Site": "same-origin"}
    return browser.get(url, headers=own)


def press(browser: Client, page, *, framed: bool):
    own = {**navigation(framed=framed), "Sec-Fetch-Site": "same-origin"}
    token = attribute(page, 'name="csrfmiddlewaretoken" value')
    action = attribute(page, "action") if b"action=" in page.content else page.wsgi_request.path
    return browser.post(action, {"csrfmiddlewaretoken": token}, headers=own)


def is_signed_in(browser: Client) -> bool:
    return b"<i></i>" not in browser.get("/content/").content


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
def test_it_ends_the_session(lms, browser, settings, tmp_path, engine, framed):
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    page = lms.launch(browser, "/content/", framed=framed)
    open_page(browser, "/content/write/", framed=framed)
    done = press(browser, page, framed=framed)
    assert done.status_code == 200
    assert "You are signed out" in text_of(done)
    assert not is_signed_in(browser)
    assert open_page(browser, "/content/read/", framed=framed).content == b"nothing"
    assert not Session.objects.exists()


def test_it_takes_the_cookie_out_of_the_jar_of_its_frame(lms, browser, framed):
    done = press(browser, lms.launch(browser, "/content/", framed=framed), framed=framed)
    [name] = [name for name in done.cookies if name.startswith("sessionid")]
    deleted = done.cookies[name].OutputString()
    assert "Max-Age=0" in deleted
    assert deleted.endswith("SameSite=None; Secure; Partitioned") == framed


def test_it_leads_back_to_the_lms(lms, browser, framed):
    done = press(browser, lms.launch(browser, "/content/", framed=framed), framed=framed)
    back = lms.fields["launch_presentation_return_url"]
    assert attribute(done, "href") == back
    assert 'target="_top"' in done.content.decode()
    ancestors = "'self' https://lms.example" if framed else "'self'"
    assert done["Content-Security-Policy"].endswith(f"; frame-ancestors {ancestors}")
    assert "X-Frame-Options" not in done


def test_it_leads_back_to_where_its_tab_came_from(lms, browser):
    one = lms.launch(browser, "/content/", launch_presentation_return_url="https://lms.example/1")
    lms.launch(browser, "/content/", launch_presentation_return_url="https://lms.example/2")
    assert attribute(press(browser, one, framed=False), "href") == "https://lms.example/1"


def test_a_frame_without_a_return_url_leads_back_to_its_lms(browser):
    page = FakeLms.create("open_edx").launch(browser, "/content/", framed=True)
    done = press(browser, page, framed=True)
    assert attribute(done, "href") == "https://lms.example"


def test_a_window_without_a_return_url_leads_nowhere(browser):
    page = FakeLms.create("open_edx").launch(browser, "/content/")
    assert "href" not in press(browser, page, framed=False).content.decode()


def test_no_other_site_signs_anybody_out(lms, browser):
    lms.launch(browser, "/content/")
    assert browser.post(URL).status_code == 403
    assert browser.post(URL, {"csrfmiddlewaretoken": "x" * 64}).status_code == 403
    assert browser.get(URL).status_code == 200
    assert browser.head(URL).status_code == 405
    assert is_signed_in(browser)


def test_a_link_leads_to_the_button(lms, browser, framed):
    lms.launch(browser, "/content/", framed=framed)
    page = open_page(browser, URL, framed=framed)
    assert "Sign out?" in text_of(page)
    assert "You are signed out" in text_of(press(browser, page, framed=framed))
    again = open_page(browser, URL, framed=framed)
    assert "You are signed out" in text_of(again)
    assert b"<button" not in again.content


def test_who_is_not_signed_in_is_told_so(browser):
    token = "t" * 32
    browser.cookies["csrftoken"] = token
    done = browser.post(URL, {"csrfmiddlewaretoken": token})
    assert "You are signed out" in text_of(done)


def test_a_frame_of_another_site_cannot_show_the_button(lms, browser):
    lms.launch(browser, "/content/")
    page = open_page(browser, URL, framed=False)
    assert page["Content-Security-Policy"].endswith("; frame-ancestors 'self'")


def test_a_page_without_a_launch_has_no_button(browser, admin_user):
    assert b"<form" not in browser.get("/content/").content
    browser.force_login(admin_user)
    assert b"<form" not in browser.get("/content/").content


def test_a_template_without_a_request_has_no_button():
    assert "form" not in engines["django"].from_string(PAGE).render({})


def test_the_pages_of_an_account_offer_it(lms):
    lms.consumer.require_user_account, lms.consumer.account_match = True, "any"
    lms.consumer.save()
    get_user_model().objects.create_user("ada", "ada@school.example", "secret")
    course, window = Course(lms), Window()
    ask = course.open()
    connected = window.press(to_confirmation(window, ask, "ada"), "confirm")
    assert is_signed_in(course.look_again(ask).client)
    listed = window.get("/lti/connections/")
    assert attribute(connected, "action") == URL
    assert "You are signed out" in text_of(press(window.client, listed, framed=False))
    assert not is_signed_in(window.client)
    assert is_signed_in(course.frame)
    # A reload of the page that says so.
    assert b"<button" not in window.get(connected.wsgi_request.get_full_path()).content

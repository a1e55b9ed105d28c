import copy
import pickle
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from io import BytesIO

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.contrib import admin
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.clickjacking import (
    xframe_options_deny,
    xframe_options_exempt,
    xframe_options_sameorigin,
)
from django.views.decorators.csrf import csrf_exempt

from lti_provider import frames
from lti_provider.decorators import launch_required
from lti_provider.models import LtiConsumer
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

CSP, REPORT_ONLY = "Content-Security-Policy", "Content-Security-Policy-Report-Only"
XFO = "X-Frame-Options"
ANCESTORS = "frame-ancestors 'self' https://lms.example"
FRAMED = navigation(framed=True)
OURS = "lti_provider.middleware.LtiFrameMiddleware"
DJANGOS_CSP = "django.middleware.csp.ContentSecurityPolicyMiddleware"


@csrf_exempt
def plain(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("plain")
    response.set_cookie("site", "a b;c", max_age=60, path="/page/", httponly=True, samesite="Lax")
    response.set_cookie("other", "1", domain="testserver", secure=True, samesite="Strict")
    response.delete_cookie("old", path="/page/")
    response.headers[REPORT_ONLY] = "frame-ancestors 'none'"
    return response


async def aplain(request: HttpRequest) -> HttpResponse:
    return plain(request)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(["a", "b"])


def stream_name(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(str(request.user) for _time in range(1))


async def astream_name(request: HttpRequest) -> StreamingHttpResponse:
    async def chunks() -> AsyncIterator[str]:
        yield str(await request.auser())

    return StreamingHttpResponse(chunks())


def send_file(request: HttpRequest) -> FileResponse:
    return FileResponse(BytesIO(b"a file"))


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError


def refusing(header: str, value: str) -> Callable[..., HttpResponse]:
    return lambda request: HttpResponse("not in a frame", headers={header: value})


async def adenied(request: HttpRequest) -> HttpResponse:
    return HttpResponse("not in a frame", headers={XFO: "deny"})


class DeniedView(View):
    @method_decorator(xframe_options_deny)
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse("not in a frame")


class DeniedTemplateView(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        page = engines["django"].from_string("not in a frame")
        return TemplateResponse(request, page, headers={XFO: "DENY"})


REFUSING = {
    "decorator": xframe_options_deny(lambda request: HttpResponse("not in a frame")),
    "decorated class": DeniedView.as_view(),
    "template": DeniedTemplateView.as_view(),
    "header": refusing(XFO, "DENY"),
    "async": adenied,
    "policy": refusing(CSP, "default-src 'self'; frame-ancestors 'none'"),
    "spelled policy": refusing(CSP, "img-src *, Frame-Ancestors 'NONE'"),
    "empty policy": refusing(CSP, "frame-ancestors"),
}
PERMITTING = {
    "same origin": xframe_options_sameorigin(lambda request: HttpResponse("in a frame")),
    "others": refusing(CSP, "frame-ancestors https://b.example"),
}

urlpatterns = [
    *(path(f"{name}/", view) for name, view in {**REFUSING, **PERMITTING}.items()),
    path("admin/", admin.site.urls),
    path("page/", plain),
    path("apage/", aplain),
    path("exempt/", xframe_options_exempt(plain)),
    path("stream/", stream),
    path("name/", stream_name),
    path("aname/", astream_name),
    path("file/", send_file),
    path("fail/", fail),
    path("launched/", launch_required(plain)),
    path("lti/", include("lti_provider.urls")),
]


@pytest.fixture
def marker(settings) -> str:
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/page/"]
    browser = Client()
    FakeLms.create().post(browser, "page/", framed=True)
    return browser.cookies[frames.MARKER_COOKIE].value


def get(marker: str, url: str = "/page/", **headers: str) -> HttpResponse:
    browser = Client(raise_request_exception=False)
    browser.cookies[frames.MARKER_COOKIE] = marker
    return browser.get(url, headers=headers or FRAMED)


def sent_cookies(response: HttpResponse) -> dict[str, str]:
    return {name: morsel.OutputString() for name, morsel in response.cookies.items()}


def everything(response: HttpResponse) -> list:
    headers = {name: value for name, value in response.items() if name != "Date"}
    cookies = {name: text.partition("expires=")[0] for name, text in sent_cookies(response).items()}
    return [response.status_code, headers, cookies, response.content]


def pickled(cookies):
    return pickle.loads(pickle.dumps(cookies))


@pytest.mark.parametrize("url", ["/page/", "/apage/", "/exempt/", "/nothing/"])
@pytest.mark.parametrize("case", ["no marker", "forged", "empty", "in a window", "other salt"])
def test_no_other_request_is_touched(settings, marker, case, url):
    sent = {
        "no marker": None,
        "forged": marker[:-1] + ("A" if marker[-1] != "A" else "B"),
        "empty": "",
        "in a window": marker,
        "other salt": frames.signing.dumps(["1", "https://evil.example"], salt="other"),
    }[case]
    headers = navigation(framed=case != "in a window")

    def answer() -> list:
        browser = Client()
        if sent is not None:
            browser.cookies[frames.MARKER_COOKIE] = sent
        return everything(browser.get(url, headers=headers))

    with_ours = answer()
    told = with_ours[2].pop(frames.WINDOW_COOKIE, None)
    assert (told is not None) == (case == "in a window")
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != OURS]
    assert with_ours == answer()


@pytest.mark.parametrize("url", ["/page/", "/apage/", "/file/"])
def test_neither_a_query_nor_the_session_is_needed(marker, url, django_assert_num_queries):
    browser = Client()
    with django_assert_num_queries(0):
        response = browser.get(url)
    assert "Cookie" not in response.get("Vary", "")
    browser.cookies[frames.MARKER_COOKIE] = marker
    browser.cookies["sessionid_lti_frame"] = "unread"
    with django_assert_num_queries(0):
        response = browser.get(url, headers=FRAMED)
    assert response[CSP] == ANCESTORS


@pytest.mark.parametrize("url", ["/page/", "/apage/"])
@pytest.mark.parametrize("client_class", [Client, AsyncClient])
def test_every_cookie_in_a_frame_is_partitioned(marker, client_class, url):
    browser = client_class()
    browser.cookies[frames.MARKER_COOKIE] = marker
    ask = browser.get if client_class is Client else async_to_sync(browser.get)
    response = ask(url, headers=FRAMED)
    cookies = sent_cookies(response)
    assert cookies.keys() == {"site", "other", "old"}
    for text in cookies.values():
        assert text.count("SameSite=None") == text.count("Secure") == 1
        assert text.endswith("; Partitioned")
        assert text.count("Partitioned") == text.count("SameSite") == 1
    assert cookies["site"].startswith('site="a b\\073c"; ')
    for kept in ("HttpOnly", "Max-Age=60", "Path=/page/"):
        assert kept in cookies["site"]
    assert "Domain=testserver" in cookies["other"]
    assert "Max-Age=0; Path=/page/" in cookies["old"]
    assert response[CSP] == ANCESTORS
    assert response[REPORT_ONLY] == "frame-ancestors 'none'"
    assert XFO not in response
    assert {"Cookie", "Sec-Fetch-Dest"} <= set(response["Vary"].split(", "))


@pytest.mark.parametrize("destination", ["iframe", "frame", "embed", "empty", "image", None])
def test_whatever_a_frame_asks_for_is_edited(marker, destination):
    headers = {"Sec-Fetch-Dest": destination} if destination else {"Accept": "*/*"}
    response = get(marker, **headers)
    assert all(text.endswith("Partitioned") for text in sent_cookies(response).values())
    assert response[CSP] == ANCESTORS


@pytest.mark.parametrize("url", ["/stream/", "/fail/", "/nothing/", "/exempt/"])
def test_any_kind_of_answer_may_be_framed(marker, url):
    response = get(marker, url)
    assert response[CSP] == ANCESTORS
    assert XFO not in response


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("url", ["/name/", "/aname/"])
@pytest.mark.parametrize("client_class", [Client, AsyncClient])
def test_what_streams_whose_session_it_is_is_framed_by_its_lms_only(
    marker, admin_user, client_class, url
):
    browser, admin = client_class(), Client()
    admin.force_login(admin_user)
    browser.cookies["sessionid_lti_frame"] = admin.cookies["sessionid"].value
    browser.cookies[frames.MARKER_COOKIE] = marker
    ask = browser.get if client_class is Client else async_to_sync(browser.get)
    response = ask(url, headers=FRAMED)
    assert response[XFO] == "DENY"
    assert CSP not in response
    del browser.cookies["sessionid_lti_frame"]
    assert ask(url, headers=FRAMED)[CSP] == ANCESTORS


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_partitioned_cookies_survive_a_cache(marker, again):
    response = get(marker)
    found_again = again(response.cookies)
    assert {name: kept.OutputString() for name, kept in found_again.items()} == sent_cookies(
        response
    )


def test_a_response_that_passes_twice_is_partitioned_once(marker, settings):
    settings.MIDDLEWARE = [OURS, *settings.MIDDLEWARE]
    response = get(marker)
    assert sent_cookies(response)["site"].count("Partitioned") == 1
    assert response[CSP] == ANCESTORS


@pytest.mark.parametrize(
    ("policy", "framed"),
    [
        ({"default-src": ["'self'"]}, f"default-src 'self', {ANCESTORS}"),
        (
            {"default-src": ["'self'"], "frame-ancestors": ["'none'"], "img-src": ["*"]},
            f"default-src 'self'; {ANCESTORS}; img-src *",
        ),
    ],
)
def test_djangos_policy_is_kept_but_for_who_may_frame(marker, settings, policy, framed):
    pytest.importorskip("django.middleware.csp", reason="Django has it since 6.0")
    settings.MIDDLEWARE = [OURS, DJANGOS_CSP, *settings.MIDDLEWARE[1:]]
    settings.SECURE_CSP = policy
    assert get(marker)[CSP] == framed
    assert get(marker, **navigation(framed=False))[CSP] == "; ".join(
        f"{name} {' '.join(sources)}" for name, sources in policy.items()
    )
    own = get(marker, "/launched/")
    assert own.status_code == 403
    assert own[CSP].startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors" not in own[CSP]


def test_the_opener_policy_of_the_site_is_kept(marker, settings):
    for policy in ("same-origin", "same-origin-allow-popups"):
        settings.SECURE_CROSS_ORIGIN_OPENER_POLICY = policy
        assert get(marker)["Cross-Origin-Opener-Policy"] == policy


def test_a_long_list_of_origins_fits_into_one_cookie(settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/page/"]
    origins = [f"https://campus-{n}.university.example.edu:8443" for n in range(45)]
    lms = FakeLms.create(frame_origins="\n".join(origins))
    lms.consumer.full_clean()
    browser = Client()
    response = lms.post(browser, "page/", framed=True)
    assert len(response.cookies[frames.MARKER_COOKIE].OutputString()) < 4096
    page = get(browser.cookies[frames.MARKER_COOKIE].value)
    assert page[CSP] == " ".join(["frame-ancestors", "'self'", *origins])


@pytest.mark.parametrize("client_class", [Client, AsyncClient])
@pytest.mark.parametrize("page", REFUSING)
def test_a_page_that_nobody_may_frame_is_not_framed(marker, page, client_class):
    browser = client_class()
    ask = browser.get if client_class is Client else async_to_sync(browser.get)
    in_a_window = ask(f"/{page}/")
    browser.cookies[frames.MARKER_COOKIE] = marker
    response = ask(f"/{page}/", headers=FRAMED)
    assert response[XFO] == in_a_window[XFO]
    assert response[XFO].upper() == "DENY"
    assert response.get(CSP) == in_a_window.get(CSP)


def test_a_policy_of_djangos_that_lets_nobody_frame_a_page_is_kept(marker, settings):
    csp = pytest.importorskip("django.views.decorators.csp", reason="Django has it since 6.0")
    settings.MIDDLEWARE = [OURS, DJANGOS_CSP, *settings.MIDDLEWARE[1:]]
    settings.SECURE_CSP = {"default-src": ["'self'"]}
    own = csp.csp_override({"frame-ancestors": ["'none'"]})(REFUSING["header"])
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("own/", own)]})
    page = csp.csp_override({"frame-ancestors": ["'none'"]})(lambda request: HttpResponse())
    settings.ROOT_URLCONF.urlpatterns.append(path("policy/", page))
    for url in ("/own/", "/policy/"):
        response = get(marker, url)
        assert response[CSP] == "frame-ancestors 'none'"
        assert response[XFO] == "DENY"


@pytest.mark.parametrize("page", PERMITTING)
def test_a_page_that_some_may_frame_is_framed_by_the_lms_too(marker, page):
    response = get(marker, f"/{page}/")
    assert response[CSP] == ANCESTORS
    assert XFO not in response


@pytest.mark.parametrize("page", ["/admin/", "/admin/login/", "/admin/jsi18n/"])
def test_the_admin_is_never_framed(marker, page):
    response = get(marker, page)
    assert response[XFO] == "DENY"
    assert CSP not in response


# Origins that a consumer has no longer


@pytest.fixture
def lms(settings) -> FakeLms:
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/page/"]
    return FakeLms.create(frame_origins="https://lms.example\nhttps://gone.example")


@pytest.fixture
def frame(lms) -> Client:
    browser = Client()
    lms.post(browser, "page/", framed=True)
    assert ancestors(browser) == "'self' https://lms.example https://gone.example"
    return browser


def ancestors(browser: Client, url: str = "/page/") -> str:
    return browser.get(url, headers=FRAMED)[CSP].removeprefix("frame-ancestors ")


LATER = timedelta(minutes=6)


@pytest.mark.parametrize("url", ["/page/", "/apage/"])
def test_an_origin_that_was_removed_frames_nothing_after_five_minutes(frame, url):
    old_marker = frame.cookies[frames.MARKER_COOKIE].value
    LtiConsumer.objects.update(frame_origins="https://lms.example")
    with time_machine.travel(LATER, tick=False):
        assert ancestors(frame, url) == "'self' https://lms.example"
    asgi = AsyncClient()
    asgi.cookies[frames.MARKER_COOKIE] = old_marker
    with time_machine.travel(LATER * 2, tick=False):
        page = async_to_sync(asgi.get)(url, headers=FRAMED)
    assert page[CSP] == "frame-ancestors 'self' https://lms.example"


def test_without_frame_origins_the_return_url_counts_again(frame):
    LtiConsumer.objects.update(frame_origins="")
    with time_machine.travel(LATER, tick=False):
        assert ancestors(frame) == "'self' https://lms.example"
    LtiConsumer.objects.update(frame_origins="https://new.example")
    with time_machine.travel(LATER * 2, tick=False):
        assert ancestors(frame) == "'self' https://new.example"


@pytest.mark.parametrize("end", ["deactivated", "deleted"])
def test_a_consumer_that_is_no_more_frames_nothing(frame, end):
    if end == "deleted":
        LtiConsumer.objects.all().delete()
    LtiConsumer.objects.update(is_active=False)
    with time_machine.travel(LATER, tick=False):
        assert ancestors(frame) == "'self'"


def test_the_consumer_is_asked_once_in_five_minutes(frame, django_assert_num_queries):
    with django_assert_num_queries(0):
        ancestors(frame)
    with time_machine.travel(LATER, tick=False):
        with django_assert_num_queries(1):
            ancestors(frame)
        with django_assert_num_queries(0):
            ancestors(frame)


def test_a_launch_brings_a_new_marker_at_once(frame, lms):
    LtiConsumer.objects.update(frame_origins="https://lms.example")
    lms.post(frame, "page/", framed=True)
    assert ancestors(frame) == "'self' https://lms.example"


def test_a_launch_renews_a_marker_that_says_the_same(frame, lms, django_assert_num_queries):
    with time_machine.travel(LATER, tick=False):
        lms.post(frame, "page/", framed=True)
        with django_assert_num_queries(0):
            ancestors(frame)

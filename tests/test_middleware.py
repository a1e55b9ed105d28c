import copy
import pickle

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt

from lti_provider import frames
from lti_provider.decorators import launch_required
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


def fail(request: HttpRequest) -> HttpResponse:
    raise ValueError


urlpatterns = [
    path("page/", plain),
    path("apage/", aplain),
    path("exempt/", xframe_options_exempt(plain)),
    path("stream/", stream),
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
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != OURS]
    assert with_ours == answer()


@pytest.mark.parametrize("url", ["/page/", "/apage/"])
def test_neither_a_query_nor_the_session_is_needed(marker, url, django_assert_num_queries):
    browser = Client()
    with django_assert_num_queries(0):
        response = browser.get(url)
    assert "Cookie" not in response.get("Vary", "")
    browser.cookies[frames.MARKER_COOKIE] = marker
    browser.cookies["sessionid"] = "unread"
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

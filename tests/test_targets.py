from collections.abc import Iterator
from urllib.parse import unquote, urlencode, urlsplit

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import clear_script_prefix, include, path, set_script_prefix
from django.utils.encoding import escape_uri_path
from django.utils.translation import gettext_lazy

from lti_provider.exceptions import LaunchRefused, TargetNotLaunchable
from lti_provider.models import LtiLaunch
from lti_provider.testing import FakeLms, sign_launch
from lti_provider.views import LaunchView
from tests.urls import content

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


class CourseLaunchView(LaunchView):
    def get_success_url(self) -> str:
        return f"/content/{self.message.custom['course']}/"


class AskedLaunchView(LaunchView):
    def get_success_url(self) -> str:
        return self.message.custom["goes_to"]


class OnHoliday(LaunchRefused):
    code = "on_holiday"
    status = 403
    public_text = "The campus is closed."


class ClosedLaunchView(LaunchView):
    def get_success_url(self) -> str:
        raise OnHoliday("Open again in September.")


class PaidLaunchView(LaunchView):
    def get_success_url(self) -> str:
        raise TargetNotLaunchable("The course is not paid for.")


class TranslatedLaunchView(LaunchView):
    def get_success_url(self) -> str:
        # A sentence that Django itself has in every language.
        raise TargetNotLaunchable(gettext_lazy("This field is required."))


def elsewhere(request: HttpRequest, page: str) -> HttpResponse:
    return HttpResponse(page)


urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("lti/course/", CourseLaunchView.as_view()),
    path("lti/asked/", AskedLaunchView.as_view()),
    path("lti/closed/", ClosedLaunchView.as_view()),
    path("lti/paid/", PaidLaunchView.as_view()),
    path("lti/translated/", TranslatedLaunchView.as_view()),
    path("content/", content, name="start"),
    path("content/<path:page>", content, name="page"),
    path("<path:page>", elsewhere),
]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture(autouse=True)
def _no_script_prefix_stays() -> Iterator[None]:
    yield
    clear_script_prefix()


def post_to(client: Client, lms: FakeLms, url: str, **changes: str | None):
    fields = {name: value for name, value in {**lms.fields, **changes}.items() if value is not None}
    key, secret = lms.consumer.consumer_key, lms.consumer.consumer_secret
    bare, mark, query = url.partition("?")
    # A server passes the path on decoded, so this is the spelling that a site can check.
    signed = f"http://testserver{escape_uri_path(unquote(bare))}{mark}{query}"
    form = urlencode(sign_launch(signed, fields, key=key, secret=secret))
    return client.post(url, form, content_type="application/x-www-form-urlencoded")


def target_of(client: Client, response) -> str:
    assert response.status_code == 303
    assert "/enter/" in response["Location"]
    return client.get(response["Location"])["Location"]


def without_launch(url: str) -> str:
    return url.partition("lti_launch=")[0].rstrip("?&")


def refusal_of(response) -> str:
    return LtiLaunch.objects.refused().latest("pk").refusal_code


def test_the_default_target_may_be_a_path(client, lms, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/first/"
    assert without_launch(target_of(client, lms.post(client))) == "/content/first/"


def test_the_default_target_may_be_the_name_of_a_view(client, lms, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "start"
    assert without_launch(target_of(client, lms.post(client))) == "/content/"


def test_the_default_target_need_not_be_launchable_by_path(client, lms, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/elsewhere/"
    assert without_launch(target_of(client, lms.post(client))) == "/elsewhere/"


def test_without_a_default_target_the_log_says_what_to_set(client, lms):
    response = lms.post(client)
    assert response["Location"].startswith(lms.fields["launch_presentation_return_url"])
    refused = LtiLaunch.objects.get()
    assert refused.refusal_code == "target_not_launchable"
    assert "LTI_PROVIDER_DEFAULT_TARGET" in refused.refusal_hint


def test_a_default_target_on_another_site_is_refused(client, lms, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "https://elsewhere.example/"
    assert refusal_of(lms.post(client)) == "target_not_launchable"


@pytest.mark.parametrize("page", ["/content/", "/content/a", "/content/a/b/", "/content/a b/é"])
def test_a_page_under_a_launchable_path_is_launched(client, lms, page):
    response = lms.launch(client, page)
    assert response.status_code == 200
    assert response.wsgi_request.path == page


@pytest.mark.parametrize(
    "page",
    [
        "/",
        "/admin/",
        "/content",
        "/contents/",
        "/content-of-others/",
        "/content/../admin/",
        "/content/./../admin/",
        "/content/..",
        "/content/a/..",
        "/content//a",
        "/content/%2e%2e/admin/",
        "/content/..%2fadmin/",
        "/content/\\..\\admin/",
        "/Content/",
        "//elsewhere.example/content/",
        "//content/",
    ],
)
def test_any_other_page_is_refused(client, lms, page):
    assert post_to(client, lms, f"/lti/launch{page}").status_code == 303
    assert LtiLaunch.objects.get().refusal_code == "target_not_launchable"


def test_a_doubly_encoded_path_stays_one_encoding_away_from_its_meaning(client, lms):
    response = post_to(client, lms, "/lti/launch/content/%252e%252e/admin/")
    location = target_of(client, response)
    assert without_launch(location) == "/content/%252e%252e/admin/"
    assert client.get(location).wsgi_request.path == "/content/%2e%2e/admin/"


def test_a_launchable_path_without_a_slash_at_its_end_is_a_whole_segment(client, lms, settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/content"]
    assert "/enter/" in lms.post(client, "/content")["Location"]
    assert "/enter/" in lms.post(client, "/content/a/")["Location"]
    assert "/enter/" not in lms.post(client, "/content-of-others/")["Location"]


def test_no_path_is_launchable_by_default(client, lms, settings):
    del settings.LTI_PROVIDER_LAUNCHABLE_PATHS
    assert refusal_of(lms.post(client, "/content/")) == "target_not_launchable"


def test_a_text_instead_of_a_list_of_paths_does_not_open_the_site(client, lms, settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = "/content/"
    with pytest.raises(ImproperlyConfigured, match="LTI_PROVIDER_LAUNCHABLE_PATHS is a list"):
        lms.post(client, "/admin/")


def test_the_refused_page_is_named_in_the_log_and_not_to_the_public(client, lms):
    response = lms.post(client, "/admin/x/", launch_presentation_return_url=None)
    assert response.status_code == 404
    assert b"admin" not in response.content
    assert "/admin/x/" in LtiLaunch.objects.get().refusal_hint


def test_a_consumer_may_be_narrower_than_the_site(client, lms):
    lms.consumer.launch_targets = "/content/algebra/\n/content/music/"
    lms.consumer.save()
    assert "/enter/" in lms.post(client, "/content/algebra/1/")["Location"]
    assert "/enter/" in lms.post(client, "/content/music/")["Location"]
    assert refusal_of(lms.post(client, "/content/history/")) == "target_not_launchable"


def test_a_consumer_cannot_be_wider_than_the_site(client, lms):
    lms.consumer.launch_targets = "/admin/"
    lms.consumer.save()
    assert refusal_of(lms.post(client, "/admin/")) == "target_not_launchable"


def test_a_consumer_narrows_the_default_target_and_subclasses_too(client, lms, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/history/"
    lms.consumer.launch_targets = "/content/algebra/"
    lms.consumer.save()
    assert "/enter/" not in lms.post(client)["Location"]
    assert "/enter/" not in post_to(client, lms, "/lti/course/", custom_course="x")["Location"]
    assert "/enter/" in post_to(client, lms, "/lti/course/", custom_course="algebra")["Location"]


def test_a_consumers_targets_are_written_as_people_read_them(client, lms):
    lms.consumer.launch_targets = "/content/über/"
    lms.consumer.save()
    assert "/enter/" in lms.post(client, "/content/über/uns/")["Location"]


def test_the_sites_prefix_is_no_part_of_what_settings_and_consumers_name(client, lms, settings):
    settings.FORCE_SCRIPT_NAME = "/school"
    set_script_prefix("/school/")
    lms.consumer.launch_targets = "/content/algebra/"
    lms.consumer.save()
    response = post_to_prefixed(client, lms, "/lti/launch/content/algebra/")
    assert response["Location"].startswith("/school/lti/enter/")
    entered = client.get(response["Location"].removeprefix("/school"))
    assert without_launch(entered["Location"]) == "/school/content/algebra/"
    page = client.get(entered["Location"].removeprefix("/school"))
    assert page.wsgi_request.path == "/school/content/algebra/"
    assert page.wsgi_request.lti
    refused = post_to_prefixed(client, lms, "/lti/launch/content/history/")
    assert "/enter/" not in refused["Location"]


def post_to_prefixed(client: Client, lms: FakeLms, url: str):
    key, secret = lms.consumer.consumer_key, lms.consumer.consumer_secret
    form = sign_launch(f"http://testserver/school{url}", lms.fields, key=key, secret=secret)
    return client.post(url, urlencode(form), content_type="application/x-www-form-urlencoded")


def test_the_launch_urls_query_goes_on_to_the_page(client, lms):
    location = target_of(client, lms.post(client, "/content/quiz/?page=2&mode=a%26b"))
    assert without_launch(location) == "/content/quiz/?page=2&mode=a%26b"
    page = client.get(location)
    assert page.wsgi_request.GET["mode"] == "a&b"
    assert page.wsgi_request.lti


def test_custom_and_vendors_parameters_of_the_query_stay_out_of_the_pages_url(client, lms):
    response = lms.post(client, "/content/quiz/?page=2&custom_level=3&ext_x=4")
    assert without_launch(target_of(client, response)) == "/content/quiz/?page=2"
    assert LtiLaunch.objects.get().message.custom["level"] == "3"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/content/", "/content/?page=2"),
        ("/content/?tab=1", "/content/?tab=1&page=2"),
        ("/content/#top", "/content/?page=2#top"),
        ("/content/?tab=1#top", "/content/?tab=1&page=2#top"),
    ],
)
def test_the_query_joins_that_of_the_default_target(client, lms, settings, target, expected):
    settings.LTI_PROVIDER_DEFAULT_TARGET = target
    location = target_of(client, post_to(client, lms, "/lti/launch/?page=2"))
    parts = urlsplit(location)
    found = without_launch(f"{parts.path}?{parts.query}")
    assert found + (f"#{parts.fragment}" if parts.fragment else "") == expected


def test_a_query_cannot_name_another_launch(client, lms):
    response = post_to(client, lms, "/lti/launch/content/?lti_launch=1")
    assert response.status_code == 400


def test_a_subclass_sends_launches_where_the_site_wants_them(client, lms):
    response = post_to(client, lms, "/lti/course/", custom_course="algebra")
    assert without_launch(target_of(client, response)) == "/content/algebra/"


def test_a_subclass_may_name_this_site_in_full(client, lms):
    url = "http://testserver/content/a/"
    response = post_to(client, lms, "/lti/asked/", custom_goes_to=url)
    entered = client.get(response["Location"])
    assert without_launch(entered["Location"]) == url
    assert client.get("/content/a/b/").wsgi_request.lti


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/",
        "//elsewhere.example/",
        "///elsewhere.example/",
        "/\\elsewhere.example/",
        "javascript:alert(1)",
        "https:elsewhere.example",
        " //elsewhere.example/",
        "/\t/elsewhere.example/",
        "http://testserver@elsewhere.example/",
        "http://testserver.elsewhere.example/",
        "",
    ],
)
def test_a_subclass_that_leads_off_the_site_is_refused(client, lms, url):
    post_to(client, lms, "/lti/asked/", custom_goes_to=url)
    assert LtiLaunch.objects.get().refusal_code == "target_not_launchable"


def test_a_hook_may_refuse_with_a_refusal_of_the_sites_own(client, lms):
    response = post_to(client, lms, "/lti/closed/")
    assert response.status_code == 403
    assert "The campus is closed." in response.content.decode()
    assert "September" not in response.content.decode()
    refused = LtiLaunch.objects.get()
    assert refused.refusal_code == "on_holiday"
    assert refused.refusal_hint == "Open again in September."


@pytest.mark.parametrize(
    ("sites", "hint"),
    [("en", "This field is required."), ("de", "Dieses Feld ist zwingend erforderlich.")],
)
@pytest.mark.parametrize("learners", ["de", "fr", "en"])
def test_a_logged_hint_is_in_the_sites_language_not_the_learners(
    client, lms, settings, sites, hint, learners
):
    settings.LANGUAGE_CODE = sites
    client.defaults["HTTP_ACCEPT_LANGUAGE"] = learners
    post_to(client, lms, "/lti/translated/", launch_presentation_locale=learners)
    assert LtiLaunch.objects.refused().get().refusal_hint == hint


def test_a_hooks_returnable_refusal_returns_to_the_lms(client, lms):
    response = post_to(client, lms, "/lti/paid/")
    assert response["Location"].startswith(lms.fields["launch_presentation_return_url"])
    assert not LtiLaunch.objects.accepted().exists()


def test_a_refused_target_leaves_its_nonce_unused(client, lms, settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = []
    form = urlencode(lms.sign("/content/"))
    send = {"content_type": "application/x-www-form-urlencoded"}
    assert "/enter/" not in client.post("/lti/launch/content/", form, **send)["Location"]
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/content/"]
    assert "/enter/" in client.post("/lti/launch/content/", form, **send)["Location"]


def test_a_target_that_browsers_would_cut_is_refused(client):
    lms = FakeLms.create()
    response = lms.post(client, f"/content/?x={'y' * 4000}")
    assert "lti_errorlog=target_not_launchable" in response["Location"]

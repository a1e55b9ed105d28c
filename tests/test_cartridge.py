from dataclasses import replace
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import pytest
from django.test import Client
from django.urls import include, path, reverse
from hypothesis import given
from hypothesis import strategies as st
from lti import ToolConfig

from lti_provider.lti11 import sign_launch
from lti_provider.models import LtiConsumer
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import launch_path
from lti_provider.views import LaunchView

CC = "{http://www.imsglobal.org/xsd/imslticc_v1p0}"
BLTI = "{http://www.imsglobal.org/xsd/imsbasiclti_v1p0}"
LTICM = "{http://www.imsglobal.org/xsd/imslticm_v1p0}"
LTICP = "{http://www.imsglobal.org/xsd/imslticp_v1p0}"
CANVAS = "canvas.instructure.com"
# What the schemas name, in their order.
ORDER = [
    "title",
    "description",
    "custom",
    "extensions",
    "launch_url",
    "secure_launch_url",
    "icon",
    "secure_icon",
    "vendor",
]
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
NIGHT_SKY = {
    "title": "Night Sky <Tools> & “more”",
    "description": "Lessons on stars",
    "icon": "/static/star.png",
    "custom": {"course": "stars", "module": "$Canvas.module.id"},
    "privacy_level": "public",
    "tool_id": "night_sky",
    "placements": {
        "course_navigation": {"text": "Night Sky", "target": "/content/", "default": "disabled"},
        "account_navigation": {"enabled": False, "icon_url": "/static/nav.png", "width": 800},
    },
}


class StarsView(LaunchView):
    def get_cartridge(self):
        return replace(super().get_cartridge(), title="Stars")


urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("lti/stars/", StarsView.as_view()),
    path("lti/stars.xml", StarsView.as_view()),
]


def read(response) -> ToolConfig:
    """What an independent library understands."""
    return ToolConfig.create_from_xml(response.content)


@pytest.fixture
def night_sky(settings):
    settings.LTI_PROVIDER_CARTRIDGE = NIGHT_SKY


def test_another_library_reads_all_of_it(client, night_sky):
    tool = read(client.get("/lti/cartridge.xml", secure=True))
    assert tool.title == "Night Sky <Tools> & “more”"
    assert tool.description == "Lessons on stars"
    assert tool.launch_url == tool.secure_launch_url == "https://testserver/lti/launch/"
    assert tool.icon == tool.secure_icon == "https://testserver/static/star.png"
    assert dict(tool.custom_params) == {"course": "stars", "module": "$Canvas.module.id"}
    assert tool.extensions[CANVAS] == {
        "tool_id": "night_sky",
        "privacy_level": "public",
        "domain": "testserver",
        "course_navigation": {
            "enabled": "true",
            "text": "Night Sky",
            "default": "disabled",
            "url": "https://testserver/lti/launch/content/",
        },
        "account_navigation": {
            "enabled": "false",
            "icon_url": "https://testserver/static/nav.png",
            "width": "800",
        },
    }
    assert tool.vendor_code == "testserver"


def test_names_and_order_are_those_of_the_schemas(client, night_sky):
    root = ElementTree.fromstring(client.get("/lti/cartridge.xml", secure=True).content)
    assert root.tag == f"{CC}cartridge_basiclti_link"
    assert [child.tag for child in root] == [f"{BLTI}{name}" for name in ORDER]
    extensions = root.find(f"{BLTI}extensions")
    assert {child.tag for child in extensions} == {f"{LTICM}property", f"{LTICM}options"}
    assert [child.tag for child in root.find(f"{BLTI}vendor")] == [f"{LTICP}code", f"{LTICP}name"]
    locations = root.get("{http://www.w3.org/2001/XMLSchema-instance}schemaLocation").split()
    assert [f"{{{name}}}" for name in locations[::2]] == [CC, BLTI, LTICM, LTICP]
    assert all(schema.endswith(".xsd") for schema in locations[1::2])


def test_it_is_written_as_people_write_it(client):
    response = client.get("/lti/cartridge.xml")
    assert response["Content-Type"] == "application/xml"
    text = response.content.decode()
    assert text.startswith("<?xml version='1.0' encoding='UTF-8'?>")
    assert "<cartridge_basiclti_link xmlns=" in text
    assert "<blti:launch_url>http://testserver/lti/launch/</blti:launch_url>" in text


def test_without_the_setting_it_says_where_to_launch(client):
    tool = read(client.get("/lti/cartridge.xml"))
    assert tool.title == "testserver"
    assert tool.launch_url == "http://testserver/lti/launch/"
    assert tool.secure_launch_url is None
    assert tool.extensions[CANVAS]["privacy_level"] == "anonymous"


def test_a_target_has_one_of_its_own(client):
    tool = read(client.get("/lti/cartridge/content/quiz 1/.xml"))
    assert tool.launch_url == "http://testserver/lti/launch/content/quiz%201/"
    assert client.get("/lti/cartridge/admin/.xml").status_code == 404
    assert client.get("/lti/cartridge/content/../admin/.xml").status_code == 404


@pytest.mark.parametrize(
    "target", [None, "/content/", "/content/quiz/", "/content/quiz.xml", "/content/ü/"]
)
def test_every_address_ends_in_xml(client, target):
    name, args = ("cartridge", []) if target is None else ("cartridge_target", [target[1:]])
    address = reverse(f"lti_provider:{name}", args=args)
    assert address.endswith(".xml")
    tool = read(client.get(address))
    assert tool.launch_url == f"http://testserver{launch_path(target)}"
    assert client.head(address)["Content-Type"] == "application/xml"


def test_it_has_a_description_and_an_icon(client, settings):
    settings.LTI_PROVIDER_CARTRIDGE = {"title": "Night Sky"}
    tool = read(client.get("/lti/cartridge.xml"))
    assert (tool.title, tool.description, tool.icon) == ("Night Sky", "testserver", None)
    settings.LTI_PROVIDER_CARTRIDGE = {"icon": "https://cdn.example/star.png"}
    tool = read(client.get("/lti/cartridge.xml"))
    assert (tool.title, tool.description) == ("testserver", None)
    assert tool.icon == tool.secure_icon == "https://cdn.example/star.png"


def test_a_launch_view_at_an_xml_address_is_a_cartridge_and_can_be_launched(client, settings, db):
    settings.ROOT_URLCONF = __name__
    tool = read(client.get("/lti/stars.xml"))
    assert (tool.title, tool.launch_url) == ("Stars", "http://testserver/lti/stars.xml")
    lms = FakeLms.create()
    form = sign_launch(tool.launch_url, lms.fields, key=lms.consumer.consumer_key,
                       secret=lms.consumer.consumer_secret)  # fmt: skip
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    answer = client.post(
        "/lti/stars.xml", urlencode(form), content_type="application/x-www-form-urlencoded"
    )
    assert answer["Location"].startswith("/lti/enter/")


def test_no_sign_in_is_asked_for(client, settings):
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
    assert client.get("/lti/cartridge.xml").status_code == 200


@pytest.mark.parametrize("accept", [None, "*/*", "application/xml", "text/xml, */*;q=0.1", ""])
@pytest.mark.parametrize("launch_path", ["/lti/launch/", "/lti/launch/content/quiz/"])
def test_an_lms_gets_it_at_the_launch_url(client, accept, launch_path):
    headers = {} if accept is None else {"Accept": accept}
    response = client.get(launch_path, headers=headers)
    assert response["Content-Type"] == "application/xml"
    assert read(response).launch_url == f"http://testserver{launch_path}"
    assert "Accept" in response["Vary"]
    assert client.head(launch_path, headers=headers)["Content-Type"] == "application/xml"


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "application/xhtml+xml"])
def test_a_browser_gets_a_page_at_the_launch_url(client, accept):
    response = client.get("/lti/launch/", headers={"Accept": accept})
    assert response["Content-Type"].startswith("text/html")
    assert "This is an LTI launch URL" in response.content.decode()
    assert "Accept" in response["Vary"]


@pytest.mark.django_db
def test_key_and_secret_are_never_in_it(client, django_assert_num_queries):
    consumer = LtiConsumer.objects.create(consumer_name="Campus")
    with django_assert_num_queries(0):
        text = client.get("/lti/cartridge.xml").content.decode()
    assert consumer.consumer_key not in text
    assert consumer.consumer_secret not in text


def test_a_view_of_the_sites_own_says_its_own(client, settings, night_sky):
    settings.ROOT_URLCONF = __name__
    tool = read(client.get("/lti/stars/"))
    assert (tool.title, tool.description) == ("Stars", "Lessons on stars")
    assert tool.launch_url == "http://testserver/lti/stars/"


def test_a_cartridge_is_only_read(client):
    assert client.post("/lti/cartridge.xml").status_code == 405


@given(
    host=st.from_regex(r"[A-Za-z0-9.-]{0,20}(:[0-9]{0,6})?", fullmatch=True),
    target=st.text(max_size=40),
    accept=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
)
def test_whatever_is_asked_for_is_answered(host, target, accept):
    address = f"/lti/cartridge/content/{quote(target)}.xml"
    response = Client().get(address, headers={"Host": host, "Accept": accept})
    assert response.status_code in (200, 301, 400, 404)
    if response.status_code == 200:
        ElementTree.fromstring(response.content)

"""An LMS without a return URL: its frame is refused until somebody says who it is."""

from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import launch_path, navigation

pytestmark = pytest.mark.django_db

LOG = "/admin/lti_provider/ltilaunch/"
EDX = "https://studio.edx.example"
FRAMED = navigation(framed=True)


@pytest.fixture
def edx() -> FakeLms:
    return FakeLms.create("open_edx", consumer_name="Campus", frame_origins="")


def launch_from(lms: FakeLms, origin: str | None, **changes):
    """Launch in a frame, posted by a page of ``origin``."""
    browser = Client()
    form = urlencode(lms.sign("/content/", **changes))
    headers = FRAMED if origin is None else {**FRAMED, "Origin": origin}
    url = launch_path("/content/")
    response = browser.post(url, form, "application/x-www-form-urlencoded", headers=headers)
    while response.status_code == 303:
        response = browser.get(response["Location"], headers=FRAMED)
    return response


def refused_from(lms: FakeLms, origin: str | None) -> LtiLaunch:
    assert "unknown_frame_origin" in launch_from(lms, origin).text
    return LtiLaunch.objects.refused().latest("pk")


def page_of(client: Client, launch: LtiLaunch) -> str:
    return client.get(f"{LOG}{launch.pk}/change/").content.decode()


def allow(client: Client, launch: LtiLaunch, **typed: str):
    return client.post(f"{LOG}{launch.pk}/frame/", typed, follow=True)


def test_the_refusal_offers_the_origin_that_the_browser_named(admin_client, edx):
    refused = refused_from(edx, EDX)
    page = page_of(admin_client, refused)
    assert f"Let {EDX} show launched pages" in page
    assert 'name="origin"' not in page
    assert "Campus" in allow(admin_client, refused).content.decode()
    assert LtiConsumer.objects.get().frame_origins == EDX
    assert launch_from(edx, EDX).content.startswith(b"content/")


def test_the_history_of_the_consumer_tells_who_allowed_it(admin_client, admin_user, edx):
    allow(admin_client, refused_from(edx, EDX))
    entry = LogEntry.objects.get()
    assert entry.get_edited_object() == edx.consumer
    assert entry.user == admin_user
    assert EDX in entry.change_message


@pytest.mark.parametrize(
    "origin", ["null", None, "", "chrome-extension://abc", "https://*.example", "x" * 4000]
)
def test_where_the_browser_named_none_it_is_typed(admin_client, edx, origin):
    refused = refused_from(edx, origin)
    page = page_of(admin_client, refused)
    assert 'name="origin"' in page
    assert "scheme and host" in page
    allow(admin_client, refused, origin=" HTTPS://Studio.Edx.Example:443/ ")
    assert LtiConsumer.objects.get().frame_origins == EDX


@pytest.mark.parametrize("typed", ["", "null", "studio.edx.example", "https://*", "https://a/b"])
def test_what_is_no_origin_is_not_taken(admin_client, edx, typed):
    response = allow(admin_client, refused_from(edx, "null"), origin=typed)
    assert "is not an origin" in response.content.decode()
    assert LtiConsumer.objects.get().frame_origins == ""
    assert not LogEntry.objects.exists()


def test_what_was_typed_does_not_replace_what_the_browser_named(admin_client, edx):
    allow(admin_client, refused_from(edx, EDX), origin="https://evil.example")
    assert LtiConsumer.objects.get().frame_origins == EDX


def test_origins_that_were_entered_meanwhile_stay(admin_client, edx):
    refused = refused_from(edx, EDX)
    LtiConsumer.objects.update(frame_origins="https://lms.example")
    for _click in range(2):
        allow(admin_client, refused)
    assert LtiConsumer.objects.get().frame_origins == f"https://lms.example\n{EDX}"


def test_only_whoever_may_change_consumers_is_offered_it(client, edx):
    refused = refused_from(edx, EDX)
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    assert "/frame/" not in page_of(client, refused)
    assert allow(client, refused).status_code == 403
    assert LtiConsumer.objects.get().frame_origins == ""


def test_it_takes_a_post_of_the_admins_own(admin_user, edx):
    refused = refused_from(edx, EDX)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin_user)
    assert browser.get(f"{LOG}{refused.pk}/frame/").status_code == 405
    assert allow(browser, refused).status_code == 403
    assert LtiConsumer.objects.get().frame_origins == ""


def test_no_other_refusal_offers_it(admin_client, client, edx):
    edx.post(client, "/content/", lti_message_type="other")
    other = LtiLaunch.objects.refused().get()
    assert "/frame/" not in page_of(admin_client, other)
    assert allow(admin_client, other).status_code == 403
    assert admin_client.post(f"{LOG}999/frame/").status_code == 403


def test_a_launch_that_is_not_verified_offers_nothing(admin_client, edx):
    edx.consumer.consumer_secret = "another"
    launch_from(edx, "https://evil.example")
    refused = LtiLaunch.objects.refused().get()
    assert refused.foreign_origin == ""
    assert "/frame/" not in page_of(admin_client, refused)


def test_an_lms_that_is_known_leaves_no_origin(edx):
    LtiConsumer.objects.update(frame_origins=EDX)
    launch_from(edx, EDX)
    assert LtiLaunch.objects.get().foreign_origin == ""


def test_origins_beyond_what_the_field_takes_are_not_added(admin_client, edx):
    for number in range(28):
        launch = LtiLaunch.objects.create(
            lti_consumer=edx.consumer,
            refusal_code="unknown_frame_origin",
            foreign_origin=f"https://{'a' * 60}.{number}.example",
        )
        response = allow(admin_client, launch)
    assert "at most 2000 characters" in response.content.decode()
    assert response.redirect_chain[-1][0] == f"{LOG}{launch.pk}/change/"
    kept = LtiConsumer.objects.get().frame_origins
    assert 1900 < len(kept) <= 2000
    assert LogEntry.objects.count() == len(kept.split())


def test_a_line_that_is_no_origin_is_named_before_one_is_added(admin_client, edx):
    refused = refused_from(edx, EDX)
    LtiConsumer.objects.update(frame_origins="lms.example")
    response = allow(admin_client, refused)
    assert "lms.example” is not an origin" in response.content.decode()
    assert LtiConsumer.objects.get().frame_origins == "lms.example"

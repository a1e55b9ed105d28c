from urllib.parse import urlencode

import pytest

from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import launch_path

pytestmark = pytest.mark.django_db

OWN = "https://lms.example"
EVIL = "https://evil.example"


def post_from(client, lms, origin, **changes):
    headers = {} if origin is None else {"Origin": origin}
    form = urlencode(lms.sign("/content/", **changes))
    path = launch_path("/content/")
    return client.post(path, form, "application/x-www-form-urlencoded", headers=headers)


@pytest.mark.parametrize("origin", [OWN, OWN.upper(), "null", "", None])
def test_the_lms_and_nobody_in_particular_pass(client, origin):
    lms = FakeLms.create(origin_check="enforce")
    assert post_from(client, lms, origin).status_code == 303
    assert LtiLaunch.objects.get().foreign_origin == ""


@pytest.mark.parametrize(
    "origin", [EVIL, f"{OWN}:8443", "http://lms.example", f"{OWN}.evil.example", "x" * 4000]
)
def test_others_are_refused_on_our_own_page(client, origin):
    lms = FakeLms.create(origin_check="enforce")
    response = post_from(client, lms, origin)
    assert response.status_code == 403
    assert "unexpected_origin" in response.content.decode()
    refused = LtiLaunch.objects.get()
    assert refused.refusal_code == "unexpected_origin"
    assert origin[:255] in refused.refusal_hint
    assert OWN in refused.refusal_hint


def test_others_are_reported(client, admin_client):
    lms = FakeLms.create(origin_check="report")
    assert post_from(client, lms, EVIL).status_code == 303
    launch = LtiLaunch.objects.get()
    assert launch.foreign_origin == EVIL
    page = admin_client.get(f"/admin/lti_provider/ltilaunch/{launch.pk}/change/")
    assert EVIL in page.content.decode()


@pytest.mark.parametrize("check", ["report", "enforce"])
@pytest.mark.parametrize("origin", [f"{EVIL}\0", f"\0{EVIL}", f"{EVIL}{chr(0) * 4000}"])
def test_an_origin_with_nul_is_answered_and_kept_without(client, check, origin):
    # PostgreSQL takes no NUL in a text.
    lms = FakeLms.create(origin_check=check)
    assert post_from(client, lms, origin).status_code == (403 if check == "enforce" else 303)
    launch = LtiLaunch.objects.get()
    kept = launch.refusal_hint if check == "enforce" else launch.foreign_origin
    assert EVIL in kept
    assert "\0" not in kept


def test_nothing_is_compared_by_default(client):
    lms = FakeLms.create()
    assert post_from(client, lms, EVIL).status_code == 303
    assert LtiLaunch.objects.get().foreign_origin == ""


def test_configured_origins_take_the_return_urls_place(client):
    lms = FakeLms.create(origin_check="enforce", frame_origins=EVIL)
    assert post_from(client, lms, EVIL).status_code == 303
    assert post_from(client, lms, OWN).status_code == 403


def test_without_any_origin_nobody_is_foreign(client):
    lms = FakeLms.create("open_edx", frame_origins="", origin_check="enforce")
    assert post_from(client, lms, EVIL).status_code == 303


def test_the_check_comes_after_the_signature(client):
    lms = FakeLms.create(origin_check="enforce")
    LtiConsumer.objects.update(consumer_secret="another")
    assert post_from(client, lms, EVIL).status_code == 401

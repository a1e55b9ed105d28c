import html
import json
import re

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from lti_provider.models import LtiLaunch
from lti_provider.testing import FakeLms, FakePlatform

pytestmark = pytest.mark.django_db

LOG = "/admin/lti_provider/ltilaunch/"


@pytest.fixture
def platform():
    return FakePlatform.create("moodle", consumer_name="Campus")


def open_page(admin_client, launch):
    return admin_client.get(f"{LOG}{launch.pk}/change/")


def rows(page):
    """What a launch's page says, by label."""
    found = re.findall(
        r"<label[^>]*>([^<]*?):?</label>\s*<div class=\"readonly\">(.*?)</div>", page.text, re.S
    )
    return {label.strip(): html.unescape(value.strip()) for label, value in found}


def refuse_one(platform, **changes):
    platform.post(Client(), "/content/", **changes)
    return LtiLaunch.objects.refused().latest("pk")


def test_an_accepted_launch_shows_its_registration(admin_client, platform):
    platform.launch(Client(), "/content/")
    said = rows(open_page(admin_client, LtiLaunch.objects.get()))
    assert str(platform.registration) in said["Registration"]
    assert "What the signature should cover" not in said
    assert "Signed with" not in said


def test_a_refused_launch_shows_header_claims_checks_and_cause(admin_client, platform):
    launch = refuse_one(platform, version="1.0")
    page = open_page(admin_client, launch)
    said = rows(page)
    assert str(platform.registration) in said["Registration"]
    assert said["Deployment"] == platform.deployment.deployment_id
    assert said["What was checked"].startswith("passed: token")
    assert "<br>failed: " in said["What was checked"]
    shown = re.search(r"<code[^>]*>(.*)</code>", said["Header and claims of the token"], re.S)[1]
    token = json.loads(shown)
    assert token["header"]["alg"] == "RS256"
    assert token["claims"]["iss"] == platform.registration.issuer
    assert said["Likely cause and what to do"] == launch.refusal_hint


def test_a_launch_of_an_unknown_deployment_is_listed_by_its_registration(admin_client, platform):
    launch = refuse_one(platform, deployment_id='<b>"new"</b>')
    assert launch.lti_consumer is None
    page = open_page(admin_client, launch)
    assert rows(page)["Deployment"] == '<b>"new"</b>'
    assert "<b>" not in page.text
    listed = admin_client.get(LOG)
    assert str(platform.registration) in html.unescape(listed.text)


def test_a_refused_login_shows_what_there_is(admin_client, platform):
    response = platform.post_token(
        Client(), [("error", "login_required"), ("state", start_login(platform))]
    )
    assert response.status_code >= 400
    launch = LtiLaunch.objects.refused().get()
    said = rows(open_page(admin_client, launch))
    assert said["Header and claims of the token"] == "-"
    assert said["Deployment"] == "-"


def start_login(platform):
    answer = platform.log_in(Client(), platform.begin_login("/content/"))
    return dict(platform.authorize(answer["Location"]))["state"]


def test_claims_that_were_too_long_to_be_kept_are_shown_as_far_as_they_are(admin_client, platform):
    launch = refuse_one(platform, version="1.0")
    LtiLaunch.objects.update(signed_text=launch.signed_text[:-1])
    said = rows(open_page(admin_client, launch))
    assert said["Deployment"] == "-"
    assert "RS256" in said["Header and claims of the token"]


def test_a_launch_by_lti_11_shows_what_its_signature_covers(admin_client):
    lms = FakeLms.create("moodle")
    lms.consumer.consumer_secret = "typed wrong"
    lms.post(Client(), "/content/")
    said = rows(open_page(admin_client, LtiLaunch.objects.get()))
    assert "POST&" in said["What the signature should cover"]
    assert {"Registration", "Deployment", "What was checked"}.isdisjoint(said)


@pytest.fixture
def mixed(platform):
    """An accepted launch, a refused one, one of an unknown deployment, and one by LTI 1.1."""
    platform.launch(Client(), "/content/")
    known = refuse_one(platform, version="1.0")
    unknown = refuse_one(platform, deployment_id="new")
    lms = FakeLms.create("canvas")
    lms.consumer.consumer_secret = "typed wrong"
    lms.post(Client(), "/content/")
    return known, unknown, LtiLaunch.objects.latest("pk")


def listed(admin_client, query):
    return [launch.pk for launch in admin_client.get(f"{LOG}?{query}").context["cl"].result_list]


def test_refusals_are_found_whether_or_not_their_consumer_is_known(admin_client, platform, mixed):
    known, unknown, other = (launch.pk for launch in mixed)
    registration = f"registration__id__exact={platform.registration.pk}"
    consumer = f"lti_consumer__id__exact={platform.consumer.pk}"
    assert listed(admin_client, "outcome=refused") == [other, unknown, known]
    assert listed(admin_client, f"outcome=refused&{registration}") == [unknown, known]
    assert listed(admin_client, f"outcome=refused&{consumer}") == [known]
    assert listed(admin_client, "outcome=refused&lti_consumer__isnull=True") == [unknown]
    code = LtiLaunch.objects.get(pk=unknown).refusal_code
    assert listed(admin_client, f"outcome={code}") == [unknown]
    assert listed(admin_client, f"outcome={code}&{registration}") == [unknown]
    assert listed(admin_client, f"outcome={code}&{consumer}") == []
    assert len(listed(admin_client, "outcome=accepted")) == 1


def test_the_list_takes_as_few_queries_for_many(admin_client, platform, mixed):
    def count():
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(f"{LOG}?outcome=refused").status_code == 200
        return len(queries)

    before = count()
    for number in range(5):
        refuse_one(platform, deployment_id=f"new {number}")
    assert count() == before <= 12


def test_who_may_only_look_sees_it_and_changes_nothing(client, platform):
    launch = refuse_one(platform, deployment_id="new")
    user = get_user_model().objects.create_user("staff", is_staff=True)
    client.force_login(user)
    assert client.get(LOG).status_code == 403
    user.user_permissions.set(Permission.objects.filter(codename="view_ltilaunch"))
    client.force_login(get_user_model().objects.get(pk=user.pk))
    assert client.get(f"{LOG}{launch.pk}/change/").status_code == 200
    assert client.post(f"{LOG}{launch.pk}/accept/").status_code == 403

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from lti_provider.models import LtiResourceLink, LtiResult, LtiUser
from lti_provider.privacy import DataSubject
from lti_provider.testing import FakeLms, FakePlatform

pytestmark = pytest.mark.django_db

PREVIEW = [
    "http://purl.imsglobal.org/vocab/lis/v2/membership#Learner",
    "http://purl.imsglobal.org/vocab/lti/system/person#TestUser",
]
PREVIEW_11 = "Learner,urn:lti:sysrole:ims/lis/TestUser"


def test_a_preview_as_a_student_is_marked(client):
    platform = FakePlatform.create("canvas")
    lti = platform.launch(client, "/content/", roles=PREVIEW).wsgi_request.lti
    assert lti.is_test_user
    assert lti.is_learner
    assert LtiUser.objects.get().is_test_user


def test_people_are_not_marked(client):
    lti = FakePlatform.create("canvas").launch(client, "/content/").wsgi_request.lti
    assert not lti.is_test_user
    assert not LtiUser.objects.get().is_test_user


def test_who_is_a_person_after_all_is_not_deleted(client):
    platform = FakePlatform.create("canvas")
    platform.launch(client, "/content/", roles=PREVIEW)
    platform.launch(client, "/content/")
    assert not LtiUser.objects.get().is_test_user
    # Nor is one whom a later launch takes for a preview.
    platform.launch(client, "/content/", roles=PREVIEW)
    assert not LtiUser.objects.get().is_test_user


@pytest.fixture
def classroom():
    """A learner and a test user, each with a grade."""
    lms = FakeLms.create("canvas")
    for user_id, roles in (("learner", "Learner"), ("preview", PREVIEW_11)):
        fields = {"user_id": user_id, "roles": roles, "lis_result_sourcedid": user_id}
        lti = lms.launch(Client(), "/content/", **fields).wsgi_request.lti
        lti.submit_score(1)
    return lms


def test_results_of_a_class_leave_them_out(classroom):
    link = LtiResourceLink.objects.get()
    assert [str(each.lti_user) for each in LtiResult.objects.of_class(link)] == ["learner"]
    assert LtiResult.objects.at_link(link).count() == 2
    tester = LtiUser.objects.get(is_test_user=True).user
    assert LtiResult.objects.for_user(tester).at_link(link).count() == 1


def test_the_preview_of_a_different_lms_leaves_nobody_out(classroom):
    other = FakeLms.create("moodle")
    other.launch(Client(), "/content/", user_id="learner", roles=PREVIEW_11)
    link = LtiResourceLink.objects.get(lti_consumer=classroom.consumer)
    assert [str(each.lti_user) for each in LtiResult.objects.of_class(link)] == ["learner"]


def test_scores_of_a_class_can_be_sent_together(classroom):
    link = LtiResourceLink.objects.get()
    assert LtiResult.objects.of_class(link).submit(0.5) == 1


def grow_old():
    ago = timezone.now() - timedelta(days=31)
    LtiUser.objects.update(created_at=ago)
    get_user_model().objects.update(last_login=ago)


def test_they_are_purged_like_guests(classroom):
    call_command("lti_purge")
    assert LtiUser.objects.count() == 2
    grow_old()
    call_command("lti_purge")
    assert LtiUser.objects.get().lti_user_id == "learner"
    assert get_user_model().objects.count() == 1
    assert LtiResult.objects.get().remote_id == "learner"


def test_a_test_user_that_connected_an_account_is_kept(classroom, django_user_model):
    own = django_user_model.objects.create_user("own", password="words")
    LtiUser.objects.get(is_test_user=True).connect_to(own, None)
    grow_old()
    call_command("lti_purge")
    assert LtiUser.objects.filter(user=own).exists()


def test_what_is_handed_out_says_so(classroom):
    subject = DataSubject.from_lms(classroom.consumer, "preview")
    assert subject.export()["lti_users"][0]["is_test_user"] is True


def test_the_admin_shows_it(admin_client, classroom):
    person = LtiUser.objects.get(is_test_user=True)
    page = admin_client.get(f"/admin/lti_provider/ltiuser/{person.pk}/change/")
    assert "Test user" in page.text
    assert admin_client.get("/admin/lti_provider/ltiuser/").status_code == 200

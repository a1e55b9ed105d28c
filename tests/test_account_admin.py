import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db.models import ProtectedError
from django.test import Client

from lti_provider.models import LtiConnectionEvent, LtiConsumer, LtiUser
from lti_provider.testing import PROFILES, FakeLms
from tests.connecting import PASSWORD, Course, connect, text_of

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_with_accounts")]

PEOPLE = "/admin/lti_provider/ltiuser/"
HISTORY = "/admin/lti_provider/lticonnectionevent/"
SENT = PROFILES["canvas"]["lis_person_contact_email_primary"]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", consumer_name="Campus", require_user_account=True)


@pytest.fixture
def robin(django_user_model):
    return django_user_model.objects.create_user("robin", SENT, PASSWORD)


@pytest.fixture
def connected(lms, robin) -> LtiUser:
    connect(lms, "robin")
    return LtiUser.objects.get()


@pytest.fixture
def onlooker() -> Client:
    """A colleague who may look at everything and change nothing."""
    user = get_user_model().objects.create_user("onlooker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client = Client()
    client.force_login(user)
    return client


def page_of(lti_user: LtiUser) -> str:
    return f"{PEOPLE}{lti_user.pk}/change/"


def last_event() -> LtiConnectionEvent:
    return LtiConnectionEvent.objects.latest("pk")


def assert_disconnected_by_the_administrator(robin) -> None:
    assert not LtiUser.objects.exists()
    event = last_event()
    assert (event.kind, event.how, event.user) == ("disconnected", "administrator", robin)
    assert event.done_by.username == "admin"
    assert event.address == "127.0.0.1"


def test_the_page_of_a_connected_person_offers_to_disconnect(admin_client, connected, robin):
    page = admin_client.get(page_of(connected)).content.decode()
    assert f'formaction="{PEOPLE}{connected.pk}/disconnect/"' in page
    response = admin_client.post(f"{PEOPLE}{connected.pk}/disconnect/", follow=True)
    assert "1 account was disconnected" in response.content.decode()
    assert_disconnected_by_the_administrator(robin)


def test_an_administrators_disconnection_ends_the_session_at_once(admin_client, lms, robin):
    course = connect(lms, "robin")
    admin_client.post(f"{PEOPLE}{LtiUser.objects.get().pk}/disconnect/")
    assert course.frame.get("/content/").content.decode() == "content/ for AnonymousUser"
    assert "Sign in to open this activity" in text_of(course.open())


def test_the_action_disconnects_the_selected_and_leaves_anonymous_accounts(
    admin_client, lms, connected, robin
):
    other = FakeLms.create("moodle")
    other.launch(Client(), "/content/")
    selected = [str(pk) for pk in LtiUser.objects.values_list("pk", flat=True)]
    data = {"action": "disconnect", "_selected_action": selected}
    page = admin_client.post(PEOPLE, data, follow=True)
    assert "1 account was disconnected" in page.content.decode()
    assert LtiUser.objects.get().lti_consumer == other.consumer
    LtiUser.objects.all().delete()
    assert_disconnected_by_the_administrator(robin)


def test_deleting_a_connected_person_disconnects(admin_client, connected, robin):
    admin_client.post(f"{PEOPLE}{connected.pk}/delete/", {"post": "yes"})
    assert_disconnected_by_the_administrator(robin)


def test_deleting_selected_people_disconnects_those_who_are_connected(
    admin_client, lms, connected, robin
):
    FakeLms.create("moodle").launch(Client(), "/content/")
    selected = [str(pk) for pk in LtiUser.objects.values_list("pk", flat=True)]
    data = {"action": "delete_selected", "_selected_action": selected, "post": "yes"}
    admin_client.post(PEOPLE, data)
    assert_disconnected_by_the_administrator(robin)
    assert LtiConnectionEvent.objects.count() == 2


def test_deleting_an_anonymous_person_is_no_disconnection(admin_client):
    FakeLms.create("moodle").launch(Client(), "/content/")
    lti_user = LtiUser.objects.get()
    assert "disconnect/" not in admin_client.get(page_of(lti_user)).content.decode()
    admin_client.post(f"{PEOPLE}{lti_user.pk}/delete/", {"post": "yes"})
    assert not LtiUser.objects.exists()
    assert not LtiConnectionEvent.objects.exists()


def test_who_may_only_look_disconnects_nobody(onlooker, connected):
    assert "disconnect/" not in onlooker.get(page_of(connected)).content.decode()
    assert onlooker.post(f"{PEOPLE}{connected.pk}/disconnect/").status_code == 403
    onlooker.post(PEOPLE, {"action": "disconnect", "_selected_action": str(connected.pk)})
    assert LtiUser.objects.get().is_connected


def test_an_disconnect_takes_a_post_and_a_link(admin_client, connected):
    assert admin_client.get(f"{PEOPLE}{connected.pk}/disconnect/").status_code == 405
    page = admin_client.post(f"{PEOPLE}{connected.pk + 1}/disconnect/", follow=True)
    assert "0 accounts were disconnected" in page.content.decode()
    assert admin_client.get(f"{PEOPLE}{connected.pk + 1}/change/").status_code == 302
    assert LtiUser.objects.get().is_connected


def test_the_history_is_found_and_not_edited(admin_client, connected, robin, lms):
    admin_client.post(f"{PEOPLE}{connected.pk}/disconnect/")
    page = admin_client.get(HISTORY, {"q": lms.fields["user_id"]})
    text = text_of(page)
    assert "Connected The person signed in and confirmed robin Campus" in text
    assert "Disconnected An administrator robin Campus" in text
    assert admin_client.get(HISTORY, {"q": "127.0.0.1"}).context["cl"].result_count == 2
    event = last_event()
    assert admin_client.get(f"{HISTORY}{event.pk}/change/").status_code == 200
    assert admin_client.post(f"{HISTORY}{event.pk}/change/").status_code == 403
    assert admin_client.post(f"{HISTORY}{event.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admin_client.get(f"{HISTORY}add/").status_code == 403
    data = {"action": "delete_selected", "_selected_action": str(event.pk), "post": "yes"}
    admin_client.post(HISTORY, data)
    assert LtiConnectionEvent.objects.count() == 2


def test_the_history_goes_with_the_account(admin_client, connected, robin):
    page = admin_client.post(f"/admin/auth/user/{robin.pk}/delete/", {"post": "yes"})
    assert page.status_code == 302
    assert not LtiConnectionEvent.objects.exists()


def test_a_consumer_with_a_history_of_connections_stays(admin_client, lms, connected, robin):
    connected.disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, robin, None)
    url = f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/delete/"
    assert "history of connections" in text_of(admin_client.get(url)).lower()
    admin_client.post(url, {"post": "yes"})
    with pytest.raises(ProtectedError):
        LtiConsumer.objects.get().delete()


def test_the_consumer_says_what_the_flag_concerns(admin_client, lms):
    text = text_of(admin_client.get(f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/change/"))
    assert "What they did before, without one, stays with the anonymous account." in text


def test_the_launch_log_says_why_nobody_was_connected(admin_client, lms, robin):
    Course(lms).open(lis_person_contact_email_primary=None)
    page = admin_client.get("/admin/lti_provider/ltilaunch/", {"outcome": "email_missing"})
    (launch,) = page.context["cl"].queryset
    text = text_of(admin_client.get(f"/admin/lti_provider/ltilaunch/{launch.pk}/change/"))
    assert "did not send your e-mail address" in text
    assert "privacy level “Email only”" in text

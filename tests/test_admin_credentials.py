from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client

from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIST = "/admin/lti_provider/lticonsumer/"


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("moodle", consumer_name="Campus", consumer_secret="canary-first")


@pytest.fixture
def lost(lms, settings) -> FakeLms:
    """An LMS whose secret's key is gone."""
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    LtiConsumer.objects.get().save()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    return lms


def url_of(lms: FakeLms, page: str = "change") -> str:
    return f"{LIST}{lms.consumer.pk}/{page}/"


def until(moment: datetime, secret: str = "") -> dict[str, str]:
    return {
        "until_0": f"{moment:%Y-%m-%d}",
        "until_1": f"{moment:%H:%M:%S}",
        "secret": secret,
    }


def form_of(page) -> dict[str, object]:
    form = page.context["adminform"].form
    values = {}
    for name in form.fields:
        value = form[name].value()
        if not form.fields[name].disabled and value is not False:
            values[name] = "" if value is None else value
    inlines = [inline.formset for inline in page.context["inline_admin_formsets"]]
    fields = {field.html_name: field for inline in inlines for field in inline.management_form}
    values |= {name: field.value() for name, field in fields.items()}
    return values | {"expires_at_0": "", "expires_at_1": ""}


def test_rotating_makes_a_secret_and_keeps_the_old_one_for_a_week(admin_client, lms):
    page = admin_client.get(url_of(lms))
    assert "Present secret: not used yet" in page.content.decode()
    assert url_of(lms, "rotate") in page.content.decode()
    asked = admin_client.get(url_of(lms, "rotate")).content.decode()
    assert 'value="2026-11-30"' in asked
    assert "canary" not in asked
    done = admin_client.post(
        url_of(lms, "rotate"), until(NOW + timedelta(days=7)), follow=True
    ).content.decode()
    assert "the previous one is accepted until Nov. 30, 2026, noon" in done
    assert "Previous secret: accepted until Nov. 30, 2026, noon, not used yet" in done
    consumer = LtiConsumer.objects.get()
    assert len(consumer.consumer_secret) == 64
    assert consumer.previous_secret == "canary-first"
    entry = LogEntry.objects.latest("pk").change_message
    assert entry.startswith("Rotated the consumer secret")
    assert consumer.consumer_secret not in entry + done
    assert "canary" not in entry + done


def test_the_page_tells_when_each_secret_was_last_used(admin_client, lms):
    lms.launch(Client(), "/content/")
    LtiConsumer.objects.get().rotate_secret(NOW + timedelta(days=1), "second")
    page = admin_client.get(url_of(lms)).content.decode()
    assert "Present secret: not used yet" in page
    assert "Previous secret: accepted until Nov. 24, 2026, noon, last used Nov. 23, 2026" in page
    launch = LtiLaunch.objects.get()
    log = admin_client.get(f"/admin/lti_provider/ltilaunch/{launch.pk}/change/").content.decode()
    assert "The present secret" in log


def test_a_secret_of_the_lms_is_taken_to_the_letter(admin_client, lms):
    admin_client.post(url_of(lms, "rotate"), until(NOW + timedelta(hours=1), " é "))
    assert LtiConsumer.objects.get().consumer_secret == " é "


@pytest.mark.parametrize(
    "form",
    [
        {"until_0": "soon", "until_1": "", "secret": ""},
        until(NOW, "lti-fernet:x"),
        until(NOW, "x\0"),
        until(NOW, "x" * 1025),
    ],
)
def test_what_cannot_be_is_refused(admin_client, lms, form):
    page = admin_client.post(url_of(lms, "rotate"), form)
    assert page.status_code == 200
    assert "errorlist" in page.content.decode()
    assert LtiConsumer.objects.get().consumer_secret == "canary-first"


def test_an_overlap_is_warned_about_and_can_be_ended(admin_client, lms):
    LtiConsumer.objects.get().rotate_secret(NOW + timedelta(days=1), "second")
    asked = admin_client.get(url_of(lms, "rotate")).content.decode()
    assert "Two secrets are accepted at a time" in asked
    done = admin_client.post(url_of(lms, "rotate"), {"end": "1"}, follow=True).content.decode()
    assert "Ended the previous secret." in done
    assert not LtiConsumer.objects.get().accepts_previous_secret
    assert "Two secrets" not in admin_client.get(url_of(lms, "rotate")).content.decode()


def test_rotating_takes_the_right_to_change(client, lms):
    staff = get_user_model().objects.create_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(staff)
    assert client.get(url_of(lms, "rotate")).status_code == 403
    assert client.post(url_of(lms, "rotate"), until(NOW)).status_code == 403
    assert client.get(f"{LIST}999/rotate/").status_code == 403
    page = client.get(url_of(lms)).content.decode()
    assert "Present secret" in page
    assert "canary" not in page


def test_expiry_is_set_and_shown(admin_client, lms):
    form = form_of(admin_client.get(url_of(lms)))
    form |= {"expires_at_0": "2026-11-22", "expires_at_1": "12:00:00"}
    assert admin_client.post(url_of(lms), form).status_code == 302
    page = admin_client.get(url_of(lms)).content.decode()
    assert "Neither is accepted: the credentials have expired." in page


def test_a_secret_typed_in_place_of_the_old_one_was_not_used_yet(admin_client, lms):
    lms.launch(Client(), "/content/")
    form = form_of(admin_client.get(url_of(lms))) | {"consumer_secret": "typed"}
    assert admin_client.post(url_of(lms), form).status_code == 302
    assert LtiConsumer.objects.get().secret_used_at is None


def test_an_encrypted_secret_that_was_only_shown_did_not_change(admin_client, lms, settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    LtiConsumer.objects.get().save()
    form = form_of(admin_client.get(url_of(lms))) | {"consumer_secret": "canary-first"}
    assert admin_client.post(url_of(lms), form).status_code == 302
    assert "ecret" not in LogEntry.objects.latest("pk").change_message


def test_the_page_of_a_lost_secret_opens_says_so_and_saves(admin_client, lost):
    page = admin_client.get(url_of(lost))
    assert "was encrypted with a key that is not in" in page.content.decode()
    form = form_of(page) | {"consumer_name": "Renamed", "consumer_secret": ""}
    assert admin_client.post(url_of(lost), form).status_code == 302
    assert LtiConsumer.objects.get().consumer_name == "Renamed"
    shown = admin_client.post(url_of(lost, "secret")).content.decode()
    assert "was encrypted with a key that is not in" in shown
    assert admin_client.get(LIST).status_code == 200
    form = form_of(admin_client.get(url_of(lost))) | {"consumer_secret": "entered anew"}
    assert admin_client.post(url_of(lost), form).status_code == 302
    assert LtiConsumer.objects.get().consumer_secret == "entered anew"


def test_a_consumer_cannot_be_given_something_that_looks_encrypted(admin_client, lms):
    form = form_of(admin_client.get(url_of(lms))) | {"consumer_secret": "lti-fernet:x"}
    assert "cannot begin with" in admin_client.post(url_of(lms), form).content.decode()


def test_consumers_are_deactivated_from_the_list(admin_client, lms):
    browser = Client()
    lms.launch(browser, "/content/")
    act = {"action": "deactivate", "_selected_action": lms.consumer.pk}
    assert "Deactivated." in admin_client.post(LIST, act, follow=True).content.decode()
    assert not browser.get("/content/").wsgi_request.user.is_authenticated
    assert LogEntry.objects.latest("pk").change_message == "Deactivated."

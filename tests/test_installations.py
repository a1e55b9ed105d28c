import json
import sys
from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiInstallation, LtiLaunch
from lti_provider.privacy import DataSubject
from lti_provider.testing import FakeLms
from tests.test_admin import change_url, form_of, new_form
from tests.test_sql_counts import statements as statements_of

pytestmark = pytest.mark.django_db

SITE_ID = "9f1c4c0a5bd14ad09a1c2e7f4f2b6d11"
HOST_NAME = "lms.example"
ADD = "/admin/lti_provider/lticonsumer/add/"


@pytest.fixture
def lms() -> FakeLms:
    """A Moodle that launched as its host name."""
    lms = FakeLms.create("moodle", consumer_name="Campus")
    assert launch(lms, HOST_NAME)
    return lms


def launch(lms: FakeLms, guid: str | None) -> bool:
    """Whether a launch of this installation is accepted."""
    answer = lms.post(Client(), "/content/", tool_consumer_instance_guid=guid)
    return answer["Location"].startswith("/lti/enter/")


def accepted() -> list[str]:
    return [each.guid for each in LtiInstallation.objects.order_by("pk")]


def accept(client: Client) -> None:
    refused = LtiLaunch.objects.refused().latest("pk")
    client.post(f"/admin/lti_provider/ltilaunch/{refused.pk}/accept/")


def inline_form(client: Client, consumer: LtiConsumer) -> dict[str, object]:
    page = client.get(change_url(consumer))
    (inline,) = page.context["inline_admin_formsets"]
    rows = {f"installations-{n}-id": f.instance.pk for n, f in enumerate(inline.formset.forms)}
    parents = {f"installations-{n}-lti_consumer": consumer.pk for n in range(len(rows))}
    return {**form_of(page), "consumer_secret": "", **rows, **parents}


def take_away(client: Client, guid: str) -> None:
    consumer = LtiConsumer.objects.get()
    number = [each.guid for each in consumer.installations.all()].index(guid)
    form = inline_form(client, consumer) | {f"installations-{number}-DELETE": "on"}
    assert client.post(change_url(consumer), form).status_code == 302


def type_guid(client: Client, guid: str) -> None:
    consumer = LtiConsumer.objects.get()
    form = inline_form(client, consumer)
    number = form["installations-TOTAL_FORMS"]
    form |= {
        "installations-TOTAL_FORMS": number + 1,
        f"installations-{number}-guid": guid,
        f"installations-{number}-lti_consumer": consumer.pk,
    }
    assert client.post(change_url(consumer), form).status_code == 302


# One Moodle, two names


def test_both_names_of_one_moodle_are_accepted(admin_client, lms):
    assert not launch(lms, SITE_ID)
    refused = LtiLaunch.objects.refused().get()
    assert "“Default organisation ID”" in refused.refusal_hint
    accept(admin_client)
    assert launch(lms, SITE_ID)
    assert launch(lms, HOST_NAME)
    assert not launch(lms, "elsewhere.example")
    assert accepted() == [HOST_NAME, SITE_ID]


def test_the_consumers_page_tells_when_each_was_seen_and_by_whom_accepted(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    learned, typed = LtiInstallation.objects.order_by("pk")
    assert learned.accepted_by is None
    assert learned.first_seen_at == learned.last_seen_at is not None
    assert typed.accepted_by.username == "admin"
    assert typed.first_seen_at is typed.last_seen_at is None
    launch(lms, SITE_ID)
    page = admin_client.get(change_url(lms.consumer)).content.decode()
    for said in (HOST_NAME, SITE_ID, "admin", "First seen", "Last seen"):
        assert said in page
    typed.refresh_from_db()
    assert typed.first_seen_at == typed.last_seen_at is not None


def test_an_installation_that_is_taken_away_is_refused_at_its_next_launch(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    assert launch(lms, SITE_ID)
    take_away(admin_client, SITE_ID)
    assert not launch(lms, SITE_ID)
    assert launch(lms, HOST_NAME)
    assert accepted() == [HOST_NAME]


def test_the_first_one_can_be_taken_away_too(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    take_away(admin_client, HOST_NAME)
    assert not launch(lms, HOST_NAME)
    assert launch(lms, SITE_ID)
    assert LtiConsumer.objects.get().instance_guid == SITE_ID


def test_without_any_the_next_launch_teaches_again(admin_client, lms):
    take_away(admin_client, HOST_NAME)
    assert LtiConsumer.objects.get().instance_guid == ""
    assert launch(lms, SITE_ID)
    assert accepted() == [SITE_ID]
    assert not launch(lms, HOST_NAME)


def test_one_that_names_none_is_not_taught_over(admin_client, lms):
    launch(lms, None)
    accept(admin_client)
    take_away(admin_client, HOST_NAME)
    assert launch(lms, None)
    assert not launch(lms, HOST_NAME)
    assert LtiConsumer.objects.get().instance_guid == ""
    type_guid(admin_client, SITE_ID)
    assert launch(lms, SITE_ID)
    assert LtiConsumer.objects.get().instance_guid == SITE_ID


def test_further_ones_are_compared_to_the_letter(admin_client, lms):
    launch(lms, "Site")
    accept(admin_client)
    for other in ("site", "SITE", "Site ", " Site", "Sité"):
        assert not launch(lms, other), other
    for other in (HOST_NAME.upper(), f"{HOST_NAME} "):
        assert not launch(lms, other), other
    assert launch(lms, "Site")


def test_a_consumer_accepts_its_own_only(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    other = FakeLms.create("moodle", consumer_name="Other", instance_guid="other.example")
    assert not launch(other, SITE_ID)
    assert not launch(other, HOST_NAME)
    assert launch(other, "other.example")


# What an administrator types


def test_a_guid_can_be_typed_before_the_first_launch(admin_client):
    form = {**new_form(admin_client), "consumer_name": "Campus", "instance_guid": SITE_ID}
    assert admin_client.post(ADD, form).status_code == 302
    consumer = LtiConsumer.objects.get()
    installation = consumer.installations.get()
    assert (installation.guid, installation.accepted_by.username) == (SITE_ID, "admin")
    lms = FakeLms(consumer, dict(FakeLms.create("moodle").fields))
    assert not launch(lms, HOST_NAME)
    assert launch(lms, SITE_ID)
    installation.refresh_from_db()
    assert installation.first_seen_at is not None


def test_further_ones_can_be_typed_and_twice_does_no_harm(admin_client, lms):
    for _time in range(2):
        type_guid(admin_client, SITE_ID)
    assert accepted() == [HOST_NAME, SITE_ID]
    assert launch(lms, SITE_ID)
    entry = LogEntry.objects.filter(object_id=str(lms.consumer.pk)).earliest("pk")
    assert f"Added installation “{SITE_ID}”." in str(entry)


def test_the_history_tells_who_accepted_and_who_took_away(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    take_away(admin_client, HOST_NAME)
    entries = LogEntry.objects.filter(object_id=str(lms.consumer.pk)).order_by("pk")
    told = [entry.get_change_message() for entry in entries]
    assert told == [
        f"Accepted installation “{SITE_ID}”.",
        f"Deleted installation “{HOST_NAME}”.",
    ]


@pytest.mark.parametrize("right", ["view", "change"])
def test_only_who_may_change_the_consumer_takes_away(client, admin_client, lms, right):
    staff = get_user_model().objects.create_user("colleague", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename=f"{right}_lticonsumer"))
    consumer = LtiConsumer.objects.get()
    form = inline_form(admin_client, consumer) | {"installations-0-DELETE": "on"}
    client.force_login(staff)
    assert HOST_NAME in client.get(change_url(consumer)).content.decode()
    answer = client.post(change_url(consumer), form)
    assert answer.status_code == (302 if right == "change" else 403)
    assert accepted() == ([] if right == "change" else [HOST_NAME])


def test_what_was_seen_is_not_edited(admin_client, lms):
    consumer = LtiConsumer.objects.get()
    form = inline_form(admin_client, consumer) | {"installations-0-guid": "edited"}
    assert admin_client.post(change_url(consumer), form).status_code == 302
    assert accepted() == [HOST_NAME]


def test_an_administrator_who_goes_leaves_the_installation_accepted(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    get_user_model().objects.get(username="admin").delete()
    assert launch(lms, SITE_ID)
    assert LtiInstallation.objects.get(guid=SITE_ID).accepted_by is None


def test_an_installation_finds_its_consumer(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    FakeLms.create("moodle", consumer_name="Other", instance_guid="other.example")
    for guid in (SITE_ID, HOST_NAME):
        found = admin_client.get("/admin/lti_provider/lticonsumer/", {"q": guid})
        assert found.context["cl"].result_list.get().consumer_name == "Campus"


def test_who_is_erased_accepted_nothing(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    person = DataSubject.from_account(get_user_model().objects.get(username="admin"))
    kept = {"lti_consumer": "Campus", "guid": SITE_ID}
    assert person.export()["installations"] == [kept]
    assert person.erase()["installations"] == 1
    assert person.export()["installations"] == []
    assert DataSubject.from_lms(lms.consumer, "4").export()["installations"] == []
    assert launch(lms, SITE_ID)


def test_a_consumer_without_people_is_deleted_with_its_installations(admin_client):
    consumer = LtiConsumer.objects.create(consumer_name="Empty", instance_guid=SITE_ID)
    url = change_url(consumer).replace("change", "delete")
    assert admin_client.post(url, {"post": "yes"}).status_code == 302
    assert accepted() == []


# Rules of the consumer


def test_recording_notes_the_first_one_only(lms):
    LtiConsumer.objects.update(guid_policy="record")
    assert launch(lms, SITE_ID)
    assert launch(lms, None)
    assert accepted() == [HOST_NAME]
    LtiConsumer.objects.update(guid_policy="pin")
    assert not launch(lms, SITE_ID)


def test_a_deactivated_consumer_accepts_none(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    LtiConsumer.objects.update(is_active=False)
    assert not launch(lms, SITE_ID)
    assert not launch(lms, HOST_NAME)


def test_last_seen_is_written_once_in_an_hour(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    for guid in (HOST_NAME, SITE_ID):
        launch(lms, guid)
        with CaptureQueriesContext(connection) as queries:
            launch(lms, guid)
        assert not [query for query in queries if query["sql"].startswith("UPDATE")]
        before = LtiInstallation.objects.get(guid=guid)
        with time_machine.travel(timezone.now() + timedelta(minutes=61)):
            launch(lms, guid)
        after = LtiInstallation.objects.get(guid=guid)
        assert after.last_seen_at - before.last_seen_at > timedelta(hours=1)
        assert after.first_seen_at == before.first_seen_at


def test_a_refused_launch_was_not_seen(lms):
    before = LtiInstallation.objects.get()
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert lms.post(Client(), "/elsewhere/").status_code == 303
    assert LtiLaunch.objects.refused().get().refusal_code == "target_not_launchable"
    assert LtiInstallation.objects.get().last_seen_at == before.last_seen_at


@pytest.mark.parametrize(("guid", "statements"), [(HOST_NAME, 2), (SITE_ID, 3), (None, 3)])
def test_a_launch_of_the_first_one_reads_nothing_more(admin_client, lms, guid, statements):
    for other in (SITE_ID, None):
        launch(lms, other)
        accept(admin_client)
    launch(lms, guid)
    with CaptureQueriesContext(connection) as queries:
        assert launch(lms, guid)
    assert len(statements_of(queries)) == statements


def test_where_no_lms_names_itself_nothing_more_is_read():
    lms = FakeLms.create("open_edx")
    launch(lms, None)
    with CaptureQueriesContext(connection) as queries:
        assert launch(lms, None)
    assert len(statements_of(queries)) == 2


# Scripts


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("lti_consumer", *arguments, stdout=out)
    return out.getvalue()


def test_show_tells_them(admin_client, lms):
    launch(lms, SITE_ID)
    accept(admin_client)
    shown = json.loads(run("show", "Campus", "--format", "json"))["installations"]
    assert [each["guid"] for each in shown] == [HOST_NAME, SITE_ID]
    assert [each["accepted_by"] for each in shown] == [None, "admin"]
    assert shown[0]["last_seen_at"]
    assert shown[1]["last_seen_at"] is None
    assert f"installations: {HOST_NAME}, {SITE_ID}" in run("show", "Campus")


def test_they_are_exported_and_imported(admin_client, lms, monkeypatch):
    launch(lms, SITE_ID)
    accept(admin_client)
    exported = run("export", "--secrets")
    LtiLaunch.objects.all().delete()
    LtiConsumer.objects.all().delete()
    monkeypatch.setattr(sys, "stdin", StringIO(exported))
    run("import")
    assert accepted() == [HOST_NAME, SITE_ID]
    lms.consumer = LtiConsumer.objects.get()
    assert launch(lms, SITE_ID)
    assert launch(lms, HOST_NAME)
    assert not launch(lms, "elsewhere.example")


@pytest.mark.parametrize(
    ("row", "left"),
    [
        ({}, [HOST_NAME]),
        ({"installations": [HOST_NAME, "b"]}, [HOST_NAME, "b"]),
        ({"installations": ["b", "c"]}, ["b", "c"]),
        ({"installations": []}, []),
        ({"installations": [HOST_NAME, ""]}, [HOST_NAME, ""]),
        ({"instance_guid": "b"}, ["b"]),
        ({"instance_guid": ""}, []),
        ({"instance_guid": "b", "installations": ["a", "b"]}, ["b", "a"]),
    ],
)
def test_an_import_changes_them_where_it_names_them(lms, monkeypatch, row, left):
    key = lms.consumer.consumer_key
    row = {"consumer_key": key, "consumer_name": "Campus", **row}
    monkeypatch.setattr(sys, "stdin", StringIO(json.dumps([row])))
    run("import", "--update")
    assert accepted() == left
    assert LtiConsumer.objects.get().instance_guid == (left[0] if left else "")
    for guid in left:
        assert launch(lms, guid)
    assert launch(lms, HOST_NAME) is (HOST_NAME in left or not left)


@pytest.mark.parametrize("given", [7, False, [7], [["a"]], {"a": 1}, ["x" * 256], ["a\0"], "a\0"])
def test_an_import_of_no_guids_is_refused(lms, monkeypatch, given):
    row = {"consumer_name": "New", "installations": given}
    monkeypatch.setattr(sys, "stdin", StringIO(json.dumps([row])))
    with pytest.raises(CommandError, match="installations: "):
        run("import")
    assert LtiConsumer.objects.count() == 1


def test_a_consumer_saved_from_memory_forgets_no_installation():
    lms = FakeLms.create("moodle")
    stale = LtiConsumer.objects.get()
    assert launch(lms, "X")
    stale.consumer_name = "Renamed"
    stale.save()
    assert LtiConsumer.objects.get().consumer_name == "Renamed"
    assert launch(lms, "X")
    assert not launch(lms, "")


def test_a_consumer_saved_from_memory_accepts_no_installation_again(lms):
    stale = LtiConsumer.objects.get()
    LtiInstallation.objects.get().delete()
    stale.save()
    assert not LtiInstallation.objects.exists()
    assert LtiConsumer.objects.get().instance_guid == ""


def test_a_guid_that_code_sets_is_accepted(lms):
    lms.consumer.refresh_from_db()
    for _time in range(2):
        lms.consumer.instance_guid = "typed"
        lms.consumer.save()
    assert launch(lms, "typed")
    assert LtiInstallation.objects.filter(guid="typed").count() == 1

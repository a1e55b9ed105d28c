"""What is stored about one person: handed out, and erased from every table."""

import io
import json

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connections, models, router
from django.test import Client
from django.utils import timezone

from lti_provider.models import LtiConnectionEvent, LtiLaunch, LtiResult, LtiUser
from lti_provider.privacy import (
    SOURCES,
    AdminLog,
    DataSubject,
    _blank_account,
    _find_personal_fields,
)
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

CANARIES = {
    "user_id": "canary-id",
    "lis_person_name_full": "Canary Name",
    "lis_person_name_given": "CanaryGiven",
    "lis_person_name_family": "CanaryFamily",
    "lis_person_contact_email_primary": "canary@mail.example",
    "lis_result_sourcedid": "canary-sourcedid",
    "custom_note": "canary custom",
}
LIST = "/admin/lti_provider/ltiuser/"


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email", consumer_name="Campus")


@pytest.fixture
def learner(lms) -> Client:
    """A learner with accepted, waiting and refused launches and a classmate."""
    browser = Client()
    lms.launch(browser, "/content/?note=canary-id", **CANARIES)
    lms.post(browser, "/content/canary/", **CANARIES)
    lms.post(browser, "/elsewhere/", **CANARIES)
    secret, lms.consumer.consumer_secret = lms.consumer.consumer_secret, "wrong"
    lms.post(browser, "/content/", **CANARIES)
    lms.consumer.consumer_secret = secret
    lms.launch(Client(), "/content/", user_id="classmate")
    lms.post(Client(), "/elsewhere/", user_id="classmate")
    return browser


def account(user_id: str = "canary-id"):
    # Some databases compare without regard to case and blanks.
    (found,) = (each for each in LtiUser.objects.all() if each.lti_user_id == user_id)
    return found.user


def connect_own_account(lms: FakeLms):
    """As the confirmation page does it."""
    own = get_user_model().objects.create_user("ada", "ada@school.example", "password")
    person = LtiUser.objects.get(lti_user_id="canary-id")
    LtiUser.objects.connect(lms.consumer, "canary-id", person.lti_user_digest, own, "192.0.2.7")
    return own


def tables_with(text: str) -> set[str]:
    """Every table of the database, sessions aside, that has the text in some column."""
    found = set()
    connection = connections[router.db_for_write(LtiUser)]
    for table in connection.introspection.table_names():
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            if any(text in str(row) for row in cursor.fetchall()):
                found.add(table)
    return found


def canaries_left() -> set[str]:
    return {table for value in CANARIES.values() for table in tables_with(value)}


def run(command: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(command, *arguments, stdout=out)
    return out.getvalue()


WHO = {
    "by the LMS's id": lambda: ("--consumer", "Campus", "--lti-user-id", "canary-id"),
    "by username": lambda: ("--user", account().username),
    "by primary key": lambda: ("--user", str(account().pk)),
}


@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
def test_everything_is_exported(lms, learner, who):
    text = run("lti_export_user", *who())
    exported = json.loads(text)
    assert all(value in text for value in CANARIES.values())
    assert "classmate" not in text
    assert len(exported["launches"]) == 4
    assert exported["launches"][0]["message"]["person"]["user_id"] == "canary-id"
    assert exported["lti_users"][0]["lti_consumer"] == "Campus"
    assert exported["accounts"][0]["email"] == "canary@mail.example"
    assert lms.consumer.consumer_secret not in text


@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
def test_everything_is_erased(lms, learner, who):
    assert "lti_provider_ltilaunch" in canaries_left()
    person, classmate = account(), account("classmate")
    nonces = set(LtiLaunch.objects.accepted().values_list("nonce_digest", flat=True))
    run("lti_erase_user", *who(), "--no-input")
    assert canaries_left() == set()
    assert not get_user_model().objects.filter(pk=person.pk).exists()
    assert get_user_model().objects.filter(pk=classmate.pk).exists()
    assert set(LtiLaunch.objects.accepted().values_list("nonce_digest", flat=True)) == nonces
    assert LtiLaunch.objects.filter(stored_message={}).count() == 2
    assert LtiLaunch.objects.refused().count() == 1
    assert not learner.get("/content/").wsgi_request.user.is_authenticated


def test_an_erased_launch_cannot_be_replayed(lms, client):
    form = lms.sign("/content/", **CANARIES)
    url = "/lti/launch/content/"
    assert client.post(url, dict(form), headers={}).status_code == 400  # not the form's media type
    from urllib.parse import urlencode

    def send():
        return client.post(url, urlencode(form), content_type="application/x-www-form-urlencoded")

    assert send().status_code == 303
    DataSubject.from_lms(lms.consumer, "canary-id").erase()
    assert canaries_left() == set()
    assert send().status_code == 403


def test_the_next_launch_of_an_erased_person_starts_anew(lms, learner):
    before = account().pk
    DataSubject.from_lms(lms.consumer, "canary-id").erase()
    lms.launch(Client(), "/content/", **CANARIES)
    assert account().pk != before


def test_an_own_account_is_disconnected_and_stays(lms, learner):
    own = connect_own_account(lms)
    browser = Client()
    lms.launch(browser, "/content/", **CANARIES)
    assert browser.get("/content/").wsgi_request.user == own
    exported = json.loads(run("lti_export_user", *WHO["by the LMS's id"]()))
    assert [each["made_by_launch"] for each in exported["accounts"]] == [True]
    assert exported["accounts"][0]["email"] == "canary@mail.example"
    assert exported["connection_events"][0]["address"] == "192.0.2.7"
    run("lti_erase_user", *WHO["by the LMS's id"](), "--no-input")
    assert canaries_left() == set()
    assert tables_with("192.0.2.7") == set()
    assert get_user_model().objects.get(username="ada").email == "ada@school.example"
    assert not browser.get("/content/").wsgi_request.user.is_authenticated
    event = LtiConnectionEvent.objects.get()
    assert (event.kind, event.lti_user_id, event.address) == ("disconnected", "", None)


def test_erasing_an_own_account_takes_its_connections_and_leaves_the_account(lms, learner):
    own = connect_own_account(lms)
    exported = json.loads(run("lti_export_user", "--user", "ada"))
    assert exported["accounts"][0]["made_by_launch"] is False
    assert len(exported["launches"]) == 4
    DataSubject.from_account(own).erase()
    assert canaries_left() == set()
    own.refresh_from_db()
    assert own.is_active


def test_a_person_who_connected_an_account_meanwhile_is_erased_too(lms, learner):
    own = get_user_model().objects.create_user("ada", "ada@school.example")
    asked_by_account = DataSubject.from_account(own)
    asked_by_id = DataSubject.from_lms(lms.consumer, "newcomer")
    digest = LtiUser.objects.get(lti_user_id="canary-id").lti_user_digest
    LtiUser.objects.connect(lms.consumer, "canary-id", digest, own, "192.0.2.7")
    lms.launch(Client(), "/content/", user_id="newcomer")

    assert asked_by_account.erase()["lti_users"] == 1
    assert asked_by_id.erase()["lti_users"] == 1

    assert {each.lti_user_id for each in LtiUser.objects.all()} == {"classmate"}
    own.refresh_from_db()
    assert own.is_active


def test_a_connection_that_was_undone_is_not_the_accounts(lms, learner, admin_user):
    own = connect_own_account(lms)
    LtiUser.objects.get(lti_user_id="canary-id").disconnect(
        LtiConnectionEvent.How.BY_ADMINISTRATOR, admin_user, "192.0.2.8"
    )
    person = DataSubject.from_account(own)
    assert person.export()["launches"] == []
    assert len(person.export()["connection_events"]) == 2
    person.erase()
    assert "lti_provider_ltilaunch" in canaries_left()
    assert tables_with("192.0.2.8") == set()
    DataSubject.from_lms(lms.consumer, "canary-id").erase()
    assert canaries_left() == set()


def test_the_same_id_in_another_lms_is_somebody_else(lms, learner):
    other = FakeLms.create("moodle", consumer_name="Other")
    other.launch(Client(), "/content/", user_id="canary-id")
    DataSubject.from_lms(lms.consumer, "canary-id").erase()
    assert LtiUser.objects.get(lti_user_id="canary-id").lti_consumer == other.consumer
    assert LtiLaunch.objects.get(lti_consumer=other.consumer).message.person.user_id == "canary-id"


@pytest.mark.parametrize("other_id", ["CANARY-ID", "canary-id ", "canary"])
def test_a_similar_id_is_somebody_else(lms, learner, other_id):
    lms.launch(Client(), "/content/", user_id=other_id)
    own = get_user_model().objects.create_user("ada")
    LtiUser.objects.get(user=account(other_id)).record_event(
        LtiConnectionEvent.Kind.CONNECTED, LtiConnectionEvent.How.CONFIRMED, own, "192.0.2.9"
    )
    person = DataSubject.from_lms(lms.consumer, "canary-id")
    assert "192.0.2.9" not in str(person.export())
    person.erase()
    assert LtiUser.objects.filter(lti_user_digest__gt="").count() == 2
    assert LtiConnectionEvent.objects.get().lti_user_id == other_id


def test_a_guest_is_exported_and_erased_by_account(lms):
    browser = Client()
    lms.launch(browser, "/content/", **{**CANARIES, "user_id": None})
    guest = LtiUser.objects.get()
    person = DataSubject.from_account(guest.user)
    assert len(person.export()["launches"]) == 1
    person.erase()
    assert not get_user_model().objects.exists()
    assert canaries_left() == set()


def test_an_account_can_be_kept_without_its_name(lms, learner):
    kept = account()
    run("lti_erase_user", "--user", kept.username, "--keep-account", "--no-input")
    kept.refresh_from_db()
    assert (kept.first_name, kept.last_name, kept.email, kept.is_active) == ("", "", "", False)
    assert canaries_left() == set()


def test_an_account_that_the_site_protects_is_kept_without_its_name(lms, learner):
    # An LTI user holds its consumer so; the site's own tables may hold accounts.
    from django.db.models.signals import pre_delete

    def protect(sender, instance, **kwargs):
        raise models.ProtectedError("work of this person is kept", {instance})

    kept = account()
    pre_delete.connect(protect, sender=get_user_model())
    try:
        DataSubject.from_account(kept).erase()
    finally:
        pre_delete.disconnect(protect, sender=get_user_model())
    kept.refresh_from_db()
    assert (kept.first_name, kept.is_active) == ("", False)
    assert canaries_left() == set()


@pytest.mark.parametrize("gift", ["password", "staff", "permission"])
def test_an_account_that_the_site_has_made_its_own_stays(lms, learner, gift):
    own = account()
    if gift == "password":
        own.set_password("given")
    own.is_staff = gift == "staff"
    own.save()
    if gift == "permission":
        own.user_permissions.add(Permission.objects.first())
    DataSubject.from_account(own).erase()
    own.refresh_from_db()
    assert own.is_active
    assert not LtiUser.objects.filter(lti_user_id="canary-id").exists()


@pytest.mark.parametrize("connected", [False, True])
def test_an_account_of_single_sign_on_that_no_launch_made_stays(lms, learner, connected):
    # Like an account that a launch made, it has no password, no rights and no staff status.
    own = get_user_model().objects.create_user("ada", "ada@school.example", first_name="Ada")
    assert not own.has_usable_password()
    if connected:
        digest = LtiUser.objects.get(lti_user_id="canary-id").lti_user_digest
        LtiUser.objects.connect(lms.consumer, "canary-id", digest, own, "192.0.2.7")
    assert own not in DataSubject.from_account(own).made_accounts

    for arguments in (["--user", "ada"], ["--user", "ada", "--keep-account"]):
        run("lti_erase_user", *arguments, "--no-input")

    own.refresh_from_db()
    assert (own.email, own.first_name, own.is_active) == ("ada@school.example", "Ada", True)


def test_without_the_admin_there_is_no_history_of_it(lms, learner, settings):
    settings.INSTALLED_APPS = [
        name for name in settings.INSTALLED_APPS if name != "django.contrib.admin"
    ]
    person = DataSubject.from_lms(lms.consumer, "canary-id")
    assert AdminLog().export(person) == []
    assert AdminLog().erase(person, False) == 0


def test_the_admins_history_forgets_too(lms, learner, admin_client):
    person = LtiUser.objects.get(lti_user_id="canary-id")
    admin_client.post(f"{LIST}{person.pk}/delete/", {"post": "yes"})
    assert "django_admin_log" in canaries_left()
    assert DataSubject.from_lms(lms.consumer, "canary-id").export()["admin_log"]
    run("lti_erase_user", *WHO["by the LMS's id"](), "--no-input")
    assert "django_admin_log" not in canaries_left()
    assert LogEntry.objects.exists()


def test_every_table_about_people_is_covered():
    held = {holding.model for holding in SOURCES}
    about_people = {
        model
        for model in apps.get_app_config("lti_provider").get_models()
        for field in model._meta.get_fields()
        if not field.auto_created
        and (
            field.related_model in (LtiUser, get_user_model())
            or field.name in ("lti_user_id", "user_digest")
        )
    }
    assert about_people == held - {None}


class Bare(AbstractBaseUser):
    """Without names, and with an address that no two may share."""

    login = models.CharField(max_length=9, unique=True)
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "login"

    class Meta:
        app_label = "bare"

    def save(self, *args, **kwargs):
        pass


def test_an_address_that_cannot_be_blank_twice_becomes_a_random_one():
    bare = Bare(login="x", email="canary@mail.example")
    _blank_account(bare)
    assert bare.email.endswith("@lti.invalid")
    assert not bare.is_active
    by_address = type(
        "ByAddress",
        (Bare,),
        {
            "USERNAME_FIELD": "email",
            "__module__": "x",
            "Meta": type("Meta", (), {"app_label": "bare", "proxy": True}),
        },
    )
    assert _find_personal_fields(by_address()) == []


# The commands


@pytest.mark.parametrize(
    "who",
    [
        (),
        ("--user", "ada", "--consumer", "Campus"),
        ("--consumer", "Campus"),
        ("--lti-user-id", "x"),
        ("--user", "ada", "--lti-user-id", "x"),
    ],
)
def test_who_is_meant_has_to_be_clear(who):
    with pytest.raises(CommandError, match="Give either --user, or"):
        run("lti_export_user", *who)


def test_who_is_not_there_has_an_exit_status_of_its_own(lms):
    for who in (
        ("--user", "nobody"),
        ("--user", "987654"),
        ("--consumer", "Campus", "--lti-user-id", "nobody"),
        ("--consumer", "No", "--lti-user-id", "nobody"),
    ):
        with pytest.raises(CommandError) as raised:
            run("lti_export_user", *who)
        assert raised.value.returncode == 3


def test_a_username_that_is_anothers_key_is_asked_about(lms, learner):
    get_user_model().objects.create_user(str(account().pk))
    with pytest.raises(CommandError, match="username of one account and the key of another"):
        run("lti_export_user", "--user", str(account().pk))


def test_a_username_is_compared_to_the_letter():
    get_user_model().objects.create_user("Ada")
    with pytest.raises(CommandError, match="There is no account ada"):
        run("lti_export_user", "--user", "ada")


@pytest.mark.parametrize(("answer", "erased"), [("yes", True), ("y", False)])
def test_erasing_asks_first(lms, learner, monkeypatch, answer, erased):
    monkeypatch.setattr("builtins.input", lambda prompt: answer)
    if erased:
        said = run("lti_erase_user", *WHO["by username"]())
        assert "To be erased: 4 launches, 1 results, 1 lti_users" in said
        assert json.loads(said.splitlines()[1])["launches"] == 4
    else:
        with pytest.raises(CommandError, match="Nothing was erased"):
            run("lti_erase_user", *WHO["by username"]())
    assert (canaries_left() == set()) == erased


# The admin's actions


def act(browser: Client, action: str, **more):
    person = LtiUser.objects.get(lti_user_id="canary-id")
    return browser.post(LIST, {"action": action, "_selected_action": person.pk, **more})


def test_the_admin_exports_a_person(lms, learner, admin_client):
    response = act(admin_client, "export")
    assert response["Content-Disposition"] == 'attachment; filename="lti-users.json"'
    assert len(response.json()[0]["launches"]) == 4
    assert "no-store" in response["Cache-Control"]


def test_the_admin_erases_a_person_after_asking(lms, learner, admin_client):
    asked = act(admin_client, "erase").content.decode()
    assert "canary-id (Campus)" in asked
    assert "1 account that launches made is deleted" in asked
    assert canaries_left()
    assert act(admin_client, "erase", confirm="yes").status_code == 302
    assert canaries_left() == set()
    assert "1 person was erased." in admin_client.get(LIST).content.decode()


def test_the_admin_may_keep_the_account(lms, learner, admin_client):
    kept = account()
    act(admin_client, "erase", confirm="yes", keep_account="on")
    kept.refresh_from_db()
    assert not kept.is_active


def test_whoever_may_not_delete_accounts_is_not_offered_to(lms, learner, client):
    staff = get_user_model().objects.create_user("staff", is_staff=True)
    names = ("view_ltiuser", "change_ltiuser", "delete_ltiuser")
    staff.user_permissions.set(Permission.objects.filter(codename__in=names))
    client.force_login(staff)
    page = client.get(LIST).content.decode()
    assert 'value="export"' in page
    assert 'value="erase"' not in page
    act(client, "erase", confirm="yes")
    assert canaries_left()
    assert timezone.now()


# Grades


def grade(user_id: str = "canary-id") -> LtiResult:
    return LtiResult.objects.get(lti_user__in=LtiUser.objects.filter(lti_user_id=user_id))


@pytest.fixture
def graded(lms) -> LtiResult:
    """The grade of a learner, which waits to be sent."""
    service = {"lis_outcome_service_url": "https://lms.example/grades"}
    lms.launch(Client(), "/content/", **CANARIES, **service)
    result = grade()
    result.submit_score(5, 10, submission_text="canary custom work")
    return grade()


def test_grades_are_exported(lms, graded):
    exported = DataSubject.from_lms(lms.consumer, "canary-id").export()["results"]
    assert [(each["score_given"], each["score_maximum"]) for each in exported] == [(5, 10)]
    assert exported[0]["state"] == "waiting"
    assert exported[0]["remote_id"] == "canary-sourcedid"
    assert exported[0]["resource_link"] == lms.fields["resource_link_id"]


@pytest.mark.parametrize("state", ["nothing", "delivered", "failed"])
def test_a_settled_grade_is_erased(lms, graded, state):
    LtiResult.objects.update(state=state)
    DataSubject.from_lms(lms.consumer, "canary-id").erase()
    assert canaries_left() == set()


@pytest.mark.parametrize("state", ["waiting", "sending"])
def test_a_grade_on_its_way_is_nobodys_and_goes_once_it_arrived(lms, graded, state):
    LtiResult.objects.update(state=state)
    before = graded.user_digest
    DataSubject.from_lms(lms.consumer, "canary-id").erase()
    left = LtiResult.objects.get()
    assert (left.remote_id, left.score, left.state) == ("canary-sourcedid", graded.score, state)
    assert left.lti_user is None
    assert tables_with(before) == set()
    run("lti_purge")
    assert LtiResult.objects.exists()
    LtiResult.objects.update(state="delivered")
    assert "1 grades of erased people" in run("lti_purge")
    assert canaries_left() == set()

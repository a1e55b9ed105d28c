import html
import re
from datetime import timedelta

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.test import Client
from django.urls import path
from django.utils import timezone

from lti_provider.exceptions import TargetNotLaunchable
from lti_provider.message import Role
from lti_provider.models import (
    LtiConnectionEvent,
    LtiConsumer,
    LtiContext,
    LtiInstallation,
    LtiLaunch,
    LtiResourceLink,
    LtiResult,
    LtiServiceHost,
    LtiUser,
)
from lti_provider.status import Level, RecentLaunches, get_status_lines
from lti_provider.testing import FakeLms, FakePlatform
from lti_provider.trial import TrialLaunch
from lti_provider.trial_cleanup import find_trial_people, remove_trials
from lti_provider.views import LaunchView
from tests import urls

pytestmark = pytest.mark.django_db


class OwnView(LaunchView):
    def get_success_url(self):
        return f"/content/{self.kwargs['course']}/{self.consumer.consumer_name}"

    def launch_valid(self, launch):
        raise AssertionError("The administrator would be signed in.")


urlpatterns = [path("lti/launch/<str:course>/", OwnView.as_view()), *urls.urlpatterns]

CONSUMERS = "/admin/lti_provider/lticonsumer/"
WINDOW = {"Sec-Fetch-Dest": "document"}
OWN = {**WINDOW, "Origin": "http://testserver"}


@pytest.fixture
def lms():
    return FakeLms.create("moodle", consumer_name="Campus")


def make_trial(admin_client, consumer, **form):
    """Press the button of the set-up page; the answer is the page with the address."""
    given = {"role": "Learner", "target": "/content/", **form}
    return admin_client.post(f"{CONSUMERS}{consumer.pk}/try/", given)


def get_path(page):
    """The path of the address that a set-up page shows to be copied."""
    found = re.search(r'id="lti-try-url"[^>]* value="http://testserver([^"]*)"', page)
    return found and html.unescape(found[1])


def try_it(admin_client, consumer, **form):
    path = get_path(make_trial(admin_client, consumer, **form).content.decode())
    assert re.fullmatch(r"/lti/try/[\w-]{43}/", path)
    return path


def press(client, path, **headers):
    """Press the button of the page behind an address."""
    return client.post(path, headers={**OWN, **headers})


def arrive(client, path):
    """Open the address, press the button, and follow to the content."""
    assert client.get(path, headers=WINDOW).status_code == 200
    response = press(client, path)
    while response.status_code == 303:
        response = client.get(response["Location"], headers=WINDOW)
    return response


def text_of(response):
    return html.unescape(re.sub(r"<[^>]+>", "", response.content.decode()))


def code_of(response):
    return re.findall(r"<code>([a-z_]+)</code>", response.content.decode())[-1]


@pytest.mark.parametrize("role", ["Learner", "Instructor", "TeachingAssistant", "Administrator"])
def test_it_arrives_as_the_chosen_role(admin_client, client, lms, role):
    response = arrive(client, try_it(admin_client, lms.consumer, role=role))
    assert response.status_code == 200
    assert response.wsgi_request.path == "/content/"
    lti = response.wsgi_request.lti
    assert {str(role) for role in lti.roles} == {role}
    assert lti.person.user_id.startswith(f"Try it {role} ")
    assert str(lti.context) == str(lti.resource_link) == "Try it"
    assert not response.wsgi_request.user.is_staff


@pytest.mark.parametrize("spoken", ["1.1", "1.3", "nothing"])
def test_it_works_whatever_the_lms_speaks(admin_client, client, spoken):
    if spoken == "1.3":
        key = {"consumer_key": None, "consumer_secret": ""}
        consumer = FakePlatform.create("moodle", **key).consumer
        assert not consumer.speaks_lti11
    else:
        key = {"consumer_key": None, "consumer_secret": ""} if spoken == "nothing" else {}
        consumer = LtiConsumer.objects.create(consumer_name="Campus", **key)
    assert arrive(client, try_it(admin_client, consumer)).wsgi_request.path == "/content/"


def test_the_administrators_own_session_is_spared(admin_client, client, lms):
    path = try_it(admin_client, lms.consumer)
    arrive(client, path)
    assert admin_client.get("/admin/").wsgi_request.user.username == "admin"
    # In the same browser it is asked about.
    asked = arrive(admin_client, try_it(admin_client, lms.consumer))
    assert "lti_provider/replace_session.html" in {page.name for page in asked.templates}
    assert asked.wsgi_request.user.username == "admin"


def test_the_page_says_what_would_be_opened(admin_client, client, lms):
    page = client.get(try_it(admin_client, lms.consumer, role="Instructor"), headers=WINDOW)
    text = " ".join(text_of(page).split())
    assert "As Instructor of the course “Try it”, launched for Campus, this opens /content/" in text
    assert "It opens once, within 10 minutes." in text
    assert page["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    assert "no-store" in page["Cache-Control"]
    assert not page.cookies


def test_looking_uses_nothing_up(admin_client, client, lms):
    path = try_it(admin_client, lms.consumer)
    for _number in range(3):
        assert Client().get(path).status_code == 200
    assert client.head(path).status_code == 405
    assert arrive(client, path).status_code == 200


def test_it_is_good_once(admin_client, client, lms):
    path = try_it(admin_client, lms.consumer)
    arrive(client, path)
    assert code_of(Client().get(path)) == "launch_used"
    assert code_of(press(Client(), path)) == "launch_used"


def test_it_is_good_for_ten_minutes(admin_client, client, lms, settings):
    settings.LTI_PROVIDER_ENTER_LIFETIME = 60
    path = try_it(admin_client, lms.consumer)
    with time_machine.travel(timezone.now() + timedelta(seconds=590)):
        assert "within a minute" in text_of(client.get(path, headers=WINDOW))
    with time_machine.travel(timezone.now() + timedelta(seconds=601)):
        assert code_of(client.get(path, headers=WINDOW)) == "launch_expired"
        assert code_of(press(client, path)) == "launch_expired"
    assert LtiLaunch.objects.refused().latest("pk").is_trial


def test_a_consumer_that_waits_for_accounts_makes_no_address_good_for_longer(admin_client, client):
    lms = FakeLms.create("moodle", require_user_account=True)
    path = try_it(admin_client, lms.consumer)
    asked = arrive(client, path)
    assert "lti_provider/sign_in.html" in {page.name for page in asked.templates}
    with time_machine.travel(timezone.now() + timedelta(seconds=601)):
        assert code_of(press(Client(), path)) == "launch_expired"
        # Who is signing up still may.
        enter = path.replace("/try/", "/enter/")
        assert client.get(enter, headers=WINDOW).status_code == 200


# Whoever may not


def test_who_may_only_look_makes_none(client, lms):
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_lticonsumer"))
    client.force_login(user)
    assert make_trial(client, lms.consumer).status_code == 403
    assert not LtiLaunch.objects.exists()
    assert not LogEntry.objects.exists()


def test_a_form_that_somebody_else_made_posts_none(lms, admin_user):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(admin_user)
    assert make_trial(strict, lms.consumer).status_code == 403
    assert not LtiLaunch.objects.exists()


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil", None])
def test_no_page_of_others_signs_a_visitor_in(admin_client, client, lms, origin):
    path = try_it(admin_client, lms.consumer)
    headers = {**WINDOW, **({"Origin": origin} if origin else {})}
    refused = client.post(path, headers=headers)
    assert code_of(refused) == "foreign_origin"
    assert not refused.cookies
    assert LtiLaunch.objects.accepted().get().entered_at is None


def test_without_the_button_the_launch_is_of_no_browser(admin_client, client, lms):
    path = try_it(admin_client, lms.consumer)
    refused = client.get(path.replace("/try/", "/enter/"), headers=WINDOW)
    assert code_of(refused) == "other_browser"


def test_the_launch_of_an_lms_cannot_be_opened_elsewhere(client, lms):
    handle = lms.post(client, "/content/")["Location"].split("/")[-2]
    for response in (Client().get(f"/lti/try/{handle}/"), press(Client(), f"/lti/try/{handle}/")):
        assert code_of(response) == "unknown_handle"
        assert not response.cookies
    assert LtiLaunch.objects.accepted().get().entered_at is None


def test_an_lms_that_plays_the_trials_person_gains_nothing(client, lms):
    trial = TrialLaunch(consumer=lms.consumer, role=Role.LEARNER, title="Try it")
    response = lms.post(client, "/content/", user_id=trial.user_id)
    launch = LtiLaunch.objects.get()
    assert launch.is_trial
    assert not launch.is_made_here
    handle = response["Location"].split("/")[-2]
    assert code_of(press(Client(), f"/lti/try/{handle}/")) == "unknown_handle"


def test_an_lms_by_lti_13_that_plays_it_gains_nothing(client):
    platform = FakePlatform.create("moodle")
    trial = TrialLaunch(consumer=platform.consumer, role=Role.LEARNER, title="Try it")
    platform.launch(client, "/content/", sub=trial.user_id)
    launch = LtiLaunch.objects.get()
    assert not launch.is_trial
    assert not launch.is_made_here


def test_nobody_guesses_whom_or_where(lms):
    other = LtiConsumer.objects.create(consumer_name="Other")
    made = [
        TrialLaunch(consumer=consumer, role=role, title="Try it")
        for consumer in (lms.consumer, other)
        for role in (Role.LEARNER, Role.INSTRUCTOR)
    ]
    assert len({trial.user_id for trial in made}) == 4
    assert len({trial.place_id for trial in made}) == 2
    assert all(re.search(r" [0-9a-f]{32}$", trial.place_id) for trial in made)


def test_it_signs_in_nobody_else(admin_client, client, lms):
    lms.launch(client, "/content/", user_id="Try it Learner", context_id="Try it")
    known = set(LtiUser.objects.values_list("user", flat=True))
    own = LtiContext.objects.get()
    users = []
    for role in ("Learner", "Learner", "Instructor"):
        response = arrive(Client(), try_it(admin_client, lms.consumer, role=role))
        users.append(response.wsgi_request.user)
        assert response.wsgi_request.lti.context != own
    assert users[0] == users[1] != users[2]
    assert known.isdisjoint(user.pk for user in users)


# It teaches nothing


def test_it_teaches_nothing(admin_client, client, lms):
    arrive(client, try_it(admin_client, lms.consumer))
    consumer = LtiConsumer.objects.get()
    assert consumer.instance_guid == ""
    assert consumer.secret_used_at is None
    assert not LtiInstallation.objects.exists()
    assert not LtiServiceHost.objects.exists()
    assert not LtiResult.objects.exists()
    launch = LtiLaunch.objects.get()
    assert launch.result is None
    assert (launch.signed_with, launch.foreign_origin) == ("", "")


def test_no_pin_and_no_origin_check_refuses_it(admin_client, client, lms):
    lms.launch(Client(), "/content/")
    LtiInstallation.objects.update(last_seen_at=None)
    LtiConsumer.objects.update(origin_check="enforce", frame_origins="https://lms.example")
    assert arrive(client, try_it(admin_client, lms.consumer)).wsgi_request.lti
    assert LtiInstallation.objects.get().last_seen_at is None


def test_it_delivers_no_grade(admin_client, client, lms):
    response = arrive(client, try_it(admin_client, lms.consumer))
    assert response.wsgi_request.lti.submit_score(1) is None
    assert not LtiResult.objects.exists()


def test_trials_hide_nothing_in_the_status(admin_client, client, lms):
    lms.launch(client, "/content/")
    last = LtiLaunch.objects.get()
    wrong = FakeLms(LtiConsumer.objects.get(), {**lms.fields})
    wrong.consumer.consumer_secret = "typed wrong"
    wrong.post(client, "/content/")
    path = try_it(admin_client, lms.consumer)
    arrive(Client(), path)
    press(Client(), path)
    assert LtiLaunch.objects.refused().latest("pk").refusal_code == "launch_used"
    status = {
        line.name: line for line in get_status_lines(RecentLaunches.for_consumer(lms.consumer))
    }
    assert status["last_launch"].launch == last
    assert status["last_refusal"].launch.refusal_code == "invalid_signature"
    assert status["last_refusal"].level == Level.WARNING


def test_custom_parameters_come_as_the_lms_would_send_them(admin_client, client, lms, settings):
    settings.LTI_PROVIDER_CARTRIDGE = {"custom": {"course": "stars"}}
    response = arrive(client, try_it(admin_client, lms.consumer))
    assert response.wsgi_request.lti.custom == {"course": "stars"}


# Refused, it says why on the set-up page


@pytest.mark.parametrize(
    ("changes", "target", "code", "hint"),
    [
        ({}, "/admin/", "target_not_launchable", "LTI_PROVIDER_LAUNCHABLE_PATHS"),
        ({}, "", "target_not_launchable", "LTI_PROVIDER_DEFAULT_TARGET"),
        ({"launch_targets": "/content/b/"}, "/content/", "target_not_launchable", "own launch"),
        ({"is_active": False}, "/content/", "consumer_inactive", "inactive"),
    ],
)
def test_a_refusal_is_told_where_the_button_is(admin_client, lms, changes, target, code, hint):
    LtiConsumer.objects.filter(pk=lms.consumer.pk).update(**changes)
    page = make_trial(admin_client, lms.consumer, target=target)
    assert page.status_code == 200
    assert page.context["original"] == lms.consumer
    told = re.search(r'class="lti-refused"(.*?)</div>', page.content.decode(), re.S)[1]
    assert f"<code>{code}</code>" in told
    assert hint in html.unescape(told)
    assert get_path(page.content.decode()) is None
    assert not LtiLaunch.objects.exists()
    assert not LogEntry.objects.exists()


@pytest.mark.urls(__name__)
def test_the_view_of_the_launch_url_decides_where_it_leads(admin_client, client, lms):
    path = try_it(admin_client, lms.consumer, target="/stars/")
    assert arrive(client, path).wsgi_request.path == "/content/stars/Campus"


def test_a_page_that_is_none_of_ours_is_refused(admin_client, lms, rf):
    trial = TrialLaunch(consumer=lms.consumer, role=Role.LEARNER, title="Try it")
    for url in ("http://testserver/content/", "https://evil.example/lti/launch/content/"):
        with pytest.raises(TargetNotLaunchable):
            LaunchView.accept_trial(rf.post("/"), trial.verify(url))
    assert not LtiLaunch.objects.exists()


def test_the_history_notes_who_tried_and_not_the_address(admin_client, lms):
    path = try_it(admin_client, lms.consumer, role="Instructor")
    entry = LogEntry.objects.latest("pk")
    assert entry.user.username == "admin"
    text = "Made a launch of http://testserver/lti/launch/content/ as Instructor to try."
    assert text in entry.change_message
    assert path.split("/")[-2] not in entry.change_message


def test_the_secret_does_not_go_to_the_browser(admin_client, lms):
    page = make_trial(admin_client, lms.consumer)
    assert lms.consumer.consumer_secret not in page.content.decode()
    assert "no-store" in page["Cache-Control"]


# What it leaves behind


def delete(admin_client, consumer):
    url = f"{CONSUMERS}{consumer.pk}/delete/"
    assert "Deactivate it instead" not in text_of(admin_client.get(url))
    admin_client.post(url, {"post": "yes"})


def test_it_never_stops_a_consumer_from_being_deleted(admin_client, client, lms):
    response = arrive(client, try_it(admin_client, lms.consumer))
    delete(admin_client, lms.consumer)
    for model in (LtiConsumer, LtiLaunch, LtiUser, LtiContext, LtiResourceLink):
        assert not model.objects.exists()
    assert not get_user_model().objects.filter(pk=response.wsgi_request.user.pk).exists()


def test_nor_from_being_deleted_with_others(admin_client, client, lms):
    arrive(client, try_it(admin_client, lms.consumer))
    selected = {"action": "delete_selected", "_selected_action": lms.consumer.pk, "post": "yes"}
    admin_client.post(CONSUMERS, selected)
    assert not LtiConsumer.objects.exists()


def test_people_of_the_lms_still_do(admin_client, client, lms):
    arrive(client, try_it(admin_client, lms.consumer))
    lms.launch(Client(), "/content/")
    page = admin_client.get(f"{CONSUMERS}{lms.consumer.pk}/delete/")
    assert "“Campus” has 1 LTI user." in text_of(page)
    admin_client.post(f"{CONSUMERS}{lms.consumer.pk}/delete/", {"post": "yes"})
    assert LtiConsumer.objects.exists()
    assert LtiUser.objects.count() == 2


def connect_trial(consumer, user):
    trial = TrialLaunch(consumer=consumer, role=Role.LEARNER, title="Try it")
    person = find_trial_people(consumer).get()
    assert person.lti_user_id == trial.user_id
    person.connect_to(user, None)
    return person


def test_an_account_that_was_connected_to_try_stays(admin_client, client, lms, django_user_model):
    former = arrive(client, try_it(admin_client, lms.consumer)).wsgi_request.user
    own = django_user_model.objects.create_user("own", password="words")
    connect_trial(lms.consumer, own)
    delete(admin_client, lms.consumer)
    assert not LtiConsumer.objects.exists()
    assert not LtiConnectionEvent.objects.exists()
    assert django_user_model.objects.filter(pk=own.pk).exists()
    assert not django_user_model.objects.filter(pk=former.pk).exists()


def test_a_connection_that_was_undone_stops_no_deletion(admin_client, client, lms, admin_user):
    arrive(client, try_it(admin_client, lms.consumer))
    person = connect_trial(lms.consumer, admin_user)
    person.disconnect(LtiConnectionEvent.How.BY_PERSON, None, None)
    delete(admin_client, lms.consumer)
    assert not LtiConsumer.objects.exists()


def test_the_history_of_a_person_of_the_lms_stops_a_deletion(admin_client, lms, admin_user):
    LtiConnectionEvent.objects.create(
        lti_consumer=lms.consumer,
        lti_user_id="42",
        user=admin_user,
        kind=LtiConnectionEvent.Kind.DISCONNECTED,
        how=LtiConnectionEvent.How.BY_PERSON,
    )
    delete(admin_client, lms.consumer)
    assert LtiConsumer.objects.exists()


def test_purging_leaves_alone_who_may_still_look(admin_client, client, lms):
    response = arrive(client, try_it(admin_client, lms.consumer))
    real = lms.launch(Client(), "/content/").wsgi_request.user
    call_command("lti_purge")
    assert client.get(response.wsgi_request.get_full_path()).wsgi_request.lti
    with time_machine.travel(timezone.now() + timedelta(hours=12, minutes=1)):
        call_command("lti_purge")
    assert LtiUser.objects.get().user == real
    assert LtiLaunch.objects.get().lti_user.user == real
    assert LtiContext.objects.count() == 1


def test_trials_of_a_connected_account_are_purged_although_it_is_used(admin_client, client, lms):
    arrive(client, try_it(admin_client, lms.consumer))
    own = get_user_model().objects.create_user("own", password="words")
    connect_trial(lms.consumer, own)
    with time_machine.travel(timezone.now() + timedelta(hours=13)):
        own.last_login = timezone.now()
        own.save()
        assert remove_trials(lms.consumer, timezone.now() - timedelta(hours=12)) == 1
    assert not LtiUser.objects.exists()
    assert get_user_model().objects.filter(pk=own.pk).exists()

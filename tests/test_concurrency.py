import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client

from lti_provider.frames import MARKER_COOKIE
from lti_provider.models import (
    LtiConnectionEvent,
    LtiConsumer,
    LtiContext,
    LtiDeployment,
    LtiKey,
    LtiLaunch,
    LtiRegistration,
    LtiResourceLink,
    LtiUnknownSender,
    LtiUser,
    UnknownSender,
)
from lti_provider.testing import FakeLms, FakePlatform
from lti_provider.testing.lms import navigation
from tests import rfc5849
from tests.key_server import KeyServer
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).parent.parent
HEADERS = navigation(framed=False)
# SQLite lets one writer in at a time, so more processes would only queue up longer.
AT_ONCE = 4 if connection.vendor == "sqlite" else 16


class Crowd:
    """Processes with connections of their own that start at the same signal."""

    def __init__(self) -> None:
        environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.simultaneous"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _number in range(AT_ONCE)
        ]
        self.tell({"database": str(connection.settings_dict["NAME"])})

    def tell(self, line: Any) -> None:
        for process in self.processes:
            self.write(process, line)

    def write(self, process: subprocess.Popen, line: Any) -> None:
        process.stdin.write(f"{json.dumps(line)}\n")
        process.stdin.flush()

    def send(self, jobs: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        for process, job in zip(self.processes, jobs, strict=True):
            self.write(process, job)
        assert {process.stdout.readline() for process in self.processes} == {"ready\n"}
        self.tell("go")
        return [json.loads(process.stdout.readline()) for process in self.processes]

    def leave(self) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait(timeout=PATIENCE)
            process.stdout.close()


@pytest.fixture(scope="module")
def processes(django_db_setup) -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.leave()


@pytest.fixture
def crowd(processes, transactional_db) -> Crowd:
    return processes


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email")


def launch_job(lms: FakeLms, requests: int, **changes) -> dict[str, Any]:
    return {
        "url": "/lti/launch/content/",
        "form": urlencode(lms.sign("/content/", **changes)),
        "headers": HEADERS,
        "requests": requests,
    }


def last_of(answers) -> Counter:
    return Counter(answer[-1]["status"] for answer in answers)


def no_server_error(answers) -> bool:
    return all(answer["status"] < 500 for steps in answers for answer in steps)


# What one process sees of the others, step by step


def test_an_account_that_appeared_meanwhile_is_used(lms):
    early = lms.post(Client(), "/content/")["Location"].split("/")[-2]
    launch = LtiLaunch.objects.with_handle(early)
    assert launch.lti_user is None
    lms.launch(Client(), "/content/")
    user = authenticate(None, launch=launch)
    assert user == launch.lti_user.user == get_user_model().objects.get()


def test_a_place_that_appeared_meanwhile_is_used(lms):
    lms.launch(Client(), "/content/")
    launch = LtiLaunch.objects.with_all().get()
    kept = LtiResourceLink.objects.sync_from_launch(launch.lti_consumer, launch.message, None)
    assert kept == launch.resource_link
    assert kept.lti_context == launch.context


def test_an_installation_that_was_learned_meanwhile_counts(lms):
    early = LtiConsumer.objects.with_key(lms.consumer.consumer_key)
    lms.launch(Client(), "/content/", tool_consumer_instance_guid="first")
    assert early.instance_guid == ""
    assert not early.learn_installation("second")
    assert early.instance_guid == "first"
    assert early.learn_installation("first")
    assert [each.guid for each in early.installations.all()] == ["first"]


# At once


def test_first_launches_of_one_person_at_once_make_one_account(crowd, lms):
    answers = crowd.send([launch_job(lms, 3) for _process in range(AT_ONCE)])
    assert no_server_error(answers)
    assert last_of(answers) == {200: AT_ONCE}
    assert all(steps[-1]["session"] for steps in answers)
    assert get_user_model().objects.count() == 1
    assert LtiUser.objects.count() == LtiContext.objects.count() == 1
    assert LtiResourceLink.objects.count() == 1
    assert LtiLaunch.objects.accepted().exclude(entered_at=None).count() == AT_ONCE
    assert Session.objects.count() == AT_ONCE
    user = get_user_model().objects.get()
    assert {session.get_decoded()["_auth_user_id"] for session in Session.objects.all()} == {
        str(user.pk)
    }
    lms.consumer.refresh_from_db()
    assert lms.consumer.instance_guid == lms.fields["tool_consumer_instance_guid"]


def test_first_launches_of_many_people_at_once_make_an_account_each(crowd, lms):
    jobs = [launch_job(lms, 3, user_id=str(number)) for number in range(AT_ONCE)]
    answers = crowd.send(jobs)
    assert no_server_error(answers)
    assert last_of(answers) == {200: AT_ONCE}
    assert get_user_model().objects.count() == LtiUser.objects.count() == AT_ONCE
    assert LtiContext.objects.count() == LtiResourceLink.objects.count() == 1


def test_first_launches_of_two_installations_at_once_learn_one(crowd, lms):
    jobs = [
        launch_job(lms, 1, tool_consumer_instance_guid=f"installation {number % 2}")
        for number in range(AT_ONCE)
    ]
    answers = crowd.send(jobs)
    assert no_server_error(answers)
    lms.consumer.refresh_from_db()
    learned = lms.consumer.instance_guid
    assert learned in ("installation 0", "installation 1")
    accepted = LtiLaunch.objects.accepted()
    assert {launch.message.installation.guid for launch in accepted} == {learned}
    assert accepted.count() == AT_ONCE // 2


def test_one_launch_posted_at_once_is_accepted_once(crowd, lms):
    job = launch_job(lms, 1)
    answers = crowd.send([job] * AT_ONCE)
    assert no_server_error(answers)
    entries = [steps[0]["location"] for steps in answers if "/enter/" in steps[0]["location"]]
    assert len(entries) == 1
    assert last_of(answers) == {303: 1, 403: AT_ONCE - 1}
    assert LtiLaunch.objects.accepted().count() == 1
    refused = set(LtiLaunch.objects.refused().values_list("refusal_code", flat=True))
    assert refused == {"replayed_launch"}


@pytest.mark.parametrize("same_person", [True, False])
def test_first_launches_in_known_frames_at_once_sign_in_within_the_post(crowd, lms, same_person):
    frame = Client()
    lms.launch(frame, "/content/", framed=True, user_id="before")
    # What a launch teaches is written by all of them.
    LtiConsumer.objects.update(service_hosts="", secret_used_at=None)
    jobs = [
        launch_job(lms, 1, resource_link_id="new", user_id="new" if same_person else str(number))
        | {
            "headers": navigation(framed=True),
            "cookies": {MARKER_COOKIE: frame.cookies[MARKER_COOKIE].value},
        }
        for number in range(AT_ONCE)
    ]
    answers = crowd.send(jobs)
    assert last_of(answers) == {303: AT_ONCE}
    assert all("lti_launch=" in steps[0]["location"] for steps in answers)
    assert all(steps[0]["session"] for steps in answers)
    people = 1 if same_person else AT_ONCE
    assert get_user_model().objects.count() == LtiUser.objects.count() == 1 + people
    assert LtiResourceLink.objects.filter(resource_link_id="new").count() == 1
    lms.consumer.refresh_from_db()
    assert lms.consumer.service_hosts == "lms.example"


def test_one_launch_posted_at_once_in_known_frames_signs_in_once(crowd, lms):
    frame = Client()
    lms.launch(frame, "/content/", framed=True)
    job = launch_job(lms, 1) | {
        "headers": navigation(framed=True),
        "cookies": {MARKER_COOKIE: frame.cookies[MARKER_COOKIE].value},
    }
    answers = crowd.send([job] * AT_ONCE)
    assert last_of(answers) == {303: 1, 403: AT_ONCE - 1}
    assert [steps[0]["session"] for steps in answers].count(True) == 1
    assert Session.objects.count() == 2


def test_one_handle_entered_at_once_signs_in_once(crowd, lms):
    browser = Client()
    url = lms.post(browser, "/content/")["Location"]
    job = {
        "url": url,
        "headers": HEADERS,
        "requests": 1,
        "cookies": {name: morsel.value for name, morsel in browser.cookies.items()},
    }
    answers = crowd.send([job] * AT_ONCE)
    assert no_server_error(answers)
    assert last_of(answers) == {303: 1, 410: AT_ONCE - 1}
    assert [steps[0]["session"] for steps in answers].count(True) == 1
    assert Session.objects.count() == 1
    assert get_user_model().objects.count() == 1


def unknown_key_job(key: str) -> dict[str, Any]:
    sent = {"lti_message_type": "basic-lti-launch-request", "lti_version": "LTI-1p0"}
    form = rfc5849.sign("http://testserver/lti/launch/", sent.items(), key=key, secret="secret")
    return {"url": "/lti/launch/", "form": urlencode(form), "headers": HEADERS, "requests": 1}


@pytest.mark.parametrize("keys", [["typo"], [f"typo {number}" for number in range(AT_ONCE)]])
def test_unknown_keys_at_once_are_bounded(crowd, keys):
    LtiUnknownSender.objects.record(UnknownSender(kind=LtiUnknownSender.Kind.KEY, text="before"))
    for _time in range(3):
        jobs = [unknown_key_job(keys[number % len(keys)]) for number in range(AT_ONCE)]
        answers = crowd.send(jobs)
        assert no_server_error(answers)
        assert last_of(answers) == {401: AT_ONCE}
    senders = LtiUnknownSender.objects.newest()
    assert {sender.text for sender in senders} <= {"before", *keys}
    assert len({sender.text for sender in senders}) == len(senders) > 1
    # The minute may have ended meanwhile.
    minutes = len({sender.turn // 10 for sender in senders})
    assert sum(sender.count for sender in senders) <= 10 * (minutes + 1)


# Deployments of LTI 1.3


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform.create("moodle", issuer="")


def token_job(platform: FakePlatform, deployment_id: str = "", **changes: Any) -> dict[str, Any]:
    """What a browser is about to post whose login was answered."""
    known = platform.deployment.deployment_id
    platform.deployment.deployment_id = deployment_id or known
    browser = Client()
    answer = platform.log_in(browser, platform.begin_login("/content/", **changes))
    form = platform.authorize(answer["Location"])
    platform.deployment.deployment_id = known
    return {
        "url": "/lti/launch/",
        "form": urlencode(form),
        "headers": HEADERS,
        "requests": 1,
        "cookies": {name: morsel.value for name, morsel in browser.cookies.items()},
    }


def entering(answers: Any) -> int:
    return sum("/lti/enter/" in steps[0]["location"] for steps in answers)


def test_first_launches_of_a_deployment_that_joins_at_once_make_one_row(crowd, platform):
    LtiRegistration.objects.update(new_deployments="join", lti_consumer=platform.consumer)
    answers = crowd.send([token_job(platform, "new") for _process in range(AT_ONCE)])
    assert no_server_error(answers)
    assert entering(answers) == AT_ONCE
    joined = LtiDeployment.objects.get(deployment_id="new")
    assert joined.lti_consumer == platform.consumer
    assert joined.instance_guid == LtiConsumer.objects.get().instance_guid


def test_one_that_waits_and_joins_at_once_belongs_to_one_consumer(crowd, platform):
    crowd.send([token_job(platform, "new") for _process in range(AT_ONCE)])
    LtiRegistration.objects.update(new_deployments="join", lti_consumer=platform.consumer)
    answers = crowd.send([token_job(platform, "new") for _process in range(AT_ONCE)])
    assert entering(answers) == AT_ONCE
    assert LtiDeployment.objects.get(deployment_id="new").lti_consumer == platform.consumer


def test_unknown_deployments_at_once_wait_once_and_are_bounded(crowd, platform):
    answers = crowd.send([token_job(platform, "new") for _process in range(AT_ONCE)])
    assert no_server_error(answers)
    assert entering(answers) == 0
    assert LtiDeployment.objects.waiting().get().deployment_id == "new"
    for time in range(3):
        crowd.send([token_job(platform, f"{time} {number}") for number in range(AT_ONCE)])
    # Those that read before the others wrote may go beyond ten, once.
    assert LtiDeployment.objects.waiting().count() < 10 + AT_ONCE


def test_first_launches_of_two_installations_of_a_deployment_at_once_pin_one(crowd, platform):
    LtiConsumer.objects.update(guid_policy="pin")
    for guid in ("0", "1"):
        platform.consumer.accept_installation(guid)
    jobs = [token_job(platform, tool_platform={"guid": f"{n % 2}"}) for n in range(AT_ONCE)]
    answers = crowd.send(jobs)
    assert no_server_error(answers)
    pinned = LtiDeployment.objects.get().instance_guid
    accepted = LtiLaunch.objects.accepted()
    assert {launch.message.installation.guid for launch in accepted} == {pinned}
    assert accepted.count() == entering(answers) == AT_ONCE // 2


def test_first_launches_of_two_issuers_at_once_make_one_lms(crowd, platform):
    other = FakePlatform.create("canvas", issuer="")
    LtiDeployment.objects.update(lti_consumer=platform.consumer)
    LtiConsumer.objects.update(guid_policy="record")
    both = (platform, other)
    answers = crowd.send([token_job(both[number % 2]) for number in range(AT_ONCE)])
    assert no_server_error(answers)
    kept = LtiConsumer.objects.get(pk=platform.consumer.pk).issuer
    accepted = LtiLaunch.objects.accepted().values_list("registration__issuer", flat=True)
    assert set(accepted) == {kept}
    assert len(accepted) == entering(answers) == AT_ONCE // 2


def test_cold_launches_of_many_processes_fetch_the_keys_once(crowd):
    platform = FakePlatform.create()
    logins = [platform.log_in(Client(), platform.begin_login("/content/")) for _n in range(AT_ONCE)]
    forms = [urlencode(platform.authorize(login["Location"])) for login in logins]
    with KeyServer() as server:
        server.body, server.pause = platform.key_set, 0.5
        LtiRegistration.objects.update(jwks_uri=server.url, service_networks="127.0.0.0/8")
        answers = crowd.send(
            [{"url": "/lti/launch/", "form": form, "headers": HEADERS, "requests": 1}
             for form in forms]
        )  # fmt: skip
    assert last_of(answers) == {303: AT_ONCE}
    assert len(server.requests) == 1
    assert LtiLaunch.objects.accepted().count() == AT_ONCE


# Accounts that people connect


@pytest.fixture
def connecting_lms() -> FakeLms:
    return FakeLms.create("canvas", require_user_account=True, account_match="any")


def confirm_job(lms: FakeLms, user: Any, **changes) -> dict[str, Any]:
    """What a person who is signed in and has been asked is about to post."""
    browser = Client()
    browser.force_login(user, "django.contrib.auth.backends.ModelBackend")
    asked = lms.post(browser, "/content/", **changes)
    question = browser.get(asked["Location"], headers=HEADERS)["Location"]
    return {
        "url": f"{question}?framed=1",
        "form": "confirm=",
        "headers": HEADERS,
        "requests": 1,
        "cookies": {name: morsel.value for name, morsel in browser.cookies.items()},
    }


def add_accounts() -> list[Any]:
    users = get_user_model().objects
    return [users.create_user(f"account {number}") for number in range(AT_ONCE)]


def the_only_connection() -> LtiUser:
    """The one that was made, told once."""
    event = LtiConnectionEvent.objects.get()
    lti_user = LtiUser.objects.get(connected_at__isnull=False)
    assert event.user == lti_user.user
    assert event.lti_user_id == lti_user.lti_user_id
    return lti_user


def test_one_confirmation_at_once_connects_once(crowd, connecting_lms):
    user = get_user_model().objects.create_user("ada")
    answers = crowd.send([confirm_job(connecting_lms, user)] * AT_ONCE)
    assert last_of(answers) == {200: AT_ONCE}
    assert the_only_connection().user == user


def test_one_person_and_many_accounts_at_once_make_one_connection(crowd, connecting_lms):
    answers = crowd.send([confirm_job(connecting_lms, user) for user in add_accounts()])
    assert no_server_error(answers)
    assert set(last_of(answers)) <= {200, 403}
    assert the_only_connection().lti_user_id == connecting_lms.fields["user_id"]


def test_a_person_with_an_anonymous_account_and_many_accounts_at_once(crowd, connecting_lms):
    connecting_lms.consumer.require_user_account = False
    connecting_lms.consumer.save()
    connecting_lms.launch(Client(), "/content/")
    anonymous = get_user_model().objects.get()
    connecting_lms.consumer.require_user_account = True
    connecting_lms.consumer.save()
    answers = crowd.send([confirm_job(connecting_lms, user) for user in add_accounts()])
    assert no_server_error(answers)
    assert the_only_connection().user != anonymous
    assert LtiUser.objects.count() == 1
    assert LtiConnectionEvent.objects.get().former_user == anonymous


def test_one_account_and_many_people_at_once_make_one_connection(crowd, connecting_lms):
    user = get_user_model().objects.create_user("ada")
    jobs = [confirm_job(connecting_lms, user, user_id=str(number)) for number in range(AT_ONCE)]
    answers = crowd.send(jobs)
    assert no_server_error(answers)
    assert last_of(answers) == {200: 1, 403: AT_ONCE - 1}
    assert the_only_connection().user == user


# What one process sees of a disconnection


def test_a_launch_whose_connection_ended_meanwhile_signs_nobody_in(connecting_lms):
    user = get_user_model().objects.create_user("ada")
    job = confirm_job(connecting_lms, user)
    browser = Client()
    browser.cookies.load(job["cookies"])
    assert browser.post(job["url"], {"confirm": ""}, headers=HEADERS).status_code == 200
    early = Client()
    enter = connecting_lms.post(early, "/content/")["Location"]

    def end_it_first(execute, sql, params, many, context):
        if sql.startswith("UPDATE") and LtiUser.objects.exists():
            LtiUser.objects.get().disconnect(LtiConnectionEvent.How.BY_PERSON, user, None)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(end_it_first):
        content = early.get(enter, headers=HEADERS)["Location"]
    assert not LtiUser.objects.exists()
    assert early.get(content).content.decode() == "content/ for AnonymousUser"


def test_first_requests_for_the_key_set_at_once_make_one_key(crowd):
    job = {"url": "/lti/jwks/", "form": None, "headers": {}, "requests": 1}
    answers = crowd.send([job] * AT_ONCE)
    assert last_of(answers) == {200: AT_ONCE}
    assert LtiKey.objects.get().number == 1

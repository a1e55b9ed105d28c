"""Deployments that nobody knows, and what is pinned on those that are known."""

import logging
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiInstallation,
    LtiLaunch,
    LtiRegistration,
    LtiUser,
)
from lti_provider.models.deployment import WAITING_KEPT
from lti_provider.testing import FakePlatform

pytestmark = pytest.mark.django_db

A_MINUTE = 10
JOIN = LtiRegistration.NewDeployments.JOIN


@pytest.fixture
def platform() -> FakePlatform:
    """An LMS with one deployment, of which no launch came yet."""
    return FakePlatform.create("moodle", consumer_name="Campus", issuer="")


def describe(guid: str, name: str = "Evening school", product: str = "moodle") -> dict[str, str]:
    return {"guid": guid, "name": name, "product_family_code": product}


def launch(platform: FakePlatform, deployment_id: str = "", **claims: Any) -> Any:
    """Launch, by a different deployment of the same registration if one is named."""
    known = platform.deployment.deployment_id
    platform.deployment.deployment_id = deployment_id or known
    try:
        return platform.post(Client(), "/content/", **claims)
    finally:
        platform.deployment.deployment_id = known


def accepted(answer: Any) -> bool:
    return answer.status_code == 303 and "/lti/enter/" in answer["Location"]


def refusal() -> str:
    return LtiLaunch.objects.refused().latest("pk").refusal_code


def join(platform: FakePlatform, **registration: Any) -> None:
    LtiRegistration.objects.update(
        new_deployments=JOIN, lti_consumer=platform.consumer, **registration
    )


def stored() -> list[Any]:
    return [
        *LtiConsumer.objects.order_by("pk").values(),
        *LtiInstallation.objects.order_by("pk").values(),
        *LtiDeployment.objects.order_by("pk").values(),
    ]


# Waiting


def test_a_deployment_that_nobody_knows_waits_with_what_it_said(platform):
    with time_machine.travel("2026-03-01 12:00:00Z", tick=False):
        assert not accepted(launch(platform, "7", tool_platform=describe("evening.example")))
        first = timezone.now()
    with time_machine.travel("2026-03-01 13:00:00Z", tick=False):
        launch(platform, "7", tool_platform=describe("night.example", "Night school"))
        waiting = LtiDeployment.objects.waiting().get()
        assert (waiting.first_seen_at, waiting.last_seen_at) == (first, timezone.now())
    assert refusal() == "unknown_deployment"
    assert waiting.deployment_id == "7"
    assert (waiting.instance_guid, waiting.installation_name) == ("night.example", "Night school")
    assert waiting.product == "moodle"
    assert not LtiUser.objects.exists()


@pytest.mark.one_database
def test_a_flood_of_deployments_writes_ten_a_minute(platform):
    with time_machine.travel("2026-03-01 12:00:00Z", tick=False) as clock:
        for number in range(A_MINUTE + 5):
            launch(platform, f"flood {number}")
        assert LtiDeployment.objects.waiting().count() == A_MINUTE
        with CaptureQueriesContext(connection) as queries:
            launch(platform, "flood 0")
        written = [each["sql"] for each in queries if "lti_provider_ltideployment" in each["sql"]]
        assert not [sql for sql in written if sql.startswith(("INSERT", "UPDATE", "DELETE"))]
        clock.shift(61)
        launch(platform, "late")
    assert LtiDeployment.objects.waiting().first().deployment_id == "late"


def test_the_newest_of_a_registration_are_kept(platform):
    other = FakePlatform.create("canvas")
    launch(other, "other")
    before = timezone.now()
    for number in range(WAITING_KEPT + 3):
        with time_machine.travel(before + timedelta(minutes=2 * number + 2), tick=False):
            launch(platform, f"new {number}")
    waiting = LtiDeployment.objects.waiting()
    kept = list(waiting.filter(registration=platform.registration))
    assert [each.deployment_id for each in kept] == [
        f"new {number}" for number in range(WAITING_KEPT + 2, 2, -1)
    ]
    assert waiting.filter(registration=other.registration).count() == 1
    # Those that have a consumer are not among them.
    assert LtiDeployment.objects.exclude(lti_consumer=None).count() == 2


def test_the_same_one_again_in_a_minute_is_not_written(platform):
    with time_machine.travel("2026-03-01 12:00:00Z", tick=False) as clock:
        launch(platform, "7")
        clock.shift(30)
        launch(platform, "7")
        assert LtiDeployment.objects.waiting().get().last_seen_at < timezone.now()


def test_one_that_an_administrator_refused_is_not_asked_for_again(platform):
    launch(platform, "7")
    assert LtiDeployment.objects.waiting().get().refuse()
    before = stored()
    join(platform)
    assert not accepted(launch(platform, "7"))
    assert refusal() == "deployment_inactive"
    assert stored() == before
    assert not LtiDeployment.objects.waiting().exists()


def test_names_that_no_database_takes_are_kept_in_part(platform):
    said = describe("g", name="\0" + "n" * 400, product="\ud800")
    launch(platform, "7", tool_platform=said)
    waiting = LtiDeployment.objects.waiting().get()
    assert waiting.installation_name.endswith("nnn")
    assert len(waiting.installation_name) <= 255


def test_a_stored_name_loses_what_databases_do_not_take(platform):
    deployment = LtiDeployment(
        registration=platform.registration, deployment_id="7", product="\0\ud800" + "p" * 300
    )
    LtiDeployment.objects.record_waiting(deployment)
    assert LtiDeployment.objects.waiting().get().product == "\ufffd?" + "p" * 253


@pytest.mark.one_database
def test_an_error_of_the_database_does_not_break_the_answer(platform, caplog):
    def execute(execute, sql, params, many, context):
        if sql.startswith("INSERT") and "ltideployment" in sql:
            raise DatabaseError("broken")
        return execute(sql, params, many, context)

    with caplog.at_level(logging.ERROR, "lti_provider"), connection.execute_wrapper(execute):
        assert not accepted(launch(platform, "7"))
    assert "deployment_not_recorded code=unknown_deployment" in caplog.text
    assert refusal() == "unknown_deployment"


@pytest.mark.one_database
def test_of_simultaneous_launches_one_makes_the_row(platform):
    def be_faster(execute, sql, params, many, context):
        looks_for_it = sql.startswith("SELECT") and "ltideployment" in sql and "JOIN" not in sql
        found = execute(sql, params, many, context)
        if looks_for_it and "LIMIT 1" in sql and not made:
            made.append(sql)
            LtiDeployment.objects.create(registration=platform.registration, deployment_id="7")
        return found

    made: list[str] = []
    with connection.execute_wrapper(be_faster):
        assert not accepted(launch(platform, "7"))
    assert made
    assert LtiDeployment.objects.waiting().count() == 1


def test_an_id_that_is_corrected_is_found(platform):
    deployment = platform.deployment
    deployment.deployment_id = "7"
    deployment.save(update_fields=["deployment_id"])
    assert LtiDeployment.objects.with_id(deployment.registration_id, "7") == deployment


def test_a_client_id_is_known_once_for_an_issuer(platform):
    known = platform.registration
    same = LtiRegistration(issuer=known.issuer, client_id=known.client_id, jwks=known.jwks)
    with pytest.raises(ValidationError, match="has this issuer and client id"):
        same.clean()


def test_old_ones_are_purged(platform, capsys):
    with time_machine.travel(timezone.now() - timedelta(days=100)):
        launch(platform, "7")
        launch(platform, "8")
        LtiDeployment.objects.get(deployment_id="8").refuse()
    launch(platform, "9")
    call_command("lti_purge")
    assert "1 waiting deployments" in capsys.readouterr().out
    left = LtiDeployment.objects.order_by("deployment_id").values_list("deployment_id", flat=True)
    assert list(left) == [platform.deployment.deployment_id, "8", "9"]


# Joining


def test_a_deployment_joins_where_the_registration_says_so(platform):
    launch(platform)
    join(platform)
    assert accepted(launch(platform, "7"))
    joined = LtiDeployment.objects.get(deployment_id="7")
    assert joined.lti_consumer == platform.consumer
    assert joined.instance_guid == LtiConsumer.objects.get().instance_guid
    assert joined.last_seen_at is not None
    # The same person of the same LMS.
    assert LtiLaunch.objects.accepted().values("lti_consumer").distinct().count() == 1


def test_one_that_waits_joins_when_the_policy_changes(platform):
    launch(platform, "7")
    join(platform)
    assert accepted(launch(platform, "7"))
    assert LtiDeployment.objects.get(deployment_id="7").lti_consumer == platform.consumer


def test_it_joins_with_the_installation_of_now_not_the_one_that_waited(platform):
    launch(platform)
    launch(platform, "7", tool_platform=describe("evening.example"))
    join(platform)
    assert accepted(launch(platform, "7"))
    guid = LtiConsumer.objects.get().instance_guid
    assert LtiDeployment.objects.get(deployment_id="7").instance_guid == guid


def test_a_different_installation_never_joins(platform):
    launch(platform)
    join(platform)
    before = list(LtiConsumer.objects.values())
    assert not accepted(launch(platform, "7", tool_platform=describe("evening.example")))
    assert refusal() == "unknown_deployment"
    assert LtiDeployment.objects.waiting().get().instance_guid == "evening.example"
    assert list(LtiConsumer.objects.values()) == before


def test_nothing_joins_where_one_client_id_serves_all_schools(platform):
    launch(platform)
    LtiConsumer.objects.update(issuer="https://blackboard.com")
    registration = platform.registration
    registration.issuer = "https://blackboard.com"
    registration.save()
    join(platform)
    assert not accepted(launch(platform, "7"))
    assert LtiDeployment.objects.waiting().get().deployment_id == "7"
    registration.refresh_from_db()
    with pytest.raises(ValidationError, match="new deployments must wait"):
        registration.clean()


def test_whom_they_join_has_to_be_chosen(platform):
    registration = platform.registration
    registration.new_deployments = JOIN
    with pytest.raises(ValidationError, match="Choose the LTI consumer"):
        registration.clean()
    other = LtiConsumer.objects.create(consumer_name="Other", issuer="https://other.example")
    registration.lti_consumer = other
    with pytest.raises(ValidationError, match=r"“Other” has launched as https://other\.example"):
        registration.clean()


def test_a_launch_that_is_refused_joins_nothing(platform):
    launch(platform)
    join(platform)
    LtiConsumer.objects.update(launch_targets="/elsewhere/")
    before = stored()
    assert not accepted(launch(platform, "7"))
    assert refusal() == "target_not_launchable"
    assert stored() == before


@pytest.mark.one_database
def test_a_launch_is_refused_that_an_administrator_decides_about_meanwhile(platform):
    launch(platform)
    join(platform)

    def decide(execute, sql, params, many, context):
        is_second_look = "ltideployment" in sql and sql.startswith("SELECT") and "JOIN" not in sql
        if is_second_look and not LtiConsumer.objects.filter(consumer_name="Decided").exists():
            LtiConsumer.objects.create(consumer_name="Decided")
            LtiDeployment.objects.create(
                registration=platform.registration, deployment_id="7", is_active=False
            )
        return execute(sql, params, many, context)

    with connection.execute_wrapper(decide):
        assert not accepted(launch(platform, "7"))
    assert refusal() == "other_installation"


def test_an_administrator_who_refuses_meanwhile_wins(platform):
    consumer = platform.consumer
    late = LtiDeployment(registration=platform.registration, deployment_id="7")
    launch(platform, "7")
    LtiDeployment.objects.get(deployment_id="7").refuse()
    assert not late.join(consumer, "guid")
    other = LtiConsumer.objects.create(consumer_name="Other")
    LtiDeployment.objects.filter(deployment_id="7").update(is_active=True, lti_consumer=other)
    assert not LtiDeployment(registration=platform.registration, deployment_id="7").join(
        consumer, "guid"
    )


# What is pinned


def test_the_installation_is_pinned_by_the_first_launch(platform):
    assert accepted(launch(platform, tool_platform=describe("first.example")))
    deployment = LtiDeployment.objects.get()
    assert deployment.instance_guid == "first.example"
    before = stored()
    assert not accepted(launch(platform, tool_platform=describe("second.example")))
    assert refusal() == "other_installation"
    assert stored() == before


def test_it_is_pinned_also_where_the_consumer_accepts_both(platform):
    platform.consumer.accept_installation("first.example")
    platform.consumer.accept_installation("second.example")
    assert accepted(launch(platform, tool_platform=describe("first.example")))
    before = stored()
    assert not accepted(launch(platform, tool_platform=describe("second.example")))
    assert refusal() == "other_installation"
    assert stored() == before


def test_who_accepts_a_second_one_lets_the_deployment_learn_anew(platform):
    launch(platform, tool_platform=describe("first.example"))
    launch(platform, tool_platform=describe("second.example"))
    platform.consumer.refresh_from_db()
    platform.consumer.accept_installation("second.example")
    assert accepted(launch(platform, tool_platform=describe("second.example")))
    assert LtiDeployment.objects.get().instance_guid == "second.example"


def test_recording_pins_nothing(platform):
    LtiConsumer.objects.update(guid_policy="record")
    assert accepted(launch(platform, tool_platform=describe("first.example")))
    assert accepted(launch(platform, tool_platform=describe("second.example")))
    assert LtiDeployment.objects.get().instance_guid == "first.example"


def test_of_simultaneous_first_launches_the_first_is_pinned(platform):
    one, two = LtiDeployment.objects.get(), LtiDeployment.objects.get()
    assert one.learn_installation("first.example")
    assert not two.learn_installation("second.example")
    assert LtiDeployment.objects.get().instance_guid == "first.example"


def test_who_comes_second_is_refused_and_teaches_nothing(platform, monkeypatch):
    # As if the other launch were written between this one's read and its write.
    learn = LtiDeployment.learn_installation

    def late(deployment: LtiDeployment, guid: str) -> bool:
        LtiDeployment.objects.update(instance_guid="first.example")
        return learn(deployment, guid)

    monkeypatch.setattr(LtiDeployment, "learn_installation", late)
    assert not accepted(launch(platform, tool_platform=describe("second.example")))
    assert refusal() == "other_installation"
    assert LtiConsumer.objects.get().instance_guid == ""


# One issuer


def test_the_issuer_is_kept_with_the_first_launch(platform):
    assert LtiConsumer.objects.get().issuer == ""
    launch(platform)
    assert LtiConsumer.objects.get().issuer == platform.registration.issuer


def test_a_different_issuer_is_a_different_lms(platform):
    LtiConsumer.objects.update(issuer="https://other.example")
    before = stored()
    assert not accepted(launch(platform))
    assert refusal() == "other_issuer"
    assert stored() == before


def test_of_two_issuers_the_first_launch_decides(platform, monkeypatch):
    learn = LtiConsumer.learn_issuer

    def late(consumer: LtiConsumer, issuer: str) -> bool:
        LtiConsumer.objects.update(issuer="https://other.example")
        return learn(consumer, issuer)

    monkeypatch.setattr(LtiConsumer, "learn_issuer", late)
    assert not accepted(launch(platform))
    assert refusal() == "other_issuer"


def test_a_deployment_of_a_different_issuer_is_not_given_to_the_consumer(platform):
    launch(platform)
    other = FakePlatform.create("canvas", issuer="")
    deployment = other.deployment
    deployment.lti_consumer = LtiConsumer.objects.get(consumer_name="Campus")
    with pytest.raises(ValidationError, match="a different issuer is a different LMS"):
        deployment.clean()


def test_the_issuer_of_a_registration_stays_once_it_launched(platform):
    registration = platform.registration
    registration.issuer = "https://lms.example.edu"
    registration.clean()
    registration.refresh_from_db()
    launch(platform)
    registration.issuer = "https://lms.example.edu"
    with pytest.raises(ValidationError, match="“Campus” has launched as"):
        registration.clean()


# What an administrator decides


def test_who_is_assigned_brings_installation_and_issuer(platform, admin_user):
    launch(platform, "7", tool_platform=describe("evening.example"))
    waiting = LtiDeployment.objects.waiting().get()
    waiting.assign(platform.consumer, admin_user)
    consumer = LtiConsumer.objects.get()
    assert consumer.issuer == platform.registration.issuer
    assert LtiInstallation.objects.get().guid == "evening.example"
    assert LtiInstallation.objects.get().accepted_by == admin_user
    assert accepted(launch(platform, "7", tool_platform=describe("evening.example")))
    with pytest.raises(ValidationError, match="decided"):
        waiting.assign(platform.consumer, admin_user)
    assert not waiting.refuse()


def test_it_is_not_assigned_to_a_different_lms(platform, admin_user):
    launch(platform, "7")
    other = LtiConsumer.objects.create(consumer_name="Other", issuer="https://other.example")
    with pytest.raises(ValidationError, match="a different issuer"):
        LtiDeployment.objects.waiting().get().assign(other, admin_user)
    assert LtiDeployment.objects.waiting().exists()


def test_an_id_is_unique_to_the_letter(platform):
    known = platform.deployment
    same = LtiDeployment(registration=known.registration, deployment_id=known.deployment_id)
    with pytest.raises(ValidationError, match="has a deployment with this id"):
        same.clean()
    LtiDeployment(registration=known.registration, deployment_id=f"{known} ").clean()
    LtiDeployment(deployment_id="7").clean()


@pytest.mark.one_database
def test_launches_that_teach_nothing_write_nothing(platform):
    launch(platform)
    launch(platform)
    with CaptureQueriesContext(connection) as queries:
        launch(platform)
    written = [each["sql"] for each in queries if each["sql"].startswith(("UPDATE", "INSERT"))]
    assert len(written) == 1

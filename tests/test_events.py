import json
import logging

import pytest
from django.dispatch import receiver
from prometheus_client import CollectorRegistry, Counter, generate_latest

from lti_provider import events
from lti_provider.signals import event_reported
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

CANARIES = ("Robin", "robin.doe@lms.example", "86157096483e6b3a50bfedc6bac902c0b20a824f")


@pytest.fixture
def lms():
    return FakeLms.create("canvas", personal_data="name_email")


@pytest.fixture
def heard():
    """What a receiver of the site's own heard."""
    found = []

    @receiver(event_reported)
    def hear(sender, event, fields, **kwargs):
        found.append((event, fields))

    yield found
    event_reported.disconnect(hear)


def records(caplog):
    return [record for record in caplog.records if record.name == "lti_provider"]


def test_a_launch_is_one_line_with_ids(client, lms, caplog, heard):
    caplog.set_level(logging.INFO, "lti_provider")
    launch = lms.launch(client, "/content/").wsgi_request.lti
    line = records(caplog)[-1]
    told = {"consumer": lms.consumer.pk, "launch": launch.pk, "secret": "current"}
    words = " ".join(f"{name}={value}" for name, value in told.items())
    assert line.getMessage() == f"user_launched {words}"
    assert line.event == "user_launched"
    assert {name: getattr(line, name) for name in told} == told
    assert heard == [
        ("outcome_host_learned", {"consumer": lms.consumer.pk, "host": "lms.example"}),
        ("user_launched", told),
    ]


def test_a_refusal_is_one_line_with_its_code(client, lms, caplog, heard):
    lms.post(client, "/elsewhere/")
    (line,) = records(caplog)
    fields = {"code": "target_not_launchable", "consumer": lms.consumer.pk}
    assert line.getMessage().startswith("launch_refused code=target_not_launchable")
    assert {name: getattr(line, name) for name in fields} == fields
    assert heard == [("launch_refused", fields)]


def test_an_unknown_key_names_no_consumer(client, lms, heard):
    lms.consumer.consumer_key = "unknown"
    lms.post(client, "/content/")
    assert heard == [("launch_refused", {"code": "unknown_consumer_key", "consumer": None})]


def test_what_every_line_says_can_be_written_as_json(client, lms, caplog, heard):
    caplog.set_level(logging.DEBUG, "lti_provider")
    lms.launch(client, "/content/")
    lms.post(client, "/elsewhere/")
    written = json.dumps(heard) + caplog.text
    assert [
        canary for canary in (*CANARIES, lms.consumer.consumer_secret) if canary in written
    ] == []


def test_names_and_fields_are_given_once():
    assert len({event.name for event in events.EVENTS}) == len(events.EVENTS)
    declared = {value for value in vars(events).values() if isinstance(value, events.Event)}
    assert declared == set(events.EVENTS)
    reserved = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event"}
    assert [event for event in events.EVENTS if reserved & set(event.fields)] == []


def test_a_field_that_is_not_declared_is_an_error():
    with pytest.raises(TypeError, match="user_launched has the fields consumer, launch, secret"):
        events.report(events.USER_LAUNCHED, consumer=1, launch=2, person="Robin")


def test_a_receiver_that_fails_fails_no_launch(client, lms):
    @receiver(event_reported)
    def fail(sender, **kwargs):
        raise RuntimeError

    try:
        assert lms.launch(client, "/content/").status_code == 200
    finally:
        event_reported.disconnect(fail)


def test_prometheus_counts_what_is_reported(client, lms):
    registry = CollectorRegistry()
    reported = Counter(
        "lti_events", "What LTI reported", ["event", "code", "consumer"], registry=registry
    )

    @receiver(event_reported)
    def count(sender, event, fields, **kwargs):
        labels = (event, fields.get("code", ""), fields.get("consumer") or "")
        reported.labels(*labels).inc()

    try:
        for _number in range(2):
            lms.launch(client, "/content/")
        lms.post(client, "/elsewhere/")
    finally:
        event_reported.disconnect(count)
    exposed = generate_latest(registry).decode()
    consumer = lms.consumer.pk
    assert f'lti_events_total{{code="",consumer="{consumer}",event="user_launched"}} 2.0' in exposed
    assert (
        f'lti_events_total{{code="target_not_launchable",consumer="{consumer}",'
        'event="launch_refused"} 1.0' in exposed
    )


def test_health_needs_nothing_but_a_read_of_its_own(client, lms, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = client.get("/lti/health/")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]
    assert not answer.cookies
    assert client.head("/lti/health/").status_code == 200
    assert client.post("/lti/health/").status_code == 405

import ast
import json
import logging
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.dispatch import Signal
from django.utils import timezone
from prometheus_client import REGISTRY, Counter, generate_latest

from lti_provider import signals
from lti_provider.grades import deliver_due
from lti_provider.lti11.outcomes import send_score
from lti_provider.lti13 import keys
from lti_provider.models import LtiRegistration, LtiResult
from lti_provider.testing import FakeLms, FakePlatform
from tests.lms_service import always, envelope
from tests.test_docs import PYTHON_BLOCKS, rows

pytestmark = pytest.mark.django_db

PACKAGE = Path(__file__).parent.parent / "lti_provider"
LEVELS = {"exception": "error"}
#: What every record has: Python refuses fields of these names, or formatters lose them.
RESERVED = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "event"}
DOCUMENTED = {
    event.strip("`"): (level, re.findall(r"`(\w+)`", fields))
    for event, level, fields, _happened in rows("Log lines")
}
#: Those that take an outage to see: test_outage, test_delivery_outage and test_wake_up do.
OF_OUTAGES = {
    "database_failed",
    "deliverer_found_database",
    "deliverer_lost_database",
    "launch_refused_not_logged",
    "score_background_delivery_failed",
    "unknown_sender_not_recorded",
}
CANARIES = {
    "lis_person_name_full": "Robin Canary",
    "lis_person_contact_email_primary": "robin.canary@lms.example",
    "lis_result_sourcedid": "canary-sourcedid",
    "user_id": "canary-user",
}


def calls():
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name("logger"), attr=level)):
                    yield LEVELS.get(level, level), node


def extra_of(call):
    (extra,) = [keyword.value for keyword in call.keywords if keyword.arg == "extra"]
    keys = [key and ast.literal_eval(key) for key in extra.keys]
    assert keys[0] == "event"
    return ast.literal_eval(extra.values[0]), keys[1:]


@pytest.fixture
def lms(gradebook):
    made = FakeLms.create("canvas", personal_data="name_email", service_networks="127.0.0.0/8")
    made.fields.update(CANARIES, lis_outcome_service_url=gradebook.url)
    return made


@pytest.fixture
def records(caplog):
    caplog.set_level(logging.DEBUG, "lti_provider")
    return lambda: [record for record in caplog.records if record.name == "lti_provider"]


def fields(record):
    return {name: getattr(record, name) for name in DOCUMENTED[record.event][1]}


def test_the_manual_lists_every_log_line_as_the_code_has_it():
    found = {}
    for level, call in calls():
        name, *pairs = ast.literal_eval(call.args[0]).split()
        event, keys = extra_of(call)
        names = [pair.partition("=")[0] for pair in pairs]
        assert event == name
        assert name not in found
        # Where ``extra`` takes the fields from a variable, the running test reads them.
        assert keys in (names, [None])
        found[name] = (level, names)
    assert found == DOCUMENTED
    assert not {field for _level, names in found.values() for field in names} & RESERVED


def test_all_of_the_package_logs_to_one_logger():
    made = {
        line
        for module in PACKAGE.rglob("*.py")
        for line in module.read_text().splitlines()
        if "getLogger" in line
    }
    assert made == {'logger = logging.getLogger("lti_provider")'}


def test_a_launch_is_one_line_with_ids(client, lms, records):
    launch = lms.launch(client, "/content/").wsgi_request.lti.launch
    learned, line = records()
    told = {"consumer": lms.consumer.pk, "launch": launch.pk, "secret": "current"}
    words = " ".join(f"{name}={value}" for name, value in told.items())
    assert line.getMessage() == f"user_launched {words}"
    assert (line.event, fields(line)) == ("user_launched", told)
    assert learned.event == "service_host_learned"


def test_a_refusal_is_one_line_with_its_code(client, lms, records):
    lms.post(client, "/elsewhere/")
    (line,) = records()
    told = {"code": "target_not_launchable", "consumer": lms.consumer.pk}
    assert line.getMessage().startswith("launch_refused code=target_not_launchable")
    assert (line.event, fields(line)) == ("launch_refused", told)


def test_an_unknown_key_names_no_consumer(client, lms, records):
    lms.consumer.consumer_key = "unknown"
    lms.post(client, "/content/")
    (line,) = records()
    assert fields(line) == {"code": "unknown_consumer_key", "consumer": None}


@pytest.mark.slow
def test_no_line_holds_a_secret_or_a_person(client, lms, gradebook, records, settings):
    lms.launch(client, "/content/")
    result = LtiResult.objects.get()
    lms.post(client, "/elsewhere/")
    for answer in (envelope("failure", CANARIES["lis_person_name_full"]), envelope()):
        gradebook.behave = always(200, body=answer)
        result.submit_score(0.5)
        deliver_due()
    gradebook.behave = always(200, body=envelope("unsupported", "robin.canary@lms.example"))
    result.submit_score(0.5)
    deliver_due()
    secrets = [lms.consumer.consumer_secret, "canary-secret"]
    lms.consumer.rotate_secret(timezone.now() + timedelta(days=1), "canary-secret")
    lms.consumer.end_previous_secret()
    lms.consumer.set_active(False)
    lms.consumer.set_active(True)
    lms.consumer.unsupported_operations = ""
    settings.LTI_PROVIDER_GRADE_TIMEOUT = "a mistake"
    result.lti_consumer = lms.consumer
    send_score(result)
    key = keys.get_signing_key()
    secrets.append(key.private_key)
    keys.rotate_key()
    keys.retire_key(key)
    platform = FakePlatform.create()
    LtiRegistration.objects.update(jwks_uri="https://127.0.0.1/jwks")
    platform.post(client, "/content/", sub="canary-user", name="Robin Canary")

    found = records()
    assert {record.event for record in found} == DOCUMENTED.keys() - OF_OUTAGES
    for record in found:
        level, names = DOCUMENTED[record.event]
        assert record.levelname.lower() == level
        assert set(vars(record)) - RESERVED == set(names)
        pairs = [f"{name}={value}" for name, value in fields(record).items()]
        assert record.getMessage() == " ".join((record.event, *pairs))
    written = json.dumps([fields(record) for record in found]) + "\n".join(
        logging.Formatter().format(record) for record in found
    )
    canaries = [*CANARIES.values(), *secrets, client.session.session_key]
    assert [canary for canary in canaries if canary in written] == []


@pytest.fixture
def metrics():
    """What the manual's example of metrics exposes after it has run as it stands."""
    (code,) = [block for block in PYTHON_BLOCKS if "prometheus_client" in block]
    site = {}
    exec(code, site)
    yield lambda: generate_latest().decode().splitlines()
    for value in site.values():
        if isinstance(value, Counter):
            REGISTRY.unregister(value)
    for signal in vars(signals).values():
        for receiver in site.values() if isinstance(signal, Signal) else ():
            signal.disconnect(receiver)


@pytest.mark.slow
def test_prometheus_counts_launches_and_grades(client, lms, gradebook, metrics):
    consumer = lms.consumer.pk
    for _number in range(2):
        lms.launch(client, "/content/")
    lms.post(client, "/elsewhere/")
    lms.consumer.consumer_key, key = "unknown", lms.consumer.consumer_key
    lms.post(client, "/content/")
    lms.consumer.consumer_key = key
    result = LtiResult.objects.get()
    result.submit_score(0.5)
    deliver_due()
    gradebook.behave = always(200, body=envelope("unsupported"))
    result.submit_score(0.7)
    deliver_due()
    counted = [
        f'lti_launches_total{{code="",consumer="{consumer}"}} 2.0',
        f'lti_launches_total{{code="target_not_launchable",consumer="{consumer}"}} 1.0',
        'lti_launches_total{code="unknown_consumer_key",consumer=""} 1.0',
        f'lti_grades_total{{code="",consumer="{consumer}"}} 1.0',
        f'lti_grades_total{{code="unsupported",consumer="{consumer}"}} 1.0',
    ]
    assert [line for line in metrics() if re.match(r"lti_\w+_total", line)] == counted


def test_health_needs_nothing_but_a_read_of_its_own(client, lms, django_assert_num_queries):
    with django_assert_num_queries(0):
        answer = client.get("/lti/health/")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
    assert "no-store" in answer["Cache-Control"]
    assert not answer.cookies
    assert client.head("/lti/health/").status_code == 200
    assert client.post("/lti/health/").status_code == 405

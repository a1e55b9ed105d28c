import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import django
import pytest
from django.db import connection

from lti_provider.grades import background, deliver_due
from lti_provider.grades import delivery as delivery_module
from lti_provider.models import LtiConsumer, LtiResult
from lti_provider.signals import score_submitted
from tests.test_delivery import many
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent
BROKER = ("127.0.0.1", 5672)


@pytest.fixture
def result(gradebook):
    consumer = LtiConsumer.objects.create(consumer_name="C", service_networks="127.0.0.0/8")
    return many(consumer, gradebook.url, 1, score=None).get()


@pytest.fixture
def wake_up():
    """Connects what wakes a deliverer, and disconnects it again."""
    connected = []

    def connect(receiver):
        score_submitted.connect(receiver)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        score_submitted.disconnect(receiver)


def command(*arguments, port=None, **options):
    """A process of the site, on the test's database, by way of ``port``."""
    script = (
        "import sys, django; django.setup();"
        "from django.db import connection;"
        "connection.settings_dict['NAME'] = sys.argv[1];"
        "connection.settings_dict['PORT'] = sys.argv[2] or connection.settings_dict['PORT'];"
        "from django.core.management import call_command;"
        "call_command(*sys.argv[3:])"
    )
    name = str(connection.settings_dict["NAME"])
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script, name, str(port or ""), *arguments],
        cwd=ROOT,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


def test_cron_delivers_what_is_due(result, gradebook):
    result.submit_score(0.5)
    process = command("lti_deliver", "--once")
    output, _errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(output)["delivered"] == 1
    assert gradebook.grades == {"s0": "0.5"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_loop_ends_gracefully(result, gradebook, number):
    told = threading.Event()

    def answer_afterwards(book, received, handler):
        told.wait()
        return book.succeed(received)

    gradebook.behave = answer_afterwards
    process = command("lti_deliver", "--loop", "--interval", "0.1")
    result.submit_score(0.5)
    wait_until(lambda: gradebook.received)
    process.send_signal(number)
    told.set()
    output, _errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(output)["delivered"] == 1
    assert LtiResult.objects.get().state == "delivered"


def test_in_the_background_right_after_the_commit(result, gradebook, settings):
    settings.LTI_PROVIDER_GRADE_BACKGROUND = True
    result.submit_score(0.5)
    LtiResult.objects.get().submit_score(0.75)
    background.wait()
    assert LtiResult.objects.get().state == "delivered"
    assert gradebook.grades == {"s0": "0.75"}


def test_nothing_happens_in_the_background_by_default(result, gradebook):
    result.submit_score(0.5)
    background.wait()
    assert LtiResult.objects.get().state == "waiting"
    assert gradebook.received == []


def test_the_background_survives_its_failures(result, gradebook, settings, monkeypatch, caplog):
    from lti_provider.grades import background as instance
    from lti_provider.grades.background import Background

    def fail(**_options):
        raise RuntimeError

    module = sys.modules[Background.__module__]
    settings.LTI_PROVIDER_GRADE_BACKGROUND = True
    monkeypatch.setattr(module, "deliver_due", fail)
    result.submit_score(0.5)
    instance.wait()
    assert "score_background_delivery_failed" in caplog.text
    monkeypatch.setattr(module, "deliver_due", delivery_module.deliver_due)
    LtiResult.objects.get().submit_score(1)
    instance.wait()
    assert gradebook.grades == {"s0": "1.0"}


def test_a_receiver_of_the_signal_can_deliver(result, gradebook, wake_up):
    def deliver(**_signal):
        deliver_due()

    wake_up(deliver)
    result.submit_score(0.5)
    assert gradebook.grades == {"s0": "0.5"}


@pytest.mark.skipif(django.VERSION < (6, 0), reason="django.tasks is new in Django 6.0")
def test_django_tasks(result, gradebook, wake_up, settings):
    from tests.tasks_of_a_site import deliver_grades

    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}

    def wake(**_signal):
        deliver_grades.enqueue()

    wake_up(wake)
    result.submit_score(0.5)
    assert gradebook.grades == {"s0": "0.5"}


def test_the_celery_task_by_itself(result, gradebook):
    from lti_provider.tasks import deliver

    result.submit_score(0.5)
    assert deliver.name == "lti_provider.deliver"
    deliver.apply(throw=True)
    assert gradebook.grades == {"s0": "0.5"}


def has_broker():
    try:
        socket.create_connection(BROKER, timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_broker(), reason="no RabbitMQ on 127.0.0.1:5672")
def test_celery_with_a_real_broker(result, gradebook, wake_up):
    from celery import Celery
    from kombu import Queue

    queue = f"lti-{uuid.uuid4().hex}"
    broker = "amqp://guest:guest@{}:{}//".format(*BROKER)
    environment = {
        **os.environ,
        "LTI_TEST_BROKER": broker,
        "LTI_TEST_QUEUE": queue,
        "LTI_TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "LTI_TEST_SETTINGS": "{}",
    }
    app = Celery(broker=broker, set_as_current=False)
    quiet = ["--pool=solo", "--loglevel=warning", f"--queues={queue}"]
    quiet += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    worker = subprocess.Popen(
        [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "celery",
            "-A",
            "tests.celery_site",
            "worker",
            *quiet,
        ],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wake_up(wake := lambda **_signal: app.send_task("lti_provider.deliver", queue=queue))
        result.submit_score(0.5)
        wait_until(lambda: LtiResult.objects.get().state == "delivered")
        assert wake
    finally:
        worker.kill()
        worker.wait()
        with app.connection_for_write() as link:
            Queue(queue)(link.default_channel).delete()
        app.close()
    assert gradebook.grades == {"s0": "0.5"}

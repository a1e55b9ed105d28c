"""Grades and health while the database is away."""

import io
import json
import logging
import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import DatabaseError, OperationalError, connection, connections
from django.db.backends.signals import connection_created
from django.test import Client
from django.utils import timezone

from lti_provider.grades import Deliverer
from lti_provider.models import LtiConsumer, LtiResult
from tests.cable import Cable
from tests.test_delivery import many
from tests.test_wake_up import command
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

TABLE = LtiResult._meta.db_table
BY_NETWORK = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="needs a database behind a network"
)


def execute(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def rename_table(old, new):
    execute(f"ALTER TABLE {connection.ops.quote_name(old)} RENAME TO {new}")


@contextmanager
def without_table():
    """Every statement about grades is an error meanwhile."""
    rename_table(TABLE, "away")
    try:
        yield
    finally:
        rename_table("away", TABLE)


@contextmanager
def connecting(receive):
    """``receive`` is called in a thread that has just got a connection of its own."""

    def receiver(sender, connection, **_signal):
        receive()

    connection_created.connect(receiver)
    try:
        yield
    finally:
        connection_created.disconnect(receiver)


@pytest.fixture
def consumer():
    return LtiConsumer.objects.create(consumer_name="C", service_networks="127.0.0.0/8")


@pytest.fixture
def loop():
    """A deliverer that runs forever in a thread, as the command does in a process."""
    deliverer = Deliverer()
    ended = []

    def run():
        try:
            ended.append(deliverer.run(forever=True, interval=0.05))
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    yield deliverer
    deliverer.stop()
    thread.join(20)
    assert ended


def count(caplog, name):
    return sum(getattr(record, "event", "") == name for record in caplog.records)


def test_a_loop_outlasts_database_errors_and_says_so_once(consumer, gradebook, loop, caplog):
    caplog.set_level(logging.INFO, "lti_provider")
    with without_table():
        wait_until(lambda: count(caplog, "deliverer_lost_database"))
        time.sleep(0.3)
    wait_until(lambda: count(caplog, "deliverer_found_database"))
    many(consumer, gradebook.url, 1)
    wait_until(lambda: gradebook.grades)
    assert count(caplog, "deliverer_lost_database") == 1
    assert count(caplog, "deliverer_found_database") == 1
    [line] = [record for record in caplog.records if record.msg.startswith("deliverer_lost")]
    assert (line.levelname, line.exc_text) == ("ERROR", None)
    assert line.error in ("OperationalError", "ProgrammingError")


def test_a_grade_whose_answer_could_not_be_written_is_sent_again(consumer, gradebook, loop, caplog):
    away, back = threading.Event(), threading.Event()

    def answer_when_the_table_is_gone(book, received, handler):
        if len(book.received) == 1:
            away.set()
            back.wait(20)
        return book.succeed(received)

    gradebook.behave = answer_when_the_table_is_gone
    many(consumer, gradebook.url, 1)
    assert away.wait(20)
    with without_table():
        back.set()
        wait_until(lambda: not loop._running)
    LtiResult.objects.filter(state="sending").update(next_attempt_at=timezone.now())
    wait_until(lambda: LtiResult.objects.get().state == "delivered")
    assert len(gradebook.received) == 2


def test_delivering_once_still_fails_without_a_database(consumer, gradebook):
    many(consumer, gradebook.url, 1)
    with without_table(), pytest.raises(DatabaseError):
        call_command("lti_deliver", once=True)


def test_a_loop_ends_gracefully_without_a_database(consumer, gradebook):
    process = command("lti_deliver", "--loop", "--interval", "0.1")
    try:
        many(consumer, gradebook.url, 1)
        wait_until(lambda: LtiResult.objects.filter(state="delivered").exists())
        with without_table():
            time.sleep(0.5)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            output, _errors = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.stdout.close()
    assert process.returncode == 0
    report = json.loads(output)
    assert (report["delivered"], report["waiting"]) == (1, None)


def test_a_terminal_says_that_it_does_not_know_what_waits(consumer, gradebook):
    class Terminal(io.StringIO):
        was_stopped = False

        def isatty(self):
            return True

        def flush(self):
            if "1 delivered" in self.getvalue() and not self.was_stopped:
                self.was_stopped = True
                rename_table(TABLE, "away")
                os.kill(os.getpid(), signal.SIGTERM)

    terminal = Terminal()
    many(consumer, gradebook.url, 1)
    try:
        call_command("lti_deliver", loop=True, interval=0.1, stdout=terminal)
    finally:
        rename_table("away", TABLE)
    assert "1 delivered, 0 to be retried, 0 failed; unknown waiting" in terminal.getvalue()


@BY_NETWORK
def test_a_loop_outlasts_connections_that_are_cut(consumer, gradebook, loop_over_cable):
    cable, process = loop_over_cable
    many(consumer, gradebook.url, 1, prefix="before")
    wait_until(lambda: LtiResult.objects.filter(state="delivered").count() == 1)
    cable.cut()
    time.sleep(0.5)
    many(consumer, gradebook.url, 1, prefix="during")
    assert process.poll() is None
    cable.mend()
    wait_until(lambda: LtiResult.objects.filter(state="delivered").count() == 2)
    process.send_signal(signal.SIGTERM)
    output, _errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert json.loads(output)["delivered"] == 2


@BY_NETWORK
def test_a_loop_outlasts_connections_that_are_killed(consumer, gradebook, loop_over_cable):
    _cable, process = loop_over_cable
    for number in range(3):
        many(consumer, gradebook.url, 1, prefix=f"{number} ")
        wait_until(lambda number=number: f"{number} 0" in gradebook.grades)
        kill_other_connections()
    many(consumer, gradebook.url, 1, prefix="last")
    wait_until(lambda: "last0" in gradebook.grades)
    assert process.poll() is None


@pytest.fixture
def loop_over_cable():
    database = connection.settings_dict
    with Cable(database["HOST"], int(database["PORT"])) as cable:
        process = command("lti_deliver", "--loop", "--interval", "0.1", port=cable.port)
        with process:
            yield cable, process
            process.kill()


def kill_other_connections():
    name = connection.settings_dict["NAME"]
    if connection.vendor == "postgresql":
        execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = %s AND pid <> pg_backend_pid()",
            name,
        )
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> connection_id()",
            [name],
        )
        for (number,) in cursor.fetchall():
            cursor.execute("KILL %s", [number])


def health():
    answer = Client().get("/lti/health/")
    return answer.status_code, answer.json()["status"]


def probes():
    return [thread for thread in threading.enumerate() if thread.name == "lti-health"]


def test_health_fails_while_the_database_hangs_and_nothing_piles_up():
    patience = threading.Event()
    asked = []

    def hang():
        if threading.current_thread().name == "lti-health":
            asked.append(1)
            patience.wait(60)

    def ask():
        try:
            answers.append(health())
        finally:
            connections.close_all()

    with connecting(hang):
        answers = []
        for _round in range(2):
            threads = [threading.Thread(target=ask) for _ in range(10)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        assert answers == [(503, "fail")] * 20
        assert len(asked) == len(probes()) == 4
        patience.set()
        wait_until(lambda: not probes())
    assert health() == (200, "ok")


def test_health_fails_without_a_database_and_says_no_more():
    def refuse():
        raise OperationalError("host db.internal refused user tool")

    with connecting(refuse):
        answer = Client().get("/lti/health/")
    assert (answer.status_code, answer.json()) == (503, {"status": "fail"})


@BY_NETWORK
def test_health_answers_when_the_network_swallows_everything():
    database = connection.settings_dict
    with Cable(database["HOST"], int(database["PORT"])) as cable:
        kept = database["PORT"]
        database["PORT"] = str(cable.port)
        try:
            assert health() == (200, "ok")
            cable.hang()
            assert health() == (503, "fail")
            cable.cut()
            assert health() == (503, "fail")
            cable.mend()
            wait_until(lambda: health() == (200, "ok"))
        finally:
            database["PORT"] = kept

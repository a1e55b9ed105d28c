import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.db import connection, connections

from lti_provider.lti11.outcome_xml import format_score
from lti_provider.models import LtiConsumer, LtiResult
from tests.lms_service import Gradebook
from tests.test_delivery import many
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 1
STEPS = [
    ("before the claim", 2),
    ("after the claim", 1),
    ("while sending", 7),
    ("after the LMS wrote", 12),
    ("before the writing", 9),
    ("after the writing", 30),
]


class DeadlyGradebook(Gradebook):
    """Kills the deliverer at its nth request, before or after it wrote the grade."""

    victim: int | None = None
    step = ""
    requests_left = 0

    def __post_init__(self):
        super().__post_init__()
        self.behave = type(self).kill

    def kill(self, received, handler):
        self.requests_left -= 1
        strikes = self.requests_left == 0
        if strikes and self.step == "while sending":
            os.kill(self.victim, signal.SIGKILL)
            return None
        answer = self.succeed(received)
        if strikes and self.step == "after the LMS wrote":
            os.kill(self.victim, signal.SIGKILL)
        return answer


class Deliverer:
    """Another process, which may not live long."""

    def __init__(self, step="", time=1):
        job = {
            "database": str(connection.settings_dict["NAME"]),
            "step": step,
            "time": time,
            "timeout": TIMEOUT,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.killed_deliverer"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def pid(self):
        return int(self.process.stdout.readline())

    def end(self):
        _output, errors = self.process.communicate(timeout=PATIENCE)
        assert "Traceback" not in errors, errors
        return self.process.returncode


class Changes(threading.Thread):
    """Somebody who submits scores all the time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.count = 0

    def run(self):
        pks = list(LtiResult.objects.values_list("pk", flat=True))
        while not self.over.is_set():
            result = LtiResult.objects.get(pk=random.choice(pks))
            if random.random() < 0.1:
                result.delete_score()
            else:
                result.submit_score(random.randrange(1001), 1000)
            self.count += 1
            time.sleep(0.004)
        connections.close_all()


def everything_arrived():
    together = [Deliverer(), Deliverer()]
    assert [deliverer.end() for deliverer in together] == [0, 0]
    return not LtiResult.objects.pending().exists()


def test_a_deliverer_that_is_killed_at_any_step_loses_nothing():
    count = 1000 if connection.vendor == "postgresql" else 300
    with DeadlyGradebook() as gradebook:
        consumer = LtiConsumer.objects.create(consumer_name="C", service_networks="127.0.0.0/8")
        many(consumer, gradebook.url, count, score=0.25)
        changes = Changes()
        changes.start()
        try:
            for step, times in STEPS:
                gradebook.step, gradebook.requests_left = step, times
                deliverer = Deliverer(step, times)
                gradebook.victim = deliverer.pid()
                assert deliverer.end() == -signal.SIGKILL, step
        finally:
            changes.over.set()
            changes.join()
        assert LtiResult.objects.filter(state="sending").exists()
        gradebook.step = ""
        wait_until(everything_arrived)
    assert changes.count > 50
    wanted = {
        result.remote_id: None if result.score is None else format_score(result.score)
        for result in LtiResult.objects.all()
    }
    assert gradebook.grades == wanted
    assert not LtiResult.objects.exclude(state="delivered").exists()
    assert len(wanted) == count

"""A person is erased while a launch of theirs is on its way to the session."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client

from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from lti_provider.privacy import DataSubject
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation
from tests.connecting import PASSWORD
from tests.test_person import CANARIES, canaries_left

pytestmark = pytest.mark.django_db(transaction=True)

HEADERS = navigation(framed=False)


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email")


def erase(consumer: LtiConsumer) -> None:
    """For a thread, which has a connection of its own."""
    try:
        DataSubject.from_lms(consumer, CANARIES["user_id"]).erase()
    finally:
        connection.close()


class Interruption:
    """Erases the person after the statement of this number, as another process would."""

    def __init__(self, consumer: LtiConsumer, number: int) -> None:
        self.consumer = consumer
        self.left = number
        self.erased = False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        answer = execute(sql, params, many, context)
        self.left -= 1
        # Within a transaction another process would wait for the row that was claimed.
        alone = not connection.in_atomic_block and not sql.startswith("BEGIN")
        if self.left <= 0 and alone and not self.erased:
            self.erased = True
            DataSubject.from_lms(self.consumer, CANARIES["user_id"]).erase()
        return answer


def known_in_another_browser(lms: FakeLms) -> Client:
    lms.launch(Client(), "/content/", **CANARIES)
    return Client()


def known_in_this_browser(lms: FakeLms) -> Client:
    browser = Client()
    lms.launch(browser, "/content/", **CANARIES)
    return browser


def connected(lms: FakeLms) -> Client:
    lms.launch(Client(), "/content/", **CANARIES)
    own = get_user_model().objects.create_user("ada", "ada@school.example", PASSWORD)
    person = LtiUser.objects.get()
    LtiUser.objects.connect(lms.consumer, "canary-id", person.lti_user_digest, own, None)
    return Client()


def post(lms: FakeLms, browser: Client, activity: str) -> str:
    """Launch an activity, a known one or a new one; the answer is where to enter."""
    changes = CANARIES if activity == "known" else {**CANARIES, "resource_link_id": "new"}
    return str(lms.post(browser, "/content/?note=canary-id", **changes)["Location"])


WHO = {
    "in another browser": known_in_another_browser,
    "in this browser": known_in_this_browser,
    "connected": connected,
}


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("who", WHO.values(), ids=WHO)
def test_after_whatever_statement_it_happens_nothing_fails_and_nothing_is_left(lms, who, number):
    browser = who(lms)
    url = post(lms, browser, "new")
    interruption = Interruption(lms.consumer, number)

    with connection.execute_wrapper(interruption):
        response = browser.get(url, headers=HEADERS)

    assert response.status_code in (303, 404)
    if interruption.erased:
        assert canaries_left() == set()


def test_the_answer_is_that_of_an_address_that_leads_nowhere(lms):
    browser = known_in_another_browser(lms)
    url = post(lms, browser, "known")

    with connection.execute_wrapper(Interruption(lms.consumer, 1)):
        response = browser.get(url, headers=HEADERS)

    assert response.status_code == 404
    assert b"unknown_handle" in response.content
    assert not LtiLaunch.objects.refused().exists()
    assert lms.launch(browser, "/content/", **CANARIES).status_code == 200


@pytest.mark.parametrize("turn", range(6))
def test_at_once_nothing_fails_and_nothing_is_left(lms, turn):
    browser = known_in_another_browser(lms)
    url = post(lms, browser, ("known", "new")[turn % 2])
    together = Barrier(2)

    def erase_together() -> None:
        together.wait()
        erase(lms.consumer)

    with ThreadPoolExecutor(1) as another:
        erased = another.submit(erase_together)
        together.wait()
        response = browser.get(url, headers=HEADERS)
        erased.result()

    assert response.status_code in (303, 404)
    assert canaries_left() == set()

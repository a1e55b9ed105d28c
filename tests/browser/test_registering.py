"""The administrator's pages of LTI 1.3 in Chromium: readable, calm, and without errors."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, Page

from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration, LtiUnknownSender
from lti_provider.models.unknown_sender import SenderKind, UnknownSender
from lti_provider.testing import FakePlatform

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WIDTHS = (375, 1200, 1440)


@pytest.fixture
def tab(strict_browser: BrowserContext, tool: str, admin_user: User) -> Page:
    page = strict_browser.new_page()
    page.goto(f"{tool}/admin/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", "password")
    page.click("[type=submit]")
    return page


def fill_site() -> LtiConsumer:
    """A consumer with a registration, a deployment that waits, and a typing mistake."""
    platform = FakePlatform.create("moodle", consumer_name="Campus", product="moodle")
    registration = platform.registration
    LtiRegistration.objects.update(lti_consumer=platform.consumer)
    platform.launch(Client(), "/content/")
    platform.deployment.deployment_id = "7"
    said = {"name": "Evening school", "guid": "evening.example", "product_family_code": "moodle"}
    platform.post(Client(), "/content/", tool_platform=said)
    mistyped = f"{registration.issuer}/"
    LtiUnknownSender.objects.record(UnknownSender(kind=SenderKind.ISSUER, text=mistyped))
    assert platform.consumer is not None
    return platform.consumer


def add() -> str:
    return "lticonsumer/add/"


def consumers() -> str:
    fill_site()
    return "lticonsumer/"


def consumer() -> str:
    return f"lticonsumer/{fill_site().pk}/change/"


def set_up() -> str:
    return f"lticonsumer/{fill_site().pk}/setup/"


def set_up_first() -> str:
    made = LtiConsumer.objects.create(
        consumer_name="New", product="open_edx", consumer_key=None, consumer_secret=""
    )
    return f"lticonsumer/{made.pk}/setup/"


def set_up_both() -> str:
    return f"lticonsumer/{LtiConsumer.objects.create(consumer_name='Old').pk}/setup/"


def registrations() -> str:
    fill_site()
    return "ltiregistration/"


def registration() -> str:
    fill_site()
    return f"ltiregistration/{LtiRegistration.objects.get().pk}/change/"


def deployments() -> str:
    fill_site()
    return "ltideployment/"


def waiting() -> str:
    fill_site()
    return f"ltideployment/{LtiDeployment.objects.waiting().get().pk}/change/"


PAGES = [
    *(add, consumers, consumer, set_up, set_up_first, set_up_both),
    *(registrations, registration, deployments, waiting),
]


def violations(page: Page) -> list[Any]:
    page.evaluate(Axe().axe_script)
    # Django's own tables of inlines have no labels.
    area = "{include: ['#content'], exclude: ['.inline-group']}"
    found = page.evaluate(f"async () => (await axe.run({area})).violations")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


@pytest.mark.parametrize("show", PAGES)
def test_a_page_is_readable_in_light_and_dark_and_on_a_phone(
    tab: Page, tool: str, show: Callable[[], str]
) -> None:
    tab.goto(f"{tool}/admin/lti_provider/{show()}")
    found = {}
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            tab.set_viewport_size({"width": width, "height": 900})
            if folder := os.environ.get("SHOTS"):
                name = f"{show.__name__}_{width}_{scheme}.png"
                tab.screenshot(path=Path(folder, name), full_page=True)
            found[scheme, width] = violations(tab)
    assert not any(found.values()), found

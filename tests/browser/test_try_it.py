"""Trial launches in Chromium: made in one browser, opened in another one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect

from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import FakePlatform

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

WIDTHS = (375, 1200)


@pytest.fixture
def admin(strict_browser: BrowserContext, tool: str, admin_user: User) -> Page:
    page = strict_browser.new_page()
    page.goto(f"{tool}/admin/login/")
    page.fill("[name=username]", "admin")
    page.fill("[name=password]", "password")
    page.click("[type=submit]")
    return page


@pytest.fixture
def private(open_browser: Callable[[str], BrowserContext]) -> Page:
    """A browser in which nobody is signed in."""
    return open_browser("third-party allowed").new_page()


@pytest.fixture
def consumer() -> LtiConsumer:
    return LtiConsumer.objects.create(consumer_name="Campus", consumer_key=None, consumer_secret="")


def make(admin: Page, tool: str, consumer: LtiConsumer, page: str = "/content/") -> str:
    """Take a page and press the button; the address that is shown."""
    admin.goto(f"{tool}/admin/lti_provider/lticonsumer/{consumer.pk}/setup/?page={page}")
    admin.get_by_label("Role").select_option("Teacher")
    admin.get_by_role("button", name="Make a launch").click()
    address = admin.get_by_label("Address of the launch")
    expect(address).to_be_visible()
    place = admin.locator("p", has=address)
    place.get_by_role("button", name="Copy").click()
    expect(place.get_by_role("status")).to_have_text("Copied")
    return address.input_value()


def test_an_address_opens_in_a_different_browser_and_spares_the_administrator(
    admin: Page, private: Page, tool: str, consumer: LtiConsumer
) -> None:
    address = make(admin, tool, consumer)
    private.goto(address)
    expect(private.get_by_role("heading", name="A launch to try")).to_be_visible()
    private.get_by_role("button", name="Launch").click()
    private.wait_for_url(f"{tool}/content/**")
    assert LtiLaunch.objects.get().entered_at is not None
    admin.reload()
    admin.goto(f"{tool}/admin/")
    expect(admin.get_by_role("button", name="Log out")).to_be_visible()
    private.goto(address)
    expect(private.get_by_text("launch_used")).to_be_visible()


def test_in_the_same_browser_it_asks_first(admin: Page, tool: str, consumer: LtiConsumer) -> None:
    make(admin, tool, consumer)
    with admin.expect_popup() as opened:
        admin.get_by_role("link", name="Open it in this browser").click()
    window = opened.value
    window.get_by_role("button", name="Launch").click()
    expect(window.get_by_role("heading", name="You are already signed in")).to_be_visible()
    admin.goto(f"{tool}/admin/")
    expect(admin.get_by_role("button", name="Log out")).to_be_visible()


def violations(page: Page, area: str) -> list[Any]:
    page.evaluate(Axe().axe_script)
    found = page.evaluate(f"async () => (await axe.run({area})).violations")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found]


def check_looks(page: Page, name: str, area: str = "document") -> None:
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            if folder := os.environ.get("SHOTS"):
                page.screenshot(path=Path(folder, f"{name}_{width}_{scheme}.png"), full_page=True)
            found[scheme, width] = violations(page, area)
            too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not page.evaluate(too_wide), (name, width)
    assert not any(found.values()), found


def test_its_pages_are_readable_in_light_and_dark_and_on_a_phone(
    admin: Page, private: Page, tool: str, consumer: LtiConsumer
) -> None:
    private.goto(make(admin, tool, consumer))
    check_looks(admin, "try_made", "'#content'")
    check_looks(private, "try_launch")
    LtiConsumer.objects.update(is_active=False)
    admin.get_by_role("button", name="Make a launch").click()
    expect(admin.get_by_role("alert")).to_contain_text("consumer_inactive")
    check_looks(admin, "try_refused", "'#content'")


def test_the_log_of_a_launch_by_lti_13_is_readable(admin: Page, tool: str) -> None:
    platform = FakePlatform.create("moodle", consumer_name="Campus")
    platform.post(Client(), "/content/", version="1.0")
    platform.post(Client(), "/content/", deployment_id="new")
    for number, launch in enumerate(LtiLaunch.objects.refused().order_by("pk")):
        admin.goto(f"{tool}/admin/lti_provider/ltilaunch/{launch.pk}/change/")
        check_looks(admin, f"log_{number}", "'#content'")
    admin.goto(f"{tool}/admin/lti_provider/ltilaunch/?outcome=refused")
    if folder := os.environ.get("SHOTS"):
        admin.screenshot(path=Path(folder, "log_list.png"), full_page=True)
    expect(admin.locator("#result_list")).to_contain_text(platform.registration.client_id)

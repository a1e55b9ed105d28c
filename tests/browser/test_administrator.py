"""An administrator's first day, by hand: the two sites of the demo in Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tests.browser.conftest import ARGUMENTS, COOKIES
from tests.demo import demo_environment, serving

pytestmark = [pytest.mark.browser, pytest.mark.once]

WRONG_SECRET = "not the secret"


@pytest.fixture
def context(chromium: str, tmp_path: Path) -> Iterator[BrowserContext]:
    preferences = tmp_path / "profile" / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps({"profile": COOKIES["third-party blocked"]}))
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=chromium, args=ARGUMENTS, locale="en-US"
        )
        context.set_default_timeout(15_000)
        yield context
        context.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[str, str]]:
    with serving(demo_environment(tmp_path / "var")) as addresses:
        yield addresses


def sign_in(admin: Page, tool: str) -> None:
    admin.goto(f"{tool}admin/")
    admin.fill("[name=username]", "admin")
    admin.fill("[name=password]", "admin")
    admin.click("[type=submit]")


def add_consumer(admin: Page) -> dict[str, str]:
    """The values that the set-up page has to copy."""
    admin.get_by_role("link", name="LTI consumers").first.click()
    admin.get_by_role("link", name="Add LTI consumer").click()
    admin.get_by_label("Consumer name").fill("Evening school")
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.get_by_role("heading", name="Values to enter there")).to_be_visible()
    admin.get_by_role("link", name="Show secret").click()
    secret = admin.get_by_label("Consumer secret")
    expect(secret).not_to_have_value("")
    return {
        "Launch URL": admin.get_by_label("Launch URL").input_value(),
        "Consumer key": admin.get_by_label("Consumer key").input_value(),
        "Shared secret": secret.input_value(),
    }


def configure(lms: Page, address: str, values: dict[str, str]) -> None:
    lms.goto(f"{address}tools/")
    for label, value in values.items():
        lms.get_by_label(label).fill(value)
    lms.get_by_role("button", name="Save").click()
    expect(lms.get_by_text("Saved.")).to_be_visible()


def expect_launched(lms: Page, address: str) -> None:
    lms.goto(f"{address}activities/1/")
    frame = lms.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Finding north")).to_be_visible()


def rotate(admin: Page, consumer: str) -> str:
    """The new secret, as the set-up page shows it."""
    admin.goto(consumer)
    admin.get_by_role("link", name="Rotate secret").click()
    admin.get_by_role("button", name="Rotate secret").click()
    expect(admin.get_by_text("the previous one is accepted until")).to_be_visible()
    admin.goto(f"{consumer.removesuffix('change/')}setup/")
    admin.get_by_role("link", name="Show secret").click()
    secret = admin.get_by_label("Consumer secret")
    expect(secret).not_to_have_value("")
    return secret.input_value()


def test_from_an_empty_admin_to_launches_with_two_secrets(
    demo: tuple[str, str], context: BrowserContext
) -> None:
    address, tool = demo
    admin, lms = context.new_page(), context.new_page()
    sign_in(admin, tool)
    values = add_consumer(admin)
    consumer = admin.url.replace("/setup/", "/change/")
    configure(lms, address, values)
    expect_launched(lms, address)

    configure(lms, address, {"Shared secret": WRONG_SECRET})
    lms.goto(f"{address}activities/1/")
    refusal = lms.frame_locator("iframe")
    expect(refusal.get_by_text("Reason: invalid_signature")).to_be_visible()
    admin.goto(consumer.replace("/change/", "/setup/"))
    admin.get_by_role("link", name="Log entry").last.click()
    expect(admin.get_by_text("one side has another secret since")).to_be_visible()
    expect(admin.locator("body")).not_to_contain_text(values["Shared secret"])

    second = rotate(admin, consumer)
    assert second != values["Shared secret"]
    for secret, use in [(values["Shared secret"], "previous"), (second, "present")]:
        configure(lms, address, {"Shared secret": secret})
        expect_launched(lms, address)
        admin.goto(f"{tool}admin/lti_provider/ltilaunch/")
        admin.locator("#result_list tbody th a, #result_list tbody td a").first.click()
        expect(admin.locator(".field-signed_with")).to_contain_text(use)
    admin.goto(consumer)
    expect(admin.get_by_text("Present secret: last used")).to_be_visible()
    expect(admin.get_by_text("Previous secret: accepted until")).to_contain_text("last used")

"""Browsers that keep no cookie in a frame, sandboxes, and somebody else's session."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, Page, expect

from lti_provider.models import LtiLaunch
from lti_provider.testing.lms import launch_path
from tests.browser.conftest import Lms, framed, sign_in

pytestmark = pytest.mark.browser

NEW_WINDOW = "Open in a new window"


def open_window(browser: BrowserContext, tab: Page) -> Page:
    with browser.expect_page() as opened:
        framed(tab).get_by_role("button", name=NEW_WINDOW).click()
    return opened.value


def test_without_cookies_in_frames_the_same_launch_goes_on_in_a_window(
    framed_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.course())
    window = open_window(framed_cookies_refused, tab)
    expect(window.locator("#person")).to_have_text(lms.fake.fields["user_id"])
    assert LtiLaunch.objects.count() == 1
    assert not any("partitionKey" in cookie for cookie in framed_cookies_refused.cookies())
    window.get_by_label("Answer").fill("42")
    window.get_by_role("button", name="Send").click()
    expect(window.locator(".message")).to_have_text("You said 42")


def test_the_offer_is_shown_in_a_wrapper_of_the_lms(
    framed_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.server.add_frame(lms.course()))
    button = framed(tab, depth=2).get_by_role("button", name=NEW_WINDOW)
    with framed_cookies_refused.expect_page() as opened:
        button.click()
    expect(opened.value.locator("#person")).to_have_text(lms.fake.fields["user_id"])


def test_canvas_is_asked_to_launch_in_the_whole_window(
    framed_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.add_init_script(
        """if (window === window.top) addEventListener("message", ({ data, origin }) => {
            document.title = `${data.messageType} ${data.data} ${origin}`;
        })"""
    )
    tab.goto(lms.course())
    url = f"{lms.tool}{launch_path('content/quiz/')}"
    expect(tab).to_have_title(f"requestFullWindowLaunch {url} {lms.tool}")


def test_a_second_click_on_the_offer_says_that_it_was_used(
    framed_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.course())
    expect(open_window(framed_cookies_refused, tab).locator("#user")).to_contain_text("lti-")
    again = open_window(framed_cookies_refused, tab)
    expect(again.locator("code")).to_have_text("launch_used")


def test_without_any_cookies_the_window_says_what_to_change(
    all_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = all_cookies_refused.new_page()
    tab.goto(lms.course())
    window = open_window(all_cookies_refused, tab)
    expect(window.get_by_role("main")).to_contain_text("cookies")
    assert LtiLaunch.objects.accepted().get().entered_at is None


def test_a_sandbox_without_windows_has_said_what_to_do(
    framed_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.course(attributes='sandbox="allow-forms allow-scripts allow-same-origin"'))
    framed(tab).get_by_role("button", name=NEW_WINDOW).click()
    expect(framed(tab).get_by_role("main")).to_contain_text(
        "Nothing happens, or the new window stays empty? Then the course page restricts new "
        "windows: ask your teacher to open this tool in a new window."
    )
    assert len(framed_cookies_refused.pages) == 2  # the browser's own and this one


def test_a_window_that_is_sandboxed_like_its_frame_says_what_to_do(
    framed_cookies_refused: BrowserContext, lms: Lms
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.course(attributes='sandbox="allow-forms allow-scripts allow-popups"'))
    window = open_window(framed_cookies_refused, tab)
    expect(window.locator("code")).to_have_text("foreign_origin")
    expect(window.get_by_role("main")).to_contain_text(
        "Ask your teacher to open this tool in a new window"
    )


def test_a_sandbox_without_an_origin_shows_the_content_to_be_read(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.course(attributes='sandbox="allow-forms allow-scripts"'))
    expect(framed(tab).locator("#person")).to_have_text(lms.fake.fields["user_id"])
    # What it posts comes from an origin that is nobody's, which Django refuses.
    framed(tab).get_by_role("button", name="Send").click()
    expect(framed(tab).get_by_role("heading").first).to_contain_text("Forbidden")


def test_somebody_else_is_asked_before_being_signed_out(
    strict_browser: BrowserContext, lms: Lms, alice: User
) -> None:
    tab = strict_browser.new_page()
    sign_in(tab, lms.tool, alice)
    tab.goto(lms.launch())
    expect(tab.get_by_role("main")).to_contain_text("alice")
    tab.get_by_role("link", name="Back to your course").click()
    expect(tab.get_by_role("heading")).to_have_text("Back in the course")
    tab.goto(f"{lms.tool}/content/quiz/")
    expect(tab.locator("#user")).to_have_text("alice")
    tab.goto(lms.launch())
    tab.get_by_role("button").click()
    expect(tab.locator("#person")).to_have_text(lms.fake.fields["user_id"])


def test_somebody_else_is_asked_in_the_window_of_a_frame_without_cookies(
    framed_cookies_refused: BrowserContext, lms: Lms, alice: User
) -> None:
    own = framed_cookies_refused.new_page()
    sign_in(own, lms.tool, alice)
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.course())
    window = open_window(framed_cookies_refused, tab)
    expect(window.get_by_role("main")).to_contain_text("alice")
    own.reload()
    expect(own.locator("#user")).to_have_text("alice")
    window.get_by_role("button").click()
    expect(window.locator("#person")).to_have_text(lms.fake.fields["user_id"])


def test_the_question_works_by_keyboard(
    strict_browser: BrowserContext, lms: Lms, alice: User
) -> None:
    tab = strict_browser.new_page()
    sign_in(tab, lms.tool, alice)
    tab.goto(lms.launch())
    tab.keyboard.press("Tab")
    expect(tab.get_by_role("button")).to_be_focused()
    tab.keyboard.press("Enter")
    expect(tab.locator("#person")).to_have_text(lms.fake.fields["user_id"])


def test_the_same_person_is_not_asked(strict_browser: BrowserContext, lms: Lms) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.launch(resource_link_id="first"))
    tab.goto(lms.launch(resource_link_id="second"))
    expect(tab.locator("#launch")).to_have_text("second")

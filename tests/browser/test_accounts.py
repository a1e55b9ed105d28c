"""Signing in and connecting an account, from a frame of the course to the content in that frame."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect

from lti_provider.models import LtiLaunch, LtiUser
from tests.browser.conftest import Lms, expect_blocked, framed, sign_in

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def site_with_accounts(site: None, settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.browser.accounts_site"


@pytest.fixture
def lms(add_lms: Callable[..., Lms]) -> Lms:
    """An LMS whose people need an account of the site."""
    lms = add_lms()
    lms.fake.consumer.require_user_account = True
    lms.fake.consumer.save()
    return lms


@pytest.fixture
def robin(transactional_db: None) -> User:
    """Whom the LMS sends."""
    return User.objects.create_user("robin", "robin.doe@lms.example", "secret")


@pytest.fixture
def other(transactional_db: None) -> User:
    return User.objects.create_user("other", "other@lms.example", "secret")


def open_course(browser: BrowserContext, lms: Lms) -> Page:
    tab = browser.new_page()
    tab.goto(lms.course())
    return tab


def open_window(browser: BrowserContext, tab: Page) -> Page:
    with browser.expect_page() as opened:
        framed(tab).get_by_role("button", name="Sign in in a new window").click()
    return opened.value


def log_in(window: Page, username: str) -> None:
    window.fill("[name=username]", username)
    window.fill("[name=password]", "secret")
    window.click("[type=submit]")


def press(window: Page, button: str) -> None:
    window.get_by_role("button", name=button).click()


def expect_heading(window: Page, text: str) -> None:
    expect(window.get_by_role("heading", level=1)).to_have_text(text)


def expect_content(tab: Page, username: str) -> None:
    expect(framed(tab).locator("#user")).to_have_text(username)


def test_from_the_frame_to_the_content_in_the_frame(
    browser: BrowserContext, lms: Lms, robin: User
) -> None:
    tab = open_course(browser, lms)
    window = open_window(browser, tab)
    log_in(window, "robin")
    expect_heading(window, "Connect your account?")
    press(window, "Yes, connect")
    expect_heading(window, "Your account is connected")
    expect_content(tab, "robin")
    tab.bring_to_front()
    framed(tab).get_by_label("Answer").fill("42")
    framed(tab).get_by_role("button", name="Send").click()
    expect(framed(tab).locator(".message")).to_have_text("You said 42")
    window.reload()
    expect_heading(window, "Your account is connected")
    again = open_course(browser, lms)
    expect_content(again, "robin")


def test_a_sign_in_at_another_site_and_back(
    browser: BrowserContext, lms: Lms, settings: Any, transactional_db: None
) -> None:
    User.objects.create_user("alice", "Robin.Doe@lms.example")
    settings.LOGIN_URL = "/sso/"
    settings.SSO_URL = lms.server.add_page(
        "<button onclick=\"location = new URLSearchParams(location.search).get('back')\">"
        "I am Alice</button>"
    )
    tab = open_course(browser, lms)
    window = open_window(browser, tab)
    press(window, "I am Alice")
    press(window, "Yes, connect")
    expect_content(tab, "alice")


def test_a_sign_up_on_the_way(
    strict_browser: BrowserContext, lms: Lms, settings: Any, transactional_db: None
) -> None:
    settings.LOGIN_URL = "/sign-up/"
    tab = open_course(strict_browser, lms)
    window = open_window(strict_browser, tab)
    window.fill("[name=username]", "newcomer")
    window.fill("[name=password1]", "zenith and nadir")
    window.fill("[name=password2]", "zenith and nadir")
    press(window, "Sign up")
    press(window, "Yes, connect")
    expect_content(tab, "newcomer")


def test_the_wrong_account_gives_way_to_another(
    strict_browser: BrowserContext, lms: Lms, tool: str, robin: User, other: User
) -> None:
    home = strict_browser.new_page()
    sign_in(home, tool, other)
    tab = open_course(strict_browser, lms)
    window = open_window(strict_browser, tab)
    expect_heading(window, "Not connected")
    expect(window.locator("strong")).to_have_text("other")
    press(window, "Sign in with another account")
    log_in(window, "robin")
    press(window, "Yes, connect")
    expect_content(tab, "robin")


def test_declining_is_told_in_the_frame_and_can_be_taken_back(
    strict_browser: BrowserContext, lms: Lms, robin: User
) -> None:
    tab = open_course(strict_browser, lms)
    window = open_window(strict_browser, tab)
    log_in(window, "robin")
    window.get_by_role("button", name="No", exact=True).click()
    expect(window.locator("code")).to_have_text("connection_declined")
    note = framed(tab).get_by_text("You did not connect your account. You can try again.")
    expect(note).to_be_visible()
    assert not LtiUser.objects.exists()
    window = open_window(strict_browser, tab)
    press(window, "Yes, connect")
    expect_content(tab, "robin")


def test_a_launch_that_waited_too_long_says_so_in_the_frame(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = open_course(strict_browser, lms)
    note = framed(tab).get_by_text("This took too long.")
    expect(note).to_be_hidden()
    LtiLaunch.objects.update(received_at=timezone.now() - timedelta(hours=2))
    expect(note).to_be_visible()


def test_an_anonymous_session_in_the_frame_gives_way_to_the_account(
    strict_browser: BrowserContext, lms: Lms, robin: User
) -> None:
    lms.fake.consumer.require_user_account = False
    lms.fake.consumer.save()
    tab = open_course(strict_browser, lms)
    expect(framed(tab).locator("#user")).to_contain_text("lti-")
    lms.fake.consumer.require_user_account = True
    lms.fake.consumer.save()
    tab.goto(lms.course())
    window = open_window(strict_browser, tab)
    log_in(window, "robin")
    press(window, "Yes, connect")
    expect_content(tab, "robin")


def test_ending_a_connection_ends_the_session_and_the_next_launch_asks(
    browser: BrowserContext, lms: Lms, tool: str, robin: User
) -> None:
    tab = open_course(browser, lms)
    window = open_window(browser, tab)
    log_in(window, "robin")
    press(window, "Yes, connect")
    expect_content(tab, "robin")
    window.get_by_role("link", name="Connections of this account").click()
    press(window, f"Disconnect {lms.fake.consumer.consumer_name}")
    expect(window.get_by_text("None.")).to_be_visible()
    tab.bring_to_front()
    framed(tab).get_by_role("link", name="Again").click()
    expect(framed(tab).locator("#user")).to_be_empty()
    tab.goto(lms.course())
    expect(framed(tab).get_by_role("button", name="Sign in in a new window")).to_be_visible()
    home = home_page(browser, tool)
    expect(home.locator("#user")).to_have_text("robin")


def home_page(browser: BrowserContext, tool: str) -> Page:
    page = browser.new_page()
    page.goto(f"{tool}/content/quiz/")
    return page


def test_without_cookies_in_frames_it_all_happens_in_a_window(
    framed_cookies_refused: BrowserContext, lms: Lms, robin: User
) -> None:
    tab = open_course(framed_cookies_refused, lms)
    with framed_cookies_refused.expect_page() as opened:
        framed(tab).get_by_role("button", name="Open in a new window").click()
    window = opened.value
    press(window, "Sign in")
    log_in(window, "robin")
    press(window, "Yes, connect")
    expect(window.locator("#user")).to_have_text("robin")
    assert LtiLaunch.objects.count() == 1


def test_a_launch_in_a_window_stays_in_it(
    strict_browser: BrowserContext, lms: Lms, robin: User
) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.launch())
    press(tab, "Sign in")
    log_in(tab, "robin")
    press(tab, "Yes, connect")
    expect(tab.locator("#user")).to_have_text("robin")


def test_a_mailed_question_is_worth_nothing_in_another_browser(
    strict_browser: BrowserContext,
    open_browser: Callable[[str], BrowserContext],
    lms: Lms,
    tool: str,
    robin: User,
) -> None:
    window = open_window(strict_browser, open_course(strict_browser, lms))
    log_in(window, "robin")
    expect_heading(window, "Connect your account?")
    victim = open_browser("third-party allowed").new_page()
    sign_in(victim, tool, robin)
    victim.goto(window.url)
    expect(victim.locator("code")).to_have_text("other_browser")


def test_another_site_cannot_start_it(
    strict_browser: BrowserContext, lms: Lms, tool: str, robin: User
) -> None:
    victim = strict_browser.new_page()
    sign_in(victim, tool, robin)
    tab = open_course(strict_browser, lms)
    action = framed(tab).locator("form").get_attribute("action")
    evil = f'<form method=post action="{tool}{action}"><button>You won</button></form>'
    victim.goto(lms.server.add_page(evil))
    press(victim, "You won")
    expect(victim.locator("code")).to_have_text("foreign_origin")


def test_a_page_of_the_same_site_cannot_frame_the_question(
    strict_browser: BrowserContext, lms: Lms, robin: User
) -> None:
    window = open_window(strict_browser, open_course(strict_browser, lms))
    log_in(window, "robin")
    expect_heading(window, "Connect your account?")
    evil = lms.server.add_frame(window.url).replace("127.0.0.1", "localhost")
    page = strict_browser.new_page()
    page.goto(evil)
    expect_blocked(page)

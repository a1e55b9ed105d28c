"""Launches of LTI 1.3: login, the LMS's answer and the page, in a frame and in a window."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect

from lti_provider.models import LtiLaunch, LtiUser
from lti_provider.testing import LmsServer
from tests.browser.conftest import expect_blocked, framed, sign_in
from tests.browser.firefox import Firefox
from tests.browser.platform import Platform
from tests.browser.test_firefox import ALL_COOKIES, DEFAULT, NO_CROSS_SITE_COOKIES, start

pytestmark = pytest.mark.browser

LAUNCH = "/lti/launch/"
LAUNCHED_USER = re.compile(r"^lti-\w+$")
methods = pytest.mark.parametrize("method", ["GET", "POST"])


@pytest.fixture
def add_lms(tool: str, transactional_db: None) -> Iterator[Callable[..., Platform]]:
    """Another port of 127.0.0.1 each."""
    with ExitStack() as stack:

        def add(**consumer: Any) -> Platform:
            return Platform.create(stack.enter_context(LmsServer()), tool, **consumer)

        yield add


@pytest.fixture
def lms(add_lms: Callable[..., Platform]) -> Platform:
    return add_lms()


def link(name: str) -> dict[str, Any]:
    return {"resource_link": {"id": name}}


def show(tab: Page, lms: Platform, name: str, method: str = "POST", **changes: Any) -> None:
    tab.goto(lms.course(method, **link(name), **changes))
    expect(framed(tab).locator("#launch")).to_have_text(name)
    expect(framed(tab).locator("#user")).to_have_text(LAUNCHED_USER)


def answer_quiz(tool: Any) -> None:
    tool.get_by_label("Answer").fill("42")
    tool.get_by_role("button", name="Send").click()
    expect(tool.locator(".message")).to_have_text("You said 42")


@methods
def test_a_first_activity_in_a_frame(
    browser: BrowserContext, lms: Platform, alice: User, asked: list[str], method: str
) -> None:
    own = browser.new_page()
    sign_in(own, lms.fake.site, alice)
    tab = browser.new_page()
    show(tab, lms, "first", method)
    # The frame shows that it keeps cookies before the LMS is asked, then the launch signs in.
    assert asked == [f"{method} /lti/login/"] * 2 + [f"POST {LAUNCH}"]
    expect(framed(tab).locator("#person")).to_have_text(lms.fake.claims["sub"])
    answer_quiz(framed(tab))
    expect(framed(tab).locator("#launch")).to_have_text("first")
    cookies = framed(tab).locator("#cookies").inner_text()
    assert "login" not in cookies
    own.reload()
    expect(own.locator("#user")).to_have_text("alice")


@methods
def test_a_second_activity_in_the_same_frame(
    browser: BrowserContext, lms: Platform, asked: list[str], method: str
) -> None:
    tab = browser.new_page()
    show(tab, lms, "first", method)
    user = framed(tab).locator("#user").inner_text()
    asked.clear()
    show(tab, lms, "second", method)
    assert asked == [f"{method} /lti/login/", f"POST {LAUNCH}"]
    expect(framed(tab).locator("#user")).to_have_text(user)
    answer_quiz(framed(tab))


@methods
def test_an_activity_in_a_window(
    browser: BrowserContext, lms: Platform, asked: list[str], method: str
) -> None:
    tab = browser.new_page()
    tab.goto(lms.server.add_page(f'<a target=_blank href="{lms.launch(method)}">Quiz</a>'))
    with browser.expect_page() as opened:
        tab.get_by_role("link").click()
    window = opened.value
    expect(window.locator("#person")).to_have_text(lms.fake.claims["sub"])
    handle = r"[0-9a-f]{64}"
    assert re.fullmatch(
        rf"{method} /lti/login/ POST {LAUNCH} GET /lti/enter/{handle}/", " ".join(asked)
    )
    answer_quiz(window)
    ours = {cookie["name"]: cookie for cookie in browser.cookies(lms.fake.site)}
    assert ours.keys() == {"sessionid", "csrftoken"}
    assert all(cookie["sameSite"] == "Lax" for cookie in ours.values())


def test_frames_of_one_page_that_launch_at_once(
    strict_browser: BrowserContext, lms: Platform
) -> None:
    tab = strict_browser.new_page()
    names = [f"number {number}" for number in range(6)]
    urls = [lms.launch("GET" if at % 2 else "POST", **link(name)) for at, name in enumerate(names)]
    tab.goto(lms.server.add_page("".join(f'<iframe src="{url}"></iframe>' for url in urls)))
    for at, name in enumerate(names):
        frame = tab.frame_locator("iframe").nth(at)
        expect(frame.locator("#launch")).to_have_text(name)
        expect(frame.locator("#person")).to_have_text(lms.fake.claims["sub"])


@methods
def test_where_frames_keep_no_cookies_the_same_login_goes_on_in_a_window(
    framed_cookies_refused: BrowserContext, lms: Platform, asked: list[str], method: str
) -> None:
    tab = framed_cookies_refused.new_page()
    tab.goto(lms.course(method))
    expect(framed(tab).get_by_role("heading")).to_have_text("Open this activity in a new window")
    # The LMS was asked nothing yet.
    assert asked == [f"{method} /lti/login/"] * 2
    with framed_cookies_refused.expect_page() as opened:
        framed(tab).get_by_role("button", name="Open in a new window").click()
    window = opened.value
    expect(window.locator("#person")).to_have_text(lms.fake.claims["sub"])
    answer_quiz(window)
    assert LtiLaunch.objects.count() == 1


def test_a_sandbox_without_scripts_has_a_button(
    strict_browser: BrowserContext, lms: Platform
) -> None:
    tab = strict_browser.new_page()
    sandbox = 'sandbox="allow-forms allow-same-origin"'
    fields = "".join(
        f'<input type=hidden name="{name}" value="{value}">'
        for name, value in lms.fake.begin_login("content/quiz/")
    )
    form = f'<form method=post action="{lms.fake.login_url}" target=tool>{fields}'
    frame = f"<button>Go</button></form><iframe name=tool {sandbox}></iframe>"
    tab.goto(lms.server.add_page(form + frame))
    tab.get_by_role("button", name="Go").click()
    framed(tab).get_by_role("button", name="Continue").click()
    # Further on it is the LMS's own page, which needs scripts.
    expect(framed(tab).locator("form")).to_have_attribute("action", lms.fake.redirect_uri)


def log_in(window: Page, username: str) -> None:
    window.fill("[name=username]", username)
    window.fill("[name=password]", "secret")
    window.click("[type=submit]")


@methods
def test_signing_in_and_connecting_from_a_frame(
    browser: BrowserContext, add_lms: Callable[..., Platform], alice: User, method: str
) -> None:
    lms = add_lms(require_user_account=True, account_match="any")
    tab = browser.new_page()
    tab.goto(lms.course(method))
    with browser.expect_page() as opened:
        framed(tab).get_by_role("button", name="Sign in in a new window").click()
    window = opened.value
    log_in(window, "alice")
    window.get_by_role("button", name="Yes, connect").click()
    expect(window.get_by_role("heading")).to_have_text("Your account is connected")
    tab.bring_to_front()
    expect(framed(tab).locator("#user")).to_have_text("alice")
    answer_quiz(framed(tab))
    assert LtiUser.objects.get().is_connected
    tab.goto(lms.course(method))
    expect(framed(tab).locator("#user")).to_have_text("alice")


@pytest.fixture
def stolen(lms: Platform) -> list[list[tuple[str, str]]]:
    """What the LMS answered to somebody else, in a browser of their own."""
    answers = []
    for _time in range(2):
        pairs = lms.fake.begin_login("content/quiz/", sub="attacker")
        answers.append(lms.fake.authorize(lms.fake.log_in(Client(), pairs)["Location"]))
    return answers


def test_the_launch_of_somebody_else_is_refused_in_every_frame_and_window(
    browser: BrowserContext,
    lms: Platform,
    add_lms: Callable[..., Platform],
    stolen: list[list[tuple[str, str]]],
) -> None:
    evil, victim = add_lms().server, browser.new_page()
    show(victim, lms, "first")
    page = evil.add_launch(lms.fake.redirect_uri, stolen[0])
    for server in (evil, lms.server):
        victim.goto(server.add_frame(page))
        expect(framed(victim).locator("code")).to_have_text("other_browser")
    victim.goto(evil.add_launch(lms.fake.redirect_uri, stolen[1]))
    expect(victim.locator("code")).to_have_text("other_browser")
    assert not LtiUser.objects.filter(lti_user_id="attacker").exists()


def test_a_different_lms_cannot_frame_the_page(
    strict_browser: BrowserContext, lms: Platform, add_lms: Callable[..., Platform]
) -> None:
    tab = strict_browser.new_page()
    show(tab, lms, "first")
    content = tab.frames[1].url
    tab.goto(add_lms().server.add_frame(content))
    expect_blocked(tab)


# Firefox


@pytest.fixture
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with start(tmp_path_factory, DEFAULT) as browser:
        yield browser


@pytest.fixture
def strict_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox that blocks all cross-site cookies, partitioned ones too."""
    with start(tmp_path_factory, NO_CROSS_SITE_COOKIES) as browser:
        yield browser


@methods
def test_activities_in_a_frame_of_firefox(
    firefox: Firefox, lms: Platform, asked: list[str], method: str
) -> None:
    for name in ("first", "second"):
        firefox.open(lms.course(method, **link(name)))
        firefox.enter_frame()
        firefox.find("#launch:not(:empty)")
        assert firefox.text("#launch") == name
        assert firefox.text("#person") == lms.fake.claims["sub"]
        firefox.type("[name=answer]", "42")
        firefox.click("#quiz button")
        assert firefox.text(".message") == "You said 42"
    first = [f"{method} /lti/login/"] * 2 + [f"POST {LAUNCH}"]
    assert asked == [*first, f"{method} /lti/login/", f"POST {LAUNCH}"]


@methods
def test_an_activity_in_a_window_of_firefox(
    firefox: Firefox, lms: Platform, asked: list[str], method: str
) -> None:
    firefox.open(lms.launch(method))
    assert firefox.text("#person") == lms.fake.claims["sub"]
    assert [each.split("/")[2] for each in asked] == ["login", "launch", "enter"]


@methods
def test_where_firefox_keeps_no_cookies_the_login_goes_on_in_a_window(
    strict_firefox: Firefox, lms: Platform, asked: list[str], method: str
) -> None:
    strict_firefox.open(lms.course(method))
    strict_firefox.enter_frame()
    strict_firefox.find("[target=_blank] button")
    assert asked == [f"{method} /lti/login/"] * 2
    strict_firefox.click("button")
    strict_firefox.enter_new_window()
    assert strict_firefox.text("#person") == lms.fake.claims["sub"]
    assert LtiLaunch.objects.count() == 1


@pytest.fixture
def one_jar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox that keeps third-party cookies and has never heard of Partitioned."""
    with start(tmp_path_factory, ALL_COOKIES, partitions=False) as browser:
        yield browser


def test_the_session_of_a_tab_stays_where_frame_and_tab_share_cookies(
    one_jar: Firefox, lms: Platform, alice: User
) -> None:
    one_jar.open(f"{lms.fake.site}/accounts/login/?next=/content/quiz/")
    one_jar.type("[name=username]", "alice")
    one_jar.type("[name=password]", "secret")
    one_jar.click("[type=submit]")
    # The page before it has no such element.
    one_jar.find("#user:not(:empty)")
    for name in ("first", "second"):
        one_jar.open(lms.course(**link(name)))
        one_jar.enter_frame()
        one_jar.find("#launch:not(:empty)")
        assert LAUNCHED_USER.fullmatch(one_jar.text("#user"))
        one_jar.open(f"{lms.fake.site}/content/quiz/")
        assert one_jar.text("#user") == "alice"

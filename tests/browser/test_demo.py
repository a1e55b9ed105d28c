"""The demo in Chromium: its LMS and its tool are two sites, so cookies in frames are at stake."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, FrameLocator, Page, expect

from tests.browser.conftest import framed
from tests.browser.test_firefox import DEFAULT, start
from tests.demo import Browser, Demo, demo_environment, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.once]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    env = demo_environment(tmp_path_factory.mktemp("demo"))
    with serving(env) as (lms, tool):
        yield Demo(lms, tool, env)


def open_activity(tab: Page, demo: Demo, title: str) -> None:
    tab.goto(demo.lms)
    tab.get_by_role("link", name=title).click()


def answer(quiz: Page | FrameLocator) -> None:
    questions = quiz.get_by_role("group")
    expect(questions).to_have_count(3)
    for question in questions.all():
        question.get_by_role("radio").first.check()
    quiz.get_by_role("button", name="Send my answers").click()
    expect(quiz.get_by_text("Your answers are stored.")).to_be_visible()
    expect(quiz.locator("[data-lti-grade]")).to_have_count(0)


def show_token(tab: Page, demo: Demo) -> None:
    """From the activity to the page that shows what the tool asked and what it will be told."""
    open_activity(tab, demo, "Quiz: Finding north")
    tab.get_by_role("link", name="See the login and token").click()
    tab.get_by_role("button", name="Send it").click()
    expect(tab.get_by_role("heading", name="The token")).to_be_visible()


def post_token(tab: Page) -> Page:
    with tab.context.expect_page() as opened:
        tab.get_by_role("button", name="Post it").click()
    return opened.value


def test_the_quiz_is_answered_in_a_frame(browser: BrowserContext, demo: Demo) -> None:
    tab = browser.new_page()
    open_activity(tab, demo, "Quiz: Finding north")
    answer(framed(tab))
    assert framed(tab).get_by_text("Amara Okafor").count() == 1


def test_the_quiz_is_answered_in_a_window(browser: BrowserContext, demo: Demo) -> None:
    tab = browser.new_page()
    open_activity(tab, demo, "Quiz: Faces of the Moon")
    with browser.expect_page() as opened:
        tab.get_by_role("link", name="Open Night Sky").click()
    answer(opened.value)


def test_without_cookies_in_frames_the_quiz_goes_on_in_a_window(
    open_browser: Callable[[str], BrowserContext], demo: Demo
) -> None:
    browser = open_browser("not in frames")
    tab = browser.new_page()
    open_activity(tab, demo, "Quiz: Finding north")
    with browser.expect_page() as opened:
        framed(tab).get_by_role("button", name="Open in a new window").click()
    answer(opened.value)


def test_an_activity_says_by_which_dialect_it_is_opened(
    strict_browser: BrowserContext, demo: Demo
) -> None:
    tab = strict_browser.new_page()
    tab.goto(demo.lms)
    expect(tab.get_by_text("LTI 1.3, on this page").first).to_be_visible()
    open_activity(tab, demo, "Quiz: Finding north")
    expect(tab.get_by_text("Opened by LTI 1.3. No grade comes back yet")).to_be_visible()
    tab.goto(demo.lms)
    tab.get_by_role("link", name="Astronomy, last year").click()
    tab.get_by_role("link", name="Quiz: Finding north").click()
    expect(tab.get_by_text("Opened by LTI 1.1.")).to_be_visible()
    expect(framed(tab).get_by_role("button", name="Send my answers")).to_be_visible()


def test_login_and_token_are_shown_and_posted_twice(browser: BrowserContext, demo: Demo) -> None:
    tab = browser.new_page()
    show_token(tab, demo)
    expect(tab.get_by_text(f"{demo.tool}lti/launch/", exact=True).first).to_be_visible()
    expect(tab.get_by_label("Header")).to_have_value(re.compile('"alg": "RS256"'))
    expect(tab.get_by_label("Claims")).to_have_value(re.compile('"name": "Amara Okafor"'))

    opened = post_token(tab)
    expect(opened.get_by_role("button", name="Send my answers")).to_be_visible()
    again = post_token(tab)

    expect(again.get_by_text("replayed_launch")).to_be_visible()
    assert "replayed_launch" in demo.newest_refusal()


def test_a_claim_changed_by_hand_no_longer_fits_the_signature(
    browser: BrowserContext, demo: Demo
) -> None:
    tab = browser.new_page()
    show_token(tab, demo)
    claims = tab.get_by_label("Claims")
    token = tab.get_by_label("id_token")
    made = token.input_value()
    claims.fill(claims.input_value().replace("#Learner", "#Instructor"))
    expect(token).not_to_have_value(made)

    refused = post_token(tab)

    expect(refused.get_by_text("token_signature_invalid")).to_be_visible()
    assert "membership#Instructor" in demo.newest_refusal()
    tab.get_by_role("button", name="Undo my changes").click()
    expect(post_token(tab).get_by_role("button", name="Send my answers")).to_be_visible()


def test_an_account_is_connected_from_the_frame(browser: BrowserContext, demo: Demo) -> None:
    tab = browser.new_page()
    open_activity(tab, demo, "Quiz: Colours of stars")
    with browser.expect_page() as opened:
        framed(tab).get_by_role("button", name="Sign in in a new window").click()
    window = opened.value
    window.get_by_label("Username").fill("amara")
    window.get_by_label("Password").fill("amara")
    window.get_by_role("main").get_by_role("button").first.click()
    window.get_by_role("button", name="Yes, connect").click()
    expect(framed(tab).get_by_role("button", name="Send my answers")).to_be_visible()
    window.goto(f"{demo.tool}lti/connections/")
    window.get_by_role("main").get_by_role("button").first.click()
    expect(window.get_by_text("None.")).to_be_visible()


def test_both_sides_are_set_up_by_hand(strict_browser: BrowserContext, demo: Demo) -> None:
    lms, admin = strict_browser.new_page(), strict_browser.new_page()
    admin.goto(f"{demo.tool}admin/lti_provider/lticonsumer/add/")
    admin.get_by_label("Username").fill("admin")
    admin.get_by_label("Password").fill("admin")
    admin.get_by_role("button", name="Log in").click()
    admin.get_by_label("Consumer name").fill("By hand")
    admin.get_by_role("button", name="Save", exact=True).click()

    lms.goto(f"{demo.lms}tools/")
    lms.get_by_role("link", name="Add a tool by LTI 1.3").click()
    lms.get_by_label("Name", exact=True).fill("Stars")
    for there, here in [
        ("Target link URI", "Launch URL"),
        ("Login URL", "Login URL"),
        ("Redirect URI", "Redirect URI"),
        ("Key set URL", "Key set URL"),
    ]:
        lms.get_by_label(here).fill(admin.get_by_label(there).first.input_value())
    lms.get_by_role("button", name="Add the tool").click()

    for name in (
        "Issuer",
        "Client id",
        "Deployment id",
        "Authorization endpoint",
        "Key set URL",
    ):
        value = lms.locator(f"dt:text-is('{name}') + dd code").inner_text()
        admin.locator("#lti13-register").get_by_label(name, exact=True).fill(value)
    admin.get_by_role("button", name="Register").click()
    admin.get_by_role("link", name="https://lms.campus.example").click()
    admin.get_by_label("Service networks").fill("127.0.0.0/8")
    admin.get_by_role("button", name="Save", exact=True).click()

    lms.get_by_role("link", name="Add an activity that opens it").click()
    lms.get_by_label("Title").fill("By hand")
    lms.get_by_label("Description").fill("Set up by hand.")
    lms.get_by_label("Target").fill("lessons/finding-north/quiz/")
    lms.get_by_role("button", name="Add the activity").click()
    expect(framed(lms).get_by_role("button", name="Send my answers")).to_be_visible()


def test_the_quiz_is_opened_in_a_frame_of_firefox(
    tmp_path_factory: pytest.TempPathFactory, demo: Demo
) -> None:
    # Firefox keeps the LMS's own cookie back after the tool's redirect, so the LMS asks again.
    page = demo.activity("Quiz: Finding north", Browser())
    with start(tmp_path_factory, DEFAULT) as firefox:
        firefox.open(page.url)
        wait_until(lambda: "/lessons/finding-north/quiz/" in firefox.address_in_frame())
        firefox.enter_frame()
        assert firefox.text("h1") == "Finding north"

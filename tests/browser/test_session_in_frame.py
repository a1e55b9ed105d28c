"""What works in a frame, whatever the browser does with third-party cookies."""

import re
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, expect

from tests.browser.conftest import Lms, expect_blocked, framed, sign_in

pytestmark = pytest.mark.browser

LAUNCHED_USER = re.compile(r"^lti-\w+$")


def test_the_browsers_treat_cookies_as_their_names_say(
    open_browser: Callable[[str], BrowserContext], lms: Lms
) -> None:
    page = lms.server.add_frame(f"{lms.tool}/cookies/")
    kept = {
        "third-party allowed": "none partitioned",
        "third-party blocked": "partitioned",
        "only in a window": "",
        "none": "",
    }
    for cookies, expected in kept.items():
        tab = open_browser(cookies).new_page()
        tab.goto(page)
        tab.reload()
        expect(framed(tab).locator("#cookies")).to_have_text(expected)
    tab = open_browser("only in a window").new_page()
    tab.goto(f"{lms.tool}/cookies/")
    tab.reload()
    expect(tab.locator("#cookies")).to_have_text("lax none partitioned")


def test_a_framed_launch_reaches_the_content_signed_in(browser: BrowserContext, lms: Lms) -> None:
    tab = browser.new_page()
    tab.goto(lms.course())
    expect(framed(tab).locator("#person")).to_have_text(lms.fake.fields["user_id"])
    expect(framed(tab).locator("#user")).to_have_text(LAUNCHED_USER)
    framed(tab).get_by_role("link", name="Again").click()
    expect(framed(tab).locator("#person")).to_have_text(lms.fake.fields["user_id"])


def test_a_launch_works_in_a_wrapper_of_the_lms(browser: BrowserContext, lms: Lms) -> None:
    tab = browser.new_page()
    tab.goto(lms.server.add_frame(lms.course()))
    expect(framed(tab, depth=2).locator("#user")).to_have_text(LAUNCHED_USER)


def test_a_launch_works_where_the_lms_hides_its_address(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    hidden = '<meta name="referrer" content="no-referrer">'
    tab = strict_browser.new_page()
    tab.goto(lms.server.add_page(f'{hidden}<iframe name=tool src="{lms.launch()}"></iframe>'))
    expect(framed(tab).locator("#user")).to_have_text(LAUNCHED_USER)


def test_a_launch_in_a_window_has_an_ordinary_session(browser: BrowserContext, lms: Lms) -> None:
    tab = browser.new_page()
    tab.goto(lms.server.add_page(f'<a target=_blank href="{lms.launch()}">Quiz</a>'))
    with browser.expect_page() as opened:
        tab.get_by_role("link").click()
    window = opened.value
    expect(window.locator("#person")).to_have_text(lms.fake.fields["user_id"])
    ours = {cookie["name"]: cookie for cookie in browser.cookies()}
    assert ours.keys() == {"sessionid", "csrftoken", "django_language"}
    assert all(cookie["sameSite"] == "Lax" for cookie in ours.values())
    assert not any("partitionKey" in cookie for cookie in ours.values())


def test_a_form_and_its_message_work_in_a_frame(browser: BrowserContext, lms: Lms) -> None:
    tab = browser.new_page()
    tab.goto(lms.course())
    quiz = framed(tab)
    quiz.get_by_label("Answer").fill("42")
    quiz.get_by_role("button", name="Send").click()
    expect(quiz.locator(".message")).to_have_text("You said 42")
    expect(quiz.locator("#launch")).to_have_text(lms.fake.fields["resource_link_id"])
    quiz.get_by_role("link", name="Again").click()
    expect(quiz.locator(".message")).to_have_count(0)


def test_scripts_find_the_csrf_token_in_a_frame(browser: BrowserContext, lms: Lms) -> None:
    tab = browser.new_page()
    tab.goto(lms.course())
    for counted in ("1", "2"):
        framed(tab).get_by_role("button", name="Count").click()
        expect(framed(tab).locator("#counted")).to_have_text(counted)


def test_csrf_tokens_in_the_session_work_in_a_frame(
    strict_browser: BrowserContext, lms: Lms, settings
) -> None:
    settings.CSRF_USE_SESSIONS = True
    test_a_form_and_its_message_work_in_a_frame(strict_browser, lms)


@pytest.mark.parametrize("engine", ["cached_db", "cache"])
def test_other_sessions_work_in_a_frame(
    strict_browser: BrowserContext, lms: Lms, settings, engine: str
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    test_a_form_and_its_message_work_in_a_frame(strict_browser, lms)


def test_a_frame_keeps_the_language_that_was_chosen(browser: BrowserContext, lms: Lms) -> None:
    tab = browser.new_page()
    tab.goto(lms.course(launch_presentation_locale="fr-FR"))
    expect(framed(tab).locator("html")).to_have_attribute("lang", "fr")
    framed(tab).get_by_role("button", name="Deutsch").click()
    expect(framed(tab).locator("html")).to_have_attribute("lang", "de")
    framed(tab).get_by_role("link", name="Again").click()
    expect(framed(tab).locator("html")).to_have_attribute("lang", "de")


def test_log_out_works_in_a_frame(browser: BrowserContext, lms: Lms, settings) -> None:
    settings.LOGOUT_REDIRECT_URL = "/content/quiz/"
    tab = browser.new_page()
    tab.goto(lms.course())
    framed(tab).get_by_role("button", name="Log out").click()
    expect(framed(tab).locator("#user")).to_have_text("")
    names = {cookie["name"] for cookie in browser.cookies()}
    assert not {"sessionid", "sessionid_lti_frame"} & names


def test_a_frame_leaves_the_learners_own_session_alone(
    browser: BrowserContext, lms: Lms, alice: User, settings
) -> None:
    settings.LOGOUT_REDIRECT_URL = "/content/quiz/"
    own = browser.new_page()
    sign_in(own, lms.tool, alice)
    own.get_by_role("button", name="Deutsch").click()
    own.wait_for_load_state()

    course = browser.new_page()
    course.goto(lms.course(launch_presentation_locale="fr"))
    expect(framed(course).locator("#user")).to_have_text(LAUNCHED_USER)
    expect(framed(course).locator("html")).to_have_attribute("lang", "fr")

    own.get_by_label("Answer").fill("mine")
    own.get_by_role("button", name="Send").click()
    expect(own.locator(".message")).to_have_text("You said mine")
    framed(course).get_by_role("button", name="Log out").click()
    expect(framed(course).locator("#user")).to_have_text("")

    own.reload()
    expect(own.locator("#user")).to_have_text("alice")
    expect(own.locator("#launch")).to_have_text("")
    expect(own.locator("html")).to_have_attribute("lang", "de")
    expect(own.locator("#cookies")).not_to_contain_text("__Host-lti_frame")


def test_sign_out_works_in_a_frame(browser: BrowserContext, lms: Lms, alice: User) -> None:
    own, course = browser.new_page(), browser.new_page()
    sign_in(own, lms.tool, alice)
    course.goto(lms.course())
    expect(framed(course).locator("#user")).to_have_text(LAUNCHED_USER)
    kept = [each for each in browser.cookies() if each["name"].startswith("sessionid")]
    assert sorted(each["expires"] == -1 for each in kept) == [False, True]

    framed(course).get_by_role("button", name="Sign out").click()
    expect(framed(course).get_by_role("heading")).to_have_text("You are signed out")
    left = [each for each in browser.cookies() if each["name"].startswith("sessionid")]
    assert [each["expires"] == -1 for each in left] == [False]
    framed(course).get_by_role("link", name="Back to your course").click()
    expect(course.get_by_role("heading")).to_have_text("Back in the course")
    own.reload()
    expect(own.locator("#user")).to_have_text("alice")


def test_logging_out_of_the_site_leaves_the_frame_signed_in(
    strict_browser: BrowserContext, lms: Lms, alice: User
) -> None:
    own, course = strict_browser.new_page(), strict_browser.new_page()
    course.goto(lms.course())
    sign_in(own, lms.tool, alice)
    own.get_by_role("button", name="Log out").click()
    course.bring_to_front()
    framed(course).get_by_role("link", name="Again").click()
    expect(framed(course).locator("#user")).to_have_text(LAUNCHED_USER)


def test_two_tabs_keep_a_launch_each(browser: BrowserContext, lms: Lms) -> None:
    first, second = browser.new_page(), browser.new_page()
    for tab, link in ((first, "first"), (second, "second")):
        tab.goto(lms.course(resource_link_id=link))
        expect(framed(tab).locator("#launch")).to_have_text(link)
    for tab, link in ((first, "first"), (second, "second"), (first, "first")):
        # A click in the frame of a tab that is not in front may be lost.
        tab.bring_to_front()
        framed(tab).get_by_label("Answer").fill(link)
        framed(tab).get_by_role("button", name="Send").click()
        expect(framed(tab).locator(".message")).to_have_text(f"You said {link}")
        expect(framed(tab).locator("#launch")).to_have_text(link)


def test_another_person_of_the_lms_takes_the_frame_over(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    first, second = strict_browser.new_page(), strict_browser.new_page()
    first.goto(lms.course(user_id="first"))
    expect(framed(first).locator("#person")).to_have_text("first")
    before = framed(first).locator("#user").inner_text()
    second.goto(lms.course(user_id="second"))
    expect(framed(second).locator("#person")).to_have_text("second")
    # Two people in one browser: the tab that was left open is nobody's any more.
    first.bring_to_front()
    framed(first).get_by_label("Answer").fill("42")
    with first.expect_response(lambda response: response.request.method == "POST"):
        framed(first).get_by_role("button", name="Send").click()
    expect(framed(first).locator(".message")).to_have_count(0)
    second.goto(lms.course(user_id="first"))
    expect(framed(second).locator("#user")).to_have_text(before)


def test_back_and_reload_work_in_a_frame(strict_browser: BrowserContext, lms: Lms) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.course())
    framed(tab).get_by_role("link", name="Again").click()
    expect(framed(tab).locator("#user")).to_have_text(LAUNCHED_USER)
    tab.evaluate("history.back()")
    expect(framed(tab).locator("#launch")).to_have_text(lms.fake.fields["resource_link_id"])
    frame = tab.frames[1]
    frame.evaluate("location.reload()")
    expect(framed(tab).locator("#launch")).to_have_text(lms.fake.fields["resource_link_id"])


def test_sign_in_and_admin_pages_stay_out_of_frames(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.course())
    framed(tab).get_by_role("link", name="Sign in").click()
    expect_blocked(tab)
    tab.goto(lms.server.add_frame(f"{lms.tool}/admin/"))
    expect_blocked(tab)

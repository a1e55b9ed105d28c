"""A second activity of a course in a frame: the launch itself signs in, with one request to us."""

import re

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from playwright.sync_api import BrowserContext, Frame, Page, expect

from lti_provider.models import LtiLaunch, LtiUser
from tests.browser.conftest import Lms, framed, sign_in

pytestmark = pytest.mark.browser

ONE_REQUEST = ["POST /lti/launch/content/quiz/"]


def show(tab: Page, lms: Lms, link: str, **changes: str) -> None:
    tab.goto(lms.course(resource_link_id=link, **changes))
    expect(framed(tab).locator("#launch")).to_have_text(link)


def open_first(tab: Page, lms: Lms, asked: list[str], **changes: str) -> None:
    show(tab, lms, "first", **changes)
    assert [each.split("/")[2] for each in asked] == ["launch", "enter"]
    asked.clear()


def get_session_keys() -> set[str]:
    return set(Session.objects.values_list("session_key", flat=True))


def test_a_second_activity_takes_one_request(
    browser: BrowserContext, lms: Lms, alice: User, asked: list[str]
) -> None:
    own = browser.new_page()
    sign_in(own, lms.tool, alice)
    # In front, since a click in the frame of another tab may be lost.
    tab = browser.new_page()
    open_first(tab, lms, asked)
    user = framed(tab).locator("#user").inner_text()

    answers = []
    tab.on("response", lambda answer: answers.append((answer.status, answer.url)))
    show(tab, lms, "second")
    assert asked == ONE_REQUEST
    content = f"{lms.tool}/content/quiz/?lti_launch={LtiLaunch.objects.latest('pk').pk}"
    ours = [each for each in answers if each[1].startswith(lms.tool)]
    assert ours == [(303, f"{lms.tool}/lti/launch/content/quiz/"), (200, content)]
    expect(framed(tab).locator("#person")).to_have_text(lms.fake.fields["user_id"])
    expect(framed(tab).locator("#user")).to_have_text(user)
    framed(tab).get_by_label("Answer").fill("42")
    framed(tab).get_by_role("button", name="Send").click()
    expect(framed(tab).locator(".message")).to_have_text("You said 42")
    expect(framed(tab).locator("#launch")).to_have_text("second")
    own.reload()
    expect(own.locator("#user")).to_have_text("alice")
    expect(own.locator("#launch")).to_have_text("")


def test_frames_of_one_page_that_launch_at_once_take_one_request_each(
    strict_browser: BrowserContext, lms: Lms, asked: list[str]
) -> None:
    tab = strict_browser.new_page()
    open_first(tab, lms, asked)
    links = ["second", "third", "fourth", "fifth"]
    urls = [lms.launch(resource_link_id=link) for link in links]
    tab.goto(lms.server.add_page("".join(f'<iframe src="{url}"></iframe>' for url in urls)))
    for again in (False, True):
        for at, link in enumerate(links):
            frame = tab.frame_locator("iframe").nth(at)
            expect(frame.locator("#launch")).to_have_text(link)
            expect(frame.locator("#person")).to_have_text(lms.fake.fields["user_id"])
            if not again:
                frame.get_by_label("Answer").fill(link)
                frame.get_by_role("button", name="Send").click()
            expect(frame.locator(".message")).to_have_text(f"You said {link}")
    assert asked == ONE_REQUEST * 4
    assert len(get_session_keys()) == 1


def test_a_second_learner_of_a_shared_computer_ends_the_session_of_the_first(
    browser: BrowserContext, lms: Lms, asked: list[str]
) -> None:
    tab = browser.new_page()
    open_first(tab, lms, asked, user_id="amara")
    content = f"{lms.tool}/content/quiz/?lti_launch={LtiLaunch.objects.get().pk}"
    before = get_session_keys()

    show(tab, lms, "second", user_id="jonas")
    assert asked == ONE_REQUEST
    expect(framed(tab).locator("#person")).to_have_text("jonas")
    jonas = LtiUser.objects.get(lti_user_id="jonas").user.get_username()
    expect(framed(tab).locator("#user")).to_have_text(jonas)
    assert not before & get_session_keys()
    framed(tab).get_by_role("link", name="Again").click()
    expect(framed(tab).locator("#person")).to_have_text("jonas")

    tab.goto(lms.server.add_frame(content))
    expect(framed(tab).locator("#user")).to_have_text(jonas)
    expect(framed(tab).locator("#launch")).to_have_text("")
    expect(framed(tab).locator("#person")).to_have_text("")


def test_who_signs_out_in_a_known_frame_is_launched_in_one_request_again(
    strict_browser: BrowserContext, lms: Lms, asked: list[str]
) -> None:
    tab = strict_browser.new_page()
    open_first(tab, lms, asked)
    show(tab, lms, "second")
    content = tab.frames[1].url

    framed(tab).get_by_role("button", name="Sign out").click()
    expect(framed(tab).get_by_role("heading")).to_have_text("You are signed out")
    assert get_session_keys() == set()
    tab.goto(lms.server.add_frame(content))
    expect(framed(tab).locator("#launch")).to_have_text("")
    expect(framed(tab).locator("#user")).to_have_text("")
    asked.clear()
    show(tab, lms, "third")
    assert asked == ONE_REQUEST
    expect(framed(tab).locator("#user")).to_have_text(re.compile(r"^lti-\w+$"))


def find_tool(tab: Page) -> Frame:
    return tab.frames[1]


def test_back_and_reload_after_one_request_repeat_no_launch(
    strict_browser: BrowserContext, lms: Lms, asked: list[str]
) -> None:
    tab = strict_browser.new_page()
    open_first(tab, lms, asked)
    show(tab, lms, "second")
    find_tool(tab).evaluate("document.title = 'old'; location.reload()")
    find_tool(tab).wait_for_function("document.title === 'Quiz'")
    expect(framed(tab).locator("#launch")).to_have_text("second")
    framed(tab).get_by_role("link", name="Again").click()
    find_tool(tab).wait_for_url(f"{lms.tool}/content/quiz/")
    tab.evaluate("history.back()")
    find_tool(tab).wait_for_url("**/?lti_launch=*")
    expect(framed(tab).locator("#launch")).to_have_text("second")
    assert asked == ONE_REQUEST


def test_the_same_form_sent_again_is_told_apart_calmly(
    strict_browser: BrowserContext, lms: Lms, asked: list[str]
) -> None:
    tab = strict_browser.new_page()
    open_first(tab, lms, asked)
    course = lms.course(resource_link_id="second")
    tab.goto(course)
    expect(framed(tab).locator("#launch")).to_have_text("second")
    launched = LtiLaunch.objects.accepted().count()
    # What its page posts again, it has signed only once.
    tab.goto(course)
    expect(framed(tab).get_by_role("main")).to_contain_text("already")
    assert LtiLaunch.objects.accepted().count() == launched
    assert asked == ONE_REQUEST * 2
    show(tab, lms, "third")
    assert asked == ONE_REQUEST * 3

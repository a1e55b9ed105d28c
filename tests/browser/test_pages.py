"""Our own pages, where learners meet them: readable in every frame, by everybody."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, Frame, Page, expect

from tests.browser.axe import find_violations
from tests.browser.conftest import Lms, framed, sign_in

pytestmark = pytest.mark.browser

#: Shown as an LMS shows a tool, at any width.
WHOLE_WIDTH = '<style>body {{ margin: 0 }}</style><iframe name=tool title=Activity src="{}" {}>'
WHOLE_WIDTH_STYLE = 'style="border: 0; width: 100%; height: 95vh; color-scheme: inherit"'


def show_framed(tab: Page, lms: Lms, url: str) -> Frame:
    tab.goto(lms.server.add_page(WHOLE_WIDTH.format(url, WHOLE_WIDTH_STYLE)))
    expect(framed(tab).get_by_role("main")).to_be_visible()
    return tab.frames[-1]


def forged(lms: Lms) -> str:
    url = f"{lms.tool}/lti/launch/content/quiz/"
    signed = lms.fake.sign("content/quiz/", host=lms.tool)
    return lms.server.add_launch(url, [*signed, ("custom_added", "1")])


def refused(tab: Page, lms: Lms, alice: User) -> Frame:
    return show_framed(tab, lms, forged(lms))


def replayed(tab: Page, lms: Lms, alice: User) -> Frame:
    launch = lms.launch()
    tab.goto(lms.server.add_frame(launch))
    expect(framed(tab).locator("#user")).to_contain_text("lti-")
    return show_framed(tab, lms, launch)


def new_window(tab: Page, lms: Lms, alice: User) -> Frame:
    return show_framed(tab, lms, lms.launch())


def replace_session(tab: Page, lms: Lms, alice: User) -> Frame:
    sign_in(tab, lms.tool, alice)
    tab.goto(lms.launch())
    expect(tab.get_by_role("main")).to_be_visible()
    return tab.main_frame


def lost_session(tab: Page, lms: Lms, alice: User) -> Frame:
    return show_framed(tab, lms, f"{lms.tool}/content/launched/")


def launch_url(tab: Page, lms: Lms, alice: User) -> Frame:
    tab.goto(f"{lms.tool}/lti/launch/content/quiz/")
    expect(tab.get_by_role("main")).to_be_visible()
    return tab.main_frame


def wrong_role(tab: Page, lms: Lms, alice: User) -> Frame:
    return show_framed(tab, lms, lms.launch("content/teachers/"))


def sign_out(tab: Page, lms: Lms, alice: User) -> Frame:
    tab.goto(lms.server.add_page(WHOLE_WIDTH.format(lms.launch(), WHOLE_WIDTH_STYLE)))
    expect(framed(tab).locator("#user")).to_contain_text("lti-")
    tab.frames[-1].goto(f"{lms.tool}/lti/sign-out/")
    expect(framed(tab).get_by_role("heading")).to_have_text("Sign out?")
    return tab.frames[-1]


def signed_out(tab: Page, lms: Lms, alice: User) -> Frame:
    sign_out(tab, lms, alice)
    framed(tab).get_by_role("button", name="Sign out").click()
    expect(framed(tab).get_by_role("heading")).to_have_text("You are signed out")
    return tab.frames[-1]


def connections(tab: Page, lms: Lms, alice: User) -> Frame:
    sign_in(tab, lms.tool, alice)
    tab.goto(f"{lms.tool}/lti/connections/")
    expect(tab.get_by_role("button", name="Sign out")).to_be_visible()
    return tab.main_frame


PAGES = [
    *(refused, replayed, new_window, replace_session, lost_session, launch_url, wrong_role),
    *(sign_out, signed_out, connections),
]


@pytest.mark.parametrize("show", PAGES)
def test_a_page_is_readable_in_light_and_dark_and_on_a_phone(
    open_browser: Callable[[str], BrowserContext], lms: Lms, alice: User, show: Any
) -> None:
    cookies = "only in a window" if show is new_window else "third-party blocked"
    tab = open_browser(cookies).new_page()
    frame = show(tab, lms, alice)
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        for width in (1000, 320):
            tab.set_viewport_size({"width": width, "height": 600})
            assert find_violations(frame) == []
            assert frame.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("show", [refused, replayed, lost_session, wrong_role])
def test_a_stranger_may_frame_a_page_that_holds_nothing(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms, alice: User, show: Any
) -> None:
    # Else learners see only that the browser refuses to show something.
    lms.fake.consumer.frame_origins = other_lms.server.url
    lms.fake.consumer.save()
    if show is replayed:
        lms.fake.consumer.frame_origins += "\n" + lms.server.url
        lms.fake.consumer.save()
    assert show(strict_browser.new_page(), lms, alice)


def test_a_refused_person_finds_the_way_back(strict_browser: BrowserContext, lms: Lms) -> None:
    tab = strict_browser.new_page()
    launch = lms.launch()
    tab.goto(lms.server.add_frame(launch))
    tab.goto(lms.server.add_frame(launch))
    framed(tab).get_by_role("link", name="Back to Fake canvas").click()
    expect(tab.get_by_role("heading")).to_have_text("Back in the course")


def test_the_lms_gets_the_message_of_a_verified_launch(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.course(resource_link_id=None))
    expect(framed(tab).get_by_role("heading")).to_have_text("Back in the course")
    assert lms.server.returned[0]["lti_errorlog"] == "missing_resource_link"


def test_a_launch_that_took_too_long_says_so(
    strict_browser: BrowserContext, lms: Lms, settings
) -> None:
    settings.LTI_PROVIDER_ENTER_LIFETIME = 0
    tab = strict_browser.new_page()
    tab.goto(lms.course())
    expect(framed(tab).locator("code")).to_have_text("launch_expired")


def test_a_lms_that_says_nowhere_where_it_is_says_what_to_do(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = strict_browser.new_page()
    tab.goto(lms.course(launch_presentation_return_url=""))
    expect(framed(tab).locator("code")).to_have_text("unknown_frame_origin")

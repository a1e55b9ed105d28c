"""Who may frame a launched page: its LMS, and nobody else."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from lti_provider.models import LtiLaunch
from lti_provider.testing import LmsServer
from tests.browser.conftest import Lms, expect_blocked, framed, sign_in

pytestmark = pytest.mark.browser


def launched(browser: BrowserContext, lms: Lms, **changes: str) -> Page:
    tab = browser.new_page()
    tab.goto(lms.course(**changes))
    expect(framed(tab).locator("#user")).to_contain_text("lti-")
    return tab


def content_of(tab: Page) -> str:
    """The address of what the frame shows."""
    return tab.frames[-1].url


def test_another_lms_cannot_frame_the_pages(
    browser: BrowserContext, lms: Lms, other_lms: Lms
) -> None:
    content = content_of(launched(browser, lms))
    tab = browser.new_page()
    tab.goto(other_lms.server.add_frame(content))
    expect_blocked(tab)


def test_an_lms_cannot_frame_the_other_ones_pages_after_its_own_launch(
    browser: BrowserContext, lms: Lms, other_lms: Lms
) -> None:
    content = content_of(launched(browser, lms))
    tab = launched(browser, other_lms)
    expect(framed(tab).locator("#person")).to_have_text("somebody of the other LMS")
    own_user = framed(tab).locator("#user").inner_text()
    tab.goto(other_lms.server.add_frame(content))
    expect(framed(tab).locator("#user")).to_have_text(own_user)
    expect(framed(tab).locator("#person")).to_have_text("")


def unused_link(tab: Page, lms: Lms, settings) -> str:
    """Launch as far as the marker, and no session; the launch's link is still good."""
    settings.LTI_PROVIDER_ENTER_LIFETIME = 0
    tab.goto(lms.course(user_id="the attacker"))
    expect(framed(tab).locator("code")).to_have_text("launch_expired")
    settings.LTI_PROVIDER_ENTER_LIFETIME = 300
    return tab.frames[-1].url


def test_an_lms_that_only_posts_its_launch_ends_the_other_ones_session(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms, settings
) -> None:
    content = content_of(launched(strict_browser, lms))
    tab = strict_browser.new_page()
    unused_link(tab, other_lms, settings)
    tab.goto(other_lms.server.add_frame(content))
    expect(framed(tab).locator("#user")).to_have_text("")


def test_a_session_that_lost_its_marker_is_not_given_to_the_next_lms(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms, settings
) -> None:
    # A browser that restarts forgets the marker, which has no expiry, and keeps the session.
    content = content_of(launched(strict_browser, lms))
    strict_browser.clear_cookies(name="__Host-lti_frame")
    tab = strict_browser.new_page()
    unused_link(tab, other_lms, settings)
    tab.goto(other_lms.server.add_frame(content))
    expect_blocked(tab)


def test_the_other_lms_pages_end_in_a_clear_text(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms
) -> None:
    first = launched(strict_browser, lms, path="content/launched/")
    launched(strict_browser, other_lms)
    first.frames[1].evaluate("location.reload()")
    expect(framed(first).get_by_role("heading")).to_have_text("Open this activity from your course")


def test_an_lms_cannot_wrap_the_other_ones_course(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms
) -> None:
    tab = strict_browser.new_page()
    tab.goto(other_lms.server.add_frame(lms.course()))
    expect_blocked(tab)


def test_a_stranger_cannot_frame_the_pages(strict_browser: BrowserContext, lms: Lms) -> None:
    tab = launched(strict_browser, lms)
    with LmsServer() as stranger:
        for url in (content_of(tab), f"{lms.tool}/content/quiz/"):
            tab.goto(stranger.add_frame(url))
            expect_blocked(tab)


def test_a_person_of_the_site_cannot_be_framed(
    strict_browser: BrowserContext, lms: Lms, alice: User
) -> None:
    tab = strict_browser.new_page()
    sign_in(tab, lms.tool, alice)
    tab.goto(lms.server.add_frame(f"{lms.tool}/content/quiz/"))
    expect_blocked(tab)


def test_the_site_may_frame_its_own_pages_in_the_lms(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = launched(strict_browser, lms)
    tab.frames[1].evaluate(
        "document.body.innerHTML = '<iframe name=tool src=/content/quiz/></iframe>'"
    )
    expect(framed(tab, depth=2).locator("#user")).to_contain_text("lti-")


def test_a_page_that_nobody_may_frame_is_not_framed(
    strict_browser: BrowserContext, lms: Lms
) -> None:
    tab = launched(strict_browser, lms)
    tab.goto(lms.server.add_frame(f"{lms.tool}/content/unframed/"))
    expect_blocked(tab)


def test_the_consumers_origins_decide(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms
) -> None:
    lms.fake.consumer.frame_origins = other_lms.server.url
    lms.fake.consumer.save()
    tab = strict_browser.new_page()
    tab.goto(lms.course())
    expect_blocked(tab)
    tab.goto(other_lms.server.add_frame(lms.launch()))
    expect(framed(tab).locator("#user")).to_contain_text("lti-")


def test_a_mailed_link_is_worth_nothing(strict_browser: BrowserContext, lms: Lms, settings) -> None:
    link = unused_link(strict_browser.new_page(), lms, settings)
    strict_browser.clear_cookies()
    tab = strict_browser.new_page()
    tab.goto(link)
    expect(tab.locator("code")).to_have_text("other_browser")
    tab.goto(lms.server.add_page(f'<form method=post action="{link}window/"><button></button>'))
    tab.get_by_role("button").click()
    expect(tab.locator("code")).to_have_text("foreign_origin")
    assert LtiLaunch.objects.accepted().get().entered_at is None


def test_an_attackers_link_in_a_forum_takes_no_frame_over(
    strict_browser: BrowserContext, lms: Lms, settings
) -> None:
    link = unused_link(strict_browser.new_page(), lms, settings)
    strict_browser.clear_cookies()
    tab = launched(strict_browser, lms)
    tab.goto(lms.server.add_frame(link))
    expect(framed(tab).locator("code")).to_have_text("other_browser")


def test_an_attackers_link_in_a_page_of_his_own_is_not_shown(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms, settings
) -> None:
    link = unused_link(strict_browser.new_page(), lms, settings)
    strict_browser.clear_cookies()
    tab = strict_browser.new_page()
    tab.goto(other_lms.server.add_frame(link))
    expect_blocked(tab)


def test_a_sites_own_policy_stays_and_only_the_lms_may_frame(
    strict_browser: BrowserContext, lms: Lms, other_lms: Lms, settings
) -> None:
    pytest.importorskip("django.middleware.csp", reason="Django has it since 6.0")
    csp = "django.middleware.csp.ContentSecurityPolicyMiddleware"
    settings.MIDDLEWARE = [settings.MIDDLEWARE[0], csp, *settings.MIDDLEWARE[1:]]
    settings.SECURE_CSP = {"script-src": ["'none'"], "frame-ancestors": ["'none'"]}
    server = LiveServer("localhost")
    try:
        lms.tool = server.url
        tab = launched(strict_browser, lms)
        framed(tab).get_by_role("button", name="Count").click()
        expect(framed(tab).locator("#counted")).to_have_text("")
        content = content_of(tab)
        tab.goto(other_lms.server.add_frame(content))
        expect_blocked(tab)
    finally:
        server.stop()

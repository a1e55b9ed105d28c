"""Debian's Chromium between an LMS on 127.0.0.1 and a tool on localhost: two sites to it."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.signals import request_started
from playwright.sync_api import (
    BrowserContext,
    Error,
    FrameLocator,
    Page,
    expect,
    sync_playwright,
)
from pytest_django.live_server_helper import LiveServer

from lti_provider.testing import FakeLms, LmsServer
from lti_provider.testing.lms import launch_path
from tests.waiting import PATIENCE

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Preferences of a profile: what its owner chose under "cookies".
COOKIES = {
    "third-party allowed": {"cookie_controls_mode": 0, "block_third_party_cookies": False},
    "third-party blocked": {"cookie_controls_mode": 1, "block_third_party_cookies": True},
    "only in a window": {
        "default_content_setting_values": {"cookies": 2},
        "content_settings": {"exceptions": {"cookies": {"localhost,localhost": {"setting": 1}}}},
    },
    "not in frames": {
        "default_content_setting_values": {"cookies": 2},
        "content_settings": {
            "exceptions": {
                "cookies": {
                    "localhost,localhost": {"setting": 1},
                    "127.0.0.1,127.0.0.1": {"setting": 1},
                }
            }
        },
    },
    "none": {"default_content_setting_values": {"cookies": 2}},
}


@pytest.fixture(scope="module")
def profiles(
    chromium: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], BrowserContext]]:
    """One browser for each way to treat cookies."""
    opened: dict[str, BrowserContext] = {}

    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        # Playwright's event loop lives in this thread, and Django takes tests for async code.
        # Only for as long as a module of browser tests runs: others shall notice.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        expect.set_options(timeout=PATIENCE * 1000)
        playwright = stack.enter_context(sync_playwright())

        def profile(cookies: str) -> BrowserContext:
            if cookies not in opened:
                directory = tmp_path_factory.mktemp("profile")
                preferences = Path(directory, "Default", "Preferences")
                preferences.parent.mkdir()
                preferences.write_text(json.dumps({"profile": COOKIES[cookies]}))
                context = playwright.chromium.launch_persistent_context(
                    directory, executable_path=chromium, args=ARGUMENTS, locale="en-US"
                )
                context.set_default_timeout(PATIENCE * 1000)
                stack.callback(context.close)
                opened[cookies] = context
            return opened[cookies]

        yield profile


@pytest.fixture
def open_browser(
    profiles: Callable[[str], BrowserContext],
) -> Iterator[Callable[[str], BrowserContext]]:
    used: list[BrowserContext] = []

    def fresh(cookies: str) -> BrowserContext:
        context = profiles(cookies)
        used.append(context)
        return context

    yield fresh
    for context in used:
        blank = context.new_page()
        for page in context.pages:
            if page is not blank:
                page.close()
        context.clear_cookies()


@pytest.fixture(params=["third-party allowed", "third-party blocked"])
def browser(
    request: pytest.FixtureRequest, open_browser: Callable[[str], BrowserContext]
) -> BrowserContext:
    """A browser with third-party cookies allowed, then one with them blocked."""
    return open_browser(request.param)


@pytest.fixture
def strict_browser(open_browser: Callable[[str], BrowserContext]) -> BrowserContext:
    """A browser that blocks third-party cookies, as most do."""
    return open_browser("third-party blocked")


@pytest.fixture
def framed_cookies_refused(open_browser: Callable[[str], BrowserContext]) -> BrowserContext:
    """A browser that keeps no cookie in a frame, not even a partitioned one."""
    return open_browser("only in a window")


@pytest.fixture
def all_cookies_refused(open_browser: Callable[[str], BrowserContext]) -> BrowserContext:
    return open_browser("none")


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.browser.site"


@pytest.fixture
def tool(live_server: LiveServer) -> str:
    """The origin of the tool."""
    return str(live_server.url)


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """What browsers asked of our own views, such as ``POST /lti/launch/``, oldest first."""
    requests: list[str] = []

    def record(environ: dict[str, Any], **_signal: Any) -> None:
        if environ["PATH_INFO"].startswith("/lti/"):
            requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}")

    request_started.connect(record)
    yield requests
    request_started.disconnect(record)


@dataclass
class Lms:
    """An LMS with pages for a browser."""

    server: LmsServer
    fake: FakeLms
    tool: str

    def launch(self, path: str | None = "content/quiz/", **changes: str | None) -> str:
        """A page that launches at once, where it is shown."""
        url = self.tool + launch_path(path)
        return self.server.add_launch(url, self.fake.sign(path, host=self.tool, **changes))

    def course(
        self, path: str | None = "content/quiz/", attributes: str = "", **changes: str | None
    ) -> str:
        """A page that launches in a frame."""
        return self.server.add_frame(self.launch(path, **changes), attributes)


@pytest.fixture
def add_lms(tool: str) -> Iterator[Callable[..., Lms]]:
    """Another port of 127.0.0.1 each: the same site to a browser, and another origin."""
    with ExitStack() as stack:

        def add(**fields: str) -> Lms:
            server = stack.enter_context(LmsServer())
            fake = FakeLms.create()
            fake.fields["launch_presentation_return_url"] = server.return_url
            fake.fields.update(fields)
            return Lms(server, fake, tool)

        yield add


@pytest.fixture
def lms(add_lms: Callable[..., Lms]) -> Lms:
    return add_lms()


@pytest.fixture
def other_lms(add_lms: Callable[..., Lms]) -> Lms:
    return add_lms(user_id="somebody of the other LMS")


@pytest.fixture
def alice(transactional_db: None) -> User:
    """Somebody with an account of her own on the site."""
    return User.objects.create_user("alice", password="secret")


def sign_in(page: Page, tool: str, user: User) -> None:
    page.goto(f"{tool}/accounts/login/?next=/content/quiz/")
    page.fill("[name=username]", user.username)
    page.fill("[name=password]", "secret")
    page.click("[type=submit]")
    expect(page.locator("#user")).to_have_text(user.username)


def framed(page: Page, depth: int = 1) -> FrameLocator:
    """What the frame shows, or the frame in that frame."""
    frame = page.frame_locator("iframe[name=tool]")
    return frame if depth == 1 else frame.frame_locator("iframe[name=tool]")


def expect_blocked(page: Page) -> None:
    """The browser refuses to show the frame's page: it puts its own one there."""
    frame = page.wait_for_selector("iframe[name=tool]").content_frame()  # type: ignore[union-attr]
    assert frame is not None
    while frame.child_frames:
        frame = frame.child_frames[0]
    try:
        frame.wait_for_url("chrome-error://**")
    except Error as error:
        # The refusal came while Playwright was waiting, and that is how it reports it.
        if "ERR_BLOCKED_BY_RESPONSE" not in str(error):
            raise

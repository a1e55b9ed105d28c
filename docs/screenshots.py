"""The pictures of the documentation: the demo, driven in Chromium.

    python docs/screenshots.py            into docs/screenshots/
    python docs/screenshots.py FOLDER     elsewhere

The demo runs in a folder of its own, which is removed again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from playwright.sync_api import (
    Browser,
    FloatRect,
    FrameLocator,
    Locator,
    Page,
    Playwright,
    ViewportSize,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "example_project"
FOLDER = ROOT / "docs" / "screenshots"
PICTURES = (
    "quiz",
    "gradebook",
    "new_window",
    "sign_in",
    "confirm",
    "confirm_phone",
    "refused_dark",
    "consumers",
    "setup",
    "status",
    "launch_log",
    "refused_launch",
)

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--font-render-hinting=none"]
WINDOW: ViewportSize = {"width": 1200, "height": 800}
LOW: ViewportSize = {"width": 1200, "height": 520}
PHONE: ViewportSize = {"width": 390, "height": 740}
MARGIN = 20
SECONDS = 20
# Preferences of a profile that keeps cookies of localhost, but none in a frame.
NO_COOKIES_IN_FRAMES = {
    "default_content_setting_values": {"cookies": 2},
    "content_settings": {
        "exceptions": {
            "cookies": {
                "localhost,localhost": {"setting": 1},
                "127.0.0.1,127.0.0.1": {"setting": 1},
            }
        }
    },
}


@dataclass
class Demo:
    lms: str
    tool: str
    secrets: list[str]


@dataclass
class Camera:
    folder: Path
    secrets: list[str]
    taken: list[str] = field(default_factory=list)

    def take(self, name: str, page: Page, part: Locator | None = None) -> None:
        """Picture what the window shows, or a part of its page."""
        if name not in PICTURES or name in self.taken:
            raise ValueError(f"“{name}” is not the name of one picture.")
        for frame in page.frames:
            typed = frame.locator("input, textarea").evaluate_all("all => all.map(e => e.value)")
            text = "\n".join([frame.content(), *typed])
            if any(secret in text for secret in self.secrets):
                raise ValueError(f"“{name}” would show a secret.")
        clip = around(part) if part else None
        path = self.folder / f"{name}.png"
        page.screenshot(path=path, clip=clip, full_page=part is not None, animations="disabled")
        self.taken.append(name)


def around(part: Locator) -> FloatRect:
    """The part's place on its page, with a margin."""
    box = part.bounding_box()
    assert box is not None
    return {
        "x": box["x"] - MARGIN,
        "y": box["y"] - MARGIN,
        "width": box["width"] + 2 * MARGIN,
        "height": box["height"] + 2 * MARGIN,
    }


def port(name: str, default: int) -> int:
    """The demo's usual port, which the pictures show, or another one if it is taken."""
    for number in (int(os.environ.get(name) or default), 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise OSError("No port is free.")


@contextmanager
def running_demo(var: Path) -> Iterator[Demo]:
    # Nothing else of the caller's: its database or settings are not the demo's.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    lms, tool = port("DEMO_LMS_PORT", 8001), port("DEMO_TOOL_PORT", 8000)
    env = kept | {
        "PYTHONPATH": str(ROOT),
        "DEMO_VAR": str(var),
        "DEMO_LMS_PORT": str(lms),
        "DEMO_TOOL_PORT": str(tool),
        # Keys are shown: the same ones every time.
        "DEMO_LTI_KEY": "harbour-campus",
        "DEMO_ACCOUNTS_LTI_KEY": "harbour-campus-accounts",
    }
    with (var / "demo.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE / "serve.py")],
            env=env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            if not any("Start at the demo LMS." in line for line in process.stdout):
                log.seek(0)
                sys.exit(f"The demo did not start:\n{log.read()}")
            lines = (var / "demo.env").read_text().splitlines()
            values = dict(line.split("=", 1) for line in lines)
            secrets = [value for name, value in values.items() if "SECRET" in name]
            yield Demo(f"http://127.0.0.1:{lms}", f"http://localhost:{tool}", secrets)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=SECONDS)


def window(browser: Browser, color_scheme: Literal["light", "dark"] = "light") -> Page:
    context = browser.new_context(viewport=WINDOW, locale="en-US", color_scheme=color_scheme)
    context.set_default_timeout(SECONDS * 1000)
    return context.new_page()


def open_activity(page: Page, demo: Demo, title: str) -> FrameLocator:
    page.goto(f"{demo.lms}/")
    page.get_by_role("link", name=title).click()
    return page.frame_locator("iframe[name=tool]")


def be(page: Page, demo: Demo, name: str) -> None:
    page.goto(f"{demo.lms}/")
    label = page.locator("#who option", has_text=name).inner_text()
    page.select_option("#who", label=label)
    page.get_by_role("button", name="Switch").click()


def answers(title: str) -> list[tuple[str, str]]:
    """Of each question of a lesson, a right and a wrong answer."""
    lessons = tomllib.loads((EXAMPLE / "tool/course/content.toml").read_text("utf-8"))["lessons"]
    [lesson] = [lesson for lesson in lessons if lesson["title"] == title]
    found = []
    for question in lesson["questions"]:
        right = next(choice for choice in question["choices"] if choice.startswith("*"))
        wrong = next(choice for choice in question["choices"] if not choice.startswith("*"))
        found.append((right.removeprefix("*"), wrong))
    return found


def answer(quiz: FrameLocator, wrong: int = 0) -> None:
    for number, choices in enumerate(answers("Finding north")):
        quiz.get_by_label(choices[number < wrong], exact=True).check()
    quiz.locator("form.quiz button").click()
    quiz.locator(".score").wait_for()


def picture_a_quiz(browser: Browser, demo: Demo, camera: Camera) -> None:
    page = window(browser)
    quiz = open_activity(page, demo, "Quiz: Finding north")
    quiz.get_by_role("button", name="Send my answers").wait_for()
    camera.take("quiz", page)
    answer(quiz)
    be(page, demo, "Jonas Weber")
    answer(open_activity(page, demo, "Quiz: Finding north"), wrong=1)
    page.goto(f"{demo.lms}/gradebook/")
    page.get_by_text("100 %").wait_for()
    page.get_by_text("67 %").wait_for()
    page.set_viewport_size(LOW)
    camera.take("gradebook", page)
    page.context.close()


def picture_an_account(browser: Browser, demo: Demo, camera: Camera) -> None:
    page = window(browser)
    frame = open_activity(page, demo, "Quiz: Colours of stars")
    button = frame.get_by_role("button", name="Sign in in a new window")
    button.wait_for()
    camera.take("sign_in", page)
    with page.expect_popup() as opened:
        button.click()
    popup = opened.value
    popup.set_viewport_size(WINDOW)
    popup.fill("[name=username]", "amara")
    popup.fill("[name=password]", "amara")
    popup.locator("main [type=submit], main button").first.click()
    confirm = popup.get_by_role("button", name="Yes, connect")
    confirm.wait_for()
    camera.take("confirm", popup, popup.locator("main"))
    popup.set_viewport_size(PHONE)
    camera.take("confirm_phone", popup)
    confirm.click()
    frame.get_by_role("button", name="Send my answers").wait_for()
    page.context.close()


def picture_a_frame_without_cookies(
    playwright: Playwright, chromium: str, demo: Demo, camera: Camera, profile: Path
) -> None:
    preferences = profile / "Default" / "Preferences"
    preferences.parent.mkdir(parents=True)
    preferences.write_text(json.dumps({"profile": NO_COOKIES_IN_FRAMES}))
    context = playwright.chromium.launch_persistent_context(
        profile,
        executable_path=chromium,
        args=ARGUMENTS,
        viewport=WINDOW,
        locale="en-US",
    )
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    frame = open_activity(page, demo, "Quiz: Finding north")
    frame.get_by_role("button", name="Open in a new window").wait_for()
    camera.take("new_window", page)
    context.close()


def picture_a_refusal(browser: Browser, demo: Demo, camera: Camera) -> None:
    """The LMS signs with another secret, as after a slip of its administrator."""
    page = window(browser, color_scheme="dark")
    page.goto(f"{demo.lms}/tools/")
    page.get_by_label("secret").fill("not the secret that the tool has")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("status").wait_for()
    open_activity(page, demo, "Quiz: Finding north")
    page.frame_locator("iframe[name=tool]").get_by_text("invalid_signature").wait_for()
    camera.take("refused_dark", page)
    page.goto(f"{demo.lms}/tools/")
    page.get_by_role("button", name="Put the demo's own values back").click()
    page.get_by_role("status").wait_for()
    page.context.close()


def picture_the_admin(browser: Browser, demo: Demo, camera: Camera) -> None:
    page = window(browser)
    page.goto(f"{demo.tool}/admin/lti_provider/lticonsumer/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "admin")
    page.click("[type=submit]")
    page.locator("#result_list").wait_for()
    page.click("#toggle-nav-sidebar")  # more room for the pages themselves
    page.mouse.move(600, 600)
    page.reload()
    page.set_viewport_size(LOW)
    camera.take("consumers", page)
    page.set_viewport_size(WINDOW)
    page.get_by_role("link", name="Harbour Campus", exact=True).click()
    page.get_by_role("link", name="Set up the LMS").click()
    page.locator("details[name=lti-product] > summary", has_text="Moodle").click()
    page.evaluate("scrollTo(0, 0)")
    camera.take("setup", page)
    camera.take("status", page, page.locator("section", has=page.locator("#lti-status")))
    page.goto(f"{demo.tool}/admin/lti_provider/ltilaunch/")
    page.set_viewport_size(LOW)
    camera.take("launch_log", page)
    page.set_viewport_size(WINDOW)
    page.locator("#result_list tr", has_text="invalid_signature").get_by_role("link").first.click()
    page.get_by_text("invalid_signature").first.wait_for()
    camera.take("refused_launch", page)
    page.context.close()


def main(folder: Path) -> None:
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    if chromium is None:
        sys.exit("No Chromium was found on PATH; on Debian: apt-get install chromium")
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_demo(Path(scratch)) as demo,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        camera = Camera(folder, demo.secrets)
        picture_a_frame_without_cookies(
            playwright, chromium, demo, camera, Path(scratch, "profile")
        )
        picture_a_quiz(browser, demo, camera)
        picture_an_account(browser, demo, camera)
        picture_a_refusal(browser, demo, camera)
        picture_the_admin(browser, demo, camera)
        browser.close()
    if missing := set(PICTURES) - set(camera.taken):
        sys.exit(f"Not made: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)

"""The example's two sites, served as ``make demo`` serves them."""

import html
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from html.parser import HTMLParser
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

import pytest

from tests.waiting import PATIENCE, free_port

ROOT = Path(__file__).resolve().parent.parent
SERVE = ROOT / "example_project" / "serve.py"
READY = "Start at the demo LMS."
QUIZ = "/lessons/finding-north/quiz/"


def demo_environment(var: Path) -> dict[str, str]:
    # Nothing of the caller's: its DATABASE_URL or settings module are not the demo's.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "SYSTEMROOT") if name in os.environ}
    ports = {name: str(free_port()) for name in ("DEMO_LMS_PORT", "DEMO_TOOL_PORT")}
    return kept | ports | {"DEMO_VAR": str(var), "PYTHONPATH": str(ROOT)}


def start(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(SERVE)],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if READY in line:
            return printed
    pytest.fail(f"The demo did not start:\n{printed}")


@contextmanager
def serving(env: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The addresses of the LMS and of the tool, until the demo is stopped as Ctrl-C would."""
    process = start(env)
    try:
        printed = wait_until_ready(process)
        lms = f"http://127.0.0.1:{env['DEMO_LMS_PORT']}/"
        tool = f"http://localhost:{env['DEMO_TOOL_PORT']}/"
        assert lms in printed
        assert tool in printed
        yield lms, tool
    finally:
        process.send_signal(signal.SIGTERM)
        rest, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, rest
    assert "Stopped." in rest
    assert "Traceback" not in rest


class Page(HTMLParser):
    """A page as far as these tests look at it."""

    def __init__(self, url: str, status: int, headers: Message, text: str) -> None:
        super().__init__()
        self.url, self.status, self.headers, self.text = url, status, headers, text
        self.frames: list[str] = []
        self.links: list[str] = []
        self.forms: list[tuple[str, list[tuple[str, str]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "iframe" and "src" in values:
            self.frames.append(urljoin(self.url, values["src"]))
        elif tag == "a":
            self.links.append(urljoin(self.url, values["href"]))
        elif tag == "form":
            self.forms.append((urljoin(self.url, values.get("action", "")), []))
        elif tag == "input" and "name" in values:
            unsaid = "on" if values.get("type") == "checkbox" else ""
            self.forms[-1][1].append((values["name"], values.get("value", unsaid)))

    def form_to(self, address: str) -> list[tuple[str, str]]:
        return next(fields for action, fields in self.forms if address in action)


class Browser:
    """A browser's cookies, and what it says about where a page is to be shown."""

    def __init__(self, destination: str = "document") -> None:
        # Like browsers, and unlike this library's default, trust plain http on loopback.
        cookies = CookieJar(DefaultCookiePolicy(secure_protocols=("http", "https")))
        self.opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(cookies))
        self.destination = destination

    def get(self, url: str) -> Page:
        return self.open(Request(url))

    def post(self, url: str, fields: list[tuple[str, str]], origin: str) -> Page:
        return self.open(Request(url, urlencode(fields).encode(), {"Origin": origin}))

    def open(self, request: Request) -> Page:
        request.add_header("Sec-Fetch-Dest", self.destination)
        try:
            response = self.opener.open(request, timeout=PATIENCE)
        except HTTPError as error:
            response = error
        with closing(response):
            text = response.read().decode()
            return Page(response.url, response.status, response.headers, text)


@dataclass(frozen=True)
class Demo:
    lms: str
    tool: str
    env: dict[str, str]

    def activity(self, title: str, browser: Browser, version: str = "1.3") -> Page:
        """The page of an activity, found as a learner finds it."""
        links = [link for link in browser.get(self.lms).links if "/courses/" in link]
        courses = [browser.get(link) for link in links]
        course = next(page for page in courses if f"LTI {version}, on this page" in page.text)
        pages = [browser.get(link) for link in course.links if "/activities/" in link]
        return next(page for page in pages if f"<h1>{title}</h1>" in page.text)

    def shown(self, title: str, browser: Browser, version: str) -> Page:
        """The page that shows what opens an activity."""
        activity = self.activity(title, browser, version)
        return browser.get(next(link for link in activity.links if "/form/" in link))

    def signed_form(self, title: str, browser: Browser) -> list[tuple[str, str]]:
        return self.shown(title, browser, "1.1").form_to("/lti/launch/")

    def switch_to(self, name: str, browser: Browser) -> None:
        course = browser.get(self.lms)
        [person] = re.findall(rf'<option value="(\d+)"[^>]*>{name}', course.text)
        fields = [*course.form_to("/who/"), ("person", person)]
        browser.post(f"{self.lms}who/", fields, self.lms.rstrip("/"))

    def launch(self, fields: list[tuple[str, str]], browser: Browser) -> Page:
        """Post a form of LTI 1.1."""
        return browser.post(f"{self.tool}lti/launch{QUIZ}", fields, self.lms.rstrip("/"))

    def get_token(self, title: str, browser: Browser) -> list[tuple[str, str]]:
        """What the LMS answers a login of LTI 1.3 with: a form that its page posts at once."""
        activity = self.activity(title, browser)
        [opening] = [*activity.frames, *(link for link in activity.links if "/launch/" in link)]
        return browser.get(opening).form_to("/lti/launch/")

    def post_token(self, fields: list[tuple[str, str]], browser: Browser) -> Page:
        return browser.post(f"{self.tool}lti/launch/", fields, self.lms.rstrip("/"))

    def save(self, path: str, **changes: str) -> Page:
        """Change fields of a form of the LMS's own."""
        browser = Browser()
        page = browser.get(f"{self.lms}{path}")
        action, fields = next(form for form in page.forms if form[0] == page.url)
        return browser.post(action, list((dict(fields) | changes).items()), self.lms.rstrip("/"))

    def press(self, path: str, action: str) -> None:
        """Press a button of the LMS that has a form of its own."""
        browser = Browser()
        page = browser.get(f"{self.lms}{path}")
        where = next(where for where, _fields in page.forms if where.endswith(action))
        browser.post(where, page.form_to(action), self.lms.rstrip("/"))

    def admin(self, path: str) -> Page:
        """A page of the tool's administrator."""
        browser = Browser()
        login = browser.get(f"{self.tool}admin/lti_provider/{path}")
        credentials = {"username": "admin", "password": "admin"}
        fields = dict(login.form_to("/admin/login/")) | credentials
        return browser.post(login.url, list(fields.items()), self.tool.rstrip("/"))

    def newest_refusal(self) -> str:
        """What the launch log says of the newest launch."""
        links = self.admin("ltilaunch/").links
        newest = next(filter(None, (re.search(r"ltilaunch/\d+/", link) for link in links)))
        return html.unescape(self.admin(newest[0]).text)

    def manage_tool(self, *arguments: str) -> str:
        """What a command of the tool prints."""
        run = [sys.executable, str(SERVE.parent / "tool" / "manage.py"), *arguments]
        return subprocess.run(run, env=self.env, check=True, capture_output=True, text=True).stdout

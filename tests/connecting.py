"""What a person does to connect an account: a frame of the course, a window of the browser."""

import re
from dataclasses import dataclass, field
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.test import Client

from lti_provider.testing import FakeLms, get_framed_session
from lti_provider.testing.lms import navigation

FRAMED = navigation(framed=True)
TOP_LEVEL = navigation(framed=False)
OWN_PAGE = {**TOP_LEVEL, "Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
PASSWORD = "secret"

FRAMED_SESSION = "sessionid_lti_frame"

_ATTRIBUTE = r'{}="([^"]*)"'


def attribute(page: Any, name: str) -> str:
    """The value of an attribute that one element of the page has."""
    found = re.search(_ATTRIBUTE.format(name), page.content.decode())
    assert found is not None, f"no {name} in {page.content.decode()}"
    return found[1]


def hidden_fields(page: Any) -> dict[str, str]:
    """What the page's form posts by itself."""
    return dict(re.findall(r'<input type="hidden" name="(.*?)" value="(.*?)">', page.text))


def session_of(client: Client) -> SessionBase:
    """Of the frames of a browser that launched in frames, else of its windows."""
    return get_framed_session(client) if FRAMED_SESSION in client.cookies else client.session


def text_of(page: Any) -> str:
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page.content.decode()).split())


@dataclass
class Window:
    """A browser's window, which asks for CSRF tokens as browsers meet them."""

    client: Client = field(default_factory=lambda: Client(enforce_csrf_checks=True))

    def get(self, url: str) -> Any:
        return self.follow(self.client.get(url, headers=TOP_LEVEL))

    def follow(self, response: Any) -> Any:
        while response.status_code in (301, 302, 303) and response["Location"].startswith("/"):
            response = self.client.get(response["Location"], headers=TOP_LEVEL)
        return response

    def start(self, ask_page: Any, **headers: str) -> Any:
        """Press the button of the page that asks to sign in."""
        return self.client.post(
            attribute(ask_page, "action"),
            hidden_fields(ask_page),
            headers={**OWN_PAGE, **headers},
        )

    def sign_in(self, login_page: Any, username: str, password: str = PASSWORD) -> Any:
        form = {"username": username, "password": password}
        return self.submit(login_page, **form)

    def submit(self, page: Any, **fields: str) -> Any:
        """Post the page's form to the page's own address."""
        request = page.wsgi_request
        token = attribute(page, 'name="csrfmiddlewaretoken" value')
        fields["csrfmiddlewaretoken"] = token
        if "next" in request.GET:
            fields["next"] = request.GET["next"]
        response = self.client.post(request.get_full_path(), fields, headers=OWN_PAGE)
        return self.follow(response)

    def press(self, page: Any, button: str) -> Any:
        return self.submit(page, **{button: ""})


@dataclass
class Course:
    """A frame in a course page; its jar is not the window's."""

    lms: FakeLms
    frame: Client = field(default_factory=Client)

    def open(self, **changes: Any) -> Any:
        return self.lms.launch(self.frame, "/content/", framed=True, **changes)

    def state(self, ask_page: Any) -> str:
        """What the waiting page hears when it asks."""
        answer = self.frame.get(
            attribute(ask_page, "data-state-url"),
            headers={"X-Lti-Secret": attribute(ask_page, "data-secret")},
        )
        return str(answer.json()["state"])

    def look_again(self, ask_page: Any) -> Any:
        response = self.frame.get(attribute(ask_page, "data-enter-url"), headers=FRAMED)
        while response.status_code == 303:
            response = self.frame.get(response["Location"], headers=FRAMED)
        return response


def to_confirmation(window: Window, ask_page: Any, username: str) -> Any:
    """From the course's page to the question, past the site's sign-in."""
    return window.sign_in(window.follow(window.start(ask_page)), username)


def connect(lms: FakeLms, username: str, **changes: Any) -> Course:
    """Connect the LMS's person to an account and open the activity in the frame."""
    course, window = Course(lms), Window()
    ask_page = course.open(**changes)
    window.press(to_confirmation(window, ask_page, username), "confirm")
    assert course.look_again(ask_page).status_code == 200
    return course

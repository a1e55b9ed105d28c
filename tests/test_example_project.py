"""The example, driven over HTTP as a browser would: from the demo LMS to the quiz."""

import html
import json
import re
import signal
import socket
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from tests.demo import (
    QUIZ,
    Browser,
    Demo,
    Page,
    demo_environment,
    serving,
    start,
    wait_until_ready,
)
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.once

CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    env = demo_environment(tmp_path_factory.mktemp("demo"))
    with serving(env) as (lms, tool):
        yield Demo(lms, tool, env)


@pytest.fixture
def browser() -> Browser:
    return Browser()


def answer(quiz: Page, browser: Browser, tool: str) -> Page:
    fields = quiz.form_to(QUIZ)
    answers = {name: value for name, value in fields if name.startswith("question_")}
    token = [(name, value) for name, value in fields if name == "csrfmiddlewaretoken"]
    return browser.post(quiz.url, [*token, *answers.items()], tool.rstrip("/"))


@pytest.mark.parametrize("destination", ["document", "iframe"])
def test_learner_answers_the_quiz(demo: Demo, destination: str) -> None:
    browser = Browser(destination)
    [frame] = demo.activity("Quiz: Finding north", browser, "1.1").frames
    fields = browser.get(frame).form_to("/lti/launch/")

    quiz = demo.launch(fields, browser)

    assert quiz.status == 200
    assert quiz.url.startswith(urljoin(demo.tool, QUIZ))
    assert "Amara Okafor" in quiz.text
    result = answer(quiz, browser, demo.tool)
    assert result.status == 200
    assert "/results/" in result.url
    assert "Your answers are stored." in result.text


def gradebook_shows(demo: Demo, score: str) -> bool:
    return score in Browser().get(f"{demo.lms}gradebook/").text


def resend(demo: Demo, *options: str) -> str:
    """What lti_resend says; of every grade, since one may be on its way at any moment."""
    return demo.manage_tool("lti_resend", "--state", "any", *options)


def make_lms(demo: Demo, mood: str) -> None:
    demo.save("gradebook/", grade_service=mood)


def test_a_grade_arrives_and_waits_while_the_lms_fails(demo: Demo, browser: Browser) -> None:
    quiz = demo.launch(demo.signed_form("Quiz: Finding north", browser), browser)
    answer(quiz, browser, demo.tool)
    wait_until(lambda: gradebook_shows(demo, " %</strong>"))

    make_lms(demo, "fails")
    fresh = Browser()
    demo.switch_to("Jonas Weber", fresh)
    quiz = demo.launch(demo.signed_form("Quiz: Finding north", fresh), fresh)
    result = answer(quiz, fresh, demo.tool)
    state = re.search(r'data-lti-grade="([^"]+)"', result.text)
    assert state is not None
    address = urljoin(demo.tool, state[1].replace("&amp;", "&"))
    # It waits, is sent and waits again; what it was told stays until it has arrived.
    wait_until(lambda: "HTTP status 500" in resend(demo, "--dry-run"))
    assert '"delivered"' not in fresh.get(address).text

    make_lms(demo, "works")
    resend(demo)
    wait_until(lambda: '"delivered"' in fresh.get(address).text)


def test_frame_may_be_shown_by_the_lms_only(demo: Demo) -> None:
    browser = Browser("iframe")
    quiz = demo.launch(demo.signed_form("Quiz: Finding north", browser), browser)

    assert "X-Frame-Options" not in quiz.headers
    policy = quiz.headers["Content-Security-Policy"]
    assert policy == f"frame-ancestors 'self' {demo.lms.rstrip('/')}"


def test_second_post_of_a_form_is_refused(demo: Demo, browser: Browser) -> None:
    fields = demo.signed_form("Quiz: Finding north", browser)
    assert demo.launch(fields, browser).status == 200

    again = demo.launch(fields, browser)

    assert again.status == 403
    assert "already opened with this click" in again.text


def test_changed_field_is_refused(demo: Demo, browser: Browser) -> None:
    fields = dict(demo.signed_form("Quiz: Finding north", browser))
    fields["roles"] = "Instructor"

    refused = demo.launch(list(fields.items()), browser)

    assert refused.status == 401
    assert "could not verify" in refused.text


def test_teacher_sees_the_class(demo: Demo, browser: Browser) -> None:
    quiz = demo.launch(demo.signed_form("Quiz: Finding north", browser), browser)
    answer(quiz, browser, demo.tool)
    teacher = Browser()
    demo.switch_to("Ines Duarte", teacher)

    lesson = demo.launch(demo.signed_form("Quiz: Finding north", teacher), teacher)
    [class_link] = [link for link in lesson.links if link.endswith("/class/")]

    assert "Amara Okafor" in teacher.get(class_link).text
    assert browser.get(class_link).status == 403


def test_account_is_connected_and_disconnected(demo: Demo, browser: Browser) -> None:
    tool = demo.tool.rstrip("/")
    launch_url = f"{tool}/lti/launch/lessons/colours-of-stars/quiz/"

    def launch() -> Page:
        fields = demo.signed_form("Quiz: Colours of stars", browser)
        return browser.post(launch_url, fields, demo.lms.rstrip("/"))

    [(start, nothing)] = launch().forms
    login = browser.post(start, nothing, tool)
    credentials = [("username", "amara"), ("password", "amara")]
    given = [pair for pair in login.form_to("/login/") if pair[0] not in dict(credentials)]
    question = browser.post(login.url, [*given, *credentials], tool)
    assert "Are both of these you?" in question.text
    token = question.form_to("/lti/account/")

    quiz = browser.post(question.url, [*token, ("confirm", "")], tool)

    assert "/lessons/colours-of-stars/quiz/" in quiz.url
    assert "/lessons/colours-of-stars/quiz/" in launch().url
    connections = browser.get(f"{tool}/lti/connections/")
    after = browser.post(connections.url, connections.form_to("/connections/"), tool)
    assert "None." in after.text
    assert "Are both of these you?" in launch().text


class Asking:
    """A tool that logs in at the demo LMS and verifies its token, from the specifications alone."""

    def __init__(self, demo: Demo, browser: Browser) -> None:
        self.demo, self.browser = demo, browser
        login = demo.shown("Quiz: Finding north", browser, "1.3")
        self.login = dict(login.form_to("/lti/login/"))
        self.request = {
            "scope": "openid",
            "response_type": "id_token",
            "response_mode": "form_post",
            "prompt": "none",
            "client_id": self.login["client_id"],
            "redirect_uri": f"{demo.tool}lti/launch/",
            "login_hint": self.login["login_hint"],
            "lti_message_hint": self.login["lti_message_hint"],
            "state": "the state",
            "nonce": "the nonce",
        }

    def ask(self, browser: Browser | None = None, **changes: str) -> Page:
        asked = {name: value for name, value in (self.request | changes).items() if value}
        url = f"{self.demo.lms}authorize/?{urlencode(asked)}"
        return (browser or self.browser).get(url)

    def answer(self, browser: Browser | None = None, **changes: str) -> dict[str, str]:
        return dict(self.ask(browser, **changes).form_to("/lti/launch/"))


def key_set(demo: Demo) -> list[dict[str, str]]:
    keys: list[dict[str, str]] = json.loads(Browser().get(f"{demo.lms}key-set/").text)["keys"]
    return keys


def decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verified(token: str, key: dict[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a token (RFC 7515), with cryptography alone."""
    signed, _, signature = token.rpartition(".")
    n, e = (int.from_bytes(decode(key[name])) for name in "ne")
    public = RSAPublicNumbers(e, n).public_key()
    public.verify(decode(signature), signed.encode(), PKCS1v15(), SHA256())
    header, claims = (json.loads(decode(part)) for part in signed.split("."))
    return header, claims


def test_a_token_answers_the_authorization_request(demo: Demo, browser: Browser) -> None:
    asking = Asking(demo, browser)

    answer = asking.answer()

    assert answer.keys() == {"id_token", "state"}
    assert answer["state"] == "the state"
    [key] = key_set(demo)
    header, claims = verified(answer["id_token"], key)
    assert header == {"typ": "JWT", "alg": "RS256", "kid": key["kid"]}
    assert key.keys() == {"kty", "n", "e", "kid", "use", "alg"}
    assert claims["iss"] == asking.login["iss"] == "https://lms.campus.example"
    assert claims["aud"] == asking.login["client_id"]
    assert claims["nonce"] == "the nonce"
    assert 0 < claims["exp"] - claims["iat"] <= 300
    assert claims["name"] == "Amara Okafor"
    lti = {
        name.removeprefix(CLAIM): value for name, value in claims.items() if name.startswith(CLAIM)
    }
    assert lti["message_type"] == "LtiResourceLinkRequest"
    assert lti["version"] == "1.3.0"
    assert lti["deployment_id"] == asking.login["lti_deployment_id"] == "1"
    assert lti["target_link_uri"] == asking.login["target_link_uri"]
    assert lti["target_link_uri"] == f"{demo.tool}lti/launch{QUIZ}"
    assert lti["roles"] == ["http://purl.imsglobal.org/vocab/lis/v2/membership#Learner"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"scope": "profile"}, "invalid_scope"),
        ({"response_type": "code"}, "unsupported_response_type"),
        ({"response_mode": "query"}, "invalid_request"),
        ({"prompt": "login"}, "invalid_request"),
        ({"nonce": ""}, "invalid_request"),
        ({"login_hint": "1"}, "invalid_request"),
        ({"lti_message_hint": ""}, "invalid_request"),
    ],
)
def test_a_wrong_authorization_request_gets_no_token(
    demo: Demo, browser: Browser, changes: dict[str, str], error: str
) -> None:
    answer = Asking(demo, browser).answer(**changes)
    assert answer.keys() == {"error", "error_description", "state"}
    assert answer["error"] == error
    assert answer["state"] == "the state"


def test_hints_do_not_stand_for_one_another(demo: Demo, browser: Browser) -> None:
    asking = Asking(demo, browser)
    answer = asking.answer(login_hint=asking.login["lti_message_hint"])
    assert answer["error"] == "invalid_request"


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "somebody-else"},
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "http://localhost/lti/launch/"},
    ],
)
def test_a_token_goes_to_the_registered_address_or_nowhere(
    demo: Demo, browser: Browser, changes: dict[str, str]
) -> None:
    page = Asking(demo, browser).ask(**changes)
    assert page.status == 400
    assert page.forms == []
    assert "does not know this tool" in page.text


def test_a_redirect_uri_counts_to_the_letter(demo: Demo, browser: Browser) -> None:
    page = Asking(demo, browser).ask(redirect_uri=f"{demo.tool}lti/launch")
    assert page.status == 400


def test_somebody_else_at_the_browser_has_to_sign_in(demo: Demo, browser: Browser) -> None:
    asking = Asking(demo, browser)
    demo.switch_to("Jonas Weber", browser)
    assert asking.answer()["error"] == "login_required"


def test_a_browser_without_a_session_has_to_sign_in(demo: Demo, browser: Browser) -> None:
    stranger = Browser()
    page = Asking(demo, browser).ask(stranger)
    again = stranger.post(page.forms[0][0], page.form_to("/authorize/"), demo.lms.rstrip("/"))
    assert dict(again.form_to("/lti/launch/"))["error"] == "login_required"


@pytest.mark.parametrize("destination", ["document", "iframe"])
def test_learner_answers_the_quiz_by_lti_1_3(demo: Demo, destination: str) -> None:
    browser = Browser(destination)
    token = demo.get_token("Quiz: Finding north", browser)

    quiz = demo.post_token(token, browser)

    assert quiz.status == 200
    assert quiz.url.startswith(urljoin(demo.tool, QUIZ))
    assert "Amara Okafor" in quiz.text
    result = answer(quiz, browser, demo.tool)
    assert result.status == 200
    assert "Your answers are stored." in result.text
    assert "data-lti-grade" not in result.text


def test_a_person_is_the_same_one_in_both_courses(demo: Demo) -> None:
    by_1_1, by_1_3 = Browser(), Browser()
    for browser in (by_1_1, by_1_3):
        demo.switch_to("Ines Duarte", browser)
    quiz = demo.launch(demo.signed_form("Quiz: Finding north", by_1_1), by_1_1)
    result = answer(quiz, by_1_1, demo.tool)
    demo.post_token(demo.get_token("Quiz: Finding north", by_1_3), by_1_3)
    assert by_1_3.get(result.url.partition("?")[0]).status == 200


def test_a_second_use_of_a_token_is_refused(demo: Demo, browser: Browser) -> None:
    token = demo.get_token("Quiz: Finding north", browser)
    assert demo.post_token(token, browser).status == 200

    again = demo.post_token(token, browser)

    assert again.status == 403
    assert "already opened with this click" in again.text
    assert "replayed_launch" in demo.newest_refusal()


def test_a_token_changed_by_hand_is_refused(demo: Demo, browser: Browser) -> None:
    fields = dict(demo.get_token("Quiz: Finding north", browser))
    header, claims, signature = fields["id_token"].split(".")
    teacher = decode(claims).replace(b"#Learner", b"#Instructor")
    changed = urlsafe_b64encode(teacher).decode().rstrip("=")
    fields["id_token"] = f"{header}.{changed}.{signature}"

    refused = demo.post_token(list(fields.items()), browser)

    assert refused.status == 401
    assert "could not verify" in refused.text
    log = demo.newest_refusal()
    assert "token_signature_invalid" in log
    assert "membership#Instructor" in log
    assert "Amara" not in log


def test_a_token_of_a_different_browser_is_refused(demo: Demo, browser: Browser) -> None:
    token = demo.get_token("Quiz: Finding north", browser)
    victim = Browser()
    refused = demo.post_token(token, victim)
    assert refused.status == 403
    assert "other_browser" in refused.text


def test_a_wrong_deployment_waits_for_an_administrator(demo: Demo, browser: Browser) -> None:
    demo.save("tools/", deployment_id="somewhere else")
    try:
        token = demo.get_token("Quiz: Finding north", browser)
        refused = demo.post_token(token, browser)
    finally:
        demo.press("tools/", "/demo-values/")
    assert "/return/" in refused.url
    assert "administrator has to approve this LMS" in html.unescape(refused.text)
    log = demo.newest_refusal()
    assert "unknown_deployment" in log
    assert "somewhere else" in log


def test_a_changed_login_names_a_client_that_nobody_knows(demo: Demo, browser: Browser) -> None:
    page = demo.shown("Quiz: Finding north", browser, "1.3")
    login = dict(page.form_to("/lti/login/")) | {"client_id": "mistyped"}

    refused = browser.post(f"{demo.tool}lti/login/", list(login.items()), demo.lms.rstrip("/"))

    assert "unknown_client" in refused.text
    assert "mistyped" in demo.admin("lticonsumer/").text


def test_somebody_else_at_the_lms_is_told_to_sign_in_there(demo: Demo, browser: Browser) -> None:
    page = demo.shown("Quiz: Finding north", browser, "1.3")
    demo.switch_to("Jonas Weber", browser)
    login = page.form_to("/lti/login/")
    error = browser.post(f"{demo.tool}lti/login/", login, demo.lms.rstrip("/"))

    refused = demo.post_token(error.form_to("/lti/launch/"), browser)

    assert refused.status == 403
    assert "Sign in to your LMS" in refused.text
    assert "login_required" in demo.newest_refusal()


def forget_keys(demo: Demo) -> None:
    """As if the keys that the tool has of the LMS had been fetched long ago."""
    forget = "LtiRegistration.objects.update(jwks_tried_at=None, jwks_expires_at=None)"
    models = "from lti_provider.models import LtiRegistration"
    demo.manage_tool("shell", "--no-imports", "--command", f"{models}; {forget}")


def test_a_new_key_is_fetched_unless_the_key_set_has_stopped(demo: Demo, browser: Browser) -> None:
    [key] = key_set(demo)
    demo.press("key/", "/key/new/")
    forget_keys(demo)
    assert demo.post_token(demo.get_token("Quiz: Finding north", browser), browser).status == 200
    assert key not in key_set(demo)

    demo.save("key/", key_set="fails")
    demo.press("key/", "/key/new/")
    forget_keys(demo)
    try:
        refused = demo.post_token(demo.get_token("Quiz: Finding north", browser), browser)
    finally:
        demo.save("key/", key_set="works")
        forget_keys(demo)
    assert refused.status == 503
    log = demo.newest_refusal()
    assert "key_set_unavailable" in log
    assert "500" in log


def test_second_start_finds_everything_again(tmp_path: Path) -> None:
    env = demo_environment(tmp_path)
    kept = []
    for _ in range(2):
        process = start(env)
        try:
            wait_until_ready(process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
        kept.append((tmp_path / "demo.env").read_text())
    assert kept[0] == kept[1]


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        env = demo_environment(tmp_path) | {"DEMO_TOOL_PORT": port}
        process = start(env)
        printed, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"Port {port} is taken" in printed

"""The unsigned login that begins a launch of LTI 1.3: where it leads, and what it leaves."""

import logging
import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
import time_machine
from django.apps import apps
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from lti_provider.frames import LOGIN_FRAMED, LOGIN_TOP_LEVEL, MARKER_COOKIE
from lti_provider.lti13.state import LoginState
from lti_provider.models import LtiLaunch, LtiRegistration, LtiUnknownSender
from lti_provider.signals import launch_refused
from lti_provider.testing import FakePlatform
from lti_provider.testing.lms import navigation
from tests.test_canaries import KeptMail

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
LOGIN = "/lti/login/"
TARGET = "http://testserver/lti/launch/content/"
IN_FRAME, IN_WINDOW = navigation(framed=True), navigation(framed=False)
FIELDS = {
    "iss": "https://lms.example",
    "client_id": "16",
    "login_hint": "hint",
    "target_link_uri": TARGET,
}


@pytest.fixture
def registration() -> LtiRegistration:
    return register()


def register(**changes: Any) -> LtiRegistration:
    said = {
        "issuer": "https://lms.example",
        "client_id": "16",
        "authorization_endpoint": "https://auth.lms.example/authorize",
        "jwks": "{}",
    }
    return LtiRegistration.objects.create(**(said | changes))


@pytest.fixture(params=["GET", "POST"])
def ask(request, client):
    """Log in by either method: changes to the fields, None leaves one out."""

    def ask_for_login(path: str = LOGIN, headers: Any = IN_WINDOW, **changes: str | None) -> Any:
        sent = {**FIELDS, **changes}
        text = urlencode({name: value for name, value in sent.items() if value is not None})
        return send(client, request.param, text, path, headers)

    return ask_for_login


def send(client: Client, method: str, text: str, path: str = LOGIN, headers: Any = IN_WINDOW):
    if method == "GET":
        return client.generic("GET", f"{path}?{text}", headers=headers)
    return client.post(path, text, content_type=FORM, headers=headers)


def asked_of_lms(response: Any) -> dict[str, str]:
    """What the redirect to the LMS asks for."""
    assert response.status_code == 303
    return dict(parse_qsl(urlsplit(response["Location"]).query, keep_blank_values=True))


def hidden(page: Any) -> list[tuple[str, str]]:
    """The fields of a page's form, as a browser posts them."""
    found = re.findall('<input type="hidden" name="(.*?)" value="(.*?)">', page.text)
    return [(unescape(name), unescape(value)) for name, value in found]


def count_rows() -> dict[str, int]:
    return {
        model._meta.label: model._base_manager.count()
        for model in apps.get_models()
        if model._meta.managed
    }


# Where it leads


def test_a_login_leads_to_the_lms(registration, ask):
    response = ask(lti_message_hint="message")

    assert response["Location"].startswith("https://auth.lms.example/authorize?")
    said = asked_of_lms(response)
    state = LoginState.read(said.pop("state"))
    assert said == {
        "scope": "openid",
        "response_type": "id_token",
        "response_mode": "form_post",
        "prompt": "none",
        "client_id": "16",
        "redirect_uri": "http://testserver/lti/launch/",
        "login_hint": "hint",
        "nonce": state.nonce,
        "lti_message_hint": "message",
    }
    assert state.registration_pk == registration.pk
    assert state.is_about(TARGET)


def test_what_the_endpoint_has_in_its_query_stays(ask):
    register(authorization_endpoint="https://lms.example/auth?id=7&x=a%20b#top")

    location = urlsplit(ask()["Location"])

    assert location.query.startswith("id=7&x=a%20b&scope=openid&")
    assert location.fragment == "top"


@pytest.mark.parametrize(
    "hint", ["", " ", "a b+c%20&=?#", '{"json": "é✓"}', "e30.e30.sig-_", "x" * 7000, "<script>"]
)
def test_the_hints_go_back_unaltered(registration, ask, hint):
    said = asked_of_lms(ask(lti_message_hint=hint))
    assert said["lti_message_hint"] == hint


def test_a_hint_that_did_not_come_is_not_sent(registration, ask):
    assert "lti_message_hint" not in asked_of_lms(ask())


def test_names_that_nobody_knows_are_ignored(registration, ask):
    names = {"canvas_region": "us", "deployment_id": "1", "lti_storage_target": "_parent"}
    said = asked_of_lms(ask(**names, state="x", redirect_uri="https://evil.example/", scope="all"))
    assert not names.keys() & said.keys()
    assert said["redirect_uri"] == "http://testserver/lti/launch/"
    assert said["scope"] == "openid"


@pytest.mark.parametrize("uri", ["https://evil.example/", "javascript:alert(1)", "//evil", "é"])
def test_the_target_of_an_unsigned_request_is_never_followed(registration, ask, uri):
    response = ask(target_link_uri=uri)
    assert urlsplit(response["Location"]).hostname == "auth.lms.example"
    assert "evil" not in response["Location"]


def test_a_deployment_that_was_named_is_kept_in_the_state(registration, ask):
    state = LoginState.read(asked_of_lms(ask(lti_deployment_id="7"))["state"])
    assert state.names_deployment("7")
    assert not state.names_deployment("8")
    for none in ("", None):
        assert LoginState.read(asked_of_lms(ask(lti_deployment_id=none))["state"]).names_deployment(
            "8"
        )


def test_no_two_logins_have_the_same_state(registration, ask):
    first, second = asked_of_lms(ask()), asked_of_lms(ask())
    assert first["state"] != second["state"]
    assert first["nonce"] != second["nonce"]


def test_the_redirect_uri_is_that_of_the_request_over_tls(registration):
    response = Client().get(LOGIN, FIELDS, headers=IN_WINDOW, secure=True)
    assert asked_of_lms(response)["redirect_uri"] == "https://testserver/lti/launch/"
    (cookie,) = response.cookies.values()
    assert cookie["secure"]


@pytest.mark.parametrize("method", ["head", "options", "put", "delete", "patch"])
def test_other_methods_are_no_login(registration, client, method):
    assert getattr(client, method)(f"{LOGIN}?{urlencode(FIELDS)}").status_code == 405


# Which registration


def test_issuer_and_client_are_taken_to_the_letter(ask):
    ours = register()
    register(issuer="https://lms.example/", authorization_endpoint="https://evil.example/")
    register(issuer="https://LMS.example", authorization_endpoint="https://evil.example/")
    register(client_id="16 ", authorization_endpoint="https://evil.example/")
    state = LoginState.read(asked_of_lms(ask())["state"])
    assert state.registration_pk == ours.pk


@pytest.mark.parametrize("client_id", [None, ""])
def test_without_a_client_id_the_only_registration_of_the_issuer_counts(ask, client_id):
    ours = register()
    register(issuer="https://other.example")
    state = LoginState.read(asked_of_lms(ask(client_id=client_id))["state"])
    assert state.registration_pk == ours.pk


@pytest.mark.parametrize("client_id", [None, "", "18"])
def test_an_address_of_its_own_says_which_registration_is_meant(ask, client_id):
    register()
    meant = register(client_id="18")
    said = asked_of_lms(ask(f"{LOGIN}{meant.pk}/", client_id=client_id))
    assert said["client_id"] == "18"
    assert LoginState.read(said["state"]).registration_pk == meant.pk


@pytest.fixture
def refusals():
    """Every refusal that was reported, oldest first."""
    reported = []

    def receive(refusal: Any, **_signal: Any) -> None:
        reported.append(refusal)

    launch_refused.connect(receive)
    yield reported
    launch_refused.disconnect(receive)


def expect_refused(response: Any, refusals: list[Any], status: int, code: str) -> str:
    """The refusal's hint."""
    assert response.status_code == status
    assert f"<code>{code}</code>" in response.text
    assert not response.cookies
    (refusal,) = refusals
    assert refusal.code == code
    return str(refusal.hint)


def test_an_issuer_that_nobody_knows_is_kept_for_the_administrator(registration, ask, refusals):
    expect_refused(ask(iss="https://lms.example/"), refusals, 401, "unknown_issuer")
    sender = LtiUnknownSender.objects.get()
    assert (sender.kind, sender.text) == ("issuer", "https://lms.example/")
    assert not LtiLaunch.objects.exists()


def test_a_client_that_nobody_knows_is_told_apart_from_the_issuer(registration, ask, refusals):
    hint = expect_refused(ask(client_id="17"), refusals, 401, "unknown_client")
    assert hint == "Issuer https://lms.example is known, client 17 is not; known: 16."
    sender = LtiUnknownSender.objects.get()
    assert (sender.kind, sender.text) == ("client", "17")
    assert not LtiLaunch.objects.exists()


def test_a_client_of_an_unknown_issuer_is_an_unknown_issuer(ask, refusals):
    expect_refused(ask(), refusals, 401, "unknown_issuer")


def test_an_issuer_with_several_registrations_needs_a_client_id(registration, ask, refusals):
    register(client_id="18")
    expect_refused(ask(client_id=None), refusals, 400, "missing_client_id")
    assert not LtiUnknownSender.objects.exists()
    assert not LtiLaunch.objects.exists()


def test_without_a_client_id_an_unknown_issuer_is_one_too(registration, ask, refusals):
    expect_refused(
        ask(client_id=None, iss="https://other.example"), refusals, 401, "unknown_issuer"
    )


def test_a_registration_that_is_switched_off_is_refused_and_logged(ask, refusals):
    off = register(is_active=False)
    expect_refused(ask(), refusals, 403, "registration_inactive")
    logged = LtiLaunch.objects.get()
    assert (logged.registration, logged.lti_consumer) == (off, None)
    assert logged.refusal_code == "registration_inactive"
    assert logged.launch_url == TARGET


def test_a_flood_of_refused_logins_writes_a_few_rows(ask, settings):
    settings.LTI_PROVIDER_REFUSALS_KEPT = 10
    register(is_active=False)
    for _number in range(20):
        ask()
        ask(iss="https://other.example")
    assert LtiLaunch.objects.count() == 2
    assert LtiUnknownSender.objects.get().count <= 10


@pytest.mark.parametrize(
    ("changes", "code", "hint"),
    [
        (
            {"iss": "https://other.example"},
            "unknown_issuer",
            "The LMS sent issuer https://other.example; this login URL is for https://lms.example.",
        ),
        (
            {"client_id": "18"},
            "unknown_client",
            "The LMS sent client 18; this login URL is for 16.",
        ),
    ],
)
def test_at_an_address_of_its_own_issuer_and_client_have_to_be_its(
    registration, ask, refusals, changes, code, hint
):
    register(issuer="https://other.example", client_id="18")
    path = f"{LOGIN}{registration.pk}/"
    assert expect_refused(ask(path, **changes), refusals, 401, code) == hint
    logged = LtiLaunch.objects.get()
    assert (logged.registration, logged.refusal_code) == (registration, code)
    assert logged.refusal_hint == hint


@pytest.mark.parametrize("number", ["0", "7777", "9" * 18, "9" * 30])
def test_an_address_of_a_registration_that_does_not_exist(registration, ask, refusals, number):
    response = ask(f"{LOGIN}{number}/")
    hint = expect_refused(response, refusals, 401, "unknown_registration")
    assert number in hint
    assert not LtiLaunch.objects.exists()


@pytest.mark.parametrize("name", ["iss", "login_hint", "target_link_uri"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_a_login_needs(registration, ask, refusals, name, value):
    response = ask(**{name: value})
    assert name in expect_refused(response, refusals, 400, "malformed_request")


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("iss", 256),
        ("client_id", 256),
        ("lti_deployment_id", 256),
        ("login_hint", 8193),
        ("lti_message_hint", 8193),
        ("target_link_uri", 13_000),
    ],
)
def test_everything_has_its_bounds(registration, ask, refusals, name, length):
    response = ask(**{name: "x" * length})
    assert name in expect_refused(response, refusals, 400, "malformed_request")


def test_both_hints_share_a_bound(registration, ask, refusals):
    assert ask(login_hint="x" * 4000, lti_message_hint="x" * 4000).status_code == 303
    response = ask(login_hint="x" * 4100, lti_message_hint="x" * 4100)
    expect_refused(response, refusals, 400, "malformed_request")


def test_the_longest_login_still_fits_into_an_address(ask):
    long = "i" * 255
    register(issuer=long, client_id=long, authorization_endpoint=f"https://lms.example/{'a' * 900}")
    response = ask(
        iss=long, client_id=long, lti_deployment_id=long, login_hint="x" * 8150,
        target_link_uri="http://testserver/" + "t" * 3000,
    )  # fmt: skip
    assert response.status_code == 303
    assert len(response["Location"]) < 16_384


#: What is not read in exactly one way; a form and a query alike.
AMBIGUOUS = {
    "issuer twice": urlencode([*FIELDS.items(), ("iss", "https://other.example")]),
    "the same hint twice": urlencode([*FIELDS.items(), ("login_hint", "hint")]),
    "a broken escape": urlencode(FIELDS) + "&x=%zz",
    "not UTF-8": urlencode(FIELDS) + "&x=%ff",
    "a lone surrogate": urlencode(FIELDS) + "&x=%ed%a0%80",
    "NUL": urlencode(FIELDS) + "&x=%00",
    "a name that is empty": urlencode(FIELDS) + "&=x",
    "too many names": urlencode(FIELDS) + "".join(f"&x{n}=" for n in range(500)),
    "nothing": "",
    "no pairs": "x",
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("text", AMBIGUOUS.values(), ids=AMBIGUOUS)
@pytest.mark.parametrize("headers", [IN_WINDOW, IN_FRAME, {}])
def test_what_cannot_be_read_is_refused_and_leaves_nothing(
    registration, client, method, text, headers
):
    before = count_rows()
    response = send(client, method, text, headers=headers)
    assert response.status_code == 400
    assert "<code>malformed_request</code>" in response.text
    assert not response.cookies
    assert count_rows() == before


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", "{}"),
        ("multipart/form-data; boundary=x", urlencode(FIELDS)),
        ("application/x-www-form-urlencoded; charset=utf-16", urlencode(FIELDS)),
        ("text/plain", urlencode(FIELDS)),
        ("", urlencode(FIELDS)),
        (FORM, urlencode({**FIELDS, "x": "x" * 66_000})),
    ],
)
def test_a_form_is_a_form(registration, client, kind, body):
    response = client.generic("POST", LOGIN, body, content_type=kind, headers=IN_WINDOW)
    assert response.status_code == 400
    assert "<code>malformed_request</code>" in response.text


def test_the_query_of_a_post_is_not_read(registration, client):
    response = send(client, "POST", "login_hint=x", f"{LOGIN}?{urlencode(FIELDS)}")
    assert response.status_code == 400


# What it leaves


@pytest.mark.parametrize("headers", [IN_WINDOW, IN_FRAME, {}])
def test_nothing_is_stored_and_one_row_is_read(registration, ask, headers):
    ask()
    before = count_rows()
    with CaptureQueriesContext(connection) as queries:
        response = ask(headers=headers)
    assert response.status_code in (200, 303)
    (query,) = queries.captured_queries
    assert query["sql"].startswith("SELECT")
    assert "registration_digest" in query["sql"]
    assert count_rows() == before


@pytest.mark.parametrize("client_id", [None, "16"])
def test_any_way_to_find_a_registration_is_one_read(registration, ask, client_id):
    for path in (LOGIN, f"{LOGIN}{registration.pk}/"):
        with CaptureQueriesContext(connection) as queries:
            assert ask(path, client_id=client_id).status_code == 303
        assert [query["sql"].split()[0] for query in queries.captured_queries] == ["SELECT"]


def test_a_login_touches_no_session(registration, ask, client, django_user_model):
    client.force_login(django_user_model.objects.create_user("ada"))
    with CaptureQueriesContext(connection) as queries:
        response = ask()
    assert not [query for query in queries.captured_queries if "session" in query["sql"]]
    assert "sessionid" not in response.cookies


def attributes(morsel: Any) -> set[str]:
    return {
        text for text in morsel.OutputString().split("; ")[1:] if not text.startswith("expires")
    }


WINDOWS = {"HttpOnly", "Max-Age=600", "Path=/lti/", "SameSite=Lax"}
FRAMES = {"HttpOnly", "Max-Age=600", "Path=/lti/", "SameSite=None", "Secure", "Partitioned"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (IN_WINDOW, {LOGIN_TOP_LEVEL: WINDOWS}),
        (IN_FRAME, {LOGIN_FRAMED: FRAMES}),
        ({}, {LOGIN_TOP_LEVEL: WINDOWS, LOGIN_FRAMED: FRAMES}),
        ({"Sec-Fetch-Dest": "empty"}, {}),
        ({"Sec-Fetch-Dest": "image"}, {}),
    ],
)
def test_the_cookie_is_of_the_window_or_of_the_frame(registration, ask, headers, expected):
    cookies = ask(headers=headers).cookies
    found = {name.rpartition("_")[0] + "_": attributes(cookies[name]) for name in cookies}
    assert found == expected
    assert len({morsel.value for morsel in cookies.values()}) <= 1


def test_a_cookie_names_no_secret(registration, ask):
    response = ask()
    state = LoginState.read(asked_of_lms(response)["state"])
    (cookie,) = response.cookies.values()
    assert state.handle not in cookie.OutputString()
    assert state.random_id not in cookie.OutputString()
    assert state.handle not in response["Location"]


def test_many_logins_never_make_a_header_that_servers_refuse(registration, client):
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as clock:
        for number in range(60):
            send(client, "POST", urlencode(FIELDS), headers={} if number % 2 else IN_FRAME)
            clock.shift(timedelta(seconds=1))
            for name in [name for name, kept in client.cookies.items() if kept["max-age"] == 0]:
                del client.cookies[name]
    kept = [f"{name}={cookie.value}" for name, cookie in client.cookies.items()]
    assert len(kept) == 40
    assert len("; ".join(kept)) < 4500
    # The oldest ones made room.
    made = sorted(int(cookie.value.partition("-")[0]) for cookie in client.cookies.values())
    newest = int(datetime(2026, 3, 1, 12, 0, 59, tzinfo=UTC).timestamp())
    assert made[-1] == newest
    assert made[0] >= newest - 40


def test_cookies_that_somebody_planted_go_first_and_a_few_at_a_time(registration, client):
    for number in range(200):
        name = f"{LOGIN_TOP_LEVEL}{number:016x}"
        client.cookies[name] = "é" if number % 2 else "9" * 40
    response = send(client, "GET", urlencode(FIELDS))
    gone = [name for name, cookie in response.cookies.items() if cookie["max-age"] == 0]
    assert len(gone) == 3
    assert len(response.cookies) == 4


@pytest.mark.parametrize("headers", [IN_WINDOW, IN_FRAME, {}])
def test_cookies_whose_names_cannot_be_set_are_left(registration, client, headers):
    names = [f"{prefix}{sign}{n}" for prefix in (LOGIN_TOP_LEVEL, LOGIN_FRAMED)
             for sign in ("é", "[", " x", "", "\\", "@") for n in range(10)]  # fmt: skip
    cookies = "; ".join(f"{name}=1-x" for name in names)
    for path in (f"{LOGIN}?{urlencode(FIELDS)}", "/lti/enter/x/", "/lti/launch/"):
        response = client.get(path, headers={**headers, "Cookie": cookies})
        assert response.status_code in (200, 303, 404)


# Whether a frame keeps cookies is found out before the LMS is asked


def to_lms(response: Any) -> bool:
    return response.get("Location", "").startswith("https://auth.lms.example/")


def bind(client: Client, response: Any) -> None:
    """Keep no cookie of a response, as a browser that refuses them."""
    for name in response.cookies:
        del client.cookies[name]


@pytest.fixture
def long_hint() -> str:
    return "h" * 4000


def test_a_frames_get_comes_back_with_the_same_state(registration, client, long_hint):
    text = urlencode({**FIELDS, "lti_message_hint": long_hint})
    first = send(client, "GET", text, headers=IN_FRAME)
    assert first.status_code == 303
    assert first["Location"].startswith(f"{LOGIN}?")
    (bound,) = first.cookies
    (state,) = parse_qs(urlsplit(first["Location"]).query)["lti_login"]

    second = client.get(first["Location"], headers=IN_FRAME)
    said = asked_of_lms(second)
    assert to_lms(second)
    assert LoginState.read(said["state"]) == LoginState.read(state)
    assert said["lti_message_hint"] == long_hint
    assert not second.cookies
    assert bound in client.cookies


def test_a_frames_form_is_sent_again_by_its_page(registration, client, long_hint):
    text = urlencode({**FIELDS, "lti_message_hint": long_hint, "x": "ignored"})
    page = send(client, "POST", text, headers=IN_FRAME)
    assert page.status_code == 200
    assert f'action="{LOGIN}"' in page.text
    assert "forms[0].submit" in page.text
    assert "<button" in page.text
    pairs = hidden(page)
    assert dict(pairs).keys() == {*FIELDS, "lti_message_hint", "lti_login"}
    assert "frame-ancestors" not in page["Content-Security-Policy"]
    assert "X-Frame-Options" not in page

    second = send(client, "POST", urlencode(pairs), headers=IN_FRAME)
    said = asked_of_lms(second)
    assert to_lms(second)
    assert LoginState.read(said["state"]) == LoginState.read(dict(pairs)["lti_login"])
    assert said["lti_message_hint"] == long_hint


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("headers", [IN_FRAME, {}])
@pytest.mark.parametrize("own_address", [False, True])
def test_without_its_cookie_the_same_login_is_offered_in_a_new_window(
    registration, client, method, headers, own_address, long_hint
):
    path = f"{LOGIN}{registration.pk}/" if own_address else LOGIN
    fields = {**FIELDS, "lti_message_hint": long_hint}
    first = send(client, method, urlencode(fields), path, headers)
    bind(client, first)
    if method == "GET":
        page = client.get(first["Location"], headers=headers)
    else:
        page = send(client, "POST", urlencode(hidden(first)), path, headers)
    assert page.status_code == 200
    assert not page.cookies
    assert f'method="post" action="{path}" target="_blank"' in page.text
    assert "X-Frame-Options" not in page
    assert "frame-ancestors" not in page["Content-Security-Policy"]
    assert dict(hidden(page)) == fields

    window = Client()
    headers = {**IN_WINDOW, "Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}
    response = send(window, "POST", urlencode(hidden(page)), path, headers)
    assert to_lms(response)
    assert asked_of_lms(response)["lti_message_hint"] == long_hint
    (cookie,) = response.cookies
    assert cookie.startswith(LOGIN_TOP_LEVEL)


def test_pages_of_a_login_are_escaped(registration, client):
    fields = {**FIELDS, "login_hint": '"><script>alert(1)</script>'}
    page = send(client, "POST", urlencode(fields), headers=IN_FRAME)
    assert "<script>alert" not in page.text
    assert dict(hidden(page))["login_hint"] == fields["login_hint"]


def test_pages_of_a_login_are_in_the_browsers_language(registration, client):
    for headers in (IN_FRAME, {}):
        page = send(client, "POST", urlencode(FIELDS), headers={**headers, "Accept-Language": "de"})
        assert '<html lang="de"' in page.text


def test_a_browser_that_does_not_say_goes_on_with_either_cookie(registration):
    for dropped in (LOGIN_TOP_LEVEL, LOGIN_FRAMED):
        client = Client()
        first = send(client, "POST", urlencode(FIELDS), headers={})
        del client.cookies[next(name for name in first.cookies if name.startswith(dropped))]
        assert to_lms(send(client, "POST", urlencode(hidden(first)), headers={}))


def test_a_frame_whose_earlier_login_left_a_cookie_is_asked_nothing(registration, client):
    send(client, "POST", urlencode(FIELDS), headers=IN_FRAME)
    assert to_lms(send(client, "POST", urlencode(FIELDS), headers=IN_FRAME))


def test_a_frame_with_our_marker_is_asked_nothing(client):
    platform = FakePlatform.create("moodle")
    platform.launch(client, "content/", framed=True)
    assert MARKER_COOKIE in client.cookies
    answer = client.get(LOGIN, dict(platform.begin_login("content/")), headers=IN_FRAME)
    assert platform.is_authentication_request(answer)
    (bound,) = answer.cookies
    assert bound.startswith(LOGIN_FRAMED)


def test_the_state_of_another_browser_is_worth_nothing_to_a_login(registration, client):
    mine = hidden(send(Client(), "POST", urlencode(FIELDS), headers=IN_FRAME))
    # In a frame that shows nothing, it is a frame without its cookie.
    page = send(client, "POST", urlencode(mine), headers=IN_FRAME)
    assert "new window" in page.text
    assert not page.cookies
    # In a window, and where the frame is known to keep cookies, a login begins anew.
    send(client, "POST", urlencode(FIELDS), headers=IN_FRAME)
    for headers in (IN_WINDOW, IN_FRAME):
        answer = send(client, "POST", urlencode(mine), headers=headers)
        state = LoginState.read(asked_of_lms(answer)["state"])
        assert state.random_id != LoginState.read(dict(mine)["lti_login"]).random_id


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other.example", "client_id": "18"},
        {"target_link_uri": "http://testserver/lti/launch/content/other/"},
        {"lti_deployment_id": "8"},
        {"lti_deployment_id": ""},
        {"lti_login": "x"},
        {"lti_login": ""},
    ],
)
def test_a_state_belongs_to_its_login(registration, client, changes):
    register(issuer="https://other.example", client_id="18")
    fields = {**FIELDS, "lti_deployment_id": "7"}
    pairs = dict(hidden(send(client, "POST", urlencode(fields), headers=IN_FRAME)))
    answer = send(client, "POST", urlencode(pairs | changes), headers=IN_FRAME)
    state = LoginState.read(asked_of_lms(answer)["state"])
    assert state.random_id != LoginState.read(pairs["lti_login"]).random_id


def test_a_state_that_came_twice_is_not_taken(registration, client):
    pairs = hidden(send(Client(), "GET", urlencode(FIELDS), headers=IN_FRAME))
    text = urlencode([*FIELDS.items(), ("lti_login", "x"), ("lti_login", "y"), *pairs])
    first = send(client, "GET", text, headers=IN_FRAME)
    assert first["Location"].startswith(f"{LOGIN}?")
    assert len(parse_qs(urlsplit(first["Location"]).query)["lti_login"]) == 1


def test_a_state_that_is_too_old_begins_anew(registration, client):
    with time_machine.travel(datetime(2026, 3, 1, 12, tzinfo=UTC), tick=False) as clock:
        pairs = hidden(send(client, "POST", urlencode(FIELDS), headers=IN_FRAME))
        clock.shift(timedelta(seconds=601))
        answer = send(client, "POST", urlencode(pairs), headers=IN_FRAME)
        assert LoginState.read(asked_of_lms(answer)["state"])


# Reports


def test_an_outage_is_a_page_and_the_same_login_goes_on(registration, ask, client):
    def fail(*_statement: Any) -> None:
        raise OperationalError("the database went away")

    with connection.execute_wrapper(fail):
        response = ask(lti_message_hint="h")
    assert response.status_code == 503
    assert "site_unavailable" in response.text
    assert not response.cookies
    again = re.search('href="(.*?)"', response.text)
    assert (again is not None) == (response.wsgi_request.method == "GET")
    if again is not None:
        assert to_lms(client.get(unescape(again[1]), headers=IN_WINDOW))


@pytest.mark.parametrize(
    "changes", [{}, {"iss": "x"}, {"client_id": "x"}, {"target_link_uri": None}]
)
def test_no_hint_is_logged_or_kept(registration, ask, caplog, changes):
    caplog.set_level(0)
    for is_active in (True, False):
        LtiRegistration.objects.update(is_active=is_active)
        ask(login_hint="canary", lti_message_hint="canary", **changes)
    logged = [vars(record) for record in caplog.records if record.name.startswith("django.req")]
    logged += [vars(record) for record in caplog.records if record.name == "lti_provider"]
    assert logged or not changes
    assert "canary" not in repr(logged)
    kept = [vars(row) for model in apps.get_models() for row in model._base_manager.all()]
    assert "canary" not in repr(kept)


@pytest.fixture
def mailed():
    """What Django would have mailed to the administrators."""
    handler, logger = KeptMail(), logging.getLogger("django")
    logger.addHandler(handler)
    yield handler.kept
    logger.removeHandler(handler)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_report_shows_no_hint(client, mailed, method):
    def fail(**_signal: Any) -> None:
        raise RuntimeError("of the site")

    launch_refused.connect(fail)
    client.raise_request_exception = False
    text = urlencode({**FIELDS, "login_hint": "canary", "lti_message_hint": "canary"})
    named = ("REQUEST_URI", "HTTP_REFERER", "HTTP_X_ORIGINAL_URI", "HTTP_X_FORWARDED_URI")
    extra = dict.fromkeys(named, f"http://testserver{LOGIN}?{text}")
    path, body = (f"{LOGIN}?{text}", "") if method == "GET" else (LOGIN, text)
    try:
        response = client.generic(method, path, body, content_type=FORM, **extra)
    finally:
        launch_refused.disconnect(fail)
    assert response.status_code == 500
    mail = "\n".join(mailed)
    assert "of the site" in mail
    assert "canary" not in mail


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_login_that_does_not_reach_its_view_is_hidden_too(client, mailed, settings, method):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_login.fail"]
    client.raise_request_exception = False
    text = urlencode({**FIELDS, "login_hint": "canary", "lti_message_hint": "canary"})
    path, body = (f"{LOGIN}?{text}", "") if method == "GET" else (LOGIN, text)
    response = client.generic(method, path, body, content_type=FORM)
    assert response.status_code == 500
    mail = "\n".join(mailed)
    assert "of the site" in mail
    assert "canary" not in mail


def test_a_login_of_a_wrong_host_is_hidden_too(client, mailed, settings):
    settings.ALLOWED_HOSTS = ["testserver"]
    text = urlencode({**FIELDS, "login_hint": "canary", "lti_message_hint": "canary"})
    response = client.get(f"{LOGIN}?{text}", headers={"Host": "other.example"})
    assert response.status_code == 400
    mail = "\n".join(mailed)
    assert "other.example" in mail
    assert "canary" not in mail


def test_a_page_of_the_site_with_a_hint_is_reported_with_its_query(client, mailed, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_login.fail"]
    client.raise_request_exception = False
    client.get("/content/?login_hint=ada&scope=openid")
    assert "scope=openid" in "\n".join(mailed)


def fail(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        raise RuntimeError("of the site")

    return middleware

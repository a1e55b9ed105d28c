import html
import re
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from lti_provider import exceptions
from lti_provider.models import LtiConsumer, LtiContext, LtiLaunch, LtiResourceLink, LtiUser
from lti_provider.models.credentials import LONGEST_WINDOW
from lti_provider.signals import connection_refused, launch_refused
from lti_provider.testing import FakeLms
from tests import rfc5849, test_lti13_refusals

FORM = "application/x-www-form-urlencoded"
URL = "http://testserver/lti/launch/"
BACK = "https://lms.example/courses/101/assignments"

pytestmark = pytest.mark.django_db


@pytest.fixture
def lms(settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakeLms.create(consumer_key="known", consumer_secret="secret")


@pytest.fixture
def post(client, lms):
    """Post what the LMS sends, with changes to fields and to how it is signed."""

    def post_signed(path="/lti/launch/", headers=None, key="known", secret="secret", **changes):
        oauth = {
            name: changes.pop(name) for name in ("method", "timestamp", "nonce") if name in changes
        }
        sent = {**lms.fields, **changes}
        pairs = rfc5849.sign(
            f"http://testserver{path}",
            [(name, value) for name, value in sent.items() if value is not None],
            key=key,
            secret=secret,
            **oauth,
        )
        return client.post(path, urlencode(pairs), content_type=FORM, headers=headers)

    return post_signed


@pytest.fixture
def frozen():
    """One moment, in whole seconds; `.shift(seconds)` moves on."""
    with time_machine.travel(datetime(2026, 11, 23, 12, tzinfo=UTC), tick=False) as traveller:
        yield traveller


def replay(post, lms):
    post(nonce="once")
    return post(nonce="once")


def launched(client, post):
    return post(headers={"Sec-Fetch-Dest": "document"})["Location"]


def entered_after(seconds):
    def enter(post, lms, client):
        path = launched(client, post)
        with time_machine.travel(timezone.now() + timedelta(seconds=seconds)):
            return client.get(path, headers={"Sec-Fetch-Dest": "document"})

    return enter


def entered_twice(post, lms, client):
    path = launched(client, post)
    client.get(path, headers={"Sec-Fetch-Dest": "document"})
    return client.get(path, headers={"Sec-Fetch-Dest": "document"})


def entered_elsewhere(post, lms, client):
    return Client().get(launched(client, post), headers={"Sec-Fetch-Dest": "document"})


def opened_from_elsewhere(post, lms, client):
    return client.post(
        launched(client, post) + "window/", headers={"Origin": "https://evil.example"}
    )


def framed_by_nobody_known(post, lms, client):
    framed = {"Sec-Fetch-Dest": "iframe"}
    path = post(headers=framed, launch_presentation_return_url="")["Location"]
    return client.get(path, headers=framed)


def entered_by_the_deactivated(post, lms, client):
    client.get(launched(client, post), headers={"Sec-Fetch-Dest": "document"})
    get_user_model().objects.update(is_active=False)
    return client.get(launched(client, post), headers={"Sec-Fetch-Dest": "document"})


def launched_without_a_person(post, lms, client):
    LtiConsumer.objects.update(require_user_account=True)
    return post(user_id=None)


def launched_without_an_address(post, lms, client):
    LtiConsumer.objects.update(require_user_account=True)
    top_level = {"Sec-Fetch-Dest": "document"}
    path = post(headers=top_level, lis_person_contact_email_primary=None)["Location"]
    return client.get(path, headers=top_level)


def asked_to_connect(client, post, user, **policy):
    """The address of the question, and what it says to ``user``."""
    LtiConsumer.objects.update(require_user_account=True, **policy)
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    top_level = {"Sec-Fetch-Dest": "document"}
    question = client.get(launched(client, post), headers=top_level)["Location"]
    return question, client.get(question, headers=top_level)


def confirmed_by_another_address(post, lms, client):
    user = get_user_model().objects.create_user("other", "other@site.example")
    return asked_to_connect(client, post, user)[1]


def confirmed_by_another_person(post, lms, client):
    user = get_user_model().objects.create_user("other")
    LtiUser.objects.connect(lms.consumer, "other", "0" * 64, user, None)
    return asked_to_connect(client, post, user, account_match="any")[1]


def confirmed_by_staff(post, lms, client):
    user = get_user_model().objects.create_user("staff", is_staff=True)
    return asked_to_connect(client, post, user)[1]


def declined(post, lms, client):
    user = get_user_model().objects.create_user("other")
    question, _page = asked_to_connect(client, post, user, account_match="any")
    return client.post(question)


def with_consumer(**policy):
    def launch(post, lms, client):
        LtiConsumer.objects.update(**policy)
        return post()

    return launch


def with_fields(**fields):
    return lambda post, lms, client: post(**fields)


#: What happens, the status of our page, and whether the person may return to the LMS instead.
REFUSALS = {
    "malformed_request": (with_fields(nonce=""), 400, False),
    "unsupported_signature_method": (with_fields(oauth_token="x"), 400, False),
    "invalid_signature": (with_fields(secret="wrong"), 401, False),
    "unknown_consumer_key": (with_fields(key="unknown"), 401, False),
    "secret_unreadable": (with_consumer(consumer_secret="lti-fernet:lost"), 503, False),
    "stale_timestamp": (with_fields(timestamp=1_000_000_000), 401, False),
    "replayed_launch": (lambda post, lms, client: replay(post, lms), 403, False),
    "user_account_required": (launched_without_a_person, 403, False),
    "email_missing": (launched_without_an_address, 403, False),
    "account_mismatch": (confirmed_by_another_address, 403, False),
    "already_connected": (confirmed_by_another_person, 403, False),
    "staff_account": (confirmed_by_staff, 403, False),
    "connection_declined": (declined, 403, False),
    "unexpected_origin": (
        lambda post, lms, client: (
            LtiConsumer.objects.update(origin_check="enforce"),
            post(headers={"Origin": "https://evil.example"}),
        )[1],
        403,
        False,
    ),
    "consumer_inactive": (with_consumer(is_active=False), 403, True),
    "weak_signature_method": (with_consumer(minimum_signature_method="HMAC-SHA256"), 403, True),
    "unsupported_message_type": (with_fields(lti_message_type="other"), 400, True),
    "unsupported_version": (with_fields(lti_version="LTI-2p0"), 400, True),
    "missing_resource_link": (with_fields(resource_link_id=None), 400, True),
    "invalid_parameter": (with_fields(user_id="u" * 256), 400, True),
    "other_installation": (with_consumer(instance_guid="another"), 403, True),
    "target_not_launchable": (with_fields(path="/lti/launch/admin/"), 404, True),
    "user_inactive": (entered_by_the_deactivated, 403, True),
    "unknown_handle": (lambda post, lms, client: client.get("/lti/enter/x/"), 404, False),
    "launch_expired": (entered_after(301), 410, False),
    "launch_used": (entered_twice, 410, False),
    "other_browser": (entered_elsewhere, 403, False),
    "foreign_origin": (opened_from_elsewhere, 403, False),
    "unknown_frame_origin": (framed_by_nobody_known, 403, False),
}
CONNECTIONS = exceptions.ConnectionRefused.by_code().keys() & REFUSALS.keys()
OF_AN_ACCOUNT = {"user_inactive", *CONNECTIONS} - {"email_missing"}
UNLOGGED = {"unknown_consumer_key", "unknown_handle"}
RETURNABLE = [code for code, (_happens, _status, returns) in REFUSALS.items() if returns]


def test_every_refusal_is_tested_here():
    ours = {
        code
        for code, refusal in exceptions.LaunchRefused.by_code().items()
        if refusal.__module__ == exceptions.__name__
    }

    # No launch of this module meets an outage: test_outage.py.
    elsewhere = {"launch_refused", "connection_refused", "site_unavailable"}
    # test_login.py, test_lti13_attacks.py
    elsewhere |= {"unknown_issuer", "unknown_client", "missing_client_id", "unknown_registration"}
    assert ours - elsewhere == {*REFUSALS, *test_lti13_refusals.REFUSALS}


def drawn(docstring):
    """Each class of the docstring's tree, as the path that leads to it from its root."""
    path, paths = [], []
    for line in docstring.splitlines():
        if branch := re.fullmatch(r"((?:[│├└─ ]{4})*)([A-Z]\w+)(?: {2}.*)?", line):
            path = [*path[: len(branch[1]) // 4], branch[2]]
            paths.append(tuple(path))
    return paths


def inherited(kind, above=()):
    path = (*above, kind.__name__)
    below = [below for below in kind.__subclasses__() if below.__module__ == exceptions.__name__]
    return [path, *(each for subclass in below for each in inherited(subclass, path))]


def test_the_tree_that_the_docstring_draws_is_the_one_of_the_classes():
    roots = (exceptions.LaunchRefused, exceptions.GradeError)

    paths = drawn(exceptions.__doc__)

    assert len(paths) > 20
    assert sorted(paths) == sorted(path for root in roots for path in inherited(root))


def test_no_two_refusals_have_the_same_code():
    parents = {path[-2] for path in inherited(exceptions.LaunchRefused) if path[1:]}
    names = {path[-1] for path in inherited(exceptions.LaunchRefused)}
    codes = {name: vars(vars(exceptions)[name]).get("code") for name in names}

    assert [name for name in names - parents if not codes[name]] == []
    given = [code for code in codes.values() if code]
    assert sorted(given) == sorted(set(given))


@pytest.mark.parametrize("code", REFUSALS)
def test_every_refusal_says_so(client, lms, post, code):
    happens, status, returns = REFUSALS[code]

    response = happens(post, lms, client)

    if returns:
        location = urlsplit(response["Location"])
        assert response.status_code == 303
        assert f"{location.scheme}://{location.netloc}{location.path}" == BACK
        query = parse_qs(location.query)
        assert query["lti_errorlog"] == [code]
        assert query["lti_errormsg"] == [str(exceptions.LaunchRefused.by_code()[code].public_text)]
    else:
        assert response.status_code == status
        assert f"<code>{code}</code>" in response.text
        assert "Location" not in response
    refused = LtiLaunch.objects.refused()
    assert [row.refusal_code for row in refused] == ([] if code in UNLOGGED else [code])
    assert all(row.refusal_hint for row in refused)


@pytest.mark.parametrize("code", RETURNABLE)
@pytest.mark.parametrize(
    "url", [None, "", "javascript:alert(1)", "//evil.example/", "https://lms.example\\@evil/"]
)
def test_without_a_return_url_to_trust_the_page_is_ours(client, lms, post, code, url):
    happens, status, _returns = REFUSALS[code]
    lms.fields["launch_presentation_return_url"] = url

    response = happens(post, lms, client)

    assert response.status_code == status
    assert f"<code>{code}</code>" in response.text
    assert "evil" not in response.text
    assert "javascript" not in response.text


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "data:text/html,x", "//evil.example", "/lti/launch/",
     "https:/evil.example", "https://lms.example\\@evil.example/", "https://lms.example@evil.example/",
     "\thttps://evil.example",
     "https://evil.example/\nX-Header: x", "https://evil.example/\r\n", "https://ev\til.example/",
     "http://[evil", "https://evil.example:99999/", "ht\ntps://evil.example/"],
)  # fmt: skip
def test_no_redirect_to_anything_but_a_plain_url(post, url):
    response = post(resource_link_id="", launch_presentation_return_url=url)

    assert response.status_code == 400
    assert "Location" not in response
    assert "href" not in response.text


@pytest.mark.parametrize(
    ("url", "start", "end"),
    [
        ("https://lms.example/back", "https://lms.example/back?lti_errormsg=", "resource_link"),
        ("https://lms.example/back?", "https://lms.example/back?lti_errormsg=", "resource_link"),
        (
            "https://lms.example/?a=%2F&b=",
            "https://lms.example/?a=%2F&b=&lti_errormsg=",
            "resource_link",
        ),
        ("https://lms.example/?a#top", "https://lms.example/?a&lti_errormsg=", "resource_link#top"),
        ("https://lms.example#top", "https://lms.example?lti_errormsg=", "resource_link#top"),
        ("http://127.0.0.1:88/?lti_msg=x", "http://127.0.0.1:88/?lti_msg=x&lti_errormsg=", "_link"),
    ],
)
def test_the_message_is_appended_to_the_return_url(post, url, start, end):
    response = post(resource_link_id="", launch_presentation_return_url=url)

    assert response.status_code == 303
    assert response["Location"].startswith(start)
    assert response["Location"].endswith(end)


def test_a_very_long_return_url_is_not_followed(post):
    response = post(resource_link_id="", launch_presentation_return_url=BACK + "?x=" + "a" * 40_000)

    assert response.status_code == 400


@pytest.mark.parametrize("code", ["stale_timestamp", "replayed_launch", "user_account_required"])
def test_a_verified_refusal_that_stays_here_links_back(client, lms, post, code):
    response = REFUSALS[code][0](post, lms, client)

    assert f'href="{BACK}"' in response.text
    assert "Back to Fake canvas" in response.text


#: Refused before anything vouches for what the request says.
UNVERIFIED = ("malformed_request", "unsupported_signature_method", "invalid_signature",
              "unknown_consumer_key", "secret_unreadable")  # fmt: skip


@pytest.mark.parametrize("code", UNVERIFIED)
def test_nothing_of_an_unverified_request_is_shown(client, lms, post, code):
    lms.fields |= {"launch_presentation_locale": "de", "tool_consumer_instance_name": "Canary"}

    response = REFUSALS[code][0](post, lms, client)

    assert "href" not in response.text
    assert "Canary" not in response.text
    assert '<html lang="en-us"' in response.text or '<html lang="en"' in response.text


@pytest.mark.parametrize(("locale", "language"), [("de_AT", "de"), ("EN-US__", "en"), ("xx", "en")])
def test_a_refusal_speaks_the_language_of_the_launch(client, lms, post, locale, language):
    lms.fields["launch_presentation_locale"] = locale

    response = replay(post, lms)

    assert f'<html lang="{language}' in response.text


def test_hostile_names_are_escaped_on_the_page(lms, post):
    LtiConsumer.objects.update(consumer_name="<script>alert(1)</script>")

    response = replay(post, lms)

    assert "<script>" not in response.text
    assert "&lt;script&gt;" in response.text


@pytest.mark.parametrize("code", UNVERIFIED)
def test_each_unverified_request_is_told_what_is_wrong_with_it(client, lms, post, code):
    response = REFUSALS[code][0](post, lms, client)

    texts = {each: str(exceptions.LaunchRefused.by_code()[each].public_text) for each in UNVERIFIED}
    assert len(set(texts.values())) == len(UNVERIFIED)
    assert texts[code] in html.unescape(response.text)


@pytest.mark.parametrize(
    "changes",
    [{}, {"secret": ""}, {"method": "HMAC-SHA256"}, {"timestamp": 1}, {"lti_message_type": "other"},
     {"path": "/lti/launch/admin/"}, {"lti_message_type": "ContentItemSelectionRequest",
                                      "content_item_return_url": BACK}],
    ids=str,
)  # fmt: skip
def test_an_unknown_key_is_said_to_be_unknown_whatever_else_is_sent(post, changes):
    response = post(key="known ", **changes)

    assert response.status_code == 401
    assert "does not know the key that your LMS sent" in response.text
    assert "<code>unknown_consumer_key</code>" in response.text
    assert BACK not in response.text
    assert "known " not in response.text
    assert not response.cookies


def test_a_consumer_without_a_secret_is_no_unknown_one(post):
    LtiConsumer.objects.update(consumer_secret="")

    assert "<code>invalid_signature</code>" in post(secret="").text


@pytest.mark.parametrize("offset", [-300, 0, 300])
def test_a_timestamp_at_the_edge_of_the_window_is_fresh(frozen, post, offset):
    assert post(timestamp=int(timezone.now().timestamp()) + offset)["Location"].startswith("/lti/")


@pytest.mark.parametrize(("offset"), [-301, 301, -86_400, 86_400])
def test_a_timestamp_beyond_the_window_is_stale(frozen, post, offset):
    response = post(timestamp=int(timezone.now().timestamp()) + offset)

    assert response.status_code == 401
    assert LtiLaunch.objects.refused().get().clock_difference == offset


def test_the_window_is_the_sites_and_then_the_consumers(frozen, settings, post):
    now = int(timezone.now().timestamp())
    settings.LTI_PROVIDER_TIMESTAMP_WINDOW = 60

    assert post(timestamp=now - 61).status_code == 401
    assert post(timestamp=now - 60).status_code == 303
    LtiConsumer.objects.update(timestamp_window=120)
    assert post(timestamp=now - 120).status_code == 303
    assert post(timestamp=now - 121).status_code == 401


@pytest.mark.parametrize("offset", [-200, 0, 300])
def test_a_nonce_is_kept_until_its_timestamp_is_stale_in_the_widest_window(frozen, post, offset):
    now = int(timezone.now().timestamp())
    stamped = {"timestamp": now + offset, "nonce": "once"}
    LtiConsumer.objects.update(timestamp_window=LONGEST_WINDOW)

    assert post(**stamped).status_code == 303
    kept_until = now + offset + LONGEST_WINDOW
    assert LtiLaunch.objects.get().nonce_expires_at.timestamp() == kept_until
    frozen.shift(LONGEST_WINDOW + offset)
    LtiLaunch.objects.purge(timezone.now() + timedelta(days=1))
    assert post(**stamped).status_code == 403
    frozen.shift(1)
    assert post(**stamped).status_code == 401
    LtiLaunch.objects.purge(timezone.now() + timedelta(days=1))
    assert not LtiLaunch.objects.accepted().exists()
    assert post(**stamped).status_code == 401


def test_a_purge_removes_old_launches_of_both_kinds_in_batches(frozen, post):
    for _launch in range(3):
        post()
        post(secret="wrong")
    frozen.shift(timedelta(days=91))
    post()
    before = timezone.now() - timedelta(days=90)

    assert [LtiLaunch.objects.purge(before, batch=4) for _batch in range(3)] == [4, 2, 0]
    assert LtiLaunch.objects.count() == 1


def test_a_nonce_belongs_to_its_consumer(post):
    LtiConsumer.objects.create(consumer_name="B", consumer_key="b", consumer_secret="secret")

    assert post(nonce="once").status_code == 303
    assert post(nonce="once", key="b").status_code == 303
    assert post(nonce="once", key="b").status_code == 403


def test_nonces_are_compared_to_the_letter(post):
    for nonce in ("once", "Once", "once ", " once", "onc\u0065\u0301", "onc\u00e9"):
        assert post(nonce=nonce).status_code == 303, nonce


def test_an_unverified_request_uses_no_nonce_up(post):
    assert post(nonce="once", secret="wrong").status_code == 401
    assert post(nonce="once", timestamp=1).status_code == 401
    assert post(nonce="once").status_code == 303


def test_the_first_launch_teaches_the_installation_and_pins_it(post):
    assert post(tool_consumer_instance_guid="").status_code == 303
    assert LtiConsumer.objects.get().instance_guid == ""
    assert post(tool_consumer_instance_guid="A").status_code == 303
    assert LtiConsumer.objects.get().instance_guid == "A"
    for other in ("B", "a", "A ", "", None):
        response = post(tool_consumer_instance_guid=other)
        assert "lti_errorlog=other_installation" in response["Location"]
    assert LtiConsumer.objects.get().instance_guid == "A"
    refused = LtiLaunch.objects.refused().order_by("pk").first()
    assert "“B”" in refused.refusal_hint
    assert "“A”" in refused.refusal_hint


def test_recording_keeps_the_first_installation_and_admits_the_others(post):
    LtiConsumer.objects.update(guid_policy="record")

    for guid in ("", "A", "B", ""):
        assert post(tool_consumer_instance_guid=guid)["Location"].startswith("/lti/enter/")

    assert LtiConsumer.objects.get().instance_guid == "A"


#: Refused when the launch is posted, before anything of it is accepted.
AT_THE_DOOR = [
    code
    for code, refusal in exceptions.LaunchRefused.by_code().items()
    if code in REFUSALS
    and not issubclass(refusal, exceptions.EnterRefused | exceptions.ConnectionRefused)
    and code not in ("user_inactive", "other_installation")
]


@pytest.mark.parametrize("code", AT_THE_DOOR)
def test_a_launch_that_is_refused_teaches_no_installation(client, lms, post, code):
    sent = lms.fields.pop("tool_consumer_instance_guid")
    if code == "replayed_launch":
        post(nonce="once")
    lms.fields["tool_consumer_instance_guid"] = sent
    happens = with_fields(nonce="once") if code == "replayed_launch" else REFUSALS[code][0]

    happens(post, lms, client)

    assert code in (*UNLOGGED, *LtiLaunch.objects.refused().values_list("refusal_code", flat=True))
    assert LtiConsumer.objects.get().instance_guid == ""


@pytest.mark.parametrize("policy", ["pin", "record"])
def test_of_two_simultaneous_first_launches_the_first_to_write_teaches(lms, post, policy):
    LtiConsumer.objects.update(guid_policy=policy)
    seen = []

    def other_launch_first(execute, sql, params, many, context):
        done = execute(sql, params, many, context)
        if sql.startswith("SELECT") and not seen:  # the consumer, by its key
            seen.append(None)
            LtiConsumer.objects.get().learn_installation("faster")
        return done

    with connection.execute_wrapper(other_launch_first):
        slower = post(tool_consumer_instance_guid="slower")

    assert seen
    assert LtiConsumer.objects.get().instance_guid == "faster"
    admitted = slower["Location"].startswith("/lti/enter/")
    assert admitted is (policy == "record")
    assert LtiLaunch.objects.accepted().count() == admitted


def test_two_installations_may_say_the_same_of_themselves(post):
    LtiConsumer.objects.create(consumer_name="B", consumer_key="b", consumer_secret="secret")

    assert post()["Location"].startswith("/lti/enter/")
    assert post(key="b")["Location"].startswith("/lti/enter/")
    assert len(set(LtiConsumer.objects.values_list("instance_guid", flat=True))) == 1


def test_what_a_consumer_asks_for_is_the_least_that_is_accepted(post):
    assert post(method="HMAC-SHA256")["Location"].startswith("/lti/enter/")
    LtiConsumer.objects.update(minimum_signature_method="HMAC-SHA256")

    assert "weak_signature_method" in post(method="HMAC-SHA1")["Location"]
    assert post(method="HMAC-SHA256")["Location"].startswith("/lti/enter/")


@pytest.mark.parametrize("code", [code for code in REFUSALS if code not in OF_AN_ACCOUNT])
def test_a_refusal_makes_nobody_and_no_place(client, lms, post, code):
    REFUSALS[code][0](post, lms, client)

    made = 1 if code == "launch_used" else 0
    for model in (get_user_model(), LtiUser, LtiContext, LtiResourceLink):
        assert model.objects.count() == made, model


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_signalled(client, lms, post, code):
    told = []

    def note(sender, request, refusal, consumer, **rest):
        told.append((sender, request.path, refusal, consumer, rest))

    signal = connection_refused if code in CONNECTIONS else launch_refused
    signal.connect(note)
    try:
        REFUSALS[code][0](post, lms, client)
    finally:
        signal.disconnect(note)

    [(sender, path, refusal, consumer, rest)] = told
    assert sender is type(refusal) is exceptions.LaunchRefused.by_code()[code]
    assert path.startswith("/lti/")
    assert consumer == (None if code in UNLOGGED else lms.consumer)
    assert set(rest) == {"signal"}


def test_a_flood_of_wrong_signatures_writes_a_few_rows(frozen, post, lms):
    for _request in range(500):
        post(secret="wrong")

    assert LtiLaunch.objects.count() == 10


def test_a_flood_of_unknown_keys_writes_nothing(post):
    for _request in range(100):
        post(key="unknown")

    assert not LtiLaunch.objects.exists()


def test_the_newest_refusals_of_each_code_are_kept(frozen, post):
    post()
    post(timestamp=1)
    for _minute in range(14):
        for _request in range(12):
            post(secret="wrong")
        frozen.shift(61)

    rows = LtiLaunch.objects.filter(refusal_code="invalid_signature")
    assert rows.count() == 50
    assert rows.order_by("pk").first().received_at > timezone.now() - timedelta(minutes=6)
    assert LtiLaunch.objects.filter(refusal_code="stale_timestamp").count() == 1
    assert LtiLaunch.objects.accepted().count() == 1


def test_how_many_are_kept_is_a_setting(frozen, settings, post):
    settings.LTI_PROVIDER_REFUSALS_KEPT = 3
    for _minute in range(5):
        post(secret="wrong")
        post(secret="wrong")
        frozen.shift(61)

    assert LtiLaunch.objects.count() == 3


def test_one_consumers_flood_leaves_the_others_refusals_alone(frozen, post):
    LtiConsumer.objects.create(consumer_name="B", consumer_key="b", consumer_secret="secret")
    for _request in range(30):
        post(secret="wrong")

    post(key="b", secret="wrong")

    assert LtiLaunch.objects.filter(lti_consumer__consumer_key="b").count() == 1


def test_a_log_that_cannot_be_written_is_no_reason_to_fail(caplog, post):
    def full(execute, sql, params, many, context):
        if sql.startswith("INSERT"):
            raise OperationalError("disk full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(full):
        response = post(secret="wrong")

    assert response.status_code == 401
    assert "launch_refused_not_logged code=invalid_signature" in caplog.text


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_is_one_line_in_the_log_with_nothing_but_codes(client, lms, post, caplog, code):
    REFUSALS[code][0](post, lms, client)

    [record] = [
        record
        for record in caplog.records
        if record.name == "lti_provider" and record.levelname == "WARNING"
    ]
    consumer = "None" if code in UNLOGGED else lms.consumer.pk
    assert record.getMessage() == f"launch_refused code={code} consumer={consumer}"
    assert (record.event, record.code) == ("launch_refused", code)

import html
import logging
import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.doctor import examine_deployment
from lti_provider.models import LtiConsumer, LtiUnknownSender, UnknownSender
from lti_provider.models.unknown_sender import ROWS
from lti_provider.testing import FakeLms
from tests import rfc5849

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
URL = "http://testserver/lti/launch/"
CONSUMERS = "/admin/lti_provider/lticonsumer/"
FORGET = f"{CONSUMERS}unknown-senders/forget/"
A_MINUTE = 10
KEY = LtiUnknownSender.Kind.KEY


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("moodle", consumer_name="Campus", consumer_key="Our-Moodle")


def launch(key, without=(), **oauth):
    fields = {"lti_message_type": "basic-lti-launch-request", "lti_version": "LTI-1p0",
              "resource_link_id": "1"}  # fmt: skip
    pairs = rfc5849.sign(URL, fields.items(), key=key, secret="secret", **oauth)
    form = urlencode([pair for pair in pairs if pair[0] not in without])
    # A view that fails answers 500 here, as it would on a site.
    browser = Client(raise_request_exception=False)
    return browser.generic("POST", "/lti/launch/", form, FORM)


def launch_minutely(*keys):
    """Launches far enough apart to be counted, each."""
    newest = LtiUnknownSender.objects.newest().first()
    before = newest.last_seen_at if newest else timezone.now() - timedelta(days=1)
    for number, key in enumerate(keys, 1):
        with time_machine.travel(before + timedelta(minutes=number), tick=False):
            assert launch(key).status_code == 401


def stored():
    return {sender.text: sender.count for sender in LtiUnknownSender.objects.newest()}


def text_of(response):
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", response.content.decode())).split())


@pytest.fixture(params=["list", "setup"])
def page(request, lms, admin_client):
    def read():
        url = {"list": CONSUMERS, "setup": f"{CONSUMERS}{lms.consumer.pk}/setup/"}[request.param]
        return admin_client.get(url)

    return read


def grant(client, *codenames):
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


# What a stranger can do


def test_an_unknown_key_is_counted(lms):
    with time_machine.travel("2026-03-01 12:00:05Z", tick=False):
        first = timezone.now()
        assert launch("our-moodle").status_code == 401
    with time_machine.travel("2026-03-01 12:04:00Z", tick=False):
        for _time in range(2):
            assert launch("our-moodle").status_code == 401
        sender = LtiUnknownSender.objects.get()
        assert (sender.kind, sender.text, sender.count) == ("key", "our-moodle", 3)
        assert (sender.first_seen_at, sender.last_seen_at) == (first, timezone.now())
    assert str(sender) == "our-moodle"


@pytest.mark.parametrize("key", ["Our-Moodle", "wrong", ""])
@pytest.mark.parametrize(
    ("without", "oauth"),
    [
        (["oauth_signature"], {}),
        (["oauth_nonce"], {}),
        (["oauth_timestamp"], {}),
        ([], {"method": "PLAINTEXT"}),
        (["oauth_consumer_key"], {}),
    ],
)
def test_nothing_is_kept_of_a_request_that_is_no_launch(lms, key, without, oauth, monkeypatch):
    if oauth:
        monkeypatch.setattr(rfc5849, "sign", lambda *args, sign=rfc5849.sign, **given: [
            (name, "PLAINTEXT" if name == "oauth_signature_method" else value)
            for name, value in sign(*args, **{**given, "method": "HMAC-SHA1"})
        ])  # fmt: skip
    assert launch(key, without, **oauth).status_code == 400
    assert not LtiUnknownSender.objects.exists()


def test_a_wrong_secret_is_nobody_unknown(lms):
    assert launch("Our-Moodle").status_code == 401
    assert not LtiUnknownSender.objects.exists()


@pytest.mark.parametrize("raw", ["%00", "a%00b", "%ed%a0%80", "%ff", "\0"])
def test_a_key_that_is_no_text_is_refused_as_before(lms, raw):
    body = f"oauth_consumer_key={raw}&oauth_signature_method=HMAC-SHA1&oauth_signature=x"
    response = Client(raise_request_exception=False).generic("POST", "/lti/launch/", body, FORM)
    assert response.status_code == 400
    assert not LtiUnknownSender.objects.exists()


@pytest.mark.parametrize(
    "key",
    [
        " ",
        " \t\n",
        "k" * 60000,
        "é" * 5000,
        "\U0001f600" * 300,
        "\ufffe\uffff",
        "\u202eevil\u2066",
        "\x01\x1b[31m\x7f",
        "'; DROP TABLE --",
    ],
)
def test_any_other_key_is_kept_in_64_characters(lms, page, key):
    assert launch(key).status_code == 401
    assert launch(key).status_code == 401
    sender = LtiUnknownSender.objects.get()
    assert (sender.text, sender.count) == (key[:64], 2)
    assert sender.is_cut == (len(key) > 64)
    assert page().status_code == 200


def test_keys_are_told_apart_to_the_letter(lms):
    keys = ["key", "KEY", "key ", " key", "k\u00e9y", "ke\u0301y", "k" * 64, "k" * 65, "k" * 66]
    for key in keys:
        launch(key)
    assert LtiUnknownSender.objects.count() == len(keys)


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\udfff\0" * 99, ""])
def test_a_sender_of_any_text_is_kept(text):
    for _time in range(2):
        LtiUnknownSender.objects.record(UnknownSender(kind=KEY, text=text))
    sender = LtiUnknownSender.objects.get()
    assert (sender.count, len(sender.text)) == (2, min(64, len(text)))


def test_a_flood_writes_ten_times_a_minute(lms):
    with time_machine.travel("2026-03-01 12:00:00Z", tick=False) as clock:
        with CaptureQueriesContext(connection) as queries:
            for number in range(100):
                assert launch(f"flood {number}").status_code == 401
        written = [query["sql"] for query in queries.captured_queries]
        written = [sql for sql in written if sql.startswith(("INSERT", "UPDATE", "DELETE"))]
        assert len(written) == LtiUnknownSender.objects.count() == A_MINUTE
        clock.shift(59)
        launch("late")
        assert "late" not in stored()
        clock.shift(1)
        launch("late")
        assert "late" in stored()


def test_one_key_many_times_is_a_flood_too(lms):
    with time_machine.travel("2026-03-01 12:00:00Z", tick=False):
        for _time in range(30):
            launch("typo")
        launch("other")
    assert stored() == {"typo": A_MINUTE}


def test_the_newest_are_kept(lms):
    keys = [f"key {number}" for number in range(ROWS + 15)]
    launch_minutely(*keys)
    assert list(stored()) == keys[: -ROWS - 1 : -1]
    launch_minutely(*keys[:2], keys[1])
    assert list(stored().items())[:3] == [("key 1", 2), ("key 0", 1), (keys[-1], 1)]
    assert LtiUnknownSender.objects.count() == ROWS


def test_a_clock_that_went_wrong_stops_nothing(lms):
    with time_machine.travel("2099-01-01 12:00:00Z", tick=False):
        launch("from the future")
    launch("typo")
    assert stored() == {"from the future": 1, "typo": 1}


@pytest.mark.parametrize("minutes", [0, 1])
def test_whoever_was_faster_is_counted_too(lms, minutes):
    """Between the reading and the writing of one launch, a different process writes."""
    launch("typo")
    faster = ["typo", "other"]

    def interfere(execute, sql, *args):
        if sql.startswith("SAVEPOINT") and faster:
            key, faster[:] = faster[0], faster[1:]
            ahead = timezone.now() + timedelta(minutes=minutes)
            with transaction.atomic(), time_machine.travel(ahead):
                record(key)
        return execute(sql, *args)

    def record(key):
        mine, faster[:] = faster[:], []
        LtiUnknownSender.objects.record(UnknownSender(kind=KEY, text=key))
        faster[:] = mine

    with connection.execute_wrapper(interfere):
        launch("typo")
    assert not faster
    assert stored() == {"typo": 3, "other": 1}


def test_nobody_tries_for_ever(lms, caplog):
    def always_late(execute, sql, params, many, context):
        if sql.startswith(("INSERT", "UPDATE")) and "unknownsender" in sql:
            raise IntegrityError("late")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(always_late), CaptureQueriesContext(connection) as queries:
        assert launch("typo").status_code == 401
    assert len(queries) < 20
    assert "unknown_sender_not_recorded" not in caplog.text


@pytest.mark.parametrize("statement", ["SELECT", "INSERT"])
@pytest.mark.parametrize("error", [DatabaseError, IntegrityError])
def test_a_failing_database_does_not_change_the_answer(lms, caplog, statement, error):
    well = launch("typo")
    LtiUnknownSender.objects.all().delete()

    def fail(execute, sql, *args):
        if sql.startswith(statement) and "unknownsender" in sql:
            raise error("gone")
        return execute(sql, *args)

    with connection.execute_wrapper(fail), caplog.at_level(logging.ERROR):
        response = launch("typo")
    assert (response.status_code, response.content) == (401, well.content)
    assert b"<code>unknown_consumer_key</code>" in response.content
    is_logged = "unknown_sender_not_recorded code=unknown_consumer_key" in caplog.text
    assert is_logged == ((statement, error) != ("INSERT", IntegrityError))
    assert not LtiUnknownSender.objects.exists()


# What it costs


def statements(queries):
    skipped = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
    found = [query["sql"] for query in queries.captured_queries]
    return [sql for sql in found if not sql.upper().startswith(skipped)]


@pytest.mark.parametrize("rows", [0, ROWS])
def test_a_refused_unknown_key_is_three_statements(lms, rows):
    launch_minutely(*(f"key {number}" for number in range(rows)))
    for _time in range(2):
        with CaptureQueriesContext(connection) as queries:
            launch("typo")
        assert len(statements(queries)) == 3
    for _time in range(A_MINUTE):
        launch("typo")
    with CaptureQueriesContext(connection) as queries:
        launch("typo")
    assert len(statements(queries)) == 2


def test_a_launch_of_a_known_key_does_not_ask_for_unknown_ones(lms, client):
    launch("typo")
    with CaptureQueriesContext(connection) as queries:
        lms.launch(client, "/content/")
    assert not [sql for sql in statements(queries) if "unknownsender" in sql]


# What administrators see


def test_nobody_unknown_is_not_mentioned(page):
    assert "which no consumer has" not in text_of(page())
    assert "Unknown senders" not in text_of(page())


def test_administrators_see_it(page):
    now = timezone.now().replace(second=0, microsecond=0)
    for _time in range(3):
        with time_machine.travel(now - timedelta(minutes=5), tick=False):
            launch("Uni-Moodle")
    with time_machine.travel(now, tick=False):
        text = text_of(page())
    assert "3 launches came with key “Uni-Moodle”, which no consumer has (last 5 minutes" in text
    assert "Campus” with" not in text


def test_one_launch_is_said_so(page):
    launch("typo")
    assert "1 launch came with key “typo”, which no consumer has" in text_of(page())


@pytest.mark.parametrize(
    ("key", "resemblance"),
    [
        ("Our-Moodle ", "It is the key of “Campus” with a blank at its end."),
        ("Our-Moodle\u00a0\n", "It is the key of “Campus” with a blank at its end."),
        ("  Our-Moodle", "It is the key of “Campus” with a blank at its beginning."),
        ("our-moodle", "It is the key of “Campus” in different upper and lower case."),
        (" our-MOODLE ", "It differs from the key of “Campus” only in blanks"),
        (" Our-Moodle ", "It differs from the key of “Campus” only in blanks"),
    ],
)
def test_a_key_that_nearly_is_a_consumers_is_pointed_at(page, key, resemblance):
    launch(key)
    assert resemblance in text_of(page())


@pytest.mark.parametrize("key", ["Our-Moodle2", "Our Moodle", "Our-Moodle" + " " * 99, "   "])
def test_other_keys_are_not(page, key):
    LtiConsumer.objects.create(consumer_name="Silent", consumer_key=None, consumer_secret="")
    launch(key)
    assert "the key of" not in text_of(page())


def test_a_consumers_own_blank_is_pointed_at(admin_client):
    LtiConsumer.objects.create(consumer_name="Campus", consumer_key="key ")
    launch("key")
    text = text_of(admin_client.get(CONSUMERS))
    assert "It differs from the key of “Campus” only in blanks" in text


def test_a_key_cannot_change_the_page(page):
    hostile = "<b>&\u202egnp\u2066\u200b\n\x1b[31m\u0301\U000e0041\u3164 \u05d0"
    launch(hostile)
    content = page().content.decode()
    shown = re.search(r'<bdi class="lti-value">(.*?)</bdi>', content, re.S)[1]
    assert html.unescape(shown) == (
        "<b>&[U+202E]gnp[U+2066][U+200B][U+000A][U+001B][31m[U+0301][U+E0041]\u3164 \u05d0"
    )
    assert "<b>" not in shown


def test_a_cut_key_is_shown_so(page):
    launch("k" * 65)
    assert f"“{'k' * 64}…”" in text_of(page())


def test_many_are_folded_away_and_likely_mistakes_come_first(page):
    launch_minutely("our-moodle", *(f"key {number}" for number in range(12)))
    content = page().content.decode()
    before, _summary, after = content.partition("10 more")
    shown = re.findall(r'<bdi class="lti-value">(.*?)</bdi>', before)
    assert shown == ["our-moodle", "key 11", "key 10"]
    assert "key 0<" in after


def test_the_cost_of_the_list_does_not_grow_with_them(admin_client, lms):
    def count():
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(CONSUMERS)
        return len(queries)

    count()
    nobody = count()
    launch("typo")
    one = count()
    launch_minutely(*(f"key {number}" for number in range(ROWS)))
    assert count() == one == nobody + 1


def test_consumers_that_an_administrator_may_not_see_are_not_named(rf, lms, admin_user):
    launch("our-moodle")
    request = rf.get(CONSUMERS)
    request.user = admin_user
    consumer_admin = admin.site.get_model_admin(LtiConsumer)
    restricted = type("Own", (type(consumer_admin),), {
        "get_queryset": lambda self, request: LtiConsumer.objects.none(),
    })(LtiConsumer, admin.site)  # fmt: skip
    text = text_of(restricted.changelist_view(request).render())
    assert "came with key “our-moodle”" in text
    assert "Campus" not in text


def test_a_popup_does_not_show_them(admin_client, lms):
    launch("typo")
    assert "typo" not in text_of(admin_client.get(f"{CONSUMERS}?_popup=1"))


def test_whoever_may_only_view_sees_them_and_forgets_nothing(client, lms):
    launch("typo")
    page = grant(client, "view_lticonsumer").get(CONSUMERS)
    assert "which no consumer has" in text_of(page)
    assert "unknown-senders/forget" not in page.content.decode()
    assert client.post(FORGET).status_code == 403
    assert client.get(f"{CONSUMERS}{lms.consumer.pk}/setup/").status_code == 200
    assert stored() == {"typo": 1}


def test_whoever_may_not_view_consumers_sees_nothing(client, lms):
    launch("typo")
    assert grant(client, "view_ltilaunch").get(CONSUMERS).status_code == 403
    assert client.post(FORGET).status_code == 403


def test_they_are_forgotten(client, lms):
    launch("typo")
    grant(client, "view_lticonsumer", "delete_lticonsumer")
    assert f'action="{FORGET}"' in client.get(CONSUMERS).content.decode()
    assert client.get(FORGET).status_code == 405
    assert stored()
    response = client.post(FORGET, follow=True)
    assert response.redirect_chain == [(CONSUMERS, 302)]
    assert "were forgotten" in text_of(response)
    assert not LtiUnknownSender.objects.exists()


def test_forgetting_needs_the_form_of_the_page(admin_user):
    launch("typo")
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(admin_user)
    assert stranger.post(FORGET).status_code == 403
    assert stored()


def test_forgotten_ones_do_not_stop_new_ones(lms):
    with time_machine.travel("2026-03-01 12:00:00Z", tick=False):
        for _time in range(3):
            launch("typo")
        LtiUnknownSender.objects.all().delete()
        launch("typo")
    assert stored() == {"typo": 1}


# How they go


def test_a_consumer_that_gets_the_key_makes_it_known(page, lms):
    for key in ("typo", "typo ", "x"):
        launch(key)
    lms.consumer.consumer_key = "typo"
    lms.consumer.save(update_fields=["consumer_name"])
    assert "typo" in stored()
    lms.consumer.save()
    assert stored().keys() == {"typo ", "x"}
    assert "It is the key of “Campus” with a blank at its end." in text_of(page())


def test_a_new_consumer_does_so_too(lms):
    launch("typo")
    call_command("lti_consumer", "add", "New", "--set", "consumer_key=typo")
    assert not stored()


def test_a_key_that_was_added_meanwhile_is_not_called_unknown(page, lms):
    LtiUnknownSender.objects.record(UnknownSender(kind=KEY, text="Our-Moodle"))
    assert "which no consumer has" not in text_of(page())


def test_purge_deletes_old_ones(lms, settings, capsys):
    settings.LTI_PROVIDER_LAUNCH_RETENTION_DAYS = 90
    for days, key in ((91, "old"), (89, "recent")):
        with time_machine.travel(timezone.now() - timedelta(days=days)):
            launch(key)
    call_command("lti_purge")
    assert stored() == {"recent": 1}
    assert "1 unknown senders" in capsys.readouterr().out


def test_the_doctor_mentions_the_newest(lms):
    def examine():
        return [(finding.level, finding.text) for finding in examine_deployment()
                if finding.name == "unknown_sender"]  # fmt: skip

    assert examine() == []
    launch_minutely("older", "typo\x1b[31m")
    what = "consumer key that nobody here has"
    text = f"The newest {what} is “typo[U+001B][31m”, of 2 senders in all."
    assert examine() == [("note", text)]


def test_the_key_is_not_in_log_lines(lms, caplog):
    launch("canary-key")
    assert "canary-key" not in caplog.text

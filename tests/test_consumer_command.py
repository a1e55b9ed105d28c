import io
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.core.management import CommandError, call_command
from django.utils import timezone

from lti_provider.management.commands.lti_consumer import get_portable_fields
from lti_provider.models import LtiConsumer
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def consumer() -> LtiConsumer:
    return LtiConsumer.objects.create(
        consumer_name="Campus", consumer_key="campus", consumer_secret="canary-secret"
    )


@pytest.fixture
def typed(monkeypatch):
    """What comes from standard input."""
    return lambda text: monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("lti_consumer", *arguments, stdout=out)
    return out.getvalue()


def run_json(*arguments: str):
    return json.loads(run(*arguments, "--format", "json"))


def status_of(*arguments: str) -> int:
    with pytest.raises(CommandError) as raised:
        run(*arguments)
    assert str(raised.value)
    return raised.value.returncode


def test_add_makes_key_and_secret():
    added = run_json("add", "Campus", "--secrets", "--set", "personal_data=name")
    consumer = LtiConsumer.objects.get()
    assert added["number"] == consumer.pk
    assert added["consumer_key"] == consumer.consumer_key
    assert added["consumer_secret"] == consumer.consumer_secret
    assert consumer.personal_data == "name"


def test_add_takes_the_pair_that_the_lms_has(typed):
    typed(" led by a blank\n")
    out = run("add", "Campus", "--set", "consumer_key=k=y", "--secret-stdin")
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_key == "k=y"
    assert consumer.consumer_secret == " led by a blank"
    assert "led by a blank" not in out
    assert "consumer_key: k=y" in out


@pytest.mark.parametrize(
    "setting",
    [
        "personal_data=all",
        "no_field=1",
        "consumer_secret=x",
        "is_active=perhaps",
        "frame_origins=nonsense",
        "consumer_key=campus",
        "expires_at=soon",
        "consumer_name",
        f"consumer_key={'x' * 256}",
    ],
)
def test_add_refuses_what_the_admin_would(consumer, setting):
    assert status_of("add", "Other", "--set", setting) == 1
    assert LtiConsumer.objects.count() == 1


@pytest.mark.parametrize(
    ("given", "switched_on"),
    [
        *((text, True) for text in ("true", "True", "TRUE", "yes", "on", "On", "1")),
        *((text, False) for text in ("false", "False", "no", "No", "off", "0")),
    ],
)
def test_a_switch_is_understood_as_people_write_it(given, switched_on):
    run("add", "Campus", "--set", f"require_user_account={given}", "--set", f"is_active={given}")
    consumer = LtiConsumer.objects.get()
    assert consumer.require_user_account is switched_on
    assert consumer.is_active is switched_on


@pytest.mark.parametrize("given", ["", "\n", "x\0", "lti-fernet:x", "x" * 1025])
def test_a_secret_on_standard_input_has_to_be_one(typed, given):
    typed(given)
    assert status_of("add", "Campus", "--secret-stdin") == 1
    assert not LtiConsumer.objects.exists()


def test_list_and_show_never_tell_secrets_unasked(consumer):
    other = LtiConsumer.objects.create(consumer_name="Old", is_active=False)
    assert [row["consumer_name"] for row in run_json("list")] == ["Campus", "Old"]
    assert [row["consumer_name"] for row in run_json("list", "--active")] == ["Campus"]
    assert run("list").splitlines()[0] == f"{consumer.pk}\tCampus\tcampus\tTrue\t"
    for name in ("campus", str(consumer.pk), "Campus"):
        assert run_json("show", name)["consumer_key"] == "campus"
    assert "canary-secret" not in run("list") + run("show", "campus") + str(run_json("list"))
    assert run_json("show", "campus", "--secrets")["consumer_secret"] == "canary-secret"
    assert other.consumer_secret not in run("show", "Old")


def test_a_name_of_two_is_asked_about(consumer):
    LtiConsumer.objects.create(consumer_name="Campus")
    assert status_of("show", "Campus") == 1


def test_who_is_not_there_has_an_exit_status_of_its_own(consumer):
    for name in ("nobody", "CAMPUS", "99999", "9" * 30):
        assert status_of("show", name) == 3


def test_a_key_goes_before_a_number(consumer):
    named = LtiConsumer.objects.create(consumer_name="N", consumer_key=str(consumer.pk))
    assert run_json("show", str(consumer.pk))["number"] == named.pk


def test_rotate(consumer, typed):
    rotated = run_json("rotate", "campus", "--secrets")
    assert rotated["previous_secret"] == "canary-secret"
    assert rotated["previous_secret_until"] == "2026-11-30T12:00:00Z"
    assert status_of("rotate", "campus") == 1
    typed("from the LMS\r\n")
    run("rotate", "campus", "--force", "--hours", "0.5", "--secret-stdin")
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_secret == "from the LMS"
    assert consumer.previous_secret == rotated["consumer_secret"]
    assert consumer.previous_secret_until == NOW + timedelta(minutes=30)
    for until in ("2026-12-01T00:00", "2026-12-01T00:00Z"):
        run("rotate", "campus", "--force", "--until", until)
        assert LtiConsumer.objects.get().previous_secret_until == datetime(2026, 12, 1, tzinfo=UTC)


def test_deactivate_and_activate(consumer, client):
    lms = FakeLms(consumer, dict(FakeLms.create("canvas").fields))
    lms.launch(client, "/content/")
    run("deactivate", "campus")
    assert lms.post(client, "/content/").status_code == 303
    assert not client.get("/content/").wsgi_request.user.is_authenticated
    assert run_json("activate", "campus")["is_active"] is True
    assert lms.launch(client, "/content/").status_code == 200


def test_what_is_exported_can_be_imported(consumer, typed):
    consumer.frame_origins = "https://a.example\nhttps://b.example"
    consumer.consumer_name = 'Campus, "quoted" é🔑'
    consumer.timestamp_window = 60
    consumer.expires_at = NOW + timedelta(days=400)
    consumer.require_user_account = True
    consumer.save()
    consumer.rotate_secret(NOW + timedelta(days=1), 'se"cr,et ')
    LtiConsumer.objects.create(consumer_name="Plain", consumer_secret=" x")
    before = list(LtiConsumer.objects.order_by("pk").values(*get_portable_fields()))
    secrets = [each.consumer_secret for each in LtiConsumer.objects.order_by("pk")]
    exported = run("export", "--secrets")
    LtiConsumer.objects.all().delete()
    typed(exported)
    assert "2 in all." in run("import")
    assert list(LtiConsumer.objects.order_by("pk").values(*get_portable_fields())) == before
    assert [each.consumer_secret for each in LtiConsumer.objects.order_by("pk")] == secrets
    first = LtiConsumer.objects.earliest("pk")
    assert first.previous_secret == "canary-secret"
    assert first.accepts_previous_secret


def test_secrets_are_exported_only_when_asked_for(consumer):
    consumer.rotate_secret(NOW + timedelta(days=1), "another-canary")
    assert "canary" not in run("export")
    assert "previous_secret" not in run("export")
    assert run("export", "--secrets").count("canary") == 2


def test_an_import_without_secrets_makes_new_ones_or_keeps_those_there(consumer, typed, tmp_path):
    LtiConsumer.objects.create(consumer_name="Second", consumer_key="second")
    exported = run("export").replace("Campus", "Renamed")
    LtiConsumer.objects.filter(consumer_key="second").delete()
    file = tmp_path / "consumers.json"
    file.write_text(exported, encoding="utf-8-sig")
    said = run("import", str(file), "--update")
    assert said.splitlines() == ["changed Renamed", "added Second", "2 in all."]
    kept, made = LtiConsumer.objects.order_by("pk")
    assert kept.consumer_secret == "canary-secret"
    assert len(made.consumer_secret) == 64


def test_a_blank_key_or_secret_has_one_made(typed):
    names = ("consumer_key", "consumer_secret", "timestamp_window")
    typed(json.dumps([{"consumer_name": "Campus", **dict.fromkeys(names, "")}]))
    run("import")
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_key.startswith("lti-")
    assert len(consumer.consumer_secret) == 64
    assert consumer.timestamp_window is None


def test_a_dry_run_says_what_would_be_done_and_does_nothing(consumer, typed):
    typed(json.dumps([{"consumer_name": "New"}, {"consumer_name": "R", "consumer_key": "campus"}]))
    said = run("import", "--update", "--dry-run")
    assert said.splitlines()[:2] == ["Would have added New", "Would have changed R"]
    assert LtiConsumer.objects.get().consumer_name == "Campus"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "This is not JSON"),
        ("{}", "not a list of consumers"),
        ("[1]", "not a list of consumers"),
        ('[{"consumer_name": "A"}, {"consumer_name": ""}]', "Entry 2: consumer_name"),
        ('[{"consumer_name": 1}]', "Entry 1: consumer_name: this is not text"),
        ('[{"consumer_name": "A", "color": 1}]', "there is no field color"),
        ('[{"consumer_name": "A", "is_active": null}]', "is_active"),
        ('[{"consumer_name": "A", "consumer_key": "campus"}]', "say --update"),
        ('[{"consumer_name": "A", "consumer_key": 7}]', "this is not text"),
        ('[{"consumer_name": "A", "consumer_secret": "lti-fernet:x"}]', "cannot begin"),
        ('[{"consumer_name": "A", "previous_secret_until": "x"}]', "previous_secret"),
    ],
)
def test_an_import_is_all_or_nothing(consumer, typed, text, said):
    typed(text)
    with pytest.raises(CommandError, match=said):
        run("import", "-")
    assert LtiConsumer.objects.count() == 1


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"missing\.json: No such file"):
        run("import", str(tmp_path / "missing.json"))


def test_a_lost_key_is_said_where_the_secret_is_asked_for(consumer, settings, typed):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    consumer.save()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert run_json("show", "campus")["consumer_name"] == "Campus"
    assert run_json("list")
    assert status_of("show", "campus", "--secrets") == 1
    assert status_of("export", "--secrets") == 1
    typed(json.dumps([{"consumer_key": "campus", "consumer_name": "Renamed"}]))
    assert "changed Renamed" in run("import", "--update")
    typed("new")
    run("rotate", "campus", "--secret-stdin", "--hours", "0")
    assert LtiConsumer.objects.get().consumer_secret == "new"
    assert timezone.now() == NOW


def test_a_moment_has_to_be_one(consumer):
    assert status_of("rotate", "campus", "--until", "soon") == 1
    assert status_of("rotate", "campus", "--until", "2026-13-01T00:00") == 1


def test_wrong_use_exits_with_2():
    command = [sys.executable, "-m", "django", "lti_consumer", "rotate"]
    done = subprocess.run(
        [*command, "x", "--until", "soon", "--settings", "tests.settings"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--until" in done.stderr

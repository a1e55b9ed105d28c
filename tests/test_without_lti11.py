"""An LMS that does not speak LTI 1.1: its consumer has neither key nor secret."""

import io
import json
import sys
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from lti_provider.exceptions import ScoreNotRead
from lti_provider.grades import deliver_due, read_score
from lti_provider.models import LtiConsumer, LtiLaunch, LtiResult
from lti_provider.models.digest import digest
from lti_provider.testing import PROFILES, FakeLms
from tests import rfc5849
from tests.test_admin import ADD, change_url, form_of, new_form

pytestmark = pytest.mark.django_db

NONE = {"consumer_key": None, "consumer_secret": ""}
NOT_SET_UP = "neither an LTI 1.3 registration nor a key of LTI 1.1"
SAID = "This LTI consumer does not speak LTI 1.1: it has neither a key nor a secret."
PAGE = "/lti/launch/content/"


@pytest.fixture
def mute() -> LtiConsumer:
    return LtiConsumer.objects.create(consumer_name="Mute", **NONE)


def post(key: str | None, secret: str, **oauth: str):
    pairs = rfc5849.sign(
        f"http://testserver{PAGE}",
        PROFILES["canvas"].items(),
        key=key or "",
        secret=secret,
        **oauth,
    )
    if key is None:
        pairs = [pair for pair in pairs if pair[0] != "oauth_consumer_key"]
    return Client().post(PAGE, urlencode(pairs), content_type="application/x-www-form-urlencoded")


def page_of(consumer: LtiConsumer, page: str) -> str:
    return f"/admin/lti_provider/lticonsumer/{consumer.pk}/{page}/"


# Launches


def guesses() -> list[tuple[str | None, str]]:
    keys = (None, "", " ", "None", "null", "NULL", "0", "false", digest(""), digest("None"))
    return [(key, secret) for key in keys for secret in ("", "None", "null")]


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
def test_no_guess_is_a_launch(mute, method):
    LtiConsumer.objects.create(consumer_name="Second", **NONE)
    for key, secret in guesses():
        response = post(key, secret, method=method)
        assert response.status_code in (400, 401), (key, secret)
        assert not response.cookies
    assert not LtiLaunch.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"consumer_key": None},
        {"consumer_key": None, "consumer_secret": ""},
        {"consumer_key": ""},
        {"consumer_secret": "", "previous_secret": ""},
        {"consumer_key": None, "consumer_key_digest": None},
        {"consumer_key": "", "consumer_key_digest": digest("")},
        {"consumer_key": "", "consumer_key_digest": digest(""), "consumer_secret": ""},
        {"consumer_key": None, "consumer_secret": "", "previous_secret": ""},
    ],
)
def test_half_a_pair_left_in_the_table_is_no_launch(change):
    consumer = LtiConsumer.objects.create(
        consumer_name="Campus", consumer_key="known", consumer_secret="secret"
    )
    consumer.rotate_secret(timezone.now() + timedelta(days=1), "second secret")
    LtiConsumer.objects.update(**change)
    for key in ("known", "", "None", None):
        for secret in ("second secret", "secret", "", "None"):
            assert post(key, secret).status_code in (400, 401), (key, secret)
    assert not LtiLaunch.objects.accepted().exists()


def test_what_was_known_before_is_worth_nothing(admin_client):
    lms = FakeLms.create(consumer_key="known", consumer_secret="first")
    lms.consumer.rotate_secret(timezone.now() + timedelta(days=1), "second")
    assert post("known", "first").status_code == post("known", "second").status_code == 303
    form = form_of(admin_client.get(change_url(lms.consumer)))
    form |= {"consumer_key": "", "consumer_secret": "", "expires_at_0": "", "expires_at_1": ""}
    assert admin_client.post(change_url(lms.consumer), form).status_code == 302
    for secret in ("first", "second", ""):
        assert "<code>unknown_consumer_key</code>" in post("known", secret).text
    consumer = LtiConsumer.objects.get()
    assert consumer.stored_secrets == ("", "")
    assert not consumer.accepts_previous_secret
    assert consumer.secret_used_at is None


def test_several_have_no_key(mute):
    LtiConsumer.objects.create(consumer_name="Second", **NONE)
    LtiConsumer.objects.create(consumer_name="Third", consumer_key="", consumer_secret="")
    assert LtiConsumer.objects.filter(consumer_key=None, consumer_key_digest=None).count() == 3
    for consumer in LtiConsumer.objects.all():
        assert not consumer.speaks_lti11
        consumer.full_clean()
        consumer.save()


def test_a_key_comes_and_goes(mute):
    mute.consumer_key, mute.consumer_secret = "new", "secret"
    mute.save(update_fields=["consumer_key", "consumer_secret"])
    assert LtiConsumer.objects.with_key("new").speaks_lti11
    assert post("new", "secret").status_code == 303
    mute.consumer_key = ""
    mute.save(update_fields=["consumer_key"])
    assert LtiConsumer.objects.with_key("new") is None
    assert LtiConsumer.objects.get().consumer_key is None


@pytest.mark.parametrize(
    ("half", "missing"),
    [({"consumer_key": None}, "consumer_key"), ({"consumer_secret": ""}, "consumer_secret")],
)
def test_key_and_secret_go_together(half, missing):
    with pytest.raises(ValidationError) as raised:
        LtiConsumer(consumer_name="Half", **half).full_clean()
    assert [*raised.value.message_dict] == [missing]


def test_nothing_is_signed_and_nothing_rotated(mute):
    with pytest.raises(ValueError, match="Mute: This LTI consumer does not"):
        mute.rotate_secret(timezone.now())
    with pytest.raises(ValueError, match="Mute: This LTI consumer does not"):
        FakeLms(mute).sign("/content/")
    mute.refresh_from_db()
    assert mute.stored_secrets == ("", "")


# Grades


@pytest.mark.parametrize("change", [NONE, {"consumer_key": None}, {"consumer_secret": ""}])
def test_grades_wait_unsent(gradebook, change):
    lms = FakeLms.create("canvas", service_networks="127.0.0.0/8")
    lms.fields["lis_outcome_service_url"] = gradebook.url
    lms.launch(Client(), "/content/")
    for name, value in change.items():
        setattr(lms.consumer, name, value)
    lms.consumer.save(update_fields=[*change])
    result = LtiResult.objects.get()
    result.submit_score(0.5)
    deliver_due()
    result.refresh_from_db()
    assert (result.state, result.last_code) == (LtiResult.State.WAITING, "no_credentials")
    with pytest.raises(ScoreNotRead, match="has no key or no secret to sign with"):
        read_score(result)
    assert not gradebook.received


# The admin


def test_both_are_left_blank_for_a_new_one(admin_client):
    form = new_form(admin_client) | {"consumer_name": "Mute"}
    page = admin_client.post(ADD, form | {"consumer_key": "", "consumer_secret": ""}, follow=True)
    consumer = LtiConsumer.objects.get()
    assert (consumer.consumer_key, consumer.stored_secret) == (None, "")
    assert NOT_SET_UP in page.content.decode()
    assert "lti-secret" not in page.content.decode()
    assert "begins or ends" not in page.content.decode()


@pytest.mark.parametrize("blank", ["consumer_key", "consumer_secret"])
def test_one_left_blank_is_refused(admin_client, blank):
    form = new_form(admin_client) | {"consumer_name": "Half", blank: ""}
    page = admin_client.post(ADD, form)
    assert "Enter a key and a secret, or leave both blank" in page.content.decode()
    assert page.context["adminform"].form.errors.keys() == {blank}
    assert not LtiConsumer.objects.exists()


def test_a_key_is_not_removed_beside_a_typed_secret(admin_client):
    lms = FakeLms.create(consumer_key="known", consumer_secret="secret")
    form = form_of(admin_client.get(change_url(lms.consumer)))
    form |= {"consumer_key": "", "consumer_secret": "typed", "expires_at_0": "", "expires_at_1": ""}
    page = admin_client.post(change_url(lms.consumer), form)
    assert "Enter a key and a secret, or leave both blank" in page.content.decode()
    assert LtiConsumer.objects.get().consumer_key == "known"


def test_key_and_secret_are_given_later(admin_client, mute):
    page = admin_client.get(change_url(mute))
    assert SAID in page.content.decode()
    assert "Rotate secret" not in page.content.decode()
    assert "Show secret" in page.content.decode()  # of what is typed, not of what is stored
    assert page_of(mute, "secret") not in page.content.decode()
    form = form_of(page) | {"expires_at_0": "", "expires_at_1": ""}
    assert admin_client.post(change_url(mute), form).status_code == 302
    half = admin_client.post(change_url(mute), form | {"consumer_key": "new"})
    assert half.context["adminform"].form.errors.keys() == {"consumer_secret"}
    both = form | {"consumer_key": "new", "consumer_secret": "secret"}
    assert admin_client.post(change_url(mute), both).status_code == 302
    assert post("new", "secret").status_code == 303


def test_its_set_up_page_says_so(admin_client, mute):
    page = admin_client.get(page_of(mute, "setup")).content.decode()
    assert NOT_SET_UP in page
    for offered in ("lti-key", "lti-secret", "lti-cartridge", "lti-products"):
        assert offered not in page


@pytest.mark.parametrize("page", ["rotate", "secret"])
def test_a_page_that_needs_credentials_says_so(admin_client, mute, page):
    sent = {"role": "Learner", "until_0": "2026-11-30", "until_1": "12:00:00", "end": "1"}
    for answer in (
        admin_client.get(page_of(mute, page), follow=True),
        admin_client.post(page_of(mute, page), sent, follow=True),
        admin_client.post(page_of(mute, page), headers={"accept": "application/json"}, follow=True),
    ):
        assert SAID in answer.content.decode()
    assert not LogEntry.objects.exists()
    mute.refresh_from_db()
    assert not mute.speaks_lti11
    assert mute.rotations == 0


# Commands


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("lti_consumer", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_adds_lists_and_shows_one():
    added = run("add", "Mute", "--set", "consumer_key=", "--secrets")
    assert added.splitlines()[-1] == SAID
    consumer = LtiConsumer.objects.get()
    assert (consumer.consumer_key, consumer.stored_secret) == (None, "")
    assert run("show", "Mute").splitlines()[1] == "consumer_name: Mute"
    assert run("list") == f"{consumer.pk}\tMute\t\tTrue\t\n"
    assert json.loads(run("show", "Mute", "--format", "json"))["consumer_key"] is None


def test_the_command_refuses_half_a_pair(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret"))
    with pytest.raises(CommandError, match="consumer_key: Enter a key and a secret"):
        run("add", "Half", "--set", "consumer_key=", "--secret-stdin")
    assert not LtiConsumer.objects.exists()


def test_the_command_does_not_rotate(mute):
    with pytest.raises(CommandError, match="Mute: This LTI consumer does not"):
        run("rotate", "Mute")


@pytest.mark.parametrize("secrets", [(), ("--secrets",)])
def test_export_and_import_keep_it_so(mute, monkeypatch, secrets):
    LtiConsumer.objects.create(consumer_name="Campus", consumer_key="campus")
    exported = run("export", *secrets)

    def read(*options: str) -> list[str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(exported))
        return run("import", *options).splitlines()

    assert read("--update") == ["changed Mute", "changed Campus", "2 in all."]
    with pytest.raises(CommandError, match="a consumer with this name and no key; say --update"):
        read()
    LtiConsumer.objects.all().delete()
    assert read() == ["added Mute", "added Campus", "2 in all."]
    mute, campus = LtiConsumer.objects.order_by("pk")
    assert (mute.consumer_name, mute.consumer_key, mute.stored_secret) == ("Mute", None, "")
    assert campus.consumer_key == "campus"


def test_an_import_of_half_a_pair_is_refused(monkeypatch):
    row = {"consumer_name": "Half", "consumer_key": None, "consumer_secret": "secret"}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps([row])))
    with pytest.raises(CommandError, match="consumer_key: Enter a key and a secret"):
        run("import")
    assert not LtiConsumer.objects.exists()


def test_the_doctor_does_not_launch_as_it(mute):
    with pytest.raises(CommandError, match="Mute: This LTI consumer does not"):
        call_command(
            "lti_doctor", url="https://site.example/", consumer="Mute", stdout=io.StringIO()
        )


def test_the_doctor_does_not_mind_it(mute):
    out = io.StringIO()
    with pytest.raises(SystemExit):
        call_command("lti_doctor", json=True, stdout=out)
    assert "no_secret" not in out.getvalue()
    assert "Mute" not in out.getvalue()

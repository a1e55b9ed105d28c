"""Rotation, expiry and encryption of consumers' secrets, through the launch URL."""

import pickle
from datetime import UTC, datetime, timedelta
from io import StringIO
from urllib.parse import urlencode

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from lti_provider.exceptions import SecretUnreadable
from lti_provider.lti11.outcomes import send_score
from lti_provider.models import LtiConsumer, LtiLaunch, LtiResult, Verdict
from lti_provider.models.attempt import describe_reason
from lti_provider.models.secret import PREFIX, SecretField, decrypt, encrypt
from lti_provider.status import Level
from lti_provider.testing import FakeLms, sign_launch

pytestmark = pytest.mark.django_db

OLD = Fernet.generate_key().decode()
NEW = Fernet.generate_key().decode()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", consumer_secret="first secret")


def post(lms: FakeLms, secret: str, key: str | None = None):
    form = sign_launch(
        "http://testserver/lti/launch/content/",
        lms.fields,
        key=key or lms.consumer.consumer_key,
        secret=secret,
    )
    return Client().post(
        "/lti/launch/content/",
        urlencode(form),
        content_type="application/x-www-form-urlencoded",
    )


def is_accepted(response) -> bool:
    return response.status_code == 303 and "/lti/enter/" in response["Location"]


def stored() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT consumer_secret FROM lti_provider_lticonsumer")
        return cursor.fetchone()[0]


def reason() -> str:
    return LtiLaunch.objects.refused().latest("pk").refusal_hint


# Rotation


@pytest.fixture
def rotated(lms) -> FakeLms:
    """An LMS with a second secret; the first one goes on for a day."""
    lms.consumer.rotate_secret(NOW + timedelta(days=1), "second secret")
    return lms


def test_both_secrets_are_accepted_until_the_overlap_ends(rotated, clock):
    assert is_accepted(post(rotated, "first secret"))
    assert is_accepted(post(rotated, "second secret"))
    clock.shift(timedelta(days=1) - timedelta(seconds=1))
    assert is_accepted(post(rotated, "first secret"))
    clock.shift(1)
    assert post(rotated, "first secret").status_code == 401
    assert "previous secret, which was accepted until 2026-11-24 12:00" in reason()
    assert is_accepted(post(rotated, "second secret"))


def test_the_launch_and_the_log_say_which_secret_signed(rotated, caplog):
    caplog.set_level("INFO", "lti_provider")
    for secret, use in [("first secret", "previous"), ("second secret", "current")]:
        rotated.consumer.consumer_secret = secret
        rotated.launch(Client(), "/content/")
        launch = LtiLaunch.objects.latest("pk")
        assert launch.signed_with == use
    lines = [r.getMessage() for r in caplog.records if "user_launched" in r.getMessage()]
    assert [line.rpartition("secret=")[2] for line in lines] == ["previous", "current"]
    assert "first secret" not in caplog.text


def test_the_last_use_is_noted_once_in_an_hour(rotated, clock):
    def writes_of(secret: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            post(rotated, secret)
        written = [sql["sql"] for sql in queries.captured_queries if "UPDATE" in sql["sql"][:6]]
        return sum("secret_used_at" in sql.partition("WHERE")[0] for sql in written)

    assert [writes_of("first secret") for _time in range(3)] == [1, 0, 0]
    assert [writes_of("second secret") for _time in range(2)] == [1, 0]
    clock.shift(timedelta(hours=1))
    assert writes_of("first secret") == 0
    clock.shift(1)
    assert writes_of("first secret") == 1
    consumer = LtiConsumer.objects.get()
    assert consumer.previous_secret_used_at == NOW + timedelta(hours=1, seconds=1)
    assert consumer.secret_used_at == NOW


def test_a_refused_launch_is_no_use_of_a_secret(lms):
    assert post(lms, "wrong").status_code == 401
    assert LtiConsumer.objects.get().secret_used_at is None


def test_a_rotation_makes_a_secret_and_moves_the_stamp(lms):
    post(lms, "first secret")
    consumer = LtiConsumer.objects.get()
    consumer.rotate_secret(NOW + timedelta(days=1))
    consumer = LtiConsumer.objects.get()
    assert len(consumer.consumer_secret) == 64
    assert consumer.previous_secret == "first secret"
    assert consumer.previous_secret_used_at == NOW
    assert consumer.secret_used_at is None


def test_a_second_rotation_ends_the_oldest_secret(rotated):
    rotated.consumer.rotate_secret(NOW + timedelta(days=1), "third secret")
    assert post(rotated, "first secret").status_code == 401
    assert is_accepted(post(rotated, "second secret"))
    assert is_accepted(post(rotated, "third secret"))


def test_an_overlap_can_be_ended_at_once(rotated):
    rotated.consumer.end_previous_secret()
    assert post(rotated, "first secret").status_code == 401
    assert is_accepted(post(rotated, "second secret"))
    ended = LtiConsumer.objects.get().previous_secret_until
    rotated.consumer.end_previous_secret()
    assert LtiConsumer.objects.get().previous_secret_until == ended


def test_messages_of_ours_are_signed_with_the_present_secret(rotated):
    assert LtiConsumer.objects.get().consumer_secret == "second secret"


def test_expired_credentials_are_refused_and_explained(lms, clock):
    LtiConsumer.objects.update(expires_at=NOW + timedelta(days=1))
    assert is_accepted(post(lms, "first secret"))
    clock.shift(timedelta(days=1))
    assert post(lms, "first secret").status_code == 401
    assert "credentials of this consumer expired at 2026-11-24 12:00" in reason()


def test_expiry_holds_for_the_previous_secret_too(rotated):
    LtiConsumer.objects.update(expires_at=NOW)
    assert post(rotated, "first secret").status_code == 401
    assert post(rotated, "second secret").status_code == 401


def test_an_empty_secret_never_verifies(lms):
    LtiConsumer.objects.update(
        consumer_secret="", previous_secret="", previous_secret_until=NOW + timedelta(days=1)
    )
    assert post(lms, "").status_code == 401
    assert "has no secret" in reason()


# Encryption


@pytest.fixture
def encrypted(settings) -> None:
    """A site with a key."""
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]


def test_secrets_are_plain_without_a_key(lms):
    assert stored() == "first secret"


def test_with_a_key_secrets_are_encrypted_and_launches_go_on(encrypted):
    lms = FakeLms.create("canvas", consumer_secret="first secret")
    assert stored().startswith(PREFIX)
    assert "first secret" not in stored()
    assert LtiConsumer.objects.get().consumer_secret == "first secret"
    assert is_accepted(post(lms, "first secret"))
    LtiConsumer.objects.get().rotate_secret(NOW + timedelta(days=1), "second secret")
    assert is_accepted(post(lms, "first secret"))
    assert is_accepted(post(lms, "second secret"))


def test_updates_encrypt_too(lms, encrypted):
    LtiConsumer.objects.update(consumer_secret="updated")
    assert stored().startswith(PREFIX)
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_secret == "updated"
    consumer.consumer_secret = "in bulk"
    LtiConsumer.objects.bulk_update([consumer], ["consumer_secret"])
    assert stored().startswith(PREFIX)
    assert LtiConsumer.objects.get().consumer_secret == "in bulk"


def test_plain_secrets_go_on_when_encryption_is_turned_on(lms, encrypted):
    assert is_accepted(post(lms, "first secret"))
    LtiConsumer.objects.get().save()
    assert stored().startswith(PREFIX)
    assert is_accepted(post(lms, "first secret"))


def test_a_save_without_a_change_keeps_what_is_stored(encrypted):
    FakeLms.create("canvas")
    before = stored()
    LtiConsumer.objects.get().save()
    assert stored() == before


def test_what_leaves_the_process_is_encrypted(encrypted):
    FakeLms.create("canvas", consumer_secret="canary-secret")
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_secret == "canary-secret"
    assert b"canary-secret" not in pickle.dumps(consumer)
    assert "canary-secret" not in repr(vars(consumer))
    assert pickle.loads(pickle.dumps(consumer)).consumer_secret == "canary-secret"
    dumped = serializers.serialize("json", [consumer])
    assert "canary-secret" not in dumped
    consumer.delete()
    for restored in serializers.deserialize("json", dumped):
        restored.save()
    assert LtiConsumer.objects.get().consumer_secret == "canary-secret"


def test_a_deferred_secret_is_decrypted(encrypted):
    FakeLms.create("canvas", consumer_secret="first secret")
    consumer = LtiConsumer.objects.defer("consumer_secret").get()
    consumer.consumer_name = "Renamed"
    consumer.save()
    assert LtiConsumer.objects.defer("consumer_secret").get().consumer_secret == "first secret"
    assert LtiConsumer.consumer_secret.field.attname == "consumer_secret"


def test_a_secret_cannot_look_like_an_encrypted_one(lms):
    lms.consumer.consumer_secret = f"{PREFIX}x"
    field = LtiConsumer._meta.get_field("consumer_secret")
    with pytest.raises(ValidationError, match="cannot begin with"):
        field.clean(f"{PREFIX}x", lms.consumer)
    with pytest.raises(ValidationError):
        field.clean("x" * 1025, lms.consumer)
    with pytest.raises(ValidationError):
        field.clean("x\0", lms.consumer)


@pytest.mark.parametrize("length", [10, 1024, 4096])
def test_a_secret_has_the_length_that_its_field_says(length):
    field = SecretField(max_length=length)
    assert field.clean("x" * length, None) == "x" * length
    with pytest.raises(ValidationError, match=f"at most {length} characters"):
        field.clean("x" * (length + 1), None)
    _name, _path, args, kwargs = field.deconstruct()
    rebuilt = SecretField(*args, **kwargs)
    with pytest.raises(ValidationError, match=f"at most {length} characters"):
        rebuilt.clean("x" * (length + 1), None)


def test_a_shared_secret_has_at_most_1024_characters():
    field = LtiConsumer._meta.get_field("consumer_secret")
    assert field.max_length == SecretField().max_length == 1024


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=300))
def test_any_text_comes_back_to_the_letter(text):
    from django.test import override_settings

    with override_settings(LTI_PROVIDER_ENCRYPTION_KEYS=[OLD]):
        encrypted = encrypt(text)
        assert (encrypted == text) == (text == "")
        assert decrypt(encrypted) == text
    with override_settings(LTI_PROVIDER_ENCRYPTION_KEYS=[NEW, OLD]):
        assert decrypt(encrypted) == text


def test_every_key_decrypts_and_the_first_encrypts(settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    lms = FakeLms.create("canvas", consumer_secret="first secret")
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW, OLD]
    assert is_accepted(post(lms, "first secret"))
    LtiConsumer.objects.update(consumer_secret="second secret")
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    assert is_accepted(post(lms, "second secret"))


@pytest.fixture
def lost(settings) -> FakeLms:
    """Of two LMSs, the one whose secret's key is gone."""
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    lms = FakeLms.create("canvas", consumer_name="Lost", consumer_secret="first secret")
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    return lms


@pytest.mark.parametrize("keys", [[NEW], []])
def test_a_lost_key_is_the_trouble_of_that_consumer_only(lost, settings, caplog, keys):
    other = FakeLms.create("moodle", consumer_secret="of the other")
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [*keys, NEW][:1]
    assert is_accepted(post(other, "of the other"))
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = keys
    response = post(lost, "first secret")
    assert response.status_code == 503
    assert b"This site has a fault" in response.content
    assert b"secret_unreadable" in response.content
    launch = LtiLaunch.objects.refused().get()
    assert launch.refusal_code == "secret_unreadable"
    assert "was encrypted with a key that is not in" in launch.refusal_hint
    assert "code=secret_unreadable" in caplog.text
    with pytest.raises(SecretUnreadable):
        _read = LtiConsumer.objects.get(consumer_name="Lost").consumer_secret


def test_the_set_up_page_says_that_a_secret_is_lost(lost, admin_client):
    post(lost, "first secret")
    url = reverse("admin:lti_provider_lticonsumer_setup", args=[LtiConsumer.objects.get().pk])
    response = admin_client.get(url)
    assert response.status_code == 200
    text = str(SecretUnreadable.hint)
    levels = {
        line.name: line.level for line, _url in response.context["status"] if text in str(line.text)
    }
    assert levels == {"secret_unreadable": Level.ERROR, "last_refusal": Level.WARNING}


def test_the_secret_of_another_consumer_is_recognized_unless_its_key_is_lost(lost, encrypted):
    other = FakeLms.create("moodle", consumer_name="Other", consumer_secret="of the other")
    third = FakeLms.create("moodle", consumer_secret="of the third")
    assert post(third, "of the other").status_code == 401
    assert "It was signed with the secret of “Other”" in reason()
    assert post(third, "first secret").status_code == 401
    assert "another secret" in reason()
    assert is_accepted(post(other, "of the other"))


def test_a_new_secret_repairs_a_lost_one(lost):
    consumer = LtiConsumer.objects.get()
    consumer.rotate_secret(NOW + timedelta(days=1), "second secret")
    assert is_accepted(post(lost, "second secret"))
    assert post(lost, "first secret").status_code == 503


def test_saving_keeps_a_lost_secret_for_the_day_its_key_is_found(lost, settings):
    consumer = LtiConsumer.objects.get()
    consumer.consumer_name = "Renamed"
    consumer.save()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW, OLD]
    assert is_accepted(post(lost, "first secret"))


def test_a_key_that_is_none_is_named_without_its_value(settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = ["canary"]
    with pytest.raises(ImproperlyConfigured, match="not a Fernet key") as raised:
        encrypt("x")
    assert "canary" not in str(raised.value)
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = NEW
    with pytest.raises(
        ImproperlyConfigured, match="LTI_PROVIDER_ENCRYPTION_KEYS is a list"
    ) as raised:
        encrypt("x")
    assert NEW not in str(raised.value)


# lti_reencrypt


def reencrypt() -> str:
    out = StringIO()
    call_command("lti_reencrypt", stdout=out)
    return out.getvalue()


def test_reencrypt_takes_plain_and_old_secrets_to_the_first_key(lms, settings):
    lms.consumer.rotate_secret(NOW + timedelta(days=1), "second secret")
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    assert "Encrypted 2 secrets." in reencrypt()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW, OLD]
    assert "Encrypted 2 secrets." in reencrypt()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    assert is_accepted(post(lms, "first secret"))
    assert is_accepted(post(lms, "second secret"))


def test_reencrypt_leaves_what_it_cannot_read_and_says_whose_it_is(lost, encrypted):
    before = stored()
    with pytest.raises(CommandError, match="of: Lost"):
        reencrypt()
    assert stored() == before


def test_reencrypt_needs_a_key(lms):
    with pytest.raises(CommandError, match="is not set"):
        reencrypt()


def test_a_rotation_during_reencryption_wins(lms, encrypted, monkeypatch):
    def rotate_meanwhile(text):
        LtiConsumer.objects.update(consumer_secret="rotated meanwhile")
        return f"{PREFIX}late"

    from lti_provider.management.commands import lti_reencrypt

    monkeypatch.setattr(lti_reencrypt, "encrypt", rotate_meanwhile)
    assert "Encrypted 0 secrets." in reencrypt()
    assert LtiConsumer.objects.get().consumer_secret == "rotated meanwhile"


def test_ended_secrets_are_kept_for_the_diagnosis_and_then_dropped(rotated, clock):
    clock.shift(timedelta(days=80))
    assert LtiConsumer.objects.forget_secrets(timezone.now() - timedelta(days=90)) == 0
    clock.shift(timedelta(days=12))
    assert LtiConsumer.objects.forget_secrets(timezone.now() - timedelta(days=90)) == 1
    assert LtiConsumer.objects.get().previous_secret == ""


def test_grades_wait_while_the_secret_that_signs_them_is_lost(lost):
    result = LtiResult.objects.create(
        lti_consumer=LtiConsumer.objects.get(),
        service_url="https://lms.example/grades",
        service=LtiResult.Service.BASIC_OUTCOMES,
        remote_id="x",
    )
    attempt = send_score(result)
    assert (attempt.code, attempt.verdict) == ("secret_unreadable", Verdict.RETRY)
    assert "encrypted with a key" in describe_reason(attempt.code, "")

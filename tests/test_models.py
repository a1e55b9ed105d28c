import pytest
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.db.models.signals import pre_save
from django.test import Client

from lti_provider.models import (
    LtiConsumer,
    LtiContext,
    LtiLaunch,
    LtiResourceLink,
    LtiUser,
)
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

SECRET = "canary-secret"


@pytest.fixture
def consumer() -> LtiConsumer:
    return LtiConsumer.objects.create(consumer_name="Campus")


def errors_of(**fields) -> dict[str, list[str]]:
    try:
        LtiConsumer(**{"consumer_name": "Campus", **fields}).full_clean()
    except ValidationError as error:
        return error.message_dict
    return {}


# Defaults


def test_key_and_secret_are_made_for_each_consumer(consumer):
    other = LtiConsumer.objects.create(consumer_name="Other")
    assert consumer.consumer_key.startswith("lti-")
    assert len(consumer.consumer_key) >= 24
    assert len(consumer.consumer_secret) >= 64
    assert consumer.consumer_key.replace("-", "").isalnum()
    assert consumer.consumer_secret.isalnum()
    assert other.consumer_key != consumer.consumer_key
    assert other.consumer_secret != consumer.consumer_secret
    assert consumer.consumer_secret != consumer.consumer_key


def test_the_defaults_are_the_careful_ones(consumer):
    assert consumer.is_active
    assert consumer.instance_guid == ""
    assert consumer.guid_policy == "pin"
    assert consumer.personal_data == "none"
    assert consumer.minimum_signature_method == "HMAC-SHA1"
    assert not consumer.require_user_account
    assert consumer.window == 300
    assert consumer.frame_origin_list == ()
    assert consumer.launch_target_list == ()


def test_a_consumer_with_nothing_but_a_name_is_valid():
    assert errors_of() == {}


def test_the_window_is_the_sites_unless_the_consumer_has_its_own(consumer, settings):
    settings.LTI_PROVIDER_TIMESTAMP_WINDOW = 60
    assert consumer.window == 60
    consumer.timestamp_window = 600
    assert consumer.window == 600


@pytest.mark.parametrize("window", [0, 29, 86401, -1])
def test_a_window_that_is_no_window_is_refused(window):
    assert "timestamp_window" in errors_of(timestamp_window=window)


# Keys

LOOKALIKES = ["key", "KEY", "Key", "key ", " key", "k\u0435y", "kéy", "ke\u0301y", "k&y", "k%26y"]


def test_keys_are_unique_to_the_letter():
    for key in LOOKALIKES:
        assert errors_of(consumer_key=key) == {}
        LtiConsumer.objects.create(consumer_name=key, consumer_key=key)
    for key in LOOKALIKES:
        assert LtiConsumer.objects.with_key(key).consumer_key == key
        assert "consumer_key" in errors_of(consumer_key=key)
        with pytest.raises(IntegrityError), transaction.atomic():
            LtiConsumer.objects.create(consumer_name="another", consumer_key=key)


def test_no_key_finds_no_consumer(consumer):
    assert LtiConsumer.objects.with_key("") is None
    assert LtiConsumer.objects.with_key("unknown") is None


def test_a_consumer_may_keep_its_own_key(consumer):
    consumer.full_clean()


@pytest.mark.parametrize("value", ["a\0b", ""])
def test_keys_and_secrets_that_no_lms_can_hold_are_refused(value):
    assert "consumer_key" in errors_of(consumer_key=value)
    assert "consumer_secret" in errors_of(consumer_secret=value)


@pytest.mark.parametrize("value", ["k&y / + % = é", " blank ", "x" * 255, "😀" * 60])
def test_keys_and_secrets_made_elsewhere_are_kept_to_the_letter(client, value):
    lms = FakeLms.create("canvas", consumer_key=value, consumer_secret=value)
    lms.consumer.full_clean()
    lms.consumer.refresh_from_db()
    assert (lms.consumer.consumer_key, lms.consumer.consumer_secret) == (value, value)
    assert lms.launch(client, "/content/").status_code == 200


@pytest.mark.parametrize("fields", [None, ["consumer_key"], ("consumer_key",), {"consumer_key"}])
def test_a_new_key_is_found_whatever_else_was_saved(consumer, fields):
    old = consumer.consumer_key
    consumer.consumer_key = "new"
    consumer.save(update_fields=fields)
    assert LtiConsumer.objects.with_key("new") == consumer
    assert LtiConsumer.objects.with_key(old) is None


def test_saving_something_else_leaves_the_key_alone(consumer):
    old, consumer.consumer_key = consumer.consumer_key, "not saved"
    consumer.consumer_name = "Renamed"
    consumer.save(update_fields=["consumer_name"])
    assert LtiConsumer.objects.with_key(old) == consumer
    assert LtiConsumer.objects.with_key("not saved") is None


def test_a_consumer_survives_a_dump(consumer):
    dumped = serializers.serialize("json", [consumer])
    LtiConsumer.objects.all().delete()
    for loaded in serializers.deserialize("json", dumped):
        loaded.save()
    assert LtiConsumer.objects.with_key(consumer.consumer_key) == consumer


# Origins


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("https://lms.example", "https://lms.example"),
        ("HTTPS://LMS.Example", "https://lms.example"),
        ("https://lms.example/", "https://lms.example"),
        ("https://lms.example:443", "https://lms.example"),
        ("http://lms.example:80", "http://lms.example"),
        ("https://lms.example:8443", "https://lms.example:8443"),
        ("http://lms.example:443", "http://lms.example:443"),
        ("https://lms.example:", "https://lms.example"),
        ("http://localhost:8001", "http://localhost:8001"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("http://[::1]:8001", "http://[::1]:8001"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("  https://a.example\r\n\r\nhttps://b.example  ", "https://a.example\nhttps://b.example"),
        ("https://a.example https://b.example", "https://a.example\nhttps://b.example"),
        ("https://a.example\nHTTPS://A.example:443/", "https://a.example"),
        ("", ""),
    ],
)
def test_origins_are_kept_as_browsers_write_them(consumer, written, kept):
    consumer.frame_origins = written
    consumer.full_clean()
    assert consumer.frame_origins == kept
    assert consumer.frame_origin_list == tuple(kept.split())


@pytest.mark.parametrize(
    "junk",
    [
        "*",
        "https://*",
        "https://*.lms.example",
        "https:",
        "https://",
        "lms.example",
        "//lms.example",
        "https://lms.example/path",
        "https://lms.example?x",
        "https://lms.example#x",
        "https://user@lms.example",
        "https://user:password@lms.example",
        "https://lms.example:0x50",
        "https://lms.example:99999",
        "https://lms.example:-1",
        "https://lms.example;",
        "https://lms.example,https://b.example",
        "https://lms.example'",
        "https://lms.example;frame-ancestors",
        "https://-lms.example",
        "https://.lms.example",
        "https://lms.example.",
        "https://lms_.example\\x",
        "https://[::1",
        "https://[x]",
        "ftp://lms.example",
        "javascript:alert(1)",
        "data:text/html",
        "null",
        "'self'",
        "'none'",
        "https://münchen.example",
    ],
)
def test_what_is_no_origin_is_refused(junk):
    assert "frame_origins" in errors_of(frame_origins=junk)
    assert "frame_origins" in errors_of(frame_origins=f"https://lms.example\n{junk}")


def test_the_refusal_of_an_origin_says_what_to_write():
    (message,) = errors_of(frame_origins="lms.example")["frame_origins"]
    assert "lms.example" in message
    assert "https://lms.example.edu" in message


# Targets


@pytest.mark.parametrize("paths", ["/", "/a/", "/a/b", "  /a/ \n\n /b/\r\n", "/kurse/über/", ""])
def test_paths_are_targets(paths):
    assert errors_of(launch_targets=paths) == {}


@pytest.mark.parametrize(
    "junk", ["a/", "https://x.example/", "/a b/", "/a?x=1", "/a#x", "/a\\b", "*", "^/a/"]
)
def test_what_is_no_path_is_no_target(junk):
    (message,) = errors_of(launch_targets=f"/a/\n{junk}")["launch_targets"]
    assert junk in message
    assert "/courses/algebra/" in message


def test_targets_are_one_a_line():
    consumer = LtiConsumer(launch_targets="  /a/ \n\n /b/\r\n")
    assert consumer.launch_target_list == ("/a/", "/b/")


# What they show


def test_nothing_shows_a_secret_or_a_person(client):
    lms = FakeLms.create(
        "canvas", consumer_secret=SECRET, consumer_name="Campus", personal_data="name_email"
    )
    lms.launch(client, "/content/")
    launch = LtiLaunch.objects.with_all().get()
    shown = [
        lms.consumer,
        launch,
        launch.message,
        launch.lti_user,
        launch.context,
        launch.resource_link,
    ]
    for thing in shown:
        for text in (str(thing), repr(thing), f"{thing:}"):
            assert SECRET not in text
            assert "Robin" not in text
            assert "robin.doe" not in text
    assert [str(thing) for thing in (shown[0], *shown[3:])] == [
        "Campus",
        lms.fields["user_id"],
        "Algebra",
        "Linear equations",
    ]


def test_places_without_a_title_show_their_ids():
    assert str(LtiContext(context_id="7", label="ALG-1")) == "ALG-1"
    assert str(LtiContext(context_id="7")) == "7"
    assert str(LtiResourceLink(resource_link_id="8")) == "8"


def test_a_guest_shows_as_a_guest():
    assert str(LtiUser(lti_user_id="")) == "guest"


def test_the_models_are_called_what_administrators_call_them():
    assert LtiConsumer._meta.app_config.verbose_name == "LTI Provider"
    assert LtiConsumer._meta.verbose_name_plural == "LTI consumers"


# Deletion


def test_a_consumer_with_users_cannot_be_deleted(client):
    lms = FakeLms.create("canvas")
    lms.launch(client, "/content/")
    with pytest.raises(ProtectedError):
        lms.consumer.delete()
    with pytest.raises(ProtectedError):
        LtiConsumer.objects.all().delete()
    assert LtiUser.objects.exists()


def test_a_consumer_without_users_goes_with_its_log(client):
    lms = FakeLms.create("canvas")
    lms.post(client, "/nowhere/")
    lms.consumer.delete()
    assert not LtiLaunch.objects.exists()


def test_a_deleted_account_takes_its_person_along_and_leaves_the_log(client):
    lms = FakeLms.create("canvas")
    lms.launch(client, "/content/")
    get_user_model().objects.get().delete()
    assert not LtiUser.objects.exists()
    assert LtiLaunch.objects.with_all().get().lti_user is None
    assert lms.launch(Client(), "/content/").status_code == 200


def test_one_person_has_one_account_in_a_consumer(consumer):
    user = get_user_model().objects.create_user("ada")
    LtiUser.objects.create(lti_consumer=consumer, lti_user_id="1", lti_user_digest="1", user=user)
    with pytest.raises(IntegrityError), transaction.atomic():
        LtiUser.objects.create(
            lti_consumer=consumer, lti_user_id="2", lti_user_digest="2", user=user
        )


def test_only_a_nonce_that_was_used_makes_a_replay(client):
    lms = FakeLms.create("canvas")
    spoilt = []

    def spoil_once(sender, instance, **kwargs) -> None:
        if not spoilt:
            spoilt.append(instance)
            instance.target = None

    pre_save.connect(spoil_once, sender=LtiLaunch)
    try:
        response = lms.post(client, "/content/")
    finally:
        pre_save.disconnect(spoil_once, sender=LtiLaunch)
    assert spoilt
    assert response["Location"].startswith("/lti/enter/")
    assert not LtiLaunch.objects.refused().exists()

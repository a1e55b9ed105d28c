import io
from argparse import ArgumentParser, _SubParsersAction
from contextlib import suppress

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from lti_provider.management.consumer import find_consumer
from lti_provider.models import LtiConsumer
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

#: Every way to name a consumer; nobody listens at the address.
USES = {
    "lti_consumer show": ("lti_consumer", "show", "{}"),
    "lti_consumer rotate": ("lti_consumer", "rotate", "{}"),
    "lti_consumer deactivate": ("lti_consumer", "deactivate", "{}"),
    "lti_consumer activate": ("lti_consumer", "activate", "{}"),
    "lti_consumer register": (
        *("lti_consumer", "register", "{}", "--issuer", "https://lms.example"),
        *("--client-id", "7", "--authorization-endpoint", "https://lms.example/auth"),
        *("--jwks-uri", "https://lms.example/keys"),
    ),
    "lti_doctor": ("lti_doctor", "--url", "http://127.0.0.1:9/", "--consumer", "{}"),
    "lti_erase_user": ("lti_erase_user", "--consumer", "{}", "--lti-user-id", "p", "--no-input"),
    "lti_export_user": ("lti_export_user", "--consumer", "{}", "--lti-user-id", "p"),
    "lti_resend": ("lti_resend", "--consumer", "{}", "--dry-run"),
}


@pytest.fixture
def lms(client) -> FakeLms:
    """An LMS that the person ``p`` was launched from."""
    lms = FakeLms.create("canvas", consumer_name="Campus", consumer_key="campus-key")
    lms.launch(client, "/content/", user_id="p")
    return lms


@pytest.fixture(params=USES.values(), ids=USES)
def run(request):
    def call(name: object) -> None:
        arguments = (part.format(name) for part in request.param)
        # The doctor, who knows then as whom to launch, finds no site there.
        with suppress(SystemExit):
            call_command(*arguments, stdout=io.StringIO())

    return call


def consumer_arguments(parser: ArgumentParser, name: str):
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for chosen, inner in action.choices.items():
                yield from consumer_arguments(inner, f"{name} {chosen}")
        elif "consumer" in (action.metavar or action.dest).lower():
            yield name, action


def test_all_commands_name_a_consumer_alike():
    ours = [name for name, app in get_commands().items() if app == "lti_provider"]
    found = [
        pair
        for name in ours
        for pair in consumer_arguments(
            load_command_class("lti_provider", name).create_parser("manage.py", name), name
        )
    ]
    assert {name for name, _action in found} == USES.keys()
    for name, action in found:
        assert action.option_strings in ([], ["--consumer"]), name
        assert "key, number or name" in action.help, name


@pytest.mark.parametrize("name", ["campus-key", "number", "Campus"])
def test_a_key_a_number_or_a_name_does(lms, run, name):
    run(lms.consumer.pk if name == "number" else name)


@pytest.mark.parametrize("name", ["nobody", "CAMPUS", "0", "9" * 30, "²", ""])
def test_nobody_is_found_by_anything_else(lms, run, name):
    with pytest.raises(CommandError, match=f"no LTI consumer with the key.*“{name}”") as raised:
        run(name)
    assert "lti_consumer list" in str(raised.value)
    assert raised.value.returncode == 3


def test_a_name_of_two_is_asked_about(lms, run):
    other = LtiConsumer.objects.create(consumer_name="Campus")
    numbers = f"{lms.consumer.pk}, {other.pk}"
    with pytest.raises(CommandError, match=rf"called “Campus”\. Type a number.*: {numbers}\."):
        run("Campus")


def test_a_key_goes_before_a_number_and_a_number_before_a_name(lms):
    number = lms.consumer.pk
    LtiConsumer.objects.create(consumer_name=str(number))
    assert find_consumer(str(number)) == lms.consumer
    keyed = LtiConsumer.objects.create(consumer_name="Other", consumer_key=str(number))
    assert find_consumer(str(number)) == keyed

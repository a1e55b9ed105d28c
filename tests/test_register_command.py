"""``lti_consumer`` registers LMSs by LTI 1.3, and carries them from site to site."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration
from lti_provider.testing import FakePlatform
from tests.test_deployments import accepted, launch

pytestmark = pytest.mark.django_db

SITE = "https://lms.example.edu"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("lti_consumer", *arguments, stdout=out)
    return out.getvalue()


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--format", "json"))


def refused(*arguments: str) -> str:
    with pytest.raises(CommandError) as raised:
        run(*arguments)
    return str(raised.value)


@pytest.fixture
def added() -> LtiConsumer:
    run("add", "Campus", "--set", "product=moodle", "--set", "consumer_key=")
    return LtiConsumer.objects.get()


def test_an_lms_is_registered_by_its_address(added):
    row = run_json(
        *("register", "Campus", "--site", f"{SITE}/", "--client-id", "k-1"),
        *("--deployment-id", "2", "--joins"),
    )
    (registration,) = row["registrations"]
    assert registration["jwks_uri"] == f"{SITE}/mod/lti/certs.php"
    assert (registration["new_deployments"], registration["is_own"]) == ("join", True)
    assert [each["deployment_id"] for each in registration["deployments"]] == ["2"]
    assert LtiDeployment.objects.get().lti_consumer == added
    shown = run("show", "Campus")
    assert f"registrations: {SITE} (k-1), deployments: 2" in shown
    assert "does not speak" not in shown
    assert run_json("list")[0]["registrations"] == row["registrations"]


def test_without_a_deployment_it_says_so(added):
    shown = run("register", "Campus", "--site", SITE, "--client-id", "k-1")
    assert "deployments: none" in shown
    assert LtiRegistration.objects.get().new_deployments == "approve"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--site", SITE], "--client-id: This field is required."),
        (["--client-id", "k", "--site", "here"], "--site: Enter an address"),
        (["--client-id", "k", "--site", SITE, "--tool-id", "17"], "tool_id: this is not asked for"),
        (["--client-id", "k", "--site", SITE, "--jwks-uri", "x"], "--jwks-uri: “x” is not an"),
    ],
)
def test_what_is_wrong_is_said_by_its_option(added, arguments, said):
    assert said in refused("register", "Campus", *arguments)
    assert not LtiRegistration.objects.exists()


def test_what_concerns_no_option_is_said_too(added):
    run("register", "Campus", "--site", SITE, "--client-id", "k", "--deployment-id", "1")
    LtiConsumer.objects.update(issuer="https://other.example")
    text = refused("register", "Campus", "--site", SITE, "--client-id", "k2")
    assert "--issuer: “Campus” has launched as https://other.example" in text


def test_a_product_is_one_that_is_known():
    text = refused("add", "Campus", "--set", "product=moodel")
    assert "“moodel” is not one of the products canvas, moodle, " in text


@pytest.fixture
def platform() -> FakePlatform:
    platform = FakePlatform.create("moodle", consumer_name="Campus", consumer_key="campus")
    LtiRegistration.objects.update(lti_consumer=platform.consumer)
    launch(platform)
    return platform


def exported(tmp_path: Any) -> str:
    file = tmp_path / "consumers.json"
    file.write_text(run("export", "--secrets"))
    return str(file)


def test_what_is_exported_can_be_imported_and_launched(platform, tmp_path):
    file = exported(tmp_path)
    before = LtiRegistration.objects.values().get()
    pinned = LtiDeployment.objects.get().instance_guid
    LtiConsumer.objects.all().delete()
    LtiRegistration.objects.all().delete()
    run("import", file)
    after = LtiRegistration.objects.values().get()
    kept = before.keys() - {"id", "created_at", "lti_consumer_id"}
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert LtiRegistration.objects.get().lti_consumer == LtiConsumer.objects.get()
    assert LtiDeployment.objects.get().instance_guid == pinned
    assert accepted(launch(platform))


def test_an_import_overwrites_no_registration(platform, tmp_path):
    file = exported(tmp_path)
    LtiRegistration.objects.update(token_endpoint="https://lms.example/changed")
    LtiDeployment.objects.all().delete()
    run("import", file, "--update")
    assert LtiRegistration.objects.get().token_endpoint == "https://lms.example/changed"
    assert LtiDeployment.objects.get().lti_consumer == platform.consumer
    run("import", file, "--update")
    assert LtiDeployment.objects.count() == 1


def test_a_deployment_of_a_different_consumer_is_not_taken(platform, tmp_path):
    file = exported(tmp_path)
    LtiConsumer.objects.update(consumer_name="Older", consumer_key="older")
    LtiConsumer.objects.get().save()
    text = refused("import", file)
    assert "This registration has a deployment with this id." in text
    assert LtiConsumer.objects.count() == 1


@pytest.mark.parametrize(
    "registrations",
    [
        "text",
        [1],
        [{}],
        [{"issuer": "i", "client_id": "c", "is_active": "perhaps"}],
        [{"issuer": "i", "client_id": "c", "deployments": [{}]}],
        [{"issuer": "i", "client_id": "c", "authorization_endpoint": "x", "jwks": "x"}],
        None,
    ],
)
def test_what_export_does_not_write_is_refused(tmp_path, registrations):
    file = tmp_path / "consumers.json"
    file.write_text(json.dumps([{"consumer_name": "Campus", "registrations": registrations}]))
    assert "registrations: " in refused("import", str(file))
    assert not LtiConsumer.objects.exists()


def test_a_shared_registration_keeps_whose_it_is(platform, tmp_path):
    LtiRegistration.objects.update(lti_consumer=None)
    file = exported(tmp_path)
    LtiConsumer.objects.all().delete()
    LtiRegistration.objects.all().delete()
    run("import", file)
    assert LtiRegistration.objects.get().lti_consumer is None

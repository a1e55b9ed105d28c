import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

# Its processes make databases of their own.
pytestmark = [pytest.mark.database, pytest.mark.slow]

ROOT = Path(__file__).parent.parent


def launches_with(user_model: str, backend: str | None = None, module: str = "launch") -> dict:
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.custom_users.settings",
        "CUSTOM_USER_MODEL": user_model,
    }
    if backend is not None:
        environment["CUSTOM_USER_BACKEND"] = f"tests.custom_users.backends.{backend}"
    done = subprocess.run(
        [sys.executable, "-m", f"tests.custom_users.{module}"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env=environment,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_each_person_has_one_account(report: dict) -> None:
    assert "error" not in report
    assert report["pages"] == [200, 200, 200, 200]
    people = [person for person, _account in report["users"]]
    assert people == ["robin", "kim", "robin", "sam"]
    accounts = [account for _person, account in report["users"]]
    assert accounts[0] == accounts[2]
    assert len(set(accounts)) == 3
    assert report["usable_passwords"] == [False, False, False]


def of_each_account(report: dict, name: str) -> list[str]:
    return [account[name] for account in report["accounts"].values()]


def test_a_user_model_that_signs_in_with_an_address():
    report = launches_with("EmailUser")
    assert_each_person_has_one_account(report)
    for address in of_each_account(report, "email"):
        assert address.startswith("lti-")
        assert address.endswith("@lti.invalid")
    assert of_each_account(report, "first_name") == ["Robin", "Kim", "Robin"]


def test_a_user_model_with_a_login_and_nothing_else():
    report = launches_with("BareUser")
    assert_each_person_has_one_account(report)
    assert {len(login) for login in of_each_account(report, "login")} == {20}


def test_a_user_model_with_uuids_as_keys():
    report = launches_with("UuidUser")
    assert_each_person_has_one_account(report)
    for account in report["accounts"]:
        assert str(uuid.UUID(account)) == account
    assert "sam@lms.example" in of_each_account(report, "email")


def test_a_user_model_whose_address_cannot_be_blank_twice():
    report = launches_with("UniqueEmailUser")
    assert_each_person_has_one_account(report)
    addresses = of_each_account(report, "contact")
    assert len(set(addresses)) == 3
    assert {"robin.doe@lms.example", "sam@lms.example"} < set(addresses)
    assert sum(address.endswith("@lti.invalid") for address in addresses) == 1
    assert of_each_account(report, "first_name") == ["Robin", "Kim", "Robin"]
    assert of_each_account(report, "last_name") == ["Doe", "Doe", "Doe"]


def test_a_user_model_whose_address_may_be_left_out():
    report = launches_with("OptionalEmailUser")
    assert_each_person_has_one_account(report)
    assert sorted(of_each_account(report, "email")) == [
        "None",
        "robin.doe@lms.example",
        "sam@lms.example",
    ]
    assert of_each_account(report, "first_name") == ["Robin", "Kim", "Robin"]


def test_a_user_model_that_needs_more_than_a_name_says_what_is_missing():
    report = launches_with("BornUser")
    assert "IntegrityError" in report["error"]
    assert "born_on" in report["error"]
    assert report["accounts"] == {}


def test_a_user_model_that_needs_more_than_a_name_gets_it_from_a_subclass():
    report = launches_with("BornUser", "BornBackend")
    assert_each_person_has_one_account(report)
    assert set(of_each_account(report, "born_on")) == {"2010-01-01"}


def test_a_user_model_that_signs_in_with_a_number_says_what_to_write():
    report = launches_with("NumberedUser")
    assert report["error"] == (
        "ImproperlyConfigured: NumberedUser.number is not a text field: subclass LtiBackend with "
        "create_user(launch) and name the subclass in AUTHENTICATION_BACKENDS."
    )
    assert report["accounts"] == {}


def test_a_user_model_that_signs_in_with_a_number_gets_it_from_a_subclass():
    assert_each_person_has_one_account(launches_with("NumberedUser", "NumberBackend"))


# Page, the account connected, its session before and after the first request since the disconnect.
CONNECTED = ["content", True, True, False]


@pytest.mark.parametrize("user_model", ["EmailUser", "UuidUser", "UniqueEmailUser"])
def test_a_user_model_with_an_address_can_be_connected(user_model):
    assert launches_with(user_model, module="connect") == {"email": CONNECTED, "any": CONNECTED}


@pytest.mark.parametrize("user_model", ["BareUser"])
def test_a_user_model_without_an_address_can_be_connected_if_the_consumer_connects_any(user_model):
    assert launches_with(user_model, module="connect") == {"email": 403, "any": CONNECTED}


@pytest.mark.parametrize(
    "user_model",
    ["EmailUser", "BareUser", "UuidUser", "UniqueEmailUser", "OptionalEmailUser", "TimelessUser"],
)
def test_people_of_any_user_model_are_exported_erased_and_forgotten(user_model):
    report = launches_with(user_model, module="privacy")
    assert {"pk", "made_by_launch"} < set(report["exported"])
    assert report["accounts"] == 1
    assert report["canaries"] == []
    assert report["signed_in"] == [False, False]

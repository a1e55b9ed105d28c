"""A site's database can be dumped and loaded with Django's own commands."""

from io import StringIO
from pathlib import Path

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client

from lti_provider.models import LtiInstallation, LtiLaunch, LtiResult, LtiUser
from lti_provider.testing import FakeLms, FakePlatform

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("auth.user", "lti_provider")


def dumped() -> str:
    out = StringIO()
    call_command("dumpdata", *TABLES, stdout=out)
    # Django writes milliseconds, and leaves zero ones out only where the microseconds are zero too.
    return out.getvalue().replace(".000Z", "Z")


@pytest.fixture
def lms() -> FakeLms:
    """An LMS with launches of all kinds, and a person who is erased."""
    lms = FakeLms.create("canvas", consumer_name="Campus", consumer_secret="secret")
    for user_id in ("robin", "kim"):
        page = lms.launch(Client(), "/content/", user_id=user_id)
        page.wsgi_request.lti.submit_score(8, 10)
    lms.post(Client(), "/content/", user_id="nobody entered")
    lms.post(Client(), "/elsewhere/")
    platform = FakePlatform.create("moodle", consumer_name="By LTI 1.3")
    platform.launch(Client(), "/content/")
    platform.deployment.deployment_id = "waits"
    platform.post(Client(), "/content/")
    administrator = get_user_model().objects.create_user("administrator")
    lms.consumer.accept_installation("second", administrator)
    call_command("lti_erase_user", "--consumer", "Campus", "--lti-user-id", "kim", "--no-input")
    return lms


def test_what_is_dumped_can_be_loaded_and_launched(lms: FakeLms, tmp_path: Path) -> None:
    before = dumped()
    account = LtiUser.objects.get(lti_consumer=lms.consumer).user_id
    file = tmp_path / "site.json"
    file.write_text(before)
    call_command("flush", "--no-input", verbosity=0)
    call_command("loaddata", str(file), verbosity=0)
    assert dumped() == before
    page = lms.launch(Client(), "/content/", user_id="robin")
    assert page.wsgi_request.user.pk == account
    assert LtiLaunch.objects.latest("pk").result == LtiResult.objects.get(lti_user__user=account)
    other = {"tool_consumer_instance_guid": "second"}
    assert lms.launch(Client(), "/content/", **other).status_code == 200
    assert LtiInstallation.objects.get(guid="second").accepted_by.username == "administrator"

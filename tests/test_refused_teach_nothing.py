"""What is refused after its signature held leaves the consumer as it was."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import path
from django.utils import timezone

from lti_provider.exceptions import LaunchRefused, ReturnableRefusal, VerifiedLaunchRefused
from lti_provider.frames import MARKER_COOKIE
from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiInstallation,
    LtiLaunch,
    LtiRegistration,
    LtiUser,
)
from lti_provider.signals import user_launched
from lti_provider.testing import FakeLms, FakePlatform
from lti_provider.testing.lms import navigation
from lti_provider.views import LaunchView
from tests import rfc5849
from tests.test_lti13_refusals import REFUSALS as LTI13
from tests.urls import urlpatterns as site

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

FORM = "application/x-www-form-urlencoded"


class FullLaunchView(LaunchView):
    """A site's own refusal, at the last moment."""

    def launch_valid(self, launch):
        super().launch_valid(launch)
        raise FullCourse


class FullCourse(ReturnableRefusal):
    code = "full_course"


urlpatterns = [path("lti/full/", FullLaunchView.as_view()), *site]


@pytest.fixture
def lms() -> FakeLms:
    """An LMS of which nothing is known yet, whose secret was rotated just now."""
    lms = FakeLms.create("canvas")
    lms.consumer.rotate_secret(timezone.now() + timedelta(days=1))
    return lms


def stored() -> list[Any]:
    return [
        *LtiConsumer.objects.order_by("pk").values(),
        *LtiInstallation.objects.order_by("pk").values(),
    ]


def post(lms: FakeLms, where: str = "launch/content/", client: Any = None, **changes: Any) -> Any:
    sign = {key: changes.pop(key) for key in ("method", "timestamp", "nonce") if key in changes}
    headers = {**navigation(framed=True), **changes.pop("headers", {})}
    sent = {key: value for key, value in {**lms.fields, **changes}.items() if value is not None}
    url = f"http://testserver/lti/{where}"
    key, secret = lms.consumer.consumer_key, lms.consumer.consumer_secret
    pairs = rfc5849.sign(url, sent.items(), key=key, secret=secret, **sign)
    browser = client or Client()
    return browser.post(f"/lti/{where}", urlencode(pairs), content_type=FORM, headers=headers)


def policy(**fields: Any) -> Callable[[FakeLms], None]:
    def change(lms: FakeLms) -> None:
        LtiConsumer.objects.update(**fields)

    return change


def nothing(lms: FakeLms) -> None:
    pass


#: By its code: what the consumer's policy is, and the launch that is refused.
REFUSALS: dict[str, tuple[Callable[[FakeLms], None], Callable[[FakeLms], Any]]] = {
    "stale_timestamp": (nothing, lambda lms: post(lms, timestamp=1)),
    "consumer_inactive": (policy(is_active=False), post),
    "weak_signature_method": (policy(minimum_signature_method="HMAC-SHA256"), post),
    "unsupported_message_type": (nothing, lambda lms: post(lms, lti_message_type="other")),
    "unsupported_version": (nothing, lambda lms: post(lms, lti_version="LTI-2p0")),
    "missing_resource_link": (nothing, lambda lms: post(lms, resource_link_id=None)),
    "invalid_parameter": (nothing, lambda lms: post(lms, user_id="u" * 256)),
    "user_account_required": (
        policy(require_user_account=True),
        lambda lms: post(lms, user_id=None),
    ),
    "other_installation": (
        policy(instance_guid="first", instance_guid_digest="0" * 64),
        post,
    ),
    "unexpected_origin": (
        policy(origin_check="enforce"),
        lambda lms: post(lms, headers={"Origin": "https://evil.example"}),
    ),
    "target_not_launchable": (policy(launch_targets="/elsewhere/"), post),
    "full_course": (nothing, lambda lms: post(lms, "full/")),
}
#: These need a launch before them, which teaches.
LATER = {"replayed_launch", "user_inactive"}


def find_codes(kind: type[LaunchRefused]) -> set[str]:
    """The codes of a kind of refusal and all below it, the sites' own aside."""
    own = {kind.code} if "code" in vars(kind) and kind.__module__.startswith("lti_provider") else ()
    return set(own).union(*map(find_codes, kind.__subclasses__()))


def test_every_refusal_after_the_signature_is_tried():
    tried = REFUSALS.keys() | LATER | LTI13.keys()
    assert find_codes(VerifiedLaunchRefused) <= tried - {FullCourse.code}


def learned() -> list[Any]:
    """What launches taught consumers and their deployments."""
    rows = [
        *LtiConsumer.objects.values_list("instance_guid", "service_hosts", "secret_used_at"),
        *LtiDeployment.objects.exclude(lti_consumer=None).values_list(
            "instance_guid", "first_seen_at", "last_seen_at"
        ),
        *LtiInstallation.objects.values_list("guid"),
    ]
    return [value for row in rows for value in row if value]


@pytest.mark.parametrize("code", LTI13)
def test_a_refused_launch_of_lti_13_teaches_nothing(settings, code):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    platform = FakePlatform.create("canvas")
    launch, _status, _returns = LTI13[code]
    launch(platform)
    assert learned() == []
    assert not LtiLaunch.objects.accepted().exists()


@pytest.mark.parametrize(
    "policy",
    [
        {"launch_targets": "/elsewhere/"},
        {"origin_check": "enforce"},
        {"instance_guid": "first", "instance_guid_digest": "0" * 64},
    ],
)
def test_what_a_consumer_refuses_after_a_login_teaches_nothing_either(policy):
    platform = FakePlatform.create("canvas", issuer="", frame_origins="https://lms.example")
    LtiConsumer.objects.update(**policy)
    LtiRegistration.objects.update(new_deployments="join", lti_consumer=platform.consumer)
    before = [*stored(), *LtiDeployment.objects.values()]
    browser = Client(headers={"Origin": "https://evil.example"})
    answer = platform.post(browser, "/content/")

    assert LtiLaunch.objects.refused().count() == 1, answer.content
    assert [*stored(), *LtiDeployment.objects.values()] == before


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refused_launch_teaches_nothing(lms, settings, code):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    prepare, launch = REFUSALS[code]
    prepare(lms)
    before = stored()
    answer = launch(lms)

    assert LtiLaunch.objects.refused().get().refusal_code == code, answer.content
    assert stored() == before
    assert not LtiLaunch.objects.accepted().exists()


def test_a_replay_teaches_nothing(lms):
    LtiConsumer.objects.update(guid_policy="record")
    post(lms, nonce="once", tool_consumer_instance_guid=None, lis_outcome_service_url=None)
    LtiConsumer.objects.update(secret_used_at=None)
    before = stored()
    answer = post(lms, nonce="once")

    assert answer.status_code == 403
    assert LtiLaunch.objects.refused().get().refusal_code == "replayed_launch"
    assert stored() == before


def test_who_is_refused_in_a_known_frame_teaches_nothing(lms):
    frame = Client()
    lms.launch(frame, "/content/", framed=True)
    get_user_model().objects.filter(pk=LtiUser.objects.get().user_id).update(is_active=False)
    LtiConsumer.objects.update(service_hosts="", secret_used_at=None)
    before = stored()
    post(lms, client=frame)

    assert LtiLaunch.objects.refused().get().refusal_code == "user_inactive"
    assert stored() == before


class ClosedCourse(ReturnableRefusal):
    code = "closed_course"


@pytest.fixture
def refusing_receiver():
    """A site's code that refuses when the person is signed in already."""

    def refuse(**told: Any) -> None:
        raise ClosedCourse

    user_launched.connect(refuse)
    yield
    user_launched.disconnect(refuse)


ENGINES = ["db", "cache", "cached_db", "signed_cookies"]


def assert_nobody_is_signed_in(browser: Client, answer: Any, *, framed: bool) -> None:
    assert "lti_errorlog=" in answer["Location"]
    assert not [name for name in answer.cookies if name.startswith("sessionid")]
    page = browser.get("/content/", headers=navigation(framed=framed))
    assert page.content.decode() == "content/ for AnonymousUser"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("where", ["full/", "launch/content/"])
def test_who_is_refused_after_the_sign_in_in_a_known_frame_is_not_signed_in(
    lms, settings, engine, where, request
):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    marked = Client()
    lms.launch(marked, "/content/", framed=True)
    frame = Client()
    frame.cookies[MARKER_COOKIE] = marked.cookies[MARKER_COOKIE].value
    if where != "full/":
        request.getfixturevalue("refusing_receiver")
    answer = post(lms, where, client=frame)

    assert_nobody_is_signed_in(frame, answer, framed=True)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("framed", [True, False])
def test_who_is_refused_after_the_sign_in_at_enter_is_not_signed_in(
    lms, settings, engine, framed, refusing_receiver
):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    browser = Client()
    url = lms.post(browser, "/content/", framed=framed)["Location"]
    answer = browser.get(url, headers=navigation(framed=framed))

    assert_nobody_is_signed_in(browser, answer, framed=framed)

"""What deactivating a consumer ends, and what it does not."""

from datetime import timedelta

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.test import AsyncClient, Client
from django.utils import timezone

from lti_provider.backends import LtiBackend
from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from lti_provider.sessions import is_launch_session, serve
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def other_lms() -> FakeLms:
    return FakeLms.create("moodle")


@pytest.fixture
def learner(lms) -> Client:
    """A browser in which a learner of the LMS is at work."""
    browser = Client()
    lms.launch(browser, "/content/")
    assert is_signed_in(browser)
    return browser


def is_signed_in(browser: Client) -> bool:
    return browser.get("/content/").wsgi_request.user.is_authenticated


def launch_of(browser: Client) -> LtiLaunch | None:
    return browser.get("/content/").wsgi_request.lti.launch


def connect(lms: FakeLms, account) -> None:
    """Let the LMS's launches sign in an account of the site's own."""
    LtiUser.objects.filter(lti_consumer=lms.consumer).update(
        user=account, connected_at=timezone.now()
    )


DEACTIVATE = {
    "method": lambda consumer: consumer.set_active(False),
    "save": lambda consumer: (setattr(consumer, "is_active", False), consumer.save()),
    "save some": lambda consumer: (
        setattr(consumer, "is_active", False),
        consumer.save(update_fields=["is_active"]),
    ),
    "update": lambda consumer: LtiConsumer.objects.filter(pk=consumer.pk).update(is_active=False),
    "bulk": lambda consumer: (
        setattr(consumer, "is_active", False),
        LtiConsumer.objects.bulk_update([consumer], ["is_active"]),
    ),
}


@pytest.mark.parametrize("deactivate", DEACTIVATE.values(), ids=DEACTIVATE)
def test_open_sessions_end_for_good(lms, learner, deactivate):
    waiting = lms.post(Client(), "/content/")["Location"]
    idle = Client()
    lms.launch(idle, "/content/", user_id="idle")
    deactivate(LtiConsumer.objects.get())
    assert not is_signed_in(learner)
    assert launch_of(learner) is None
    LtiConsumer.objects.get().set_active(True)
    assert not is_signed_in(learner)
    assert launch_of(idle) is None
    assert not is_signed_in(idle)
    assert Client().get(waiting)["Location"].startswith("https://lms.example")
    lms.launch(idle, "/content/", user_id="idle")
    assert is_signed_in(idle)
    assert launch_of(idle) is not None


def test_a_consumer_deactivated_behind_the_models_back_signs_nobody_in(lms, learner):
    LtiConsumer._base_manager.update(is_active=False)
    assert not is_signed_in(learner)


def test_nothing_of_an_ended_session_stays(lms, learner):
    before = learner.cookies["sessionid"].value
    lms.consumer.set_active(False)
    assert not is_signed_in(learner)
    assert not Session.objects.filter(session_key=before).exists()


def test_sessions_of_other_consumers_go_on(learner, other_lms):
    neighbour = Client()
    other_lms.launch(neighbour, "/content/")
    other_lms.consumer.set_active(False)
    assert is_signed_in(learner)
    assert not is_signed_in(neighbour)


def test_of_one_account_only_the_consumers_own_sessions_end(lms, other_lms):
    account = get_user_model().objects.create_user("ada", password="secret")
    by_launch, by_other, by_password = Client(), Client(), Client()
    for each in (lms, other_lms):
        each.launch(Client(), "/content/")
        connect(each, account)
    lms.launch(by_launch, "/content/")
    other_lms.launch(by_other, "/content/")
    by_password.force_login(account, "django.contrib.auth.backends.ModelBackend")
    assert all(is_signed_in(browser) for browser in (by_launch, by_other, by_password))
    lms.consumer.set_active(False)
    assert not is_signed_in(by_launch)
    assert is_signed_in(by_other)
    assert is_signed_in(by_password)


def test_saving_an_active_consumer_ends_nothing(lms, learner):
    consumer = LtiConsumer.objects.get()
    consumer.consumer_name = "Renamed"
    consumer.save()
    consumer.set_active(True)
    LtiConsumer.objects.update(is_active=True)
    assert is_signed_in(learner)


def test_an_old_copy_that_is_saved_later_revives_nothing(lms, learner):
    old_copy = LtiConsumer.objects.get()
    lms.consumer.set_active(False)
    old_copy.consumer_name = "Renamed"
    old_copy.save()
    assert LtiConsumer.objects.get().is_active
    assert not is_signed_in(learner)


def test_the_account_is_read_once(learner, django_assert_num_queries):
    with django_assert_num_queries(2):  # session and account
        assert is_signed_in(learner)


def test_without_a_request_every_connection_of_the_account_has_to_stand(lms, other_lms, learner):
    account = LtiUser.objects.get().user
    assert LtiBackend().get_user(account.pk) == account
    other_lms.launch(Client(), "/content/")
    connect(other_lms, account)
    assert LtiBackend().get_user(account.pk) == account
    other_lms.consumer.set_active(False)
    assert LtiBackend().get_user(account.pk) is None
    other_lms.consumer.set_active(True)
    get_user_model().objects.update(is_staff=True)
    LtiConsumer.objects.filter(pk=lms.consumer.pk).update(allow_staff=True)
    assert LtiBackend().get_user(account.pk) is None
    LtiConsumer.objects.update(allow_staff=True)
    assert LtiBackend().get_user(account.pk) == account


def test_without_a_request_an_account_without_a_connection_is_nobody():
    account = get_user_model().objects.create_user("ada")
    assert LtiBackend().get_user(account.pk) is None
    assert LtiBackend().get_user(account.pk + 1) is None


def test_the_session_of_one_says_nothing_about_another(lms, other_lms, learner):
    other_lms.launch(Client(), "/content/")
    account = LtiUser.objects.get(lti_consumer=other_lms.consumer).user
    request = learner.get("/content/").wsgi_request
    lms.consumer.set_active(False)
    with serve(request):
        assert LtiBackend().get_user(account.pk) == account
        assert is_launch_session(request)
        person = LtiUser.objects.get(lti_consumer=lms.consumer)
        assert LtiBackend().get_user(person.user_id) is None
        assert not is_launch_session(request)


def test_expired_credentials_end_no_session(lms, learner):
    LtiConsumer.objects.update(expires_at=timezone.now() - timedelta(days=1))
    assert is_signed_in(learner)


def test_async_sites_end_them_too(lms, settings):
    settings.ROOT_URLCONF = "tests.test_deactivation"
    browser = Client()
    lms.launch(browser, "/content/")

    async def user_seen() -> str:
        client = AsyncClient()
        client.cookies["sessionid"] = browser.cookies["sessionid"].value
        return (await client.get("/content/")).content.decode()

    assert async_to_sync(user_seen)().startswith("lti-")
    lms.consumer.set_active(False)
    assert async_to_sync(user_seen)() == "nobody"


async def who(request):
    from django.http import HttpResponse

    user = await request.auser()
    return HttpResponse(user.username if user.is_authenticated else "nobody")


def _urls():
    from django.urls import include, path

    return [path("lti/", include("lti_provider.urls")), path("content/", who)]


urlpatterns = _urls()

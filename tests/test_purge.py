import io
from datetime import timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db.models import ProtectedError
from django.db.models.signals import pre_delete
from django.test import Client
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from lti_provider.models.credentials import LONGEST_WINDOW
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

LONG_AGO = timedelta(days=31)


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def guest(lms):
    """The account of a visitor without an id, a month and a day ago."""
    lms.launch(Client(), "/content/", user_id=None)
    return aged(LtiUser.objects.get().user)


def aged(account, ago=LONG_AGO):
    LtiUser.objects.filter(user=account).update(created_at=timezone.now() - ago)
    account.last_login = timezone.now() - ago
    account.save()
    return account


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def purge(out=None, **options) -> str:
    out = out or io.StringIO()
    call_command("lti_purge", stdout=out, **options)
    return out.getvalue()


def is_there(account) -> bool:
    return get_user_model().objects.filter(pk=account.pk).exists()


def test_a_guest_nobody_was_for_a_month_goes_with_its_lti_user(guest):
    assert "1 guest accounts" in purge()
    assert not is_there(guest)
    assert not LtiUser.objects.exists()


def test_a_guest_who_never_signed_in_counts_from_the_launch(guest):
    guest.last_login = None
    guest.save()
    purge()
    assert not is_there(guest)


def test_the_time_is_a_setting_and_an_option(guest, settings):
    settings.LTI_PROVIDER_GUEST_RETENTION_DAYS = 40
    purge()
    assert is_there(guest)
    purge(guest_days=30)
    assert not is_there(guest)


KEPT = {
    "a recent sign-in": lambda user: setattr(user, "last_login", timezone.now()),
    "a password": lambda user: user.set_password("given"),
    "staff": lambda user: setattr(user, "is_staff", True),
    "a superuser": lambda user: setattr(user, "is_superuser", True),
    "a group": lambda user: user.groups.add(Group.objects.create(name="g")),
    "a permission": lambda user: user.user_permissions.add(Permission.objects.first()),
    "a recent launch": lambda user: user.lti_users.update(created_at=timezone.now()),
    "a connected one": lambda user: user.lti_users.update(connected_at=timezone.now()),
    "an id": lambda user: user.lti_users.update(lti_user_id="4"),
    "a blank id": lambda user: user.lti_users.update(lti_user_id="  "),
}


@pytest.mark.parametrize("why", KEPT.values(), ids=KEPT)
def test_who_is_no_forgotten_guest_is_kept(guest, why):
    why(guest)
    guest.save()
    assert "0 guest accounts" in purge()
    assert is_there(guest)


def test_an_account_of_the_sites_own_is_no_guest(guest):
    other = aged(get_user_model().objects.create(username="made by the site"))
    purge()
    assert is_there(other)


def test_a_guest_with_an_account_connected_elsewhere_is_kept(guest):
    other = FakeLms.create("moodle")
    LtiUser.objects.create(
        lti_consumer=other.consumer,
        lti_user_id="x",
        lti_user_digest="x",
        user=guest,
        connected_at=timezone.now(),
    )
    purge()
    assert is_there(guest)


def test_what_the_sites_tables_protect_is_passed_over(lms, guest):
    lms.launch(Client(), "/content/", user_id=None)
    second = aged(LtiUser.objects.exclude(user=guest).get().user)

    def protect(sender, instance, **kwargs):
        if instance.pk == guest.pk:
            raise ProtectedError("work is kept", {instance})

    pre_delete.connect(protect, sender=get_user_model())
    try:
        assert "1 guest accounts" in purge()
    finally:
        pre_delete.disconnect(protect, sender=get_user_model())
    assert is_there(guest)
    assert not is_there(second)


def test_a_guest_who_comes_back_meanwhile_is_kept(guest):
    candidate = LtiUser.objects.get()
    before = timezone.now() - timedelta(days=30)
    get_user_model().objects.update(last_login=timezone.now())
    assert not LtiUser.objects.purge_guest(candidate.pk, before)
    assert not LtiUser.objects.purge_guest(candidate.pk + 1, before)


def test_purging_goes_on_batch_by_batch(lms, monkeypatch):
    from lti_provider.management.commands import lti_purge

    monkeypatch.setattr(lti_purge, "_BATCH", 2)
    for _number in range(5):
        lms.launch(Client(), "/content/", user_id=None)
    for person in LtiUser.objects.all():
        aged(person.user)
    assert "5 guest accounts" in purge()


def test_launches_go_in_batches_and_nonces_that_count_stay(lms):
    for _number in range(5):
        lms.post(Client(), "/content/")
    LtiLaunch.objects.update(received_at=timezone.now() - timedelta(days=91))
    past = timezone.now() - timedelta(days=90)
    assert LtiLaunch.objects.past(timezone.now()).count() == 0
    LtiLaunch.objects.update(nonce_expires_at=past)
    assert LtiLaunch.objects.purge(past, 2) == 2
    assert "Deleted 3 launches" in purge()


def test_a_nonce_outlives_every_window_that_a_consumer_may_have(lms, client):
    LtiConsumer.objects.update(timestamp_window=30)
    form = urlencode(lms.sign("/content/"))

    def send():
        return client.post(
            "/lti/launch/content/", form, content_type="application/x-www-form-urlencoded"
        )

    assert send().status_code == 303
    with time_machine.travel(timezone.now() + timedelta(hours=23)) as clock:
        assert "Deleted 0 launches" in purge(days=0)
        LtiConsumer.objects.update(timestamp_window=LONGEST_WINDOW)
        assert b"replayed_launch" in send().content
        clock.shift(timedelta(hours=1, minutes=1))
        purge(days=0)
        assert not LtiLaunch.objects.accepted().exists()
        # No site and no consumer can let it in any more.
        LtiConsumer.objects.update(timestamp_window=10 * LONGEST_WINDOW)
        assert b"stale_timestamp" in send().content


def test_personal_data_of_launches_never_entered_goes(lms):
    lms.consumer.require_user_account = True
    lms.consumer.save()
    for _number in range(3):
        lms.post(Client(), "/content/", lis_person_name_full="Canary")
    assert LtiLaunch.objects.filter(stored_identity__isnull=False).count() == 3
    assert "emptied 0" in purge()
    LtiLaunch.objects.update(received_at=timezone.now() - timedelta(hours=2))
    assert LtiLaunch.objects.forget_people(2) == 2
    assert "emptied 1" in purge()
    assert not LtiLaunch.objects.filter(stored_identity__isnull=False).exists()


def test_ended_secrets_are_dropped_with_the_launches_they_explain(lms):
    lms.consumer.rotate_secret(timezone.now() - timedelta(days=91))
    assert "1 previous secrets" in purge()
    assert LtiConsumer.objects.get().previous_secret == ""


def test_a_terminal_sees_progress_and_a_log_one_line(lms, guest):
    LtiLaunch.objects.update(
        received_at=timezone.now() - timedelta(days=91), nonce_expires_at=timezone.now()
    )
    said = purge(Terminal())
    assert "launches: 1 of 1\r" in said
    assert "guests: 1 of 1\r" in said
    assert said.splitlines()[-1].startswith("Deleted 1 launches")
    lms.post(Client(), "/content/")
    assert purge().count("\n") == 1
    assert "\r" not in purge()


def test_a_user_model_without_a_last_login_counts_from_the_launch(guest, monkeypatch):
    monkeypatch.setattr(get_user_model(), "last_login", None)
    assert LtiUser.objects.guests(timezone.now() - timedelta(days=30)).count() == 1
    assert LtiUser.objects.guests(timezone.now() - timedelta(days=32)).count() == 0

from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.db import connections, models, router
from django.test import Client
from django.test.utils import CaptureQueriesContext

from lti_provider.models import LtiLaunch, prepared
from lti_provider.models.launch import LtiLaunchQuerySet
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

WRITTEN_TO = router.db_for_write(LtiLaunch)

ALL = (
    "lti_consumer",
    "lti_user",
    "lti_user__user",
    "resource_link",
    "resource_link__lti_context",
    "result",
)


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    yield
    prepared._compile.cache_clear()


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create(personal_data="name_email", timestamp_window=600)


@pytest.fixture
def launched(lms: FakeLms) -> LtiLaunch:
    lms.launch(Client(), "content/")
    get_user_model().objects.update(is_active=False)
    return LtiLaunch.objects.get()


def find(launched: LtiLaunch, queryset: LtiLaunchQuerySet | None = None) -> LtiLaunch | None:
    queryset = LtiLaunch.objects.all() if queryset is None else queryset
    return prepared.find_one(queryset, "handle_digest", launched.handle_digest, ALL)


def columns(instance: models.Model | None) -> dict[str, object] | None:
    if instance is None:
        return None
    return {
        field.attname: getattr(instance, field.attname) for field in instance._meta.concrete_fields
    }


def related(launch: LtiLaunch) -> list[models.Model | None]:
    link, person = launch.resource_link, launch.lti_user
    return [
        launch.lti_consumer, person, person and person.user, link, link and link.lti_context,
        launch.result,
    ]  # fmt: skip


def test_a_prepared_read_finds_what_a_queryset_finds(launched: LtiLaunch) -> None:
    expected = LtiLaunch.objects.with_all().get()
    for _time in range(2):
        found = find(launched)
        with CaptureQueriesContext(connections[WRITTEN_TO]) as queries:
            assert columns(found) == columns(expected)
            assert found.message == expected.message
            assert [columns(each) for each in related(found)] == [
                columns(each) for each in related(expected)
            ]
        assert len(queries) == 0
        assert not found._state.adding
        assert found._state.db == WRITTEN_TO


def test_what_a_launch_does_not_have_yet_is_none_and_costs_no_query(lms: FakeLms) -> None:
    lms.post(Client(), "content/")
    found = find(LtiLaunch.objects.get())
    with CaptureQueriesContext(connections[WRITTEN_TO]) as queries:
        assert related(found) == [lms.consumer, None, None, None, None, None]
    assert len(queries) == 0


def test_a_link_without_a_course_has_none(lms: FakeLms) -> None:
    lms.launch(Client(), "content/", context_id=None)
    found = find(LtiLaunch.objects.get())
    assert found.resource_link.resource_link_id == lms.fields["resource_link_id"]
    assert found.context is None


def test_no_row_is_none(launched: LtiLaunch) -> None:
    assert LtiLaunch.objects.with_handle("") is None


def test_a_read_asks_once(launched: LtiLaunch) -> None:
    with CaptureQueriesContext(connections[WRITTEN_TO]) as queries:
        find(launched)
    assert len(queries) == 1


def test_conditions_of_a_queryset_count(launched: LtiLaunch) -> None:
    assert find(launched, LtiLaunch.objects.accepted()) == launched
    assert find(launched, LtiLaunch.objects.refused()) is None
    assert find(launched, launched.lti_consumer.lti_launches.all()) == launched
    assert find(launched, LtiLaunch.objects.none()) is None


def test_only_what_was_not_used_is_claimed(lms: FakeLms) -> None:
    lms.post(Client(), "content/")
    launch, again = LtiLaunch.objects.get(), LtiLaunch.objects.get()
    assert launch.claim()
    assert not again.claim()
    assert launch.entered_at == LtiLaunch.objects.get().entered_at is not None
    assert again.entered_at is None

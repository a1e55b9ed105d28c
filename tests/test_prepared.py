from collections.abc import Iterator

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, models
from django.db.models.signals import ModelSignal, post_save, pre_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import LtiLaunch, prepared
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

ALL = ("lti_consumer", "lti_user", "lti_user__user", "resource_link", "resource_link__lti_context")


@pytest.fixture(autouse=True)
def compiled_anew() -> Iterator[None]:
    yield
    prepared._prepare.cache_clear()
    prepared._prepare_insert.cache_clear()


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create(personal_data="name_email", timestamp_window=600)


@pytest.fixture
def launched(lms: FakeLms) -> LtiLaunch:
    lms.launch(Client(), "content/")
    get_user_model().objects.update(is_active=False)
    return LtiLaunch.objects.get()


def columns(instance: models.Model | None) -> dict[str, object] | None:
    if instance is None:
        return None
    return {
        field.attname: getattr(instance, field.attname) for field in instance._meta.concrete_fields
    }


def related(launch: LtiLaunch) -> list[models.Model | None]:
    link, person = launch.resource_link, launch.lti_user
    return [launch.lti_consumer, person, person and person.user, link, link and link.lti_context]


def test_a_prepared_read_finds_what_a_queryset_finds(launched: LtiLaunch) -> None:
    expected = LtiLaunch.objects.with_all().get()
    for _time in range(2):
        found = LtiLaunch.objects.with_pk(launched.pk)
        with CaptureQueriesContext(connection) as queries:
            assert columns(found) == columns(expected)
            assert found.message == expected.message
            assert [columns(each) for each in related(found)] == [
                columns(each) for each in related(expected)
            ]
        assert len(queries) == 0
        assert not found._state.adding
        assert found._state.db == "default"


def test_what_a_launch_does_not_have_yet_is_none_and_costs_no_query(lms: FakeLms) -> None:
    lms.post(Client(), "content/")
    found = LtiLaunch.objects.with_pk(LtiLaunch.objects.get().pk)
    with CaptureQueriesContext(connection) as queries:
        assert related(found) == [lms.consumer, None, None, None, None]
    assert len(queries) == 0


def test_a_link_without_a_course_has_none(lms: FakeLms) -> None:
    lms.launch(Client(), "content/", context_id=None)
    found = LtiLaunch.objects.with_pk(LtiLaunch.objects.get().pk)
    assert found.resource_link.resource_link_id == lms.fields["resource_link_id"]
    assert found.context is None


def test_no_row_is_none(launched: LtiLaunch) -> None:
    assert LtiLaunch.objects.with_pk(launched.pk + 1) is None
    assert LtiLaunch.objects.with_handle("") is None


def test_a_read_asks_once(launched: LtiLaunch) -> None:
    with CaptureQueriesContext(connection) as queries:
        prepared.first(LtiLaunch.objects.all(), "pk", launched.pk, ALL)
    assert len(queries) == 1


def test_conditions_of_a_queryset_count(launched: LtiLaunch) -> None:
    assert LtiLaunch.objects.accepted().with_pk(launched.pk) == launched
    assert LtiLaunch.objects.refused().with_pk(launched.pk) is None
    assert launched.lti_consumer.lti_launches.with_pk(launched.pk) == launched
    assert LtiLaunch.objects.none().with_pk(launched.pk) is None


def message_of(launched: LtiLaunch) -> dict[str, object]:
    return {"lti_consumer": launched.lti_consumer, "message_pairs": launched.message_pairs}


def test_a_prepared_insert_writes_what_save_writes(launched: LtiLaunch) -> None:
    saved, inserted = (
        LtiLaunch(**message_of(launched), received_at=launched.received_at) for _each in range(2)
    )
    saved.save(force_insert=True)
    with CaptureQueriesContext(connection) as queries:
        prepared.insert(inserted, "default")
    assert len(queries) == 1
    assert inserted.pk > saved.pk
    assert (inserted._state.adding, inserted._state.db) == (False, "default")
    both = (LtiLaunch.objects.get(pk=each.pk) for each in (saved, inserted))
    first, second = (columns(each) for each in both)
    assert {**first, "id": None} == {**second, "id": None}


def test_a_prepared_insert_tells_who_listens_to_saves(launched: LtiLaunch) -> None:
    heard = []

    def listen(signal: ModelSignal, instance: LtiLaunch, **kwargs: object) -> None:
        heard.append((signal, instance.pk is not None, kwargs["raw"], kwargs.get("created")))

    inserted = LtiLaunch(**message_of(launched))
    for signal in (pre_save, post_save):
        signal.connect(listen, sender=LtiLaunch)
    try:
        prepared.insert(inserted, "default")
    finally:
        for signal in (pre_save, post_save):
            signal.disconnect(listen, sender=LtiLaunch)
    assert heard == [(pre_save, False, False, None), (post_save, True, False, True)]


def test_a_database_without_returning_inserts_too(
    launched: LtiLaunch, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("its driver knows no key but by RETURNING")
    features = type(connection.features)
    monkeypatch.setattr(features, "can_return_columns_from_insert", False)
    inserted = LtiLaunch(**message_of(launched))
    prepared.insert(inserted, "default")
    assert LtiLaunch.objects.get(pk=inserted.pk).message_pairs == launched.message_pairs


def test_only_what_is_null_is_filled(lms: FakeLms) -> None:
    lms.post(Client(), "content/")
    launch, again = LtiLaunch.objects.get(), LtiLaunch.objects.get()
    earlier = timezone.now().replace(microsecond=0)
    assert prepared.fill(launch, "entered_at", earlier)
    assert not prepared.fill(again, "entered_at", timezone.now())
    assert launch.entered_at == LtiLaunch.objects.get().entered_at == earlier
    assert again.entered_at is None

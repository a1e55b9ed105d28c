import pytest
from django.apps import apps
from django.db.models import Model
from django.test import Client

from lti_provider.models import LtiLaunch, LtiResult
from lti_provider.models.digest import DigestJoin
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

JOINS = [
    field
    for model in apps.get_app_config("lti_provider").get_models()
    for field in model._meta.get_fields()
    if isinstance(field, DigestJoin)
]


def columns_of(row: Model) -> dict[str, object]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.fixture
def launched() -> None:
    FakeLms.create("canvas").launch(Client(), "/content/")


def test_all_joins_are_tried():
    assert len(JOINS) == 6


@pytest.mark.parametrize("join", JOINS, ids=str)
def test_assigning_none_leaves_the_columns_alone(launched, join):
    row = join.model.objects.get()
    before = columns_of(row)
    assert getattr(row, join.name) is not None
    setattr(row, join.name, None)
    assert getattr(row, join.name) is None
    row.clean_fields(exclude={field.name for field in row._meta.fields} - {join.name})
    assert columns_of(row) == before
    row.save()
    found = join.model.objects.get()
    assert columns_of(found) == before
    assert getattr(found, join.name) is not None


def test_a_row_made_with_none_keeps_its_other_columns(launched):
    consumer = LtiLaunch.objects.get().lti_consumer
    launch = LtiLaunch(lti_consumer=consumer, lti_user=None, result=None, resource_link=None)
    assert launch.lti_consumer == consumer


def test_assigning_a_row_joins_it(launched):
    launch, result = LtiLaunch.objects.get(), LtiResult.objects.get()
    launch.result = None
    launch.result = result
    assert launch.result == result
    assert launch.link_digest == result.link_digest

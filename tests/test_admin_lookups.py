"""A list's address must not ask for what the list does not show."""

import html
import re
from collections.abc import Iterator

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

OURS = sorted(
    (model for model in admin.site._registry if model._meta.app_label == "lti_provider"),
    key=lambda model: model.__name__,
)
LOOKUPS = ("startswith", "icontains", "regex", "gt", "in", "")


@pytest.fixture
def lms():
    lms = FakeLms.create(consumer_secret="known-to-nobody-else")
    lms.launch(Client(), "/content/")
    lms.post(Client(), "/content/", resource_link_id="")
    return lms


@pytest.fixture
def viewer(client):
    """A colleague who may look at everything and change nothing."""
    user = get_user_model().objects.create_user("viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


def list_of(model) -> str:
    return reverse(f"admin:{model._meta.label_lower.replace('.', '_')}_changelist")


def paths_from(model, depth: int = 2) -> Iterator[str]:
    """The fields of a model, and of what it is related to in whatever direction."""
    for field in model._meta.get_fields():
        yield field.name
        if field.is_relation and field.related_model is not None and depth > 1:
            for path in paths_from(field.related_model, depth - 1):
                yield f"{field.name}__{path}"


def names_of(model) -> set[str]:
    specs = admin.site._registry[model].list_filter
    plain = (spec[0] if isinstance(spec, tuple) else spec for spec in specs)
    return {getattr(spec, "parameter_name", spec) for spec in plain}


@pytest.mark.once
@pytest.mark.parametrize("model", OURS)
def test_no_list_can_be_asked_for_what_it_does_not_show(viewer, lms, caplog, model):
    caplog.set_level("CRITICAL", "django.security")
    filters = names_of(model)
    asked = [
        "__".join((path, lookup)) if lookup else path
        for path in paths_from(model)
        # What is behind a relation is one question for each field.
        for lookup in (LOOKUPS if "__" not in path else LOOKUPS[:1])
        if path not in filters
    ]
    assert len(asked) > 50
    answered = [
        lookup for lookup in asked if viewer.get(list_of(model), {lookup: "k"}).status_code != 400
    ]
    assert answered == []


@pytest.mark.parametrize(
    ("name", "lookup"),
    [
        ("lticonsumer", "consumer_secret__startswith"),
        ("lticonsumer", "previous_secret__startswith"),
        ("ltiresult", "lti_consumer__consumer_secret__startswith"),
        ("ltilaunch", "stored_identity__icontains"),
        ("ltiuser", "user__password__startswith"),
    ],
)
def test_nothing_can_be_guessed_letter_by_letter(viewer, lms, name, lookup):
    assert viewer.get(f"/admin/lti_provider/{name}/", {lookup: "k"}).status_code == 400


@pytest.mark.parametrize("model", OURS)
def test_what_its_own_filters_lead_to_can_be_asked_for(admin_client, lms, model):
    page = admin_client.get(list_of(model)).content.decode()
    links = set(map(html.unescape, re.findall(r'href="(\?[^"]+)"', page)))

    assert bool(links) or not names_of(model)
    for link in links:
        response = admin_client.get(list_of(model) + link)
        assert response.status_code == 200, link


def test_what_pages_of_a_consumer_lead_to_can_be_asked_for(admin_client, lms):
    pages = ("setup", "change")
    paths = [f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/{page}/" for page in pages]
    found = [
        html.unescape(link)
        for path in (*paths, list_of(type(lms.consumer)))
        for link in re.findall(r'href="(/[^"]+\?[^"]+)"', admin_client.get(path).content.decode())
    ]
    assert found
    for link in found:
        assert admin_client.get(link).status_code == 200, link

"""Sites whose reads go to a replica; see ``tests.settings_replica`` for the other tests."""

from urllib.parse import urlencode

import pytest
from django.apps import apps
from django.db import connections
from django.test import Client

from lti_provider.models import LtiLaunch
from lti_provider.testing import FakeLms
from lti_provider.urls import urlpatterns

MODELS = list(apps.get_app_config("lti_provider").get_models())
ROUTER = "tests.replicas.router.PrimaryReplicaRouter"


@pytest.mark.parametrize("model", MODELS)
def test_every_table_is_read_where_it_is_written(settings, model):
    settings.DATABASE_ROUTERS = [ROUTER]
    for manager in (model._default_manager, model._base_manager):
        assert manager.all().db == "primary"
        assert manager.using("elsewhere").db == "elsewhere"


@pytest.mark.parametrize("pattern", urlpatterns, ids=str)
def test_a_transaction_a_request_is_kept_away_whichever_database_has_it(pattern):
    kept_away = getattr(pattern.callback, "_non_atomic_requests", set())
    assert kept_away in (set(), set(connections))


@pytest.mark.django_db
def test_a_launch_counts_once(client):
    lms = FakeLms.create("canvas")
    form = urlencode(lms.sign("/content/"))
    kind = "application/x-www-form-urlencoded"
    answers = [client.post("/lti/launch/content/", form, kind) for _time in range(2)]
    assert [answer.status_code for answer in answers] == [303, 403]
    assert LtiLaunch.objects.accepted().count() == 1


@pytest.mark.django_db
def test_the_account_of_a_first_launch_is_signed_in_at_once():
    lms = FakeLms.create("canvas")
    content = lms.launch(Client(), "/content/")
    assert content.wsgi_request.user.is_authenticated
    assert content.wsgi_request.lti.launch.lti_user.user == content.wsgi_request.user

"""A site's own subclasses of our admin classes: what they refuse and add holds everywhere."""

import pytest
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.test import Client
from django.urls import include, path

from lti_provider.admin.consumer import LtiConsumerAdmin
from lti_provider.admin.launch import LtiLaunchAdmin
from lti_provider.models import LtiConsumer, LtiInstallation, LtiLaunch, LtiUser
from lti_provider.testing import FakeLms
from tests.test_admin import change_url, form_of
from tests.urls import content

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

LOG = "/admin/lti_provider/ltilaunch/"
EDX = "https://studio.edx.example"


class PersonInline(admin.TabularInline):
    model = LtiUser
    fields = ("user",)
    extra = 0


class ConsumerAdmin(LtiConsumerAdmin):
    def get_inlines(self, request, obj):
        return [*super().get_inlines(request, obj), PersonInline]

    def get_queryset(self, request):
        return super().get_queryset(request).exclude(consumer_name="Not listed")

    def get_readonly_fields(self, request, obj=None):
        fixed = obj is not None and obj.consumer_name == "Fixed"
        readonly = super().get_readonly_fields(request, obj)
        return [*readonly, "consumer_secret"] if fixed else readonly

    def has_change_permission(self, request, obj=None):
        locked = obj is not None and obj.consumer_name == "Locked"
        return super().has_change_permission(request, obj) and not locked


class LaunchAdmin(LtiLaunchAdmin):
    def get_queryset(self, request):
        return super().get_queryset(request).exclude(lti_consumer__consumer_name="Not logged")

    def has_view_permission(self, request, obj=None):
        secret = obj is not None and obj.lti_consumer.consumer_name == "Not shown"
        return super().has_view_permission(request, obj) and not secret


site = admin.AdminSite()
site.register(LtiConsumer, ConsumerAdmin)
site.register(LtiLaunch, LaunchAdmin)
launches_only = admin.AdminSite("launches")
launches_only.register(LtiLaunch, LtiLaunchAdmin)

urlpatterns = [
    path("admin/", site.urls),
    path("launches/", launches_only.urls),
    path("lti/", include("lti_provider.urls")),
    path("content/", content),
]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("open_edx", consumer_name="Campus", instance_guid="lms.example")


def refuse(lms: FakeLms, code: str) -> LtiLaunch:
    return LtiLaunch.objects.create(
        lti_consumer=lms.consumer, refusal_code=code, foreign_origin=EDX
    )


def allow(client: Client, launch: LtiLaunch, action: str, log: str = LOG) -> int:
    return client.post(f"{log}{launch.pk}/{action}/").status_code


ACTIONS = [("frame", "unknown_frame_origin"), ("accept", "other_installation")]


@pytest.mark.parametrize(("action", "code"), ACTIONS)
@pytest.mark.parametrize("name", ["Locked", "Not listed", "Not logged", "Not shown"])
def test_what_a_sites_admin_refuses_no_button_of_ours_does(admin_client, lms, action, code, name):
    launch = refuse(lms, code)
    LtiConsumer.objects.update(consumer_name=name)
    assert f"/{action}/" not in admin_client.get(f"{LOG}{launch.pk}/change/").content.decode()
    assert allow(admin_client, launch, action) == 403
    assert LtiConsumer.objects.get().frame_origins == lms.consumer.frame_origins
    assert LtiInstallation.objects.count() == 1


@pytest.mark.parametrize(("action", "code"), ACTIONS)
def test_what_it_does_not_refuse_they_do(admin_client, lms, action, code):
    launch = refuse(lms, code)
    assert f"/{action}/" in admin_client.get(f"{LOG}{launch.pk}/change/").content.decode()
    assert allow(admin_client, launch, action) == 302


@pytest.mark.parametrize(("action", "code"), ACTIONS)
def test_where_consumers_are_in_no_admin_nothing_is_offered(admin_client, lms, action, code):
    launch = refuse(lms, code)
    page = admin_client.get(f"/launches/lti_provider/ltilaunch/{launch.pk}/change/")
    assert f"/{action}/" not in page.content.decode()
    assert allow(admin_client, launch, action, "/launches/lti_provider/ltilaunch/") == 403


def test_a_site_may_leave_the_secret_out_of_the_form(admin_client, lms):
    LtiConsumer.objects.update(consumer_name="Fixed")
    form = form_of(admin_client.get(change_url(lms.consumer)))
    assert "consumer_secret" not in form
    assert "consumer_key" in form


def test_an_inline_of_the_sites_own_is_saved_as_what_it_is(admin_client, lms):
    lms.launch(Client(), "/content/", tool_consumer_instance_guid="lms.example")
    ada = get_user_model().objects.create_user("ada")
    person, installation = LtiUser.objects.get(), LtiInstallation.objects.get()
    form = form_of(admin_client.get(change_url(lms.consumer))) | {
        "consumer_secret": "",
        "installations-0-id": installation.pk,
        "installations-0-lti_consumer": lms.consumer.pk,
        "lti_users-0-id": person.pk,
        "lti_users-0-lti_consumer": lms.consumer.pk,
        "lti_users-0-user": ada.pk,
    }
    assert admin_client.post(change_url(lms.consumer), form).status_code == 302
    person.refresh_from_db()
    assert person.user == ada
    assert LtiInstallation.objects.get() == installation

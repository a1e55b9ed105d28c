"""An administrator sets up an LMS by LTI 1.3, by hand: through the real admin."""

import html
import json
import re
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiInstallation,
    LtiLaunch,
    LtiRegistration,
    LtiUnknownSender,
)
from lti_provider.models.unknown_sender import SenderKind, UnknownSender
from lti_provider.products import PRODUCTS
from lti_provider.status import Level, RecentLaunches, get_status_lines
from lti_provider.testing import FakePlatform
from lti_provider.testing.platform import build_key_set, get_test_key
from tests.test_admin import form_of
from tests.test_deployments import accepted, describe, launch

pytestmark = pytest.mark.django_db

ROOT = "/admin/lti_provider/"
CONSUMERS = f"{ROOT}lticonsumer/"
ADD = f"{CONSUMERS}add/"
SITE = "https://lms.example.edu"


@pytest.fixture
def platform() -> FakePlatform:
    return FakePlatform.create("moodle", consumer_name="Campus", issuer="")


@pytest.fixture
def consumer() -> LtiConsumer:
    """A consumer that was added to launch by LTI 1.3, and nothing else is known of it."""
    return add_consumer("moodle")


def add_consumer(product: str) -> LtiConsumer:
    return LtiConsumer.objects.create(
        consumer_name="Campus", product=product, consumer_key=None, consumer_secret=""
    )


def setup(consumer: LtiConsumer, page: str = "setup") -> str:
    return f"{CONSUMERS}{consumer.pk}/{page}/"


def text_of(response: Any) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", response.content.decode())).split())


def register(client: Client, consumer: LtiConsumer, **given: str) -> Any:
    form = {f"register-{name}": value for name, value in given.items()}
    return client.post(setup(consumer, "register"), form, follow=True)


def grant(client: Client, *codenames: str) -> Client:
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return client


def lines(consumer: LtiConsumer) -> dict[str, Any]:
    return {line.name: line for line in get_status_lines(RecentLaunches.for_consumer(consumer))}


# A new consumer


def test_a_new_consumer_is_asked_only_what_is_needed(admin_client):
    page = admin_client.get(ADD)
    first, *others = page.context["adminform"].fieldsets
    assert first[1]["fields"] == ("consumer_name", "product", "dialect", "personal_data")
    assert all("collapse" in options["classes"] for _name, options in others)
    shown = {field for _name, options in others for field in options["fields"]}
    # There is nothing to show of a consumer that does not exist yet.
    assert not shown & {"launch_url", "secrets", "undelivered_grades", "registrations"}
    assert "Teachers see on this site what is kept" in text_of(page)


def test_by_lti_13_it_gets_no_key(admin_client):
    form = {**form_of(admin_client.get(ADD)), "consumer_name": "Campus", "product": "moodle"}
    answer = admin_client.post(ADD, form, follow=True)
    made = LtiConsumer.objects.get()
    assert (made.consumer_key, made.stored_secret, made.product) == (None, "", "moodle")
    assert answer.redirect_chain[-1][0] == setup(made)
    page = text_of(answer)
    assert "LTI 1.3: values to enter there" in page
    assert "LTI 1.1: values" not in page
    assert "http://testserver/lti/login/" in answer.content.decode()


def test_a_product_that_is_not_known_here_is_refused(admin_client):
    form = {**form_of(admin_client.get(ADD)), "consumer_name": "Campus", "product": "other"}
    assert "product" in admin_client.post(ADD, form).context["adminform"].form.errors


# The set-up page


def test_the_page_has_what_goes_to_the_lms(admin_client, consumer):
    page = admin_client.get(setup(consumer)).content.decode()
    values = dict(re.findall(r'<input id="(lti13-\w+)"[^>]* value="([^"]*)"', page))
    assert values == {
        "lti13-login": "http://testserver/lti/login/",
        "lti13-redirect": "http://testserver/lti/launch/",
        "lti13-target": "http://testserver/lti/launch/content/",
        "lti13-jwks": "http://testserver/lti/jwks/",
        "lti13-deep": "http://testserver/lti/launch/",
    }
    assert "-----BEGIN PUBLIC KEY-----" in page


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.code)
def test_the_steps_of_each_product_have_the_values_in_them(admin_client, product):
    page = admin_client.get(setup(add_consumer(product.code))).content.decode()
    first = re.search(r'<details name="lti13-product" open>.*?</details>', page, re.S)
    assert first is not None
    text = html.unescape(re.sub(r"<[^>]+>", "", first[0]))
    assert product.name in text
    for value in ("login/", "launch/", "launch/content/", "jwks/"):
        assert f"http://testserver/lti/{value}" in text
    assert not re.search(r"\{\w*\}", text)


@pytest.mark.parametrize(
    ("asked", "launch_url", "said"),
    [
        ("", "launch/content/", "Everything below is about this page"),
        ("?page=/content/quiz/", "launch/content/quiz/", "Everything below is about this page"),
        ("?page=content/quiz/", "launch/content/quiz/", "Everything below is about this page"),
        ("?page=/admin/", "launch/content/", "It is not under LTI_PROVIDER_LAUNCHABLE_PATHS."),
        ("?page=/content/../x", "launch/content/", "It is not under LTI_PROVIDER_LAUNCHABLE"),
        ("?page=/nowhere/", "launch/content/", "This site has no such page."),
        ("?page=", "launch/", "There is no page to launch yet"),
    ],
)
def test_one_field_fills_all_that_names_a_page(admin_client, settings, asked, launch_url, said):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/content/", "/nowhere/"]
    consumer = LtiConsumer.objects.create(consumer_name="Campus", product="moodle")
    response = admin_client.get(setup(consumer) + asked)
    page = response.content.decode()
    found = set(re.findall(r"http://testserver/lti/(launch/[^<\"]*)", page))
    assert found == {"launch/", launch_url}
    cartridge = launch_url.replace("launch/", "cartridge/", 1)
    expected = f"{cartridge}.xml" if launch_url != "launch/" else "cartridge.xml"
    assert f"http://testserver/lti/{expected}" in page
    target = launch_url.removeprefix("launch")
    tried = re.search(r'name="target"(?: value="([^"]*)")?[^>]* id="', page)
    assert tried is not None
    assert tried[1] == (target if target != "/" else None)
    assert said in text_of(response)


def test_a_page_has_to_be_one_of_the_consumers(admin_client, consumer):
    LtiConsumer.objects.update(launch_targets="/content/algebra/")
    response = admin_client.get(setup(consumer), {"page": "/content/quiz/"})
    assert "It is not under the launch targets of this LTI consumer" in text_of(response)
    assert "http://testserver/lti/launch/content/algebra/" in response.content.decode()


def test_pages_that_were_launched_are_offered(admin_client, platform):
    launch(platform)
    platform.post(Client(), "/content/quiz/?attempt=2")
    page = admin_client.get(setup(platform.consumer)).content.decode()
    offered = re.findall(r'<option value="(/[^"]*)">', page)
    assert offered == ["/content/", "/content/quiz/"]


def test_the_default_page_stands_first_where_there_is_one(admin_client, consumer, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    page = admin_client.get(setup(consumer)).content.decode()
    assert (
        'id="lti13-target" class="vTextField" readonly value="http://testserver/lti/launch/"'
        in page
    )
    wrong = admin_client.get(setup(consumer), {"page": "/admin/"})
    assert "Everything below is about the default page" in text_of(wrong)


# Registering


def expect_registered(consumer: LtiConsumer) -> LtiRegistration:
    registration = LtiRegistration.objects.get()
    assert registration.lti_consumer == consumer
    return registration


MOODLE = {
    "issuer": SITE,
    "authorization_endpoint": f"{SITE}/mod/lti/auth.php",
    "token_endpoint": f"{SITE}/mod/lti/token.php",
    "token_audience": "",
    "jwks_uri": f"{SITE}/mod/lti/certs.php",
}
DERIVED = {
    "moodle": MOODLE,
    "canvas": {
        "issuer": "https://canvas.instructure.com",
        "authorization_endpoint": "https://sso.canvaslms.com/api/lti/authorize_redirect",
        "token_endpoint": "https://sso.canvaslms.com/login/oauth2/token",
        "token_audience": "",
        "jwks_uri": "https://sso.canvaslms.com/api/lti/security/jwks",
    },
    "blackboard": {
        "issuer": "https://blackboard.com",
        "authorization_endpoint": "https://developer.blackboard.com/api/v1/gateway/oidcauth",
        "token_endpoint": "https://developer.blackboard.com/api/v1/gateway/oauth2/jwttoken",
        "token_audience": "",
        "jwks_uri": "https://developer.blackboard.com/api/v1/management/applications/k-1/jwks.json",
    },
    "brightspace": {
        "issuer": SITE,
        "authorization_endpoint": f"{SITE}/d2l/lti/authenticate",
        "token_endpoint": "https://auth.brightspace.com/core/connect/token",
        "token_audience": "https://api.brightspace.com/auth/token",
        "jwks_uri": f"{SITE}/d2l/.well-known/jwks",
    },
    "sakai": {
        "issuer": SITE,
        "authorization_endpoint": f"{SITE}/imsoidc/lti13/oidc_auth",
        "token_endpoint": f"{SITE}/imsblis/lti13/token/17",
        "token_audience": "",
        "jwks_uri": f"{SITE}/imsblis/lti13/keyset/17",
    },
    "open_edx": {
        "issuer": SITE,
        "authorization_endpoint": f"{SITE}/api/lti_consumer/v1/launch/",
        "token_endpoint": f"{SITE}/api/lti_consumer/v1/token/17",
        "token_audience": "",
        "jwks_uri": f"{SITE}/api/lti_consumer/v1/public_keysets/17",
    },
}


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.code)
def test_addresses_follow_from_the_product(admin_client, product):
    consumer = add_consumer(product.code)
    given = {"site": f"{SITE}/", "tool_id": "17", "client_id": " k-1 ", "deployment_id": "1"}
    answer = register(admin_client, consumer, **given)
    registration = expect_registered(consumer)
    assert {name: getattr(registration, name) for name in DERIVED[product.code]} == (
        DERIVED[product.code]
    )
    assert registration.client_id == "k-1"
    assert registration.deployments.get().lti_consumer == consumer
    assert "deployment 1" in text_of(answer)
    offered = "register-joins" in answer.content.decode()
    assert offered == (product.code != "blackboard")
    written = set(LogEntry.objects.values_list("content_type__model", flat=True))
    assert written == {"lticonsumer", "ltiregistration", "ltideployment"}


def test_what_is_typed_comes_before_what_is_derived(admin_client, consumer):
    typed = {"issuer": f"{SITE}/moodle", "jwks": json.dumps(build_key_set(get_test_key()))}
    register(admin_client, consumer, site=SITE, client_id="k-1", **typed)
    registration = expect_registered(consumer)
    assert (registration.issuer, registration.jwks_uri) == (f"{SITE}/moodle", "")
    assert registration.token_endpoint == f"{SITE}/mod/lti/token.php"


def test_a_registration_without_deployment_waits_for_the_first_launch(admin_client, consumer):
    page = register(admin_client, consumer, site=SITE, client_id="k-1", joins="on")
    registration = expect_registered(consumer)
    assert registration.new_deployments == "join"
    assert not registration.deployments.exists()
    assert "no deployment yet" in text_of(page)
    assert lines(consumer)["no_deployment"].level == Level.NOTE


@pytest.mark.parametrize(
    ("product", "given", "wrong"),
    [
        ("moodle", {"client_id": "k"}, {"site"}),
        ("moodle", {"site": "lms.example.edu", "client_id": "k"}, {"site"}),
        ("moodle", {"site": SITE}, {"client_id"}),
        ("sakai", {"site": SITE, "client_id": "k"}, {"tool_id"}),
        ("", {"client_id": "k"}, {"issuer", "authorization_endpoint"}),
        (
            "",
            {"client_id": "k", "issuer": "i", "authorization_endpoint": "https://a.example/"},
            {"jwks_uri"},
        ),
        ("moodle", {"site": SITE, "client_id": "k", "jwks_uri": "javascript:1"}, {"jwks_uri"}),
        ("moodle", {"site": SITE, "client_id": "k", "deployment_id": "d" * 256}, {"deployment_id"}),
        ("moodle", {"site": SITE, "client_id": "k\0"}, {"client_id"}),
    ],
)
def test_what_is_missing_or_wrong_is_said(admin_client, product, given, wrong):
    page = register(admin_client, add_consumer(product), **given)
    assert page.context["register_form"].errors.keys() == wrong
    assert not LtiRegistration.objects.exists()
    assert not LtiDeployment.objects.exists()


def test_what_is_wrong_is_said_about_the_same_page(admin_client, consumer):
    form = {"register-client_id": "k", "target": "/content/quiz/"}
    page = admin_client.post(setup(consumer, "register"), form).content.decode()
    assert "http://testserver/lti/launch/content/quiz/" in page
    assert '<input type="hidden" name="target" value="/content/quiz/">' in page


def test_a_client_that_is_known_gets_one_more_deployment_and_stays_as_it_is(admin_client):
    school = add_consumer("blackboard")
    register(admin_client, school, client_id="k-1", deployment_id="1")
    before = LtiRegistration.objects.values().get()
    other = add_consumer("blackboard")
    missing = register(admin_client, other, client_id="k-1")
    assert "deployment_id" in missing.context["register_form"].errors
    changed = {"token_endpoint": "https://evil.example/"}
    register(admin_client, other, client_id="k-1", deployment_id="2", **changed)
    assert LtiRegistration.objects.values().get() == before
    assert [each.lti_consumer for each in LtiDeployment.objects.order_by("pk")] == [school, other]
    taken = register(admin_client, other, client_id="k-1", deployment_id="1")
    assert "This deployment is known already." in text_of(taken)


def test_a_deployment_that_waits_is_the_one_that_was_typed(admin_client, platform):
    launch(platform)
    launch(platform, "7", tool_platform=describe("evening.example"))
    LtiConsumer.objects.update(product="moodle")
    registration = platform.registration
    site = {"site": registration.issuer, "client_id": registration.client_id}
    register(admin_client, platform.consumer, **site, deployment_id="7")
    assert LtiDeployment.objects.get(deployment_id="7").lti_consumer == platform.consumer
    assert LtiInstallation.objects.filter(guid="evening.example").exists()


def test_a_consumer_is_one_lms(admin_client, platform):
    launch(platform)
    LtiConsumer.objects.update(product="moodle")
    page = register(admin_client, platform.consumer, site=SITE, client_id="k", deployment_id="1")
    assert "a different issuer is a different LMS" in text_of(page)
    assert LtiRegistration.objects.count() == 1


def test_who_decided_meanwhile_is_said(admin_client, platform, monkeypatch):
    launch(platform)
    launch(platform, "7")
    LtiConsumer.objects.update(product="moodle")

    def refuse_first(deployment: LtiDeployment, *args: Any) -> None:
        deployment.refuse()
        assign(deployment, *args)

    assign = LtiDeployment.assign
    monkeypatch.setattr(LtiDeployment, "assign", refuse_first)
    registration = platform.registration
    site = {"site": registration.issuer, "client_id": registration.client_id}
    page = register(admin_client, platform.consumer, **site, deployment_id="7")
    assert "Somebody decided about this deployment meanwhile." in text_of(page)


def test_who_may_not_add_registrations_is_not_offered_to(client, consumer):
    grant(client, "view_lticonsumer", "change_lticonsumer")
    assert "register-client_id" not in client.get(setup(consumer)).content.decode()
    assert "Nothing was entered yet." in text_of(client.get(setup(consumer)))
    answer = client.post(setup(consumer, "register"), {"register-client_id": "k"})
    assert answer.status_code == 403
    assert not LtiRegistration.objects.exists()


def test_who_may_only_look_sees_no_links(client, platform):
    grant(client, "view_lticonsumer")
    page = client.get(setup(platform.consumer)).content.decode()
    assert platform.registration.client_id in page
    assert "/ltiregistration/" not in page
    assert "waits for approval" not in page


def test_the_address_alone_registers_nothing(admin_client, consumer):
    assert admin_client.get(setup(consumer, "register"))["Location"] == setup(consumer)


def test_a_registration_is_no_unknown_sender_any_more(admin_client, consumer):
    for kind, text in ((SenderKind.ISSUER, SITE), (SenderKind.CLIENT, "k-1")):
        LtiUnknownSender.objects.record(UnknownSender(kind=kind, text=text))
    register(admin_client, consumer, site=SITE, client_id="k-1", deployment_id="1")
    assert not LtiUnknownSender.objects.exists()


# Unknown issuers and clients


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("issuer", "https://lms.example/", "“https://lms.example” of a registration with a slash"),
        ("issuer", "https://lms.example ", "of a registration with a blank at its end"),
        ("issuer", " https://lms.example", "of a registration with a blank at its beginning"),
        ("issuer", "https://LMS.example", "in different upper and lower case"),
        ("issuer", "http://lms.example", "in http or https"),
        ("issuer", "https://evil.example", "which no registration has (last"),
        ("client", "{client} ", "of a registration with a blank at its end"),
        ("client", "other", "which no registration of its issuer has (last"),
    ],
)
def test_what_nearly_is_known_is_pointed_at(admin_client, platform, kind, text, said):
    text = text.format(client=platform.registration.client_id)
    LtiUnknownSender.objects.record(UnknownSender(kind=SenderKind(kind), text=text))
    for page in (CONSUMERS, setup(platform.consumer)):
        shown = text_of(admin_client.get(page))
        assert said in shown
        assert ("a registration" in shown) == ("no registration" not in said)


def test_an_issuer_that_has_a_slash_is_told_of_one_without(admin_client, platform):
    LtiRegistration.objects.update(issuer="https://lms.example/")
    LtiUnknownSender.objects.record(
        UnknownSender(kind=SenderKind.ISSUER, text="https://lms.example")
    )
    assert "without the slash at its end" in text_of(admin_client.get(CONSUMERS))


def test_markup_of_a_stranger_is_text(admin_client, platform):
    for kind in (SenderKind.ISSUER, SenderKind.CLIENT, SenderKind.KEY):
        LtiUnknownSender.objects.record(UnknownSender(kind=kind, text="<script>%(x)s{0}"))
    page = admin_client.get(CONSUMERS).content.decode()
    assert "<script>%" not in page
    assert page.count("&lt;script&gt;%(x)s{0}") == 3


def test_who_may_not_see_registrations_is_told_of_no_resemblance(client, platform):
    grant(client, "view_lticonsumer")
    text = f"{platform.registration.issuer}/"
    LtiUnknownSender.objects.record(UnknownSender(kind=SenderKind.ISSUER, text=text))
    page = text_of(client.get(CONSUMERS))
    assert "which no registration has" in page
    assert "with a slash" not in page


# Deployments that wait


@pytest.fixture
def waiting(platform) -> LtiDeployment:
    launch(platform)
    launch(platform, "7", tool_platform=describe("evening.example"))
    return LtiDeployment.objects.waiting().get()


def decide(client: Client, deployment: LtiDeployment, decision: str, **form: Any) -> Any:
    return client.post(f"{ROOT}ltideployment/{deployment.pk}/{decision}/", form, follow=True)


@pytest.mark.parametrize("page", ["list", "setup"])
def test_pages_of_consumers_say_who_waits(admin_client, platform, waiting, page):
    url = CONSUMERS if page == "list" else setup(platform.consumer)
    shown = admin_client.get(url)
    assert "1 LMS waits for approval" in text_of(shown)
    assert "Evening school: issuer https://lms.example, deployment 7" in text_of(shown)
    assert f"/ltideployment/{waiting.pk}/change/" in shown.content.decode()
    offered = f"/ltideployment/{waiting.pk}/belongs/" in shown.content.decode()
    assert offered == (page == "setup")


def test_many_that_wait_are_counted(admin_client, platform, waiting):
    for number in range(5):
        launch(platform, f"new {number}")
    page = admin_client.get(CONSUMERS)
    assert "6 LMSs wait for approval" in text_of(page)
    link = re.search(r'href="([^"]*[?]state=waiting)"', page.content.decode())
    assert link is not None
    assert admin_client.get(link[1]).context["cl"].result_count == 6


def test_a_different_lms_is_not_offered(admin_client, waiting):
    other = LtiConsumer.objects.create(consumer_name="Other", issuer="https://other.example")
    page = admin_client.get(setup(other)).content.decode()
    assert "1 LMS waits" in page
    assert "/belongs/" not in page
    choices = admin_client.get(f"{ROOT}ltideployment/{waiting.pk}/change/").context["choice"]
    assert other not in choices.fields["consumer"].queryset
    refused = decide(admin_client, waiting, "belongs", consumer=other.pk)
    assert "Choose the LTI consumer that it belongs to." in text_of(refused)
    assert LtiDeployment.objects.waiting().exists()


def test_it_belongs_to_a_consumer(admin_client, platform, waiting):
    page = decide(admin_client, waiting, "belongs", consumer=platform.consumer.pk)
    assert page.redirect_chain[-1][0] == setup(platform.consumer)
    assert "Deployment “7” belongs to “Campus” from now on." in text_of(page)
    assert accepted(launch(platform, "7", tool_platform=describe("evening.example")))
    assert LtiInstallation.objects.get(guid="evening.example").accepted_by.username == "admin"
    written = set(LogEntry.objects.values_list("content_type__model", flat=True))
    assert written == {"lticonsumer", "ltideployment"}


@pytest.mark.parametrize("decision", ["belongs", "consumer"])
def test_what_is_accepted_is_what_was_on_the_page(admin_client, platform, waiting, decision):
    shown = admin_client.get(f"{ROOT}ltideployment/{waiting.pk}/change/").content.decode()
    assert '<input type="hidden" name="seen_guid" value="evening.example">' in shown
    LtiDeployment.objects.filter(pk=waiting.pk).update(instance_guid="night.example")
    seen = {"consumer": platform.consumer.pk, "seen_guid": "evening.example"}
    page = decide(admin_client, waiting, decision, **seen)
    assert "It named the installation “night.example” meanwhile: look again." in text_of(page)
    assert LtiDeployment.objects.waiting().exists()
    assert LtiConsumer.objects.count() == 1


def test_a_consumer_is_made_for_it(admin_client, platform, waiting):
    decide(admin_client, waiting, "consumer")
    made = LtiConsumer.objects.latest("pk")
    assert (made.consumer_name, made.product) == ("Evening school", "moodle")
    assert (made.consumer_key, made.personal_data) == (None, "none")
    assert made.issuer == platform.registration.issuer
    assert made.instance_guid == "evening.example"
    assert accepted(launch(platform, "7", tool_platform=describe("evening.example")))
    assert LtiLaunch.objects.accepted().latest("pk").lti_consumer == made


def test_one_that_says_nothing_is_called_by_its_issuer(admin_client, platform):
    launch(platform, "7", tool_platform=None)
    decide(admin_client, LtiDeployment.objects.waiting().get(), "consumer")
    made = LtiConsumer.objects.latest("pk")
    assert (made.consumer_name, made.product) == (platform.registration.issuer, "")
    assert made.instance_guid == ""


def test_it_is_refused(admin_client, platform, waiting):
    page = decide(admin_client, waiting, "refuse")
    assert "Refused the deployment." in text_of(page)
    waiting.refresh_from_db()
    assert not waiting.is_active
    assert not accepted(launch(platform, "7"))
    LogEntry.objects.all().delete()
    decide(admin_client, waiting, "refuse")
    assert not LogEntry.objects.exists()


def test_who_decides_second_is_told(admin_client, platform, waiting):
    other = LtiConsumer.objects.create(consumer_name="Other")
    waiting.assign(other)
    page = decide(admin_client, waiting, "belongs", consumer=platform.consumer.pk)
    assert "Somebody decided about this deployment meanwhile." in text_of(page)
    count = LtiConsumer.objects.count()
    decide(admin_client, waiting, "consumer")
    assert LtiConsumer.objects.count() == count
    waiting.refresh_from_db()
    assert waiting.lti_consumer == other


DECISIONS = ["belongs", "consumer", "refuse"]


@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize(
    "rights", [(), ("view_ltideployment", "view_lticonsumer"), ("change_lticonsumer",)]
)
def test_without_the_right_nothing_is_decided(client, platform, waiting, decision, rights):
    grant(client, *rights)
    page = decide(client, waiting, decision, consumer=platform.consumer.pk)
    assert page.status_code == 403
    assert LtiDeployment.objects.waiting().get() == waiting
    assert not LogEntry.objects.exists()


def test_who_may_change_deployments_only_may_refuse_and_no_more(client, platform, waiting):
    grant(client, "view_ltideployment", "change_ltideployment")
    page = client.get(f"{ROOT}ltideployment/{waiting.pk}/change/").content.decode()
    assert "/refuse/" in page
    assert "/belongs/" not in page
    assert f"{waiting.pk}/consumer/" not in page
    assert decide(client, waiting, "consumer").status_code == 403
    decide(client, waiting, "belongs", consumer=platform.consumer.pk)
    assert LtiDeployment.objects.waiting().exists()
    decide(client, waiting, "refuse")
    assert not LtiDeployment.objects.waiting().exists()


@pytest.mark.parametrize("decision", DECISIONS)
def test_decisions_are_posted(admin_client, waiting, decision):
    assert admin_client.get(f"{ROOT}ltideployment/{waiting.pk}/{decision}/").status_code == 405
    assert admin_client.post(f"{ROOT}ltideployment/999/{decision}/").status_code == 403


def test_a_viewer_sees_what_waits_and_no_button(client, waiting):
    grant(client, "view_ltideployment", "view_lticonsumer")
    page = client.get(f"{ROOT}ltideployment/{waiting.pk}/change/").content.decode()
    assert "evening.example" in page
    assert (
        "<button"
        not in re.sub(r"<header.*?</header>", "", page, flags=re.S)
        .replace('<button class="theme-toggle"', "")
        .split('id="content-main"')[1]
    )
    assert "1 LMS waits" in client.get(CONSUMERS).content.decode()


# Registrations and deployments in lists and on pages of their own


def test_the_lists_say_what_is_what(admin_client, platform, waiting):
    page = text_of(admin_client.get(f"{ROOT}ltideployment/"))
    assert "WaitsEvening school, moodleevening.example" in page
    LtiDeployment.objects.filter(deployment_id="3").update(is_active=False)
    assert "Campus (Not active)" in text_of(admin_client.get(f"{ROOT}ltideployment/"))
    LtiDeployment.objects.filter(deployment_id="3").update(is_active=True)
    assert "Campus" in text_of(admin_client.get(f"{ROOT}ltideployment/?state=used"))
    assert "Waits" in text_of(admin_client.get(f"{ROOT}ltideployment/?state=waiting"))
    waiting.refuse()
    assert "Not active" in text_of(admin_client.get(f"{ROOT}ltideployment/?state=inactive"))


@pytest.mark.parametrize("name", ["ltiregistration", "ltideployment", "lticonsumer"])
def test_lists_take_the_same_queries_whatever_their_length(admin_client, platform, name):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(f"{ROOT}{name}/").status_code == 200
        return len(queries)

    launch(platform, "waits")
    before = count()
    for number in range(12):
        other = FakePlatform.create("canvas", consumer_name=f"{number}", issuer="")
        launch(other)
        launch(other, "waits")
    assert count() == before


def test_a_deployment_is_added_by_hand(admin_client, platform):
    url = f"{ROOT}ltideployment/add/"
    form = {"registration": platform.registration.pk, "deployment_id": "7"}
    page = admin_client.post(url, form)
    assert "lti_consumer" in page.context["adminform"].form.errors
    assert admin_client.post(url, {**form, "lti_consumer": platform.consumer.pk}).status_code == 302
    assert accepted(launch(platform, "7"))
    again = admin_client.post(url, {**form, "lti_consumer": platform.consumer.pk})
    assert "This registration has a deployment with this id." in text_of(again)


def test_a_deployment_in_use_is_switched_off(admin_client, platform):
    launch(platform)
    url = f"{ROOT}ltideployment/{platform.deployment.pk}/change/"
    page = admin_client.get(url)
    assert page.context["adminform"].form.fields.keys() == {"lti_consumer", "is_active"}
    admin_client.post(url, {"lti_consumer": platform.consumer.pk})
    assert not accepted(launch(platform))


def test_a_registration_is_changed_and_says_how_its_keys_are(admin_client, platform):
    url = f"{ROOT}ltiregistration/{platform.registration.pk}/change/"
    assert "Entered above; nothing is fetched." in text_of(admin_client.get(url))
    form = form_of(admin_client.get(url))
    form |= {"jwks": "", "jwks_uri": "https://lms.example/certs", "lti_consumer": ""}
    assert admin_client.post(url, form).status_code == 302
    assert "Not fetched yet." in text_of(admin_client.get(url))
    LtiRegistration.objects.update(jwks_fetched_at=timezone.now())
    assert "Fetched." in text_of(admin_client.get(url))
    LtiRegistration.objects.update(jwks_error="timeout")
    assert "The last attempt failed. The LMS did not answer in time." in text_of(
        admin_client.get(url)
    )


def test_a_new_registration_shows_nothing_of_its_own(admin_client):
    page = admin_client.get(f"{ROOT}ltiregistration/add/")
    assert "State of the key set" not in text_of(page)


def test_what_goes_with_a_registration_is_said_first(admin_client, platform, waiting):
    url = f"{ROOT}ltiregistration/{platform.registration.pk}/delete/"
    page = text_of(admin_client.get(url))
    assert "has 2 deployments, whose launches are refused then." in page
    assert "2 launches go from the log. People, accounts and grades stay." in page
    admin_client.post(url, {"post": "yes"})
    assert not LtiRegistration.objects.exists()
    assert not LtiLaunch.objects.exists()
    assert LtiConsumer.objects.exists()


def test_what_goes_with_a_consumer_is_said(admin_client, platform):
    url = f"{CONSUMERS}{platform.consumer.pk}/delete/"
    page = text_of(admin_client.get(url))
    assert "LTI 1.3 deployment: 3" in page
    admin_client.post(url, {"post": "yes"})
    assert not LtiDeployment.objects.exists()
    assert LtiRegistration.objects.exists()


def test_the_page_of_a_consumer_leads_to_its_registrations(admin_client, platform):
    page = admin_client.get(f"{CONSUMERS}{platform.consumer.pk}/change/")
    assert f"/ltiregistration/{platform.registration.pk}/change/" in page.content.decode()
    assert "deployment 3" in text_of(page)


def test_registrations_of_a_consumer_are_read_in_two_queries(platform):
    for number in range(30):
        LtiDeployment.objects.create(
            registration=platform.registration,
            deployment_id=f"{number}!",
            lti_consumer=platform.consumer,
        )
    from lti_provider.admin.setup import list_registrations

    with CaptureQueriesContext(connection) as queries:
        (only,) = list_registrations(platform.consumer)
    assert len(queries) == 2
    assert len(only.deployments) == 20


# Where a site has taken pages away


@pytest.mark.parametrize("model", [LtiDeployment, LtiRegistration, LtiConsumer])
def test_a_site_may_do_without_a_page(admin_client, platform, waiting, model):
    issuer = UnknownSender(kind=SenderKind.ISSUER, text="https://lms.example/")
    LtiUnknownSender.objects.record(issuer)
    kept = type(admin.site.get_model_admin(model))
    admin.site.unregister(model)
    try:
        pages = [f"{ROOT}ltideployment/{waiting.pk}/change/", CONSUMERS, setup(platform.consumer)]
        shown = {
            LtiDeployment: pages[1:],
            LtiRegistration: pages[1:],
            LtiConsumer: pages[:1],
        }[model]
        for page in shown:
            response = admin_client.get(page)
            if response.status_code == 404:
                continue
            assert response.status_code == 200
    finally:
        admin.site.register(model, kept)


# How it is doing


def test_the_status_says_what_is_wrong_with_a_registration(platform):
    assert "not_set_up" not in lines(platform.consumer)
    LtiRegistration.objects.update(jwks_error="timeout", jwks_uri="https://lms.example/certs")
    line = lines(platform.consumer)["key_set"]
    assert line.level == Level.WARNING
    assert str(line.text) == (
        "The keys of the LMS could not be fetched from https://lms.example/certs. "
        "The LMS did not answer in time."
    )
    LtiRegistration.objects.update(jwks_uri="")
    launch(platform, "7")
    line = lines(platform.consumer)["waiting_deployments"]
    assert (line.level, str(line.text)) == (Level.WARNING, "Waiting for an administrator: 1.")
    LtiRegistration.objects.update(is_active=False)
    assert "is not active" in str(lines(platform.consumer)["registration_inactive"].text)


def test_a_consumer_with_neither_dialect_is_not_set_up(consumer):
    assert lines(consumer)["not_set_up"].level == Level.NOTE


def test_nothing_of_an_address_reaches_the_page_unescaped(admin_client, consumer):
    page = admin_client.get(setup(consumer), {"page": '<b>"&'})
    assert "<b>" not in page.content.decode()


def test_who_may_not_delete_deployments_deletes_no_registration(client, platform):
    grant(client, "view_ltiregistration", "delete_ltiregistration")
    url = f"{ROOT}ltiregistration/{platform.registration.pk}/delete/"
    assert "LTI 1.3 deployment" in text_of(client.get(url))
    assert client.post(url, {"post": "yes"}).status_code == 403
    assert LtiRegistration.objects.exists()

import html
import logging
import re
from datetime import timedelta
from functools import partial
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider.admin.paginator import BoundedPaginator
from lti_provider.admin.setup import TryForm
from lti_provider.exceptions import EmailMissing
from lti_provider.models import LtiConsumer, LtiLaunch, LtiRegistration
from lti_provider.products import PRODUCTS, get_email_setting
from lti_provider.status import Level, RecentLaunches, get_status_lines
from lti_provider.testing import PROFILES, FakeLms
from tests.scale import fill

pytestmark = pytest.mark.django_db

CONSUMERS = "/admin/lti_provider/lticonsumer/"
ADD = f"{CONSUMERS}add/"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def lms():
    return FakeLms.create("moodle", consumer_name="Campus")


@pytest.fixture
def staff(client):
    """A colleague who may look at consumers and change nothing."""
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_lticonsumer"))
    client.force_login(user)
    return client


def setup(consumer):
    return f"{CONSUMERS}{consumer.pk}/setup/"


def add(client, **more):
    form = client.get(ADD).context["adminform"].form
    fields = {
        name: form[name].value() or ""
        for name in form.fields
        if not form.fields[name].disabled and form[name].value() is not False
    }
    return client.post(ADD, {**fields, "dialect": "1.1", "consumer_name": "Campus", **more})


def text_of(response):
    return html.unescape(re.sub(r"<[^>]+>", "", response.content.decode()))


def lines(consumer):
    return {line.name: line for line in get_status_lines(RecentLaunches.for_consumer(consumer))}


def test_after_a_new_consumer_comes_its_setup_page(admin_client):
    response = add(admin_client)
    consumer = LtiConsumer.objects.get()
    assert response["Location"] == setup(consumer)
    page = admin_client.get(response["Location"])
    assert "“Campus” was added" in text_of(page)


@pytest.mark.parametrize("more", [{"_continue": "1"}, {"_addanother": "1"}, {"_popup": "1"}])
def test_whoever_wants_to_go_on_elsewhere_does(admin_client, more):
    assert "/setup/" not in add(admin_client, **more).get("Location", "")


def test_whoever_may_only_add_is_led_to_nothing_forbidden(client):
    user = get_user_model().objects.create_user("adder", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="add_lticonsumer"))
    client.force_login(user)
    assert "/setup/" not in add(client)["Location"]
    assert client.get(setup(LtiConsumer.objects.get())).status_code == 403


def test_the_change_page_leads_to_the_setup_page(admin_client, lms):
    page = admin_client.get(f"{CONSUMERS}{lms.consumer.pk}/change/").content.decode()
    assert f'href="{setup(lms.consumer)}"' in page


def test_the_page_has_the_values_to_copy(admin_client, lms):
    page = admin_client.get(setup(lms.consumer))
    inputs = re.findall(r"<input[^>]*readonly[^>]*>", page.content.decode())
    values = [re.findall(r'value="([^"]*)"', line) for line in inputs if "data-lti-copy" in line]
    assert [value[0] for value in values if value] == [
        "http://testserver/lti/login/",
        "http://testserver/lti/launch/",
        "http://testserver/lti/launch/content/",
        "http://testserver/lti/jwks/",
        "http://testserver/lti/launch/",
        "http://testserver/lti/launch/content/",
        lms.consumer.consumer_key,
        "http://testserver/lti/cartridge/content/.xml",
    ]
    assert f"{CONSUMERS}{lms.consumer.pk}/secret/" in page.content.decode()
    assert lms.consumer.consumer_secret not in page.content.decode()


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.code)
def test_the_steps_of_each_lms_have_the_values_in_them(admin_client, lms, product):
    page = admin_client.get(setup(lms.consumer)).content.decode()
    shown = re.findall(rf"<summary>{product.name}</summary>(.*?)</details>", page, re.S)[-1]
    text = html.unescape(re.sub(r"<[^>]+>", "", shown))
    assert "http://testserver/lti/launch/" in text
    assert lms.consumer.consumer_key in text
    assert "data-lti-secret" in shown
    assert str(product.email) in text
    assert not re.search(r"\{\w*\}", text)


def test_a_key_is_no_markup(admin_client):
    consumer = LtiConsumer.objects.create(consumer_name="Campus", consumer_key='<b>"&{key}')
    page = admin_client.get(setup(consumer))
    assert "<b>" not in page.content.decode()
    assert '<b>"&{key}' in html.unescape(page.content.decode())


def test_the_lms_that_launched_before_is_open(admin_client, client, lms):
    assert "<details name=" in admin_client.get(setup(lms.consumer)).content.decode()
    lms.launch(client, "/content/")
    page = admin_client.get(setup(lms.consumer)).content.decode()
    opened = r'<details name="lti(?:13)?-product" open>\s*<summary>([^<]*)'
    assert re.findall(opened, page) == ["Moodle", "Moodle"]


@pytest.mark.parametrize(
    ("consumer", "needed"),
    [
        ({}, False),
        ({"personal_data": "name"}, False),
        ({"personal_data": "name_email"}, True),
        ({"require_user_account": True}, True),
        ({"require_user_account": True, "account_match": "any"}, False),
    ],
)
def test_who_needs_addresses_reads_so(admin_client, consumer, needed):
    made = LtiConsumer.objects.create(consumer_name="Campus", **consumer)
    page = text_of(admin_client.get(setup(made)))
    assert ("This consumer needs e-mail addresses" in page) == needed


def test_a_launch_url_that_leads_nowhere_is_said(admin_client, lms, settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = []
    nothing = "There is no page to launch yet"
    assert nothing in text_of(admin_client.get(setup(lms.consumer)))
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    assert nothing not in text_of(admin_client.get(setup(lms.consumer)))


def test_without_urls_the_page_says_what_to_do(admin_client, lms, settings):
    settings.ROOT_URLCONF = "tests.urls_without_lti"
    page = text_of(admin_client.get(setup(lms.consumer)))
    assert "Add include('lti_provider.urls')" in page


def test_who_may_only_look_gets_no_secret_and_no_launch(staff, lms):
    page = staff.get(setup(lms.consumer)).content.decode()
    assert "http://testserver/lti/launch/" in page
    assert f"{lms.consumer.pk}/secret/" not in page
    assert f"{lms.consumer.pk}/try/" not in page
    launch = {"role": "Learner", "target": "/content/"}
    assert staff.post(f"{CONSUMERS}{lms.consumer.pk}/try/", launch).status_code == 403
    assert not LogEntry.objects.exists()


def test_there_is_nothing_to_set_up_for_nobody(admin_client):
    assert admin_client.get(f"{CONSUMERS}999/setup/").status_code == 403
    assert admin_client.post(f"{CONSUMERS}999/try/").status_code == 403


def test_strangers_are_asked_to_sign_in(client, lms):
    for page in ("setup", "try"):
        response = client.get(f"{CONSUMERS}{lms.consumer.pk}/{page}/")
        assert response["Location"].startswith("/admin/login/")


# Try it


@pytest.mark.parametrize("form", [{"role": "Student"}, {"role": ""}, {"target": "/" + "x" * 2000}])
def test_what_cannot_be_launched_is_said_on_the_page(admin_client, lms, form):
    given = {"role": "Learner", "target": "/content/", **form}
    page = admin_client.post(f"{CONSUMERS}{lms.consumer.pk}/try/", given)
    assert 'class="errorlist' in page.content.decode()
    assert not LogEntry.objects.exists()


def test_a_get_launches_nothing(admin_client, lms):
    response = admin_client.get(f"{CONSUMERS}{lms.consumer.pk}/try/")
    assert response["Location"] == setup(lms.consumer)


@pytest.mark.parametrize(
    ("site", "consumer", "expected"),
    [
        ({"LTI_PROVIDER_DEFAULT_TARGET": "/content/"}, {}, "http://testserver/lti/launch/"),
        ({}, {}, "http://testserver/lti/launch/content/"),
        ({}, {"launch_targets": "/content/b/\n/content/c/"}, ".../lti/launch/content/b/"),
        ({"LTI_PROVIDER_LAUNCHABLE_PATHS": []}, {}, "http://testserver/lti/launch/"),
    ],
)
def test_the_page_to_try_is_one_that_opens(admin_client, settings, site, consumer, expected):
    for name, value in site.items():
        setattr(settings, name, value)
    made = LtiConsumer.objects.create(consumer_name="Campus", **consumer)
    initial = admin_client.get(setup(made)).context["form"]["target"].value() or ""
    form = TryForm({"role": "Learner", "target": initial})
    assert form.is_valid()
    assert f"http://testserver{form.url}" == expected.replace("...", "http://testserver")


# Status


def test_a_new_consumer_has_no_story(lms):
    assert {name: line.level for name, line in lines(lms.consumer).items()} == {
        "last_launch": Level.NOTE,
        "last_refusal": Level.OK,
        "installation": Level.OK,
    }


def test_the_status_tells_of_the_last_launch(admin_client, client, lms):
    lms.launch(client, "/content/")
    launch = LtiLaunch.objects.get()
    status = lines(lms.consumer)
    assert status["last_launch"].launch == launch
    assert status["last_launch"].at == launch.received_at
    assert str(status["clock"].text) == "Both clocks agree."
    page = admin_client.get(setup(lms.consumer)).content.decode()
    assert f"/admin/lti_provider/ltilaunch/{launch.pk}/change/" in page
    lms.post(client, "/content/")
    assert "not opened" in str(lines(lms.consumer)["last_launch"].text)


@pytest.mark.parametrize(
    ("seconds", "said", "level"),
    [
        (1, "Both clocks agree.", Level.OK),
        (-1, "Both clocks agree.", Level.OK),
        (2, "2 s ahead of ours", Level.OK),
        (100, "100 s ahead of ours", Level.OK),
        (-100, "100 s behind ours", Level.OK),
        (200, "200 s ahead of ours", Level.WARNING),
        (-200, "200 s behind ours", Level.WARNING),
    ],
)
def test_clocks_that_drift_are_told_before_they_refuse(client, lms, seconds, said, level):
    lms.launch(client, "/content/")
    LtiLaunch.objects.update(clock_difference=seconds)
    line = lines(lms.consumer)["clock"]
    assert said in str(line.text)
    assert line.level == level


def test_an_accepted_launch_keeps_its_clock_difference(client, lms, time_machine):
    time_machine.move_to("2026-10-01T12:00:30Z", tick=False)
    form = lms.sign("/content/")
    time_machine.move_to("2026-10-01T12:01:00Z", tick=False)
    client.post("/lti/launch/content/", urlencode(form), content_type=FORM)
    assert LtiLaunch.objects.get().clock_difference == -30


def test_a_launch_of_before_clocks_were_kept_says_nothing_of_them(client, lms):
    lms.launch(client, "/content/")
    LtiLaunch.objects.update(clock_difference=None)
    assert "clock" not in lines(lms.consumer)


def test_the_last_refusal_says_its_cause(client, lms):
    lms.launch(client, "/content/")
    wrong = FakeLms(LtiConsumer.objects.get(), {**lms.fields})
    wrong.consumer.consumer_secret = "typed wrong"
    wrong.post(client, "/content/")
    line = lines(lms.consumer)["last_refusal"]
    assert str(line.text).startswith("invalid_signature: Launches of this consumer worked before")
    assert line.level == Level.WARNING
    lms.launch(client, "/content/")
    assert lines(lms.consumer)["last_refusal"].level == Level.NOTE


def test_a_refusal_of_one_person_stops_nobody_else(client, lms):
    lms.post(client, "/elsewhere/")
    assert lines(lms.consumer)["last_refusal"].level == Level.NOTE


def test_a_refusal_whose_kind_is_gone_has_its_code(lms):
    LtiLaunch.objects.create(lti_consumer=lms.consumer, refusal_code="of_another_version")
    assert str(lines(lms.consumer)["last_refusal"].text) == "of_another_version"


@pytest.mark.parametrize(("guid", "said"), [("moved.example", "“moved.example”"), (None, "none")])
def test_another_installation_is_told_until_it_is_accepted(admin_client, client, lms, guid, said):
    lms.launch(client, "/content/")
    lms.post(client, "/content/", tool_consumer_instance_guid=guid)
    consumer = LtiConsumer.objects.get()
    line = lines(consumer)["other_installation"]
    assert said in str(line.text)
    assert line.level == Level.WARNING
    page = admin_client.get(setup(consumer)).content.decode()
    assert f"/admin/lti_provider/ltilaunch/{line.launch.pk}/change/" in page
    admin_client.post(f"/admin/lti_provider/ltilaunch/{line.launch.pk}/accept/")
    assert "other_installation" not in lines(LtiConsumer.objects.get())


@pytest.mark.parametrize(
    ("consumer", "name", "level"),
    [
        ({"is_active": False}, "inactive", Level.NOTE),
        ({"consumer_secret": ""}, "no_secret", Level.ERROR),
    ],
)
def test_what_refuses_every_launch_is_told_first(consumer, name, level):
    made = LtiConsumer.objects.create(consumer_name="Campus", **consumer)
    first = get_status_lines(RecentLaunches.for_consumer(made))[0]
    assert (first.name, first.level) == (name, level)


def test_another_consumers_launches_are_not_told(client, lms):
    other = FakeLms.create("canvas")
    other.launch(client, "/content/")
    other.post(client, "/elsewhere/")
    assert lines(lms.consumer)["last_launch"].launch is None
    assert lines(lms.consumer)["last_refusal"].launch is None


# Texts


@pytest.mark.parametrize("profile", PROFILES)
def test_the_learner_reads_what_the_administrator_reads(client, profile):
    lms = FakeLms.create(profile, require_user_account=True)
    page = lms.launch(client, "/content/", lis_person_contact_email_primary=None)
    family = lms.fields.get("tool_consumer_info_product_family_code", "")
    assert str(EmailMissing.public_text) in text_of(page)
    assert str(get_email_setting(family)) in text_of(page)


def test_each_makes_setting_is_found_by_the_family_that_it_sends():
    for product in PRODUCTS:
        family = PROFILES[product.code].get("tool_consumer_info_product_family_code")
        if family:
            assert get_email_setting(family) == product.email
    assert "Open edX" in str(get_email_setting("something else"))


@pytest.mark.parametrize(
    "label",
    [
        "configure a tool manually",
        "Activity modules → External tool → Manage tools",
        "“Tool configuration usage” to “Show in activity chooser and as a preconfigured tool”",
        "“Share launcher's name with tool” and “Share launcher's email with tool” are “Never”",
        "“Accept grades from the tool” is “Delegate to teacher”",
        "the tool by its own name, “testserver”",
        "In Moodle 4.2 and older",
        "“Default organisation ID”",
    ],
)
def test_moodles_steps_name_the_fields_as_moodle_does(admin_client, lms, label):
    page = admin_client.get(setup(lms.consumer))
    assert label in html.unescape(page.content.decode())


def test_the_cartridge_that_the_page_names_can_be_read(admin_client, client, lms):
    url = admin_client.get(setup(lms.consumer)).context["cartridge_url"]
    answer = client.get(url.removeprefix("http://testserver"))
    assert ElementTree.fromstring(answer.content).tag.endswith("}cartridge_basiclti_link")


# A large site


def test_lists_say_that_there_are_more(admin_client, client, lms, monkeypatch):
    for _number in range(3):
        lms.launch(client, "/content/")
    url = "/admin/lti_provider/ltilaunch/"
    assert "Only the first" not in text_of(admin_client.get(url))
    monkeypatch.setattr(BoundedPaginator, "limit", 2)
    page = admin_client.get(url)
    assert page.context["cl"].result_count == 2
    assert "Only the first 2 are listed." in text_of(page)


FIRST_COLUMNS = {"lti_launch_log": "lti_consumer_id", "lti_registration_log": "registration_id"}


def reads(plan):
    """The tables that a plan reads from one end to the other."""
    whole = plan["Node Type"].endswith("Seq Scan")
    # An index that is read without its first column is read from one end to the other, too.
    if column := FIRST_COLUMNS.get(plan.get("Index Name")):
        whole = column not in plan.get("Index Cond", "")
    found = {plan.get("Relation Name", "lti_provider_ltilaunch")} if whole else set()
    return found.union(*map(reads, plan.get("Plans", ())))


def newest(model, page):
    return lambda: f"{model._meta.model_name}/{model.objects.latest('pk').pk}/{page}/"


def of_newest(model):
    field = {LtiConsumer: "lti_consumer", LtiRegistration: "registration"}[model]
    return f"{field}__id__exact={model.objects.latest('pk').pk}"


log = logging.getLogger(__name__)

MODELS = [model for model in admin.site._registry if model._meta.app_label == "lti_provider"]
PAGES = [
    *(partial("{}/".format, model._meta.model_name) for model in MODELS),
    *(newest(model, "change") for model in MODELS),
    newest(LtiConsumer, "setup"),
    newest(LtiConsumer, "rotate"),
    lambda: "lticonsumer/add/",
    lambda: "ltilaunch/?outcome=refused",
    lambda: "ltilaunch/?outcome=invalid_signature",
    lambda: f"ltilaunch/?outcome=refused&{of_newest(LtiRegistration)}",
    lambda: f"ltilaunch/?outcome=unknown_deployment&{of_newest(LtiRegistration)}",
    lambda: f"ltilaunch/?outcome=refused&{of_newest(LtiConsumer)}",
    lambda: f"ltilaunch/?{of_newest(LtiConsumer)}",
]
# Consumers and hosts are few on every site.
LARGE = {
    "auth_user",
    *(
        f"lti_provider_{name}"
        for name in ("ltilaunch", "ltiuser", "ltiresult", "lticonnectionevent")
    ),
    *(f"lti_provider_{name}" for name in ("lticontext", "ltiresourcelink")),
}


@pytest.mark.skipif(connection.vendor != "postgresql", reason="explained by PostgreSQL only")
def test_no_page_reads_all_people_or_launches(admin_client):
    fill()
    # This site's own keys are made when they are first shown.
    admin_client.get(setup(LtiConsumer.objects.latest("pk")))
    for page in PAGES:
        url = page()
        with CaptureQueriesContext(connection) as queries:
            assert admin_client.get(f"/admin/lti_provider/{url}").status_code == 200
        log.info("%s: %d queries", url, len(queries))
        assert len(queries) < 20
        with connection.cursor() as cursor:
            for query in queries.captured_queries:
                cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql']}")
                (plan,) = cursor.fetchone()[0]
                assert not reads(plan["Plan"]) & LARGE, query["sql"]


def test_the_setup_page_takes_few_queries(admin_client, client, lms):
    lms.launch(client, "/content/")
    for code in ("invalid_signature", "stale_timestamp", "other_installation"):
        LtiLaunch.objects.create(
            lti_consumer=lms.consumer,
            refusal_code=code,
            received_at=timezone.now() - timedelta(hours=1),
        )
    # The first one makes this site's own key.
    admin_client.get(setup(lms.consumer))
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(setup(lms.consumer))
    assert len(queries) <= 13

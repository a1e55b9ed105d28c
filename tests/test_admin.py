import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.management import call_command
from django.db.models import ProtectedError
from django.utils import timezone

from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from lti_provider.testing import FakeLms

pytestmark = pytest.mark.django_db

ADD = "/admin/lti_provider/lticonsumer/add/"
LIST = "/admin/lti_provider/lticonsumer/"
LOG = "/admin/lti_provider/ltilaunch/"


@pytest.fixture
def lms():
    return FakeLms.create("moodle", consumer_name="Campus")


@pytest.fixture
def staff(client):
    """A colleague who may look at everything and change nothing."""
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return client


def change_url(consumer):
    return f"/admin/lti_provider/lticonsumer/{consumer.pk}/change/"


def form_of(response):
    form = response.context["adminform"].form
    inlines = [inline.formset for inline in response.context["inline_admin_formsets"]]
    fields = {field.html_name: field for inline in inlines for field in inline.management_form}
    return {name: field.value() for name, field in fields.items()} | {
        name: "" if (value := form[name].value()) is None else value
        for name in form.fields
        if not form.fields[name].disabled and form[name].value() is not False
    }


def new_form(client):
    """The form of a new consumer that launches with a key."""
    return {**form_of(client.get(ADD)), "dialect": "1.1"}


def test_the_section_is_called_lti_provider(admin_client):
    page = admin_client.get("/admin/").content.decode()
    assert "LTI Provider" in page
    assert "LTI consumers" in page
    assert "Launch log" in page


def test_adding_a_consumer_takes_only_a_name(admin_client):
    page = admin_client.get(ADD).content.decode()
    assert "Leave blank: the LMS fills it in with its first launch." in page
    assert {"Consumer key:", "Consumer secret:"} <= set(re.findall(r"<label[^>]*>([^<]*)", page))
    form = {**new_form(admin_client), "consumer_name": "Campus"}
    assert admin_client.post(ADD, form).status_code == 302
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_name == "Campus"
    assert consumer.consumer_key == form["consumer_key"]
    assert consumer.consumer_secret == form["consumer_secret"]
    assert len(consumer.consumer_secret) == 64
    assert consumer.is_active
    assert consumer.instance_guid == ""
    assert consumer.personal_data == "none"


@pytest.mark.parametrize("value", ["k&y=%+é 🔑", " led by a blank", '<b>"quoted"</b>', "x" * 255])
def test_key_and_secret_of_an_lms_are_taken_to_the_letter(admin_client, value):
    form = {**new_form(admin_client), "consumer_name": "Campus"}
    form |= {"consumer_key": value, "consumer_secret": value}
    response = admin_client.post(ADD, form, follow=True)
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_key == value
    assert consumer.consumer_secret == value
    assert ("begins or ends with a blank" in response.content.decode()) == (value != value.strip())


@pytest.mark.parametrize("key", ["k&y", "k y", "50%", "a/b", "clé", "a+b", "a=b", "a:b"])
def test_a_key_that_some_lmss_escape_twice_is_kept_and_warned_of(admin_client, key):
    form = {**new_form(admin_client), "consumer_name": "Campus"}
    added = admin_client.post(ADD, {**form, "consumer_key": key}, follow=True)
    consumer = LtiConsumer.objects.get()
    assert consumer.consumer_key == key
    assert "escape them twice" in added.content.decode()
    # What was not typed now is not warned of again.
    form = {**form_of(admin_client.get(change_url(consumer))), "consumer_name": "Other"}
    changed = admin_client.post(change_url(consumer), form, follow=True)
    assert LtiConsumer.objects.get().consumer_name == "Other"
    assert "escape them twice" not in changed.content.decode()


@pytest.mark.parametrize("key", [None, "campus", "Campus-2_a.b~c"])
def test_a_key_that_needs_no_escaping_is_not_warned_of(admin_client, key):
    form = {**new_form(admin_client), "consumer_name": "Campus"}
    form["consumer_key"] = key or form["consumer_key"]
    assert "twice" not in admin_client.post(ADD, form, follow=True).content.decode()


def test_a_key_is_unique_to_the_letter(admin_client, lms):
    form = {**new_form(admin_client), "consumer_name": "Other"}
    taken = {**form, "consumer_key": lms.consumer.consumer_key}
    assert "Another LTI consumer has this key." in admin_client.post(ADD, taken).content.decode()
    other_case = {**form, "consumer_key": lms.consumer.consumer_key.upper()}
    assert admin_client.post(ADD, other_case).status_code == 302


def test_a_stored_secret_never_leaves_with_a_page(admin_client, lms):
    secret = lms.consumer.consumer_secret
    lms.post(admin_client, "/content/", consumer_secret=None)
    assert secret not in admin_client.get(LIST).content.decode()
    assert secret not in admin_client.get(change_url(lms.consumer)).content.decode()
    history = f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/history/"
    assert secret not in admin_client.get(history).content.decode()
    found = admin_client.get(LIST, {"q": secret}).content.decode()
    assert "0 LTI consumers" in found


def test_a_blank_secret_keeps_the_stored_one(admin_client, lms):
    url = change_url(lms.consumer)
    form = {**form_of(admin_client.get(url)), "consumer_secret": "", "consumer_name": "Renamed"}
    assert admin_client.post(url, form).status_code == 302
    changed = LtiConsumer.objects.get()
    assert changed.consumer_name == "Renamed"
    assert changed.consumer_secret == lms.consumer.consumer_secret
    assert "secret" not in LogEntry.objects.latest("pk").change_message.lower()


def test_a_new_secret_is_noted_without_its_value(admin_client, lms):
    url = change_url(lms.consumer)
    form = {**form_of(admin_client.get(url)), "consumer_secret": "made elsewhere"}
    assert admin_client.post(url, form).status_code == 302
    assert LtiConsumer.objects.get().consumer_secret == "made elsewhere"
    entry = LogEntry.objects.latest("pk")
    assert "secret" in entry.change_message.lower()
    assert "made elsewhere" not in entry.change_message


def test_a_secret_is_shown_on_purpose_and_that_is_noted(admin_client, lms):
    url = f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/secret/"
    asked = admin_client.get(url)
    assert lms.consumer.consumer_secret not in asked.content.decode()
    shown = admin_client.post(url)
    assert lms.consumer.consumer_secret in shown.content.decode()
    assert "no-store" in shown["Cache-Control"]
    assert "Showed the consumer secret" in LogEntry.objects.latest("pk").change_message
    fetched = admin_client.post(url, headers={"Accept": "application/json"})
    assert fetched.json() == {"secret": lms.consumer.consumer_secret}


def test_who_may_only_look_sees_no_secret(staff, lms):
    page = staff.get(change_url(lms.consumer)).content.decode()
    assert "Campus" in page
    assert lms.consumer.consumer_secret not in page
    assert (
        staff.post(f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/secret/").status_code == 403
    )
    assert staff.post("/admin/lti_provider/lticonsumer/999/secret/").status_code == 403


@pytest.mark.parametrize(
    ("origins", "error"),
    [
        ("https://lms.example/path", "is not an origin"),
        ("https://*.lms.example", "is not an origin"),
        ("lms.example", "is not an origin"),
        ("javascript:alert(1)", "is not an origin"),
        ("https://lms.example:port", "is not an origin"),
    ],
)
def test_frame_origins_say_what_is_wrong(admin_client, lms, origins, error):
    url = change_url(lms.consumer)
    form = {**form_of(admin_client.get(url)), "frame_origins": origins}
    assert error in admin_client.post(url, form).content.decode()


def test_frame_origins_are_normalized(admin_client, lms):
    url = change_url(lms.consumer)
    origins = "HTTPS://LMS.Example:443/\nhttp://localhost:8080\nhttps://lms.example"
    form = {**form_of(admin_client.get(url)), "frame_origins": origins}
    assert admin_client.post(url, form).status_code == 302
    assert LtiConsumer.objects.get().frame_origins == "https://lms.example\nhttp://localhost:8080"


def test_a_consumer_with_users_is_not_deleted(admin_client, client, lms):
    lms.launch(client, "/content/")
    page = admin_client.get(f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/delete/")
    assert "has 1 LTI user. Deactivate it instead" in page.content.decode()
    admin_client.post(f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/delete/", {"post": "yes"})
    selected = {"action": "delete_selected", "_selected_action": lms.consumer.pk, "post": "yes"}
    admin_client.post(LIST, selected)
    assert LtiConsumer.objects.count() == 1
    with pytest.raises(ProtectedError):
        lms.consumer.delete()


def test_a_consumer_without_users_is_deleted(admin_client, lms):
    admin_client.post(f"/admin/lti_provider/lticonsumer/{lms.consumer.pk}/delete/", {"post": "yes"})
    assert not LtiConsumer.objects.exists()


def test_the_log_shows_accepted_and_refused_launches(admin_client, client, lms):
    lms.launch(client, "/content/quiz/")
    lms.post(client, "/content/")
    lms.post(client, "/elsewhere/")
    page = admin_client.get(LOG).content.decode()
    assert "opened" in page
    assert "accepted, not opened yet" in page
    assert "target_not_launchable" in page
    assert "Linear equations" in page
    for outcome, count in [("accepted", 2), ("refused", 1), ("target_not_launchable", 1)]:
        found = admin_client.get(LOG, {"outcome": outcome})
        assert found.context["cl"].result_count == count


def test_the_log_says_why_a_signature_did_not_hold(admin_client, client, lms):
    wrong = FakeLms(lms.consumer, {**lms.fields})
    wrong.consumer.consumer_secret = "typed wrong"
    assert wrong.post(client, "/content/").status_code == 401
    refused = LtiLaunch.objects.refused().get()
    page = admin_client.get(f"{LOG}{refused.pk}/change/").content.decode()
    assert "could not verify" in page
    assert "The LMS most likely has another secret" in page
    assert "http://testserver/lti/launch/content/" in page
    assert "POST&amp;http" in page
    assert LtiConsumer.objects.get().consumer_secret not in page
    assert "robin.doe" not in page


def test_the_log_page_of_an_accepted_launch(admin_client, client, lms):
    lms.launch(client, "/content/quiz/")
    launch = LtiLaunch.objects.get()
    page = admin_client.get(f"{LOG}{launch.pk}/change/").content.decode()
    assert "Linear equations" in page
    assert "lms.example" in page
    assert "Robin" not in page
    assert "Accept this installation" not in page
    assert admin_client.get(f"{LOG}999/change/").status_code == 302


def test_the_log_takes_no_edits(admin_client, client, lms):
    lms.launch(client, "/content/")
    launch = LtiLaunch.objects.get()
    assert admin_client.get(f"{LOG}add/").status_code == 403
    assert admin_client.post(f"{LOG}{launch.pk}/change/", {"target": "/x/"}).status_code == 403
    assert admin_client.post(f"{LOG}{launch.pk}/delete/", {"post": "yes"}).status_code == 403


@pytest.mark.parametrize(("guid", "said"), [("moved.example", "moved.example"), (None, "named no")])
def test_another_installation_can_be_accepted_or_split(admin_client, client, lms, guid, said):
    lms.launch(client, "/content/")
    lms.post(client, "/content/", tool_consumer_instance_guid=guid)
    refused = LtiLaunch.objects.refused().get()
    page = admin_client.get(f"{LOG}{refused.pk}/change/").content.decode()
    assert said in page
    assert "Make a second consumer" in page
    add = re.search(r'href="(/admin/lti_provider/lticonsumer/add/[^"]*)"', page)[1]
    assert admin_client.get(add.replace("&amp;", "&")).status_code == 200
    response = admin_client.post(f"{LOG}{refused.pk}/accept/")
    assert response["Location"] == change_url(lms.consumer)
    accepted = LtiConsumer.objects.get().installations.all()
    assert [each.guid for each in accepted] == ["lms.example", guid or ""]
    for each in accepted:
        changes = {"tool_consumer_instance_guid": each.guid}
        assert lms.launch(client, "/content/", **changes).status_code == 200


def test_accepting_an_installation_takes_the_right_to(staff, client, lms):
    lms.launch(client, "/content/")
    lms.post(client, "/content/", tool_consumer_instance_guid="moved.example")
    refused = LtiLaunch.objects.refused().get()
    colleague = get_user_model().objects.get(username="staff")
    staff.force_login(colleague)
    assert "Accept this" not in staff.get(f"{LOG}{refused.pk}/change/").content.decode()
    assert staff.post(f"{LOG}{refused.pk}/accept/").status_code == 403
    assert staff.get(f"{LOG}{refused.pk}/accept/").status_code == 405
    assert staff.post(f"{LOG}999/accept/").status_code == 403


def test_people_and_links_can_be_looked_up(admin_client, client, lms):
    lms.launch(client, "/content/")
    people = admin_client.get("/admin/lti_provider/ltiuser/", {"q": "4"})
    assert people.context["cl"].result_count == 1
    person = LtiUser.objects.get()
    assert admin_client.get(f"/admin/lti_provider/ltiuser/{person.pk}/change/").status_code == 200
    links = admin_client.get("/admin/lti_provider/ltiresourcelink/", {"q": "Linear"})
    assert "Algebra" in links.content.decode()
    link = links.context["cl"].result_list[0]
    page = admin_client.get(f"/admin/lti_provider/ltiresourcelink/{link.pk}/change/")
    assert page.status_code == 200
    assert admin_client.get("/admin/lti_provider/ltiuser/add/").status_code == 403
    assert admin_client.get("/admin/lti_provider/ltiresourcelink/add/").status_code == 403


def test_lists_do_not_read_row_by_row(admin_client, client, lms, django_assert_max_num_queries):
    for number in range(15):
        lms.launch(client, "/content/", user_id=f"{number}", resource_link_id=f"{number}")
    for name in ("ltilaunch", "ltiuser", "ltiresourcelink", "lticonsumer"):
        with django_assert_max_num_queries(10):
            admin_client.get(f"/admin/lti_provider/{name}/")


def test_an_address_prefills_a_name_and_an_installation_and_nothing_else(admin_client):
    names = [field.name for field in LtiConsumer._meta.get_fields() if not field.is_relation]
    plain = form_of(admin_client.get(ADD))
    prefilled = form_of(admin_client.get(ADD, dict.fromkeys([*names, "launch_url"], "1")))

    assert prefilled.keys() == plain.keys()
    changed = {name for name, value in prefilled.items() if value == "1"}
    assert changed == {"consumer_name", "instance_guid"}
    assert len(prefilled["consumer_secret"]) == 64


def test_without_urls_the_page_of_a_consumer_says_what_to_do(admin_client, lms, settings):
    settings.ROOT_URLCONF = "tests.urls_without_lti"
    page = admin_client.get(change_url(lms.consumer)).content.decode()
    assert "lti_provider.urls" in page


def test_purge_keeps_what_is_young_and_nonces_that_count(client, lms, capsys):
    for _number in range(3):
        lms.post(client, "/content/")
    old, young_nonce, _young = LtiLaunch.objects.order_by("pk")
    past = timezone.now() - timedelta(days=100)
    LtiLaunch.objects.filter(pk__in=(old.pk, young_nonce.pk)).update(received_at=past)
    LtiLaunch.objects.filter(pk=old.pk).update(nonce_expires_at=past)
    call_command("lti_purge")
    assert "Deleted 1 launches" in capsys.readouterr().out
    assert LtiLaunch.objects.count() == 2
    LtiLaunch.objects.update(nonce_expires_at=past)
    call_command("lti_purge", days=0)
    assert not LtiLaunch.objects.exists()

import unicodedata
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import Group
from django.contrib.sessions.models import Session
from django.db import IntegrityError, connection
from django.test import Client

from lti_provider.backends import LtiBackend
from lti_provider.models import LtiConsumer, LtiContext, LtiLaunch, LtiResourceLink, LtiUser
from lti_provider.testing import PROFILES, FakeLms, sign_launch
from lti_provider.testing.lms import navigation

pytestmark = pytest.mark.django_db

COMPOSED = unicodedata.normalize("NFC", "Zoë")
DECOMPOSED = unicodedata.normalize("NFD", "Zoë")
#: Values that some database's collation takes for one another.
LOOKALIKES = [
    "zoe",
    "ZOE",
    "Zoe",
    "zoe ",
    "zoe  ",
    " zoe",
    "zoe\t",
    COMPOSED,
    DECOMPOSED,
    "strasse",
    "straße",
    "ﬁle",
    "file",
    "1",
    "01",
    "1.0",
    "\u0661",
    "%7A",
    "z%6Fe",
    "😀",
    "😁",
    "a\r\nb",
    "a\nb",
    "zo\u200be",
]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def named_lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name")


@pytest.fixture
def mailing_lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email")


def launch(lms: FakeLms, **changes):
    """Launch in a fresh browser; the launch and its account."""
    response = lms.launch(Client(), "/content/", **changes)
    assert response.status_code == 200
    assert response.wsgi_request.path == "/content/"
    return response.wsgi_request.lti.launch


def account(lms: FakeLms, **changes):
    return launch(lms, **changes).lti_user.user


# The account


def test_a_first_launch_makes_an_anonymous_account(lms):
    user = account(lms)
    assert not user.has_usable_password()
    assert user.username.startswith("lti-")
    assert len(user.username) > 20
    assert (user.first_name, user.last_name, user.email) == ("", "", "")
    assert user.is_active


def test_no_two_accounts_have_the_same_random_name(lms):
    assert account(lms, user_id="1").username != account(lms, user_id="2").username


def test_nothing_of_the_learner_is_in_the_random_name(lms):
    user = account(lms, user_id="robin")
    assert "robin" not in user.username
    assert lms.consumer.consumer_key not in user.username


@pytest.mark.parametrize(
    "roles",
    [
        "Learner",
        "Instructor",
        "Administrator",
        "urn:lti:sysrole:ims/lis/SysAdmin",
        "urn:lti:sysrole:ims/lis/Administrator,urn:lti:instrole:ims/lis/Administrator",
        "Instructor,urn:lti:role:ims/lis/Administrator/Developer,staff,superuser,is_staff",
        "",
        None,
    ],
)
def test_no_role_of_an_lms_gives_rights_on_the_site(lms, roles):
    Group.objects.create(name="Instructor")
    user = account(lms, roles=roles)
    assert not user.is_staff
    assert not user.is_superuser
    assert not user.groups.exists()
    assert not user.user_permissions.exists()
    assert not user.get_all_permissions()


def test_rights_that_the_site_gave_survive_any_role(lms):
    lms.consumer.allow_staff = True
    lms.consumer.save()
    user = account(lms)
    user.is_staff = True
    user.save()
    user.groups.add(Group.objects.create(name="editors"))
    again = account(lms, roles="Learner")
    assert again.is_staff
    assert again.groups.count() == 1


def test_later_launches_find_the_account(lms):
    first = account(lms)
    assert account(lms) == first
    assert account(lms, context_id="another", resource_link_id="link", roles="Instructor") == first
    assert LtiUser.objects.count() == 1


def test_an_account_that_was_deleted_is_made_afresh(lms, django_user_model):
    account(lms).delete()
    assert not LtiUser.objects.exists()
    account(lms)
    assert django_user_model.objects.count() == 1


def test_an_account_is_never_found_by_its_address_or_name(mailing_lms, django_user_model):
    django_user_model.objects.create_user(
        "robin", "robin.doe@lms.example", first_name="Robin", last_name="Doe", is_staff=True
    )
    user = account(mailing_lms, user_id="robin", lis_person_sourcedid="robin")
    assert user.username != "robin"
    assert not user.is_staff


# Scope


def test_two_lmss_that_say_the_same_never_meet():
    first, second = FakeLms.create("moodle"), FakeLms.create("moodle")
    one, two = launch(first), launch(second)
    assert one.lti_user.user != two.lti_user.user
    assert one.context != two.context
    assert one.resource_link != two.resource_link
    assert {one.lti_consumer, two.lti_consumer} == {first.consumer, second.consumer}
    assert LtiUser.objects.values_list("lti_user_id").distinct().count() == 1
    assert LtiContext.objects.values_list("context_id").distinct().count() == 1
    assert LtiResourceLink.objects.values_list("resource_link_id").distinct().count() == 1
    assert LtiConsumer.objects.values_list("instance_guid").distinct().count() == 1


def test_two_lmss_may_use_the_same_nonce(client):
    for lms in (FakeLms.create("moodle"), FakeLms.create("moodle")):
        key, secret = lms.consumer.consumer_key, lms.consumer.consumer_secret
        url = "http://testserver/lti/launch/content/"
        form = urlencode(sign_launch(url, lms.fields, key=key, secret=secret, nonce="1"))
        sent = client.post(url, form, content_type="application/x-www-form-urlencoded")
        assert "/enter/" in sent["Location"]


def test_one_lms_in_two_consumers_is_two(lms):
    twin = FakeLms.create("canvas")
    assert account(lms) != account(twin)
    assert lms.fields == twin.fields


# Exactly


def test_user_ids_are_compared_to_the_letter(lms):
    users = {user_id: account(lms, user_id=user_id) for user_id in LOOKALIKES}
    assert len(set(users.values())) == len(LOOKALIKES)
    for user_id, user in users.items():
        assert account(lms, user_id=user_id) == user
    assert set(LtiUser.objects.values_list("lti_user_id", flat=True)) == set(LOOKALIKES)


def test_contexts_and_links_are_compared_to_the_letter(lms):
    pairs = {
        name: launch(lms, context_id=name, resource_link_id=name).resource_link
        for name in LOOKALIKES
    }
    assert len({link.pk for link in pairs.values()}) == len(LOOKALIKES)
    assert len({link.lti_context_id for link in pairs.values()}) == len(LOOKALIKES)
    for name, link in pairs.items():
        again = launch(lms, context_id=name, resource_link_id=name)
        assert again.resource_link == link
        assert (again.context.context_id, again.resource_link.resource_link_id) == (name, name)


@pytest.mark.parametrize("name", ["user_id", "context_id", "resource_link_id"])
def test_the_longest_identifiers_are_kept_whole(lms, name):
    longest = "😀" * 254
    first = launch(lms, **{name: longest + "a"})
    second = launch(lms, **{name: longest + "b"})
    said = {
        "user_id": lambda message: message.person.user_id,
        "context_id": lambda message: message.context.id,
        "resource_link_id": lambda message: message.resource_link.id,
    }[name]
    assert (said(first.message), said(second.message)) == (longest + "a", longest + "b")
    assert (first.lti_user == second.lti_user) is (name != "user_id")
    assert (first.resource_link == second.resource_link) is (name == "user_id")


@pytest.mark.parametrize("name", ["user_id", "context_id", "resource_link_id"])
def test_longer_identifiers_are_refused_not_cut(lms, name):
    response = lms.post(Client(), "/content/", **{name: "a" * 256})
    assert response["Location"].startswith(lms.fields["launch_presentation_return_url"])
    refused = LtiLaunch.objects.get()
    assert refused.refusal_code == "invalid_parameter"
    assert name in refused.refusal_hint
    assert not LtiUser.objects.exists()


# Guests


@pytest.mark.parametrize("nobody", [None, ""])
def test_a_launch_of_nobody_has_an_account_of_its_own(lms, nobody):
    guests = {account(lms, user_id=nobody) for _visit in range(3)}
    assert len(guests) == 3
    assert set(LtiUser.objects.values_list("lti_user_id", flat=True)) == {""}


def test_a_guest_of_one_browser_is_not_the_next_ones(client, lms):
    lms.launch(client, "/content/", user_id=None)
    first = client.session["_auth_user_id"]
    page = lms.launch(client, "/content/", user_id=None)
    assert "You are already signed in" in page.content.decode()
    assert client.session["_auth_user_id"] == first


def test_a_user_id_of_blanks_is_somebody(lms):
    assert account(lms, user_id=" ") == account(lms, user_id=" ")
    assert account(lms, user_id=" ") != account(lms, user_id="  ")


# Personal data

CANARIES = {
    "lis_person_name_given": "canary-given",
    "lis_person_name_family": "canary-family",
    "lis_person_name_full": "canary-full",
    "lis_person_contact_email_primary": "canary-email@lms.example",
    "lis_person_sourcedid": "canary-sourcedid",
    "user_image": "https://lms.example/canary-image",
    "ext_user_username": "canary-ext",
    "custom_canvas_user_login_id": "canary-login",
}


def where_canaries_are() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            text = repr(cursor.fetchall())
            if table == "django_session":
                text = repr([session.get_decoded() for session in Session.objects.all()])
            if seen := {name for name, value in CANARIES.items() if value in text}:
                found[table] = seen
    return found


def launch_and_refuse(lms: FakeLms) -> None:
    lms.fields.update(CANARIES)
    launch(lms)
    launch(lms, resource_link_id="another")
    lms.post(Client(), "/nowhere/")
    lms.post(Client(), "/content/", lti_version="2")
    secret, lms.consumer.consumer_secret = lms.consumer.consumer_secret, "wrong"
    assert lms.post(Client(), "/content/").status_code == 401
    lms.consumer.consumer_secret = secret
    assert LtiLaunch.objects.refused().count() == 3


def test_by_default_nothing_of_a_person_is_stored_anywhere(lms):
    launch_and_refuse(lms)
    assert where_canaries_are() == {}


def test_with_names_only_names_are_stored(named_lms):
    launch_and_refuse(named_lms)
    names = {"lis_person_name_given", "lis_person_name_family"}
    assert where_canaries_are() == {
        "auth_user": names,
        "lti_provider_ltilaunch": names | {"lis_person_name_full"},
    }


def test_with_names_and_addresses_both_are_stored(mailing_lms):
    launch_and_refuse(mailing_lms)
    found = where_canaries_are()
    assert found.keys() == {"auth_user", "lti_provider_ltilaunch"}
    assert found["auth_user"] == {
        "lis_person_name_given",
        "lis_person_name_family",
        "lis_person_contact_email_primary",
    }


def test_what_is_not_kept_is_not_in_request_lti_either(lms, named_lms):
    kept_nothing = launch(lms, **CANARIES).message
    assert kept_nothing.person.full_name == ""
    assert kept_nothing.person.email == ""
    assert "canvas_user_login_id" not in kept_nothing.custom
    kept_names = launch(named_lms, **CANARIES).message
    assert kept_names.person.full_name == "canary-full"
    assert kept_names.person.email == ""


def test_another_name_at_the_lms_is_another_name_here(mailing_lms):
    before = account(mailing_lms)
    assert (before.first_name, before.last_name) == ("Robin", "Doe")
    assert before.email == "robin.doe@lms.example"
    after = account(
        mailing_lms,
        lis_person_name_full="Kim Roe",
        lis_person_name_given="Kim",
        lis_person_name_family="Roe",
        lis_person_contact_email_primary="kim.roe@lms.example",
    )
    assert after == before
    assert (after.first_name, after.last_name, after.email) == ("Kim", "Roe", "kim.roe@lms.example")


def test_what_the_lms_leaves_out_stays(mailing_lms):
    account(mailing_lms)
    after = account(
        mailing_lms,
        lis_person_name_full=None,
        lis_person_name_given=None,
        lis_person_name_family="",
        lis_person_contact_email_primary=" ",
    )
    assert (after.first_name, after.last_name) == ("Robin", "Doe")
    assert after.email == "robin.doe@lms.example"


def test_a_policy_that_is_loosened_counts_at_the_next_launch(lms):
    assert account(lms).first_name == ""
    lms.consumer.personal_data = "name"
    lms.consumer.save()
    assert account(lms).first_name == "Robin"


@pytest.mark.parametrize(
    ("policy", "kept"), [("none", ("", "")), ("name", ("Robin", "")), ("name_email", None)]
)
def test_a_policy_that_is_tightened_counts_at_once(client, mailing_lms, policy, kept):
    url = mailing_lms.post(client, "/content/")["Location"]
    mailing_lms.consumer.personal_data = policy
    mailing_lms.consumer.save()
    client.get(url, headers=navigation(framed=False))
    user = LtiUser.objects.get().user
    assert (user.first_name, user.email) == (kept or ("Robin", "robin.doe@lms.example"))


def test_names_that_are_too_long_are_cut(named_lms):
    user = account(named_lms, lis_person_name_given="é" * 151, lis_person_name_family="ï" * 1000)
    assert user.first_name == "é" * 150
    assert user.last_name == "ï" * 150


@pytest.mark.parametrize("address", [f"{'a' * 250}@lms.example", "robin", "@", "a b@lms.example"])
def test_addresses_that_are_none_are_left_out(mailing_lms, address):
    user = account(mailing_lms, lis_person_contact_email_primary=address)
    assert user.email == ""
    assert user.first_name == "Robin"


def test_accounts_without_a_launch_keep_their_names(mailing_lms, django_user_model):
    django_user_model.objects.create_user("ada", "robin.doe@lms.example", first_name="Ada")
    account(mailing_lms)
    assert django_user_model.objects.get(username="ada").first_name == "Ada"


# Hooks


class SchoolBackend(LtiBackend):
    def create_user(self, launch: LtiLaunch):
        user = super().create_user(launch)
        user.username = f"pupil-{launch.message.person.user_id}"
        user.save()
        return user

    def update_user(self, user, launch: LtiLaunch) -> None:
        super().update_user(user, launch)
        user.last_name = launch.message.context.title
        user.save(update_fields=["last_name"])


class TakenBackend(LtiBackend):
    names = ["taken", "free"]

    def _generate_name(self, model, field_name: str) -> str:
        return self.names.pop(0)


class OneForAllBackend(LtiBackend):
    def create_user(self, launch: LtiLaunch):
        return LtiUser.objects.earliest("pk").user


def test_a_site_may_make_accounts_its_own_way(lms, settings):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.SchoolBackend"]
    user = account(lms, user_id="robin", context_title="Algebra")
    assert (user.username, user.last_name) == ("pupil-robin", "Algebra")
    assert account(lms, user_id="robin", context_title="Music").last_name == "Music"


def test_an_account_whose_data_another_one_has_is_made_without(
    mailing_lms, settings, django_user_model
):
    django_user_model.objects.create_user("taken")
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.TakenBackend"]
    user = account(mailing_lms)
    assert (user.username, user.first_name) == ("free", "Robin")


def test_a_site_whose_own_way_fails_is_told_what_failed(lms, settings):
    account(lms)
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.OneForAllBackend"]
    with pytest.raises(IntegrityError):
        lms.launch(Client(), "/content/", user_id="another")
    assert LtiUser.objects.count() == 1


def test_the_backend_leaves_other_sign_ins_alone(client, django_user_model):
    django_user_model.objects.create_user("ada", password="lovelace")
    assert client.login(username="ada", password="lovelace")
    assert not client.login(username="ada", password="byron")


def test_a_deactivated_accounts_session_ends(client, lms, django_user_model):
    lms.launch(client, "/content/")
    assert "lti-" in client.get("/content/").content.decode()
    django_user_model.objects.update(is_active=False)
    assert "AnonymousUser" in client.get("/content/").content.decode()


# Roles and places


def test_a_demotion_counts_at_the_next_launch(lms):
    assert launch(lms, roles="Instructor").message.is_instructor
    demoted = launch(lms, roles="Learner")
    assert not demoted.message.is_instructor
    assert demoted.message.is_learner
    assert not launch(lms, roles=None).message.roles


def test_places_are_renamed_as_the_lms_renames_them(lms):
    before = launch(lms)
    assert (before.context.title, before.context.label) == ("Algebra", "ALG-1")
    assert before.resource_link.title == "Linear equations"
    after = launch(
        lms, context_title="Algèbre", context_label="ALG-2", resource_link_title="Équations"
    )
    assert after.context == before.context
    assert (after.context.title, after.context.label) == ("Algèbre", "ALG-2")
    assert after.resource_link == before.resource_link
    assert after.resource_link.title == "Équations"


@pytest.mark.parametrize("absent", [None, ""])
def test_a_title_that_is_left_out_renames_nothing(lms, absent):
    launch(lms)
    after = launch(lms, context_title=absent, context_label=absent, resource_link_title=absent)
    assert (after.context.title, after.context.label) == ("Algebra", "ALG-1")
    assert after.resource_link.title == "Linear equations"


def test_titles_that_are_too_long_are_cut(lms):
    first = launch(lms, context_title="é" * 256, resource_link_title="ï" * 1000)
    assert first.context.title == "é" * 255
    assert first.resource_link.title == "ï" * 255
    again = launch(lms, context_title="ç" * 256, resource_link_title="ï" * 1000)
    assert again.context.title == "ç" * 255


def test_the_same_link_id_in_two_courses_is_two_links(lms):
    one = launch(lms, context_id="a", resource_link_id="1", resource_link_title="One")
    two = launch(lms, context_id="b", resource_link_id="1", resource_link_title="Two")
    assert one.resource_link != two.resource_link
    one.resource_link.refresh_from_db()
    assert one.resource_link.title == "One"


def test_course_and_link_ids_do_not_run_into_each_other(lms):
    one = launch(lms, context_id="a", resource_link_id="bc")
    two = launch(lms, context_id="ab", resource_link_id="c")
    assert one.resource_link != two.resource_link


def test_a_launch_without_a_course_has_a_link_all_the_same(lms):
    launched = launch(lms, context_id=None)
    assert launched.context is None
    assert launched.resource_link.title == "Linear equations"
    assert launch(lms, context_id="").resource_link == launched.resource_link
    assert not LtiContext.objects.exists()


@pytest.mark.parametrize("make", PROFILES)
def test_each_make_of_lms_has_its_learner_and_its_course(make):
    lms = FakeLms.create(make)
    launched = launch(lms)
    assert launched.lti_user.lti_user_id == lms.fields["user_id"]
    assert launched.context.context_id == lms.fields["context_id"]
    assert launched.message.is_learner
    assert not launched.message.is_instructor

import unicodedata

import pytest
from django.contrib.auth import SESSION_KEY, get_user_model
from django.test import Client

from lti_provider.models import LtiConsumer, LtiLaunch, LtiUser
from lti_provider.testing import FakeLms
from tests.connecting import (
    OWN_PAGE,
    PASSWORD,
    TOP_LEVEL,
    Course,
    Window,
    attribute,
    connect,
    text_of,
    to_confirmation,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_with_accounts")]

LOCAL = "django.contrib.auth.backends.ModelBackend"
ADDRESS = "robin.doe@lms.example"


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", consumer_name="Campus", require_user_account=True)


@pytest.fixture
def foreign_lms() -> FakeLms:
    """An LMS whose people may write any address into their profiles."""
    return FakeLms.create("moodle", consumer_name="Foreign", require_user_account=True)


def add_user(username: str, email: str = "", **fields):
    return get_user_model().objects.create_user(username, email, PASSWORD, **fields)


@pytest.fixture
def robin():
    return add_user("robin", ADDRESS)


@pytest.fixture
def victim(robin) -> Window:
    """The browser of Robin, who is signed in on the site."""
    window = Window()
    window.client.force_login(robin, LOCAL)
    return window


def nothing_is_connected() -> bool:
    return not LtiUser.objects.exists()


def question_of(course: Course, username: str, **changes):
    return to_confirmation(Window(), course.open(**changes), username)


def is_asked(page) -> bool:
    return page.status_code == 200 and "Connect your account?" in text_of(page)


def code_of(page) -> str:
    assert page.status_code == 403
    return text_of(page).rpartition(" ")[2]


# Another site, another browser


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://testserver.evil", ""])
def test_another_site_cannot_post_the_start_form(course, victim, origin):
    page = victim.start(course.open(), Origin=origin)
    assert page.status_code == 403
    assert "foreign_origin" in text_of(page)
    assert not page.cookies
    assert nothing_is_connected()


def test_a_start_form_without_an_origin_is_no_page_of_ours(course, victim):
    page = victim.client.post(attribute(course.open(), "action"), {"framed": "1"})
    assert "foreign_origin" in text_of(page)


def test_the_way_is_not_started_by_a_link(course, victim):
    assert victim.client.get(attribute(course.open(), "action")).status_code == 405


def test_a_mailed_link_is_worth_nothing(course, window, victim, robin):
    question = to_confirmation(window, course.open(), "robin")
    mailed = question.wsgi_request.get_full_path()
    page = victim.get(mailed)
    assert page.status_code == 403
    assert "other_browser" in text_of(page)
    posted = victim.client.post(mailed, {"confirm": ""}, headers=OWN_PAGE)
    assert posted.status_code == 403
    assert nothing_is_connected()


def test_a_confirmation_needs_the_token_of_the_page(course, window, robin):
    question = to_confirmation(window, course.open(), "robin")
    url = question.wsgi_request.get_full_path()
    for button in ("confirm", "another", "decline"):
        assert window.client.post(url, {button: ""}, headers=OWN_PAGE).status_code == 403
    assert nothing_is_connected()
    assert window.client.session.get(SESSION_KEY) == str(robin.pk)


def test_ending_a_connection_needs_the_token_of_the_page(lms, victim):
    connect(lms, "robin")
    posted = victim.client.post("/lti/connections/", {"connection": str(LtiUser.objects.get().pk)})
    assert posted.status_code == 403
    assert LtiUser.objects.get().is_connected


@pytest.mark.parametrize("way", ["question", "refused", "launched", "used", "unknown"])
def test_no_page_of_the_window_can_be_framed(lms, window, robin, way):
    course = Course(lms)
    question = to_confirmation(window, course.open(), "robin")
    url = question.wsgi_request.get_full_path()
    if way == "refused":
        robin.email = ""
        robin.save()
    if way == "launched":
        LtiConsumer.objects.update(require_user_account=False)
        window.client.logout()
        window.follow(lms.post(window.client, "/content/", user_id="anonymous"))
        LtiConsumer.objects.update(require_user_account=True)
    if way == "used":
        LtiLaunch.objects.earliest("pk").claim()
    if way == "unknown":
        url = "/lti/account/nobody/"
    page = window.client.get(url, headers=TOP_LEVEL)
    assert page["X-Frame-Options"] == "DENY"


def test_the_list_of_connections_cannot_be_framed(victim):
    page = victim.get("/lti/connections/")
    assert page["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]


def test_only_the_lms_frames_the_page_that_asks(course):
    policy = course.open()["Content-Security-Policy"]
    assert "frame-ancestors 'self' https://lms.example" in policy


def test_the_page_that_asks_at_top_level_cannot_be_framed(lms, window):
    page = window.follow(lms.post(window.client, "/content/"))
    assert page["X-Frame-Options"] == "DENY"


def test_a_frame_whose_browser_shares_its_cookies_does_not_show_the_question(course, victim):
    started = victim.start(course.open())
    framed = victim.client.get(started["Location"], headers={"Sec-Fetch-Dest": "iframe"})
    assert framed["X-Frame-Options"] == "DENY"


# Somebody else's address


def test_an_address_alone_connects_nobody(lms, robin):
    for framed in (True, False):
        client = Client()
        page = lms.launch(client, "/content/", framed=framed)
        assert "Sign in to open this activity" in text_of(page)
        assert client.session.get(SESSION_KEY) is None
    assert nothing_is_connected()


def test_with_the_victim_signed_in_it_ends_at_a_page_that_names_the_stranger(foreign_lms, victim):
    form = {
        "lis_person_name_full": "Mallory M.",
        "lis_person_contact_email_primary": ADDRESS,
        "user_id": "mallory",
    }
    for _time in range(2):
        page = victim.follow(foreign_lms.post(victim.client, "/content/", **form))
        assert is_asked(page)
        assert "Mallory M." in text_of(page)
        assert "Foreign" in text_of(page)
        assert "robin" in text_of(page)
    assert nothing_is_connected()
    assert victim.client.session[SESSION_KEY]
    assert not page.wsgi_request.lti


def test_with_the_victim_signed_in_a_frame_connects_nothing(foreign_lms, victim):
    page = foreign_lms.launch(
        victim.client, "/content/", framed=True, lis_person_contact_email_primary=ADDRESS
    )
    assert "Sign in to open this activity" in text_of(page)
    assert nothing_is_connected()


def test_a_session_that_a_launch_made_is_no_sign_in(lms, foreign_lms, robin):
    connect(lms, "robin")
    browser = Window()
    lms.launch(browser.client, "/content/")
    assert browser.client.session[SESSION_KEY] == str(robin.pk)
    changes = {"lis_person_contact_email_primary": ADDRESS, "user_id": "mallory"}
    page = browser.follow(foreign_lms.post(browser.client, "/content/", **changes))
    assert "Sign in to open this activity" in text_of(page)
    path = page.wsgi_request.get_full_path()
    forced = browser.client.post(
        path,
        {"confirm": "", "csrfmiddlewaretoken": attribute(page, 'csrfmiddlewaretoken" value')},
        headers=OWN_PAGE,
    )
    assert "Sign in to open this activity" in text_of(forced)
    assert LtiUser.objects.filter(lti_user_id="mallory").count() == 0
    question = browser.sign_in(browser.press(page, "another"), "robin")
    assert is_asked(question)


def test_a_sign_in_in_a_session_that_a_launch_made_is_one(lms, foreign_lms, robin):
    connect(lms, "robin")
    browser = Window()
    lms.launch(browser.client, "/content/")
    browser.client.login(username="robin", password=PASSWORD)
    changes = {"lis_person_contact_email_primary": ADDRESS}
    assert is_asked(browser.follow(foreign_lms.post(browser.client, "/content/", **changes)))


# Addresses that look alike

SAME = [
    ADDRESS,
    "Robin.Doe@LMS.example",
    "ROBIN.DOE@LMS.EXAMPLE",
    "\uff52obin.doe@lms.example",
    "robin.doe\uff20lms.example",
    " robin.doe@lms.example ",
]
DIFFERENT = [
    "rob\u0131n.doe@lms.example",
    "rob\u0456n.doe@lms.example",
    "robin.döe@lms.example",
    "róbin.doe@lms.example",
    "robindoe@lms.example",
    "robin.doe@lms.example.evil.example",
    "robin.doe@lms.exampl\u0435",
    "robin.doe+x@lms.example",
    "robin_doe@lms.example",
    "robin%doe@lms.example",
    "%",
    "_",
    ".*",
    "'; --",
    "robin.doe@lms.example\u200b",
]
#: What an account has, what the LMS sends, and whether that is the same address.
OTHER_LETTERS = [
    ("kelvin@x.example", "\u212aelvin@x.example", True),
    ("KELVIN@x.example", "\u212aelvin@x.example", True),
    ("\u212aelvin@x.example", "kelvin@x.example", True),
    ("straße@x.example", "STRASSE@x.example", True),
    ("strasse@x.example", "straße@x.example", True),
    ("ﬁle@x.example", "file@x.example", True),
    ("i@x.example", "\u0131@x.example", False),
    ("\u0131@x.example", "I@x.example", False),
    ("İ@x.example", "i@x.example", False),
    ("Ωmega@x.example", "ωMEGA@x.example", True),
    ("ς@x.example", "Σ@x.example", True),
    (unicodedata.normalize("NFD", "zoë@x.example"), "ZOË@x.example", True),
    ("zoe@x.example", "zoë@x.example", False),
    ("robin@x.example ", "robin@x.example", False),
    ("\u03b1\u0345\u0301@x.example", "\u1fb4@x.example", True),
]


@pytest.mark.parametrize("sent", SAME)
def test_case_and_compatible_forms_are_the_same_address(course, robin, sent):
    page = question_of(course, "robin", lis_person_contact_email_primary=sent)
    assert is_asked(page)


@pytest.mark.parametrize("sent", DIFFERENT)
def test_lookalikes_are_another_address(course, robin, sent):
    page = question_of(course, "robin", lis_person_contact_email_primary=sent)
    assert code_of(page) == "account_mismatch"
    assert nothing_is_connected()


@pytest.mark.parametrize(("stored", "sent", "same"), OTHER_LETTERS)
def test_letters_fold_alike_on_every_database(course, stored, sent, same):
    add_user("robin", "x")
    get_user_model().objects.filter(username="robin").update(email=stored)
    page = question_of(course, "robin", lis_person_contact_email_primary=sent)
    assert is_asked(page) == same


@pytest.mark.parametrize("twin", [ADDRESS, ADDRESS.upper(), "\uff52obin.doe@lms.example"])
def test_an_address_of_several_accounts_is_nobodys(course, robin, twin):
    add_user("twin", twin)
    for username in ("robin", "twin"):
        assert code_of(question_of(course, username)) == "account_mismatch"


def test_an_inactive_twin_does_not_count(course, robin):
    add_user("twin", ADDRESS, is_active=False)
    assert is_asked(question_of(course, "robin"))


def test_an_account_without_an_address_is_not_that_of_a_launch_without_one(lms, window):
    add_user("nobody", "")
    page = question_of(Course(lms), "nobody")
    assert code_of(page) == "account_mismatch"


def test_an_address_that_another_lms_gave_to_an_anonymous_account_does_not_count(course, robin):
    other = FakeLms.create("moodle", personal_data="name_email")
    other.launch(Client(), "/content/", lis_person_contact_email_primary=ADDRESS)
    assert get_user_model().objects.filter(email=ADDRESS).count() == 2
    assert is_asked(question_of(course, "robin"))


def test_a_launched_account_that_somebody_signs_in_with_does_count(course, robin):
    other = FakeLms.create("moodle", personal_data="name_email")
    other.launch(Client(), "/content/", lis_person_contact_email_primary=ADDRESS)
    grown = LtiUser.objects.get().user
    grown.set_password(PASSWORD)
    grown.save()
    assert code_of(question_of(course, "robin")) == "account_mismatch"


def test_a_nul_in_an_address_is_refused(lms):
    page = lms.post(Client(), "/content/", lis_person_contact_email_primary="robin\0@lms.example")
    assert page.status_code in (303, 400)
    assert "/enter/" not in page.get("Location", "")


# Accounts that are not to be connected


def test_staff_and_superusers_are_refused_whoever_they_say_they_are(course):
    add_user("staff", ADDRESS, is_staff=True)
    assert code_of(question_of(course, "staff")) == "staff_account"
    get_user_model().objects.update(is_staff=False, is_superuser=True)
    assert code_of(question_of(course, "staff")) == "staff_account"
    LtiConsumer.objects.update(account_match="any")
    assert code_of(question_of(course, "staff")) == "staff_account"
    assert nothing_is_connected()


def test_staff_are_connected_only_where_the_consumer_says_so(lms):
    lms.consumer.allow_staff = True
    lms.consumer.save()
    add_user("staff", ADDRESS, is_staff=True)
    connect(lms, "staff")
    assert LtiUser.objects.get().user.is_staff


def test_an_account_that_is_deactivated_on_the_way_is_signed_out(course, window, robin):
    question = to_confirmation(window, course.open(), "robin")
    robin.is_active = False
    robin.save()
    page = window.press(question, "confirm")
    assert page.wsgi_request.path == "/accounts/login/"
    assert nothing_is_connected()


def test_an_inactive_account_is_refused_where_the_site_signs_it_in(settings, course, robin):
    settings.AUTHENTICATION_BACKENDS = [
        "django.contrib.auth.backends.AllowAllUsersModelBackend",
        "lti_provider.backends.LtiBackend",
    ]
    robin.is_active = False
    robin.save()
    window = Window()
    window.client.force_login(robin, settings.AUTHENTICATION_BACKENDS[0])
    page = window.follow(window.start(course.open()))
    assert code_of(page) == "account_mismatch"
    assert "This account is deactivated. Sign in with another one." in text_of(page)


def test_an_account_without_a_password_may_be_connected_where_somebody_signed_in_with_it(course):
    user = get_user_model().objects.create_user("single-sign-on", ADDRESS)
    window = Window()
    window.client.force_login(user, LOCAL)
    assert not user.has_usable_password()
    assert is_asked(window.follow(window.start(course.open())))


def test_such_an_account_is_found_after_connections_too(lms, course):
    """Neither its own connection nor anybody else's makes it one that a launch made."""
    user = get_user_model().objects.create_user("single-sign-on", ADDRESS)
    get_user_model().objects.create_user("colleague", "colleague@school.example")
    window = Window()
    window.client.force_login(user, LOCAL)
    window.press(window.follow(window.start(course.open())), "confirm")
    assert LtiUser.objects.get().user == user
    elsewhere = FakeLms.create("moodle", require_user_account=True)
    sent = {"lis_person_contact_email_primary": ADDRESS}
    assert is_asked(window.follow(window.start(Course(elsewhere).open(**sent))))
    window.client.force_login(get_user_model().objects.get(username="colleague"), LOCAL)
    sent = {"lis_person_contact_email_primary": "colleague@school.example", "user_id": "colleague"}
    assert is_asked(window.follow(window.start(Course(lms).open(**sent))))


def test_the_account_of_one_person_does_not_become_anothers(lms, robin):
    connect(lms, "robin")
    assert code_of(question_of(Course(lms), "robin", user_id="mallory")) == "already_connected"
    LtiConsumer.objects.update(account_match="any")
    assert code_of(question_of(Course(lms), "robin", user_id="mallory")) == "already_connected"


def test_a_person_who_is_connected_meanwhile_keeps_that_account(lms, robin):
    LtiConsumer.objects.update(account_match="any")
    add_user("kim")
    slow, window = Course(lms), Window()
    question = to_confirmation(window, slow.open(), "kim")
    connect(lms, "robin")
    window.press(question, "confirm")
    assert LtiUser.objects.get().user == robin


def test_an_lms_that_is_switched_off_meanwhile_connects_nobody(lms, window, robin):
    course = Course(lms)
    ask = course.open()
    question = to_confirmation(window, ask, "robin")
    lms.consumer.is_active = False
    lms.consumer.save()
    page = window.press(question, "confirm")
    assert "lti_errorlog=consumer_inactive" in page["Location"]
    assert course.state(ask) == "ended"
    assert nothing_is_connected()


# No oracle

PEOPLE = ["nobody", "one", "several", "inactive", "no password", "staff", "connected", "anonymous"]


def populate(kind: str, lms: FakeLms) -> None:
    if kind in ("one", "several", "connected"):
        add_user("owner", ADDRESS)
    if kind == "several":
        add_user("second owner", ADDRESS)
    if kind == "inactive":
        add_user("owner", ADDRESS, is_active=False)
    if kind == "no password":
        get_user_model().objects.create_user("owner", ADDRESS)
    if kind == "staff":
        add_user("owner", ADDRESS, is_staff=True)
    if kind == "connected":
        connect(lms, "owner", user_id="the owner")
    if kind == "anonymous":
        other = FakeLms.create("moodle", personal_data="name_email")
        other.launch(Client(), "/content/", lis_person_contact_email_primary=ADDRESS)


def without_tokens(page) -> str:
    """The page's text, less what differs from launch to launch and form to form."""
    text = page.content.decode()
    handle = page.wsgi_request.resolver_match.kwargs["handle"]
    for varying in ('csrfmiddlewaretoken" value', "data-secret"):
        if varying in text:
            text = text.replace(attribute(page, varying), "")
    return text.replace(handle, "")


def pages_of_a_stranger(lms: FakeLms) -> list[str]:
    """What somebody sees who writes an address into the profile and signs in as oneself."""
    course, window = Course(lms), Window()
    ask = course.open(user_id="stranger")
    refused = to_confirmation(window, ask, "stranger")
    again = window.submit(refused, confirm="")
    pages = (ask, refused, again)
    statuses = [str(page.status_code) for page in pages]
    return [*statuses, *map(without_tokens, pages), course.state(ask)]


@pytest.mark.parametrize("kind", PEOPLE[1:])
def test_no_page_tells_whether_an_address_has_an_account(lms, kind):
    add_user("stranger", "stranger@other.example")
    before = pages_of_a_stranger(lms)
    populate(kind, lms)
    assert pages_of_a_stranger(lms) == before


def test_the_sign_in_page_is_not_told_the_address(course, window, robin):
    login = window.follow(window.start(course.open()))
    assert ADDRESS not in login.content.decode()
    assert "robin" not in login.content.decode().lower()


# Handles


def test_a_handle_that_was_used_connects_nothing(course, window, robin):
    ask = course.open()
    question = to_confirmation(window, ask, "robin")
    window.press(question, "confirm")
    course.look_again(ask)
    LtiUser.objects.all().delete()
    page = window.press(question, "confirm")
    assert nothing_is_connected()
    assert "You can close this window." in text_of(page)
    assert window.start(ask).status_code == 410
    stranger = Window().client.get(question.wsgi_request.get_full_path(), headers=TOP_LEVEL)
    assert stranger.status_code == 410


@pytest.mark.parametrize("handle", ["x", "a" * 5000, "é", "%00", "' OR 1=1 --"])
def test_a_handle_that_nobody_issued_leads_nowhere(client, handle):
    for url in (f"/lti/account/{handle}/", f"/lti/account/{handle}/state/"):
        assert client.get(url).status_code == 404
    assert client.post(f"/lti/account/{handle}/start/", headers=OWN_PAGE).status_code == 404


def test_the_window_of_one_launch_does_not_confirm_another(lms, window, robin):
    first = to_confirmation(window, Course(lms).open(), "robin")
    stolen = Course(lms).open(user_id="mallory", lis_person_name_full="Mallory")
    handle = attribute(stolen, "action").split("/")[-3]
    own = first.wsgi_request.resolver_match.kwargs["handle"]
    url = first.wsgi_request.get_full_path().replace(own, handle)
    assert "other_browser" in text_of(window.client.get(url, headers=TOP_LEVEL))
    assert nothing_is_connected()


# Markup


def test_what_an_lms_calls_people_is_text(course, window, robin):
    names = {
        "lis_person_name_full": "<script>alert(1)</script>",
        "user_id": "\"><img src=x onerror='1'>",
        "tool_consumer_instance_name": "<b>School</b>",
    }
    ask = course.open(**names)
    question = to_confirmation(window, ask, "robin")
    for page in (ask, question):
        assert b"<script>alert" not in page.content
        assert b"<b>School" not in page.content
        assert b"<img" not in page.content

import logging
from urllib.parse import quote, urlencode

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.log import AdminEmailHandler

from lti_provider import exceptions
from lti_provider.backends import LtiBackend
from lti_provider.lti11.signature import _Client
from lti_provider.models import LtiConsumer, LtiContext, LtiLaunch, LtiResourceLink, LtiUser
from lti_provider.signals import launch_refused, user_launched
from lti_provider.testing import FakeLms
from lti_provider.views import LaunchView
from tests import rfc5849
from tests.test_refusals import REFUSALS, post  # noqa: F401
from tests.urls import urlpatterns as site

FORM = "application/x-www-form-urlencoded"
TOP_LEVEL = {"Sec-Fetch-Dest": "document"}
#: In everything that nobody may find, as it is and in every encoding that leaves ASCII alone.
CANARY = "c4n4ry"
PERSONAL = {
    "lis_person_name_full": f"{CANARY} Doe",
    "lis_person_name_given": CANARY,
    "lis_person_name_family": f"{CANARY}-Doe",
    "lis_person_name_middle": CANARY,
    "lis_person_contact_email_primary": f"{CANARY}@lms.example",
    "lis_person_sourcedid": f"sis-{CANARY}",
    "user_image": f"https://lms.example/{CANARY}.png",
    "custom_canvas_user_login_id": CANARY,
    "ext_user_username": CANARY,
    "ext_d2l_username": CANARY,
    "email": f"{CANARY}@lms.example",
}

pytestmark = pytest.mark.django_db


class CarelessLaunchView(LaunchView):
    def get_success_url(self):
        email = self.message.person.email
        raise RuntimeError(f"a bug of the site, {len(email)} characters from here")


class CarelessBackend(LtiBackend):
    def update_user(self, user, launch):
        email, secret = launch.message.person.email, launch.lti_consumer.consumer_secret
        raise RuntimeError(f"a bug of the site, {len(email + secret)} characters from here")


def careless_receiver(**told):
    launch, refusal = told.get("launch"), told.get("refusal")
    message = launch.message if launch else refusal.message
    email = message.person.email if message else ""
    raise RuntimeError(f"a bug of the site, {len(email)} characters from here")


urlpatterns = [path("lti/careless/", CarelessLaunchView.as_view()), *site]


@pytest.fixture(params=["none", "name", "name_email"])
def lms(request, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    LtiConsumer.objects.create(consumer_name="other", consumer_secret=f"other-{CANARY}")
    secret = f"secret-{CANARY}"
    lms = FakeLms.create(consumer_key="known", consumer_secret=secret, personal_data=request.param)
    lms.fields |= PERSONAL
    return lms


@pytest.fixture
def everything_logged(caplog):
    """All that any logger was told, at any level, with its arguments and tracebacks."""
    caplog.set_level(logging.DEBUG)
    for name in ("django", "django.request", "django.security", "oauthlib", "lti_provider"):
        caplog.set_level(logging.DEBUG, name)

    def text():
        formatter = logging.Formatter()
        return "\n".join(
            f"{formatter.format(record)} {vars(record)!r}"
            for record in caplog.records
            # With DEBUG it has all SQL, so what the policy keeps.
            if record.name != "django.db.backends"
        )

    return text


@pytest.fixture
def client():
    return Client(raise_request_exception=False)


class KeptMail(AdminEmailHandler):
    """Django's mail of an error to the administrators, kept instead of sent."""

    def __init__(self):
        super().__init__(include_html=True)
        self.setLevel(logging.ERROR)
        self.kept = []

    def send_mail(self, subject, message, *args, html_message=None, **kwargs):
        self.kept += [subject, message, html_message]


@pytest.fixture
def mailed():
    handler = KeptMail()
    logging.getLogger("django").addHandler(handler)
    yield lambda: "\n".join(handler.kept)
    logging.getLogger("django").removeHandler(handler)


def assert_silent(*texts, signature=""):
    for text in texts:
        found = text.decode() if isinstance(text, bytes) else text
        assert CANARY not in found
        for spelled in (signature, quote(signature, safe=""), quote(quote(signature, safe=""))):
            assert not signature or spelled not in found


@pytest.fixture
def assert_nothing_in_reports(client, settings, mailed, everything_logged):
    """Do something that fails, in production and with DEBUG: whoever reads of it finds nothing."""

    def fail(happens, status=500, signature=""):
        for debug in (False, True):
            settings.DEBUG = debug
            response = happens()
            assert response.status_code == status
            assert ("Traceback" in response.text) is debug
            assert_silent(response.content, everything_logged(), mailed(), signature=signature)
        assert "Traceback" in mailed()

    return fail


def signature_of(pairs):
    return dict(pairs)["oauth_signature"]


@pytest.mark.parametrize("framed", [False, True])
def test_an_accepted_launch_leaves_nothing_in_any_log(client, lms, everything_logged, framed):
    pairs = lms.sign()
    headers = {"Sec-Fetch-Dest": "iframe" if framed else "document"}

    response = client.post("/lti/launch/", urlencode(pairs), content_type=FORM, headers=headers)
    response = client.get(response["Location"], headers=headers)
    page = client.get(response["Location"], headers=headers)

    assert page.content.startswith(b"content/")
    assert "user_launched" in everything_logged()
    assert_silent(everything_logged(), page.content, signature=signature_of(pairs))


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_leaves_nothing_in_any_log(client, lms, post, everything_logged, code):  # noqa: F811
    key, secret = lms.consumer.consumer_key, lms.consumer.consumer_secret

    def post_with_canaries(**changes):
        return post(**{"key": key, "secret": secret} | changes)

    response = REFUSALS[code][0](post_with_canaries, lms, client)

    assert f"launch_refused code={code}" in everything_logged()
    assert_silent(response.content, str(response.headers), everything_logged())
    for row in LtiLaunch.objects.refused():
        assert_silent(row.refusal_hint, row.signed_text, row.launch_url)


def test_what_the_log_keeps_is_what_the_policy_says(client, lms, post):  # noqa: F811
    secret = lms.consumer.consumer_secret
    post(secret=secret)
    post(secret=secret, resource_link_id="")

    names = {"full_name", "given_name", "family_name"}
    kept = {"none": set(), "name": names, "name_email": {*names, "email"}}[
        lms.consumer.personal_data
    ]
    for launch in LtiLaunch.objects.all():
        person = launch.stored_message["person"]
        assert {name for name, value in person.items() if CANARY in value} == kept
        assert repr(launch.stored_message).count(CANARY) == len(kept)


def test_an_account_keeps_what_the_policy_says(client, lms):
    lms.launch(client)

    user = LtiUser.objects.get().user
    shown = {
        "none": ("", "", ""),
        "name": (CANARY, f"{CANARY}-Doe", ""),
        "name_email": (CANARY, f"{CANARY}-Doe", f"{CANARY}@lms.example"),
    }
    assert (user.first_name, user.last_name, user.email) == shown[lms.consumer.personal_data]
    assert_silent(user.get_username())


@pytest.mark.parametrize("host", ["evil.example", "testserver:x"])
def test_a_host_that_is_not_allowed(settings, assert_nothing_in_reports, client, lms, host):
    settings.ALLOWED_HOSTS = ["testserver"]
    pairs = lms.sign()

    def happens():
        body = urlencode(pairs)
        return client.post("/lti/launch/", body, content_type=FORM, headers={"Host": host})

    # Django writes to administrators of this one, and shows its debug page.
    assert_nothing_in_reports(happens, status=400, signature=signature_of(pairs))


def test_a_launch_url_without_its_slash(settings, client, lms, everything_logged):
    settings.DEBUG = True
    pairs = lms.sign()

    response = client.post("/lti/launch", urlencode(pairs), content_type=FORM)

    assert response.status_code == 500
    assert "doesn&#x27;t end in a slash" in response.text
    assert_silent(response.content, everything_logged(), signature=signature_of(pairs))


def test_other_forms_of_the_site_keep_djangos_own_report(settings, client):
    settings.DEBUG = True

    response = client.post("/accounts/login", {"password": "plain"})

    assert response.status_code == 500
    assert "plain" in response.text


def test_a_failing_hook_of_the_site(settings, assert_nothing_in_reports, client, lms):
    settings.ROOT_URLCONF = "tests.test_canaries"

    assert_nothing_in_reports(lambda: client.post(**signed_for("/lti/careless/", lms)))


def signed_for(path, lms):
    pairs = rfc5849.sign(
        f"http://testserver{path}",
        lms.fields.items(),
        key=lms.consumer.consumer_key,
        secret=lms.consumer.consumer_secret,
    )
    return {"path": path, "data": urlencode(pairs), "content_type": FORM, "headers": TOP_LEVEL}


def launch(client, lms):
    return client.get(client.post(**signed_for("/lti/launch/", lms))["Location"], headers=TOP_LEVEL)


def test_a_failing_backend_of_the_site(settings, assert_nothing_in_reports, client, lms):
    settings.AUTHENTICATION_BACKENDS = ["tests.test_canaries.CarelessBackend"]

    assert_nothing_in_reports(lambda: launch(client, lms))


def test_a_failing_receiver_of_launches(assert_nothing_in_reports, client, lms):
    user_launched.connect(careless_receiver)
    try:
        assert_nothing_in_reports(lambda: launch(client, lms))
    finally:
        user_launched.disconnect(careless_receiver)


@pytest.mark.parametrize("changes", [{"resource_link_id": ""}, {"roles": "Learner", "spoil": "x"}])
def test_a_failing_receiver_of_refusals(assert_nothing_in_reports, client, lms, changes):
    sent = signed_for("/lti/launch/", FakeLms(lms.consumer, {**lms.fields, **changes}))
    if "spoil" in changes:
        sent["data"] = sent["data"].replace("spoil=x", "spoil=y")
    launch_refused.connect(careless_receiver)
    try:
        assert_nothing_in_reports(lambda: client.post(**sent))
    finally:
        launch_refused.disconnect(careless_receiver)


def failing_at(number):
    seen = []

    def fail(execute, sql, params, many, context):
        seen.append(sql)
        if len(seen) == number:
            raise OperationalError("the database went away")
        return execute(sql, params, many, context)

    return connection.execute_wrapper(fail)


@pytest.mark.parametrize("number", range(1, 9))
def test_a_database_that_fails_at_any_statement(settings, client, lms, everything_logged, number):
    settings.DEBUG = True
    sent = signed_for("/lti/launch/", lms)
    with failing_at(number):
        response = client.post(**sent)
        assert_silent(response.content)
    if response.status_code == 303:
        with failing_at(number):
            response = client.get(response["Location"], headers=TOP_LEVEL)
            assert_silent(response.content)
    assert_silent(everything_logged())


def test_sql_holds_nothing_that_the_policy_does_not_keep(client, lms):
    LtiConsumer.objects.update(personal_data="none")
    sent = signed_for("/lti/launch/", lms)
    with CaptureQueriesContext(connection) as queries:
        launch(client, lms)
        client.post(**sent | {"data": sent["data"].replace("roles=Learner", "roles=x")})

    assert len(queries) > 10
    assert_silent(str(queries.captured_queries))


def test_nothing_is_in_the_repr_of_anything(client, lms):
    lms.launch(client)
    kept = [
        model.objects.first()
        for model in (LtiConsumer, LtiUser, LtiContext, LtiResourceLink, LtiLaunch)
    ]
    consumer = LtiConsumer.objects.get(consumer_key="known")
    row = LtiLaunch.objects.with_all().get()
    refusals = [
        refusal().with_details(consumer=consumer, message=row.message)
        for refusal in exceptions.LaunchRefused.by_code().values()
    ]

    for thing in (*kept, consumer, row, row.message, *refusals, lms.consumer, _Client(CANARY)):
        assert_silent(repr(thing), str(thing))
    assert_silent(repr(LtiConsumer.objects.all()), repr(LtiLaunch.objects.all()))

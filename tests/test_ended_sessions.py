"""What ends a session that a launch made, and which sessions go on."""

from collections.abc import Callable
from io import BytesIO

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.views import LoginView
from django.contrib.sessions.models import Session
from django.core.asgi import get_asgi_application
from django.core.handlers.base import BaseHandler
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import Client, RequestFactory
from django.urls import include, path

from lti_provider.backends import LtiBackend
from lti_provider.models import LtiConnectionEvent, LtiConsumer, LtiUser
from lti_provider.testing import FakeLms
from tests.connecting import connect

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

LTI, OWN = "lti_provider.backends.LtiBackend", "django.contrib.auth.backends.ModelBackend"


def name_of(user) -> str:
    return user.username if user.is_authenticated else "nobody"


def show(request) -> HttpResponse:
    return HttpResponse(name_of(request.user))


async def ashow(request) -> HttpResponse:
    return HttpResponse(name_of(await request.auser()))


def show_launch(request) -> HttpResponse:
    return HttpResponse("a launch" if request.lti else "nobody")


def stream(request) -> StreamingHttpResponse:
    def chunks():
        yield name_of(request.user)

    return StreamingHttpResponse(chunks())


def send_file(request) -> FileResponse:
    return FileResponse(BytesIO(b"a file"))


async def astream(request) -> StreamingHttpResponse:
    async def chunks():
        yield name_of(await request.auser())

    return StreamingHttpResponse(chunks())


urlpatterns = [
    path("admin/", admin.site.urls),
    path("content/", show),
    path("content/async/", ashow),
    path("content/launch/", show_launch),
    path("content/stream/", stream),
    path("content/file/", send_file),
    path("content/astream/", astream),
    path("lti/", include("lti_provider.urls")),
    path("accounts/login/", LoginView.as_view(template_name="admin/login.html"), name="login"),
]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


@pytest.fixture
def learner(lms) -> Client:
    browser = Client()
    lms.launch(browser, "/content/")
    assert seen(browser).startswith("lti-")
    return browser


def seen(browser: Client, url: str = "/content/") -> str:
    return browser.get(url).getvalue().decode()


def deactivate(lms: FakeLms) -> None:
    LtiConsumer.objects.get(pk=lms.consumer.pk).set_active(False)


def deactivate_for_a_moment(lms: FakeLms) -> None:
    deactivate(lms)
    LtiConsumer.objects.get(pk=lms.consumer.pk).set_active(True)


def deactivate_the_account(lms: FakeLms) -> None:
    get_user_model().objects.update(is_active=False)


def delete_the_person(lms: FakeLms) -> None:
    LtiUser.objects.all().delete()


def erase_the_account(lms: FakeLms) -> None:
    get_user_model().objects.all().delete()


def promote_to_staff(lms: FakeLms) -> None:
    get_user_model().objects.update(is_staff=True)


def promote_to_superuser(lms: FakeLms) -> None:
    get_user_model().objects.update(is_superuser=True)


ENDINGS = [
    deactivate,
    deactivate_for_a_moment,
    deactivate_the_account,
    delete_the_person,
    erase_the_account,
    promote_to_staff,
    promote_to_superuser,
]
ROUTES = ["", "async/", "launch/", "stream/"]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("end", ENDINGS)
def test_the_session_ends_on_every_route(lms, learner, end: Callable[..., None], route):
    end(lms)
    assert seen(learner, f"/content/{route}") == "nobody"


@pytest.mark.parametrize("end", ENDINGS)
def test_nothing_of_it_stays(lms, learner, end):
    key = learner.cookies["sessionid"].value
    end(lms)
    seen(learner)
    assert not Session.objects.filter(session_key=key).exists()


@pytest.fixture
def ada():
    return get_user_model().objects.create_user("ada", "ada@school.example", "secret")


@pytest.fixture
def staff_lms(lms) -> FakeLms:
    lms.consumer.allow_staff = True
    lms.consumer.account_match = "any"
    lms.consumer.require_user_account = True
    lms.consumer.save()
    return lms


def test_a_launched_session_does_not_become_staff(lms, learner):
    get_user_model().objects.update(is_staff=True, is_superuser=True)
    assert learner.get("/admin/").status_code == 302


def test_switching_staff_accounts_off_ends_sessions_of_staff_only(staff_lms, ada):
    get_user_model().objects.filter(pk=ada.pk).update(is_staff=True)
    get_user_model().objects.create_user("kim", "kim@school.example", "secret")
    staff, learner = connect(staff_lms, "ada").frame, connect(staff_lms, "kim", user_id="kim").frame
    assert (seen(staff), seen(learner)) == ("ada", "kim")
    LtiConsumer.objects.update(allow_staff=False)
    assert (seen(staff), seen(learner)) == ("nobody", "kim")


def test_a_sign_in_of_ones_own_goes_on_whatever_ends_the_launches(staff_lms, ada):
    launched = connect(staff_lms, "ada").frame
    own = Client()
    own.post("/accounts/login/", {"username": "ada", "password": "secret"})
    in_both = Client()
    staff_lms.launch(in_both, "/content/")
    in_both.force_login(ada, OWN)
    get_user_model().objects.update(is_staff=True)
    LtiConsumer.objects.update(allow_staff=False)
    assert (seen(launched), seen(own), seen(in_both)) == ("nobody", "ada", "ada")


def test_a_promoted_person_stays_where_staff_may_be_launched(staff_lms, ada):
    frame = connect(staff_lms, "ada").frame
    get_user_model().objects.update(is_staff=True)
    assert seen(frame) == "ada"


@pytest.mark.parametrize("route", ROUTES)
def test_an_ended_connection_stays_ended_when_it_is_made_anew(staff_lms, ada, route):
    old = connect(staff_lms, "ada").frame
    LtiUser.objects.get().disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, ada, None)
    new = connect(staff_lms, "ada").frame
    assert seen(old, f"/content/{route}") == "nobody"
    assert seen(new, f"/content/{route}") != "nobody"


def test_a_second_lms_of_the_account_ends_nothing(staff_lms, ada):
    other = FakeLms.create("moodle", require_user_account=True, account_match="any")
    first, second = connect(staff_lms, "ada").frame, connect(other, "ada").frame
    assert (seen(first), seen(second)) == ("ada", "ada")
    LtiUser.objects.get(lti_consumer=other.consumer).disconnect(
        LtiConnectionEvent.How.BY_ADMINISTRATOR, ada, None
    )
    assert (seen(first), seen(second)) == ("ada", "nobody")


def signed_in_by_the_site(user) -> Client:
    browser = Client()
    browser.force_login(user, LTI)
    return browser


def test_whom_the_site_signs_in_by_our_backend_stays_if_no_lms_ever_knew_the_account(ada):
    browser = signed_in_by_the_site(ada)
    assert seen(browser) == "ada"
    get_user_model().objects.update(is_active=False)
    assert seen(browser) == "nobody"


def test_where_a_launch_signs_in_too_the_site_signs_in_only_what_launches_may(staff_lms, ada):
    connect(staff_lms, "ada")
    browser = signed_in_by_the_site(ada)
    assert seen(browser) == "ada"
    LtiConsumer.objects.update(allow_staff=False)
    get_user_model().objects.update(is_staff=True)
    assert browser.get("/admin/").status_code == 302


@pytest.mark.parametrize("end", [end for end in ENDINGS if end is not deactivate_for_a_moment])
def test_what_ends_a_launchs_session_ends_the_sites_by_our_backend(lms, learner, end):
    browser = signed_in_by_the_site(get_user_model().objects.get())
    assert seen(browser).startswith("lti-")
    if end is delete_the_person:
        connect_to_another()
    else:
        end(lms)
    assert seen(browser) == "nobody"
    assert not browser.session.keys()


def connect_to_another() -> None:
    person = LtiUser.objects.get()
    person.connect_to(get_user_model().objects.create_user("kim"), None)


def test_an_account_whose_connection_was_ended_is_not_signed_in_by_our_backend(staff_lms, ada):
    connect(staff_lms, "ada")
    browser = signed_in_by_the_site(ada)
    LtiUser.objects.get().disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, ada, None)
    assert seen(browser) == "nobody"


MALFORMED = [
    *(None, 1, "text", {}, {"a": 1}),
    *([], [[]], [LTI], [1, 0], [LTI, 1, 0], [LTI, 1, 0, 0, 0], [LTI, "1", "x", 0]),
]


@pytest.mark.parametrize("kept", MALFORMED)
@pytest.mark.parametrize("key", ["lti_provider", "lti_provider_sign_in", "lti_provider_consumer"])
def test_a_malformed_session_fares_as_one_without_a_launch(lms, learner, key, kept):
    session = learner.session
    session[key] = kept
    session.save()
    assert learner.get("/content/launch/").status_code == 200
    assert seen(learner).startswith("lti-")
    assert lms.launch(learner, "/content/").status_code == 200
    LtiUser.objects.all().delete()
    assert seen(learner) == "nobody"


def test_a_malformed_entry_does_not_hide_the_others(lms, learner):
    session = learner.session
    session["lti_provider"] = [*MALFORMED, *session["lti_provider"]]
    session.save()
    assert seen(learner, "/content/launch/") == "a launch"


def test_a_session_that_lost_its_sign_in_stands_on_every_connection(lms, learner):
    user = get_user_model().objects.get()
    session = learner.session
    del session["lti_provider_sign_in"]
    session.save()
    assert seen(learner) == user.username
    deactivate(lms)
    assert seen(learner) == "nobody"


def test_a_stream_that_nobody_reads_leaves_no_session_behind(staff_lms, ada):
    other = FakeLms.create("moodle", require_user_account=True, account_match="any")
    frame = connect(staff_lms, "ada").frame
    connect(other, "ada")
    deactivate(other)
    frame.get("/content/stream/")
    # Outside of a request every connection of the account has to stand.
    assert LtiBackend().get_user(ada.pk) is None


def test_a_file_is_sent_in_the_servers_own_way():
    handler = BaseHandler()
    handler.load_middleware()
    sent = handler.get_response(RequestFactory().get("/content/file/"))
    # What a WSGI server hands to its own way of sending files (PEP 3333, wsgi.file_wrapper).
    assert sent.file_to_stream is not None
    sent.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume synchronous iterators")
@pytest.mark.parametrize("route", ["async/", "stream/", "astream/"])
def test_what_streams_over_asgi_asks_too(lms, learner, route):
    async def body() -> str:
        cookie = f"sessionid={learner.cookies['sessionid'].value}".encode()
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": f"/content/{route}",
            "query_string": b"",
            "headers": [(b"host", b"testserver"), (b"cookie", cookie)],
        }
        server = ApplicationCommunicator(get_asgi_application(), scope)
        await server.send_input({"type": "http.request"})
        assert (await server.receive_output(5))["status"] == 200
        text, more = b"", True
        while more:
            message = await server.receive_output(5)
            text += message.get("body", b"")
            more = message.get("more_body", False)
        await server.wait(5)
        return text.decode()

    assert async_to_sync(body)().startswith("lti-")
    deactivate_for_a_moment(lms)
    assert async_to_sync(body)() == "nobody"

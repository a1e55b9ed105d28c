from datetime import timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from asgiref.sync import async_to_sync
from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import AsyncClient, Client
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from lti_provider.current_launch import CurrentLaunch
from lti_provider.decorators import launch_required, role_required
from lti_provider.message import Role
from lti_provider.models import LtiLaunch, LtiResult, LtiUser
from lti_provider.models.credentials import LONGEST_WINDOW
from lti_provider.testing import FakeLms
from lti_provider.testing.lms import navigation

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def plain(request: HttpRequest, page: str = "") -> HttpResponse:
    return HttpResponse("plain")


def told(lti: CurrentLaunch) -> HttpResponse:
    return HttpResponse(lti.message.resource_link.id if lti else "no launch")


def tell(request, page: str = "") -> HttpResponse:
    return told(request.lti)


async def atell(request, page: str = "") -> HttpResponse:
    return told(await request.alti())


@launch_required
def launched_only(request) -> HttpResponse:
    return told(request.lti)


@launch_required
async def alaunched_only(request) -> HttpResponse:
    return told(await request.alti())


@role_required(Role.INSTRUCTOR)
def teachers_only(request) -> HttpResponse:
    return told(request.lti)


@role_required(Role.INSTRUCTOR, Role.TEACHING_ASSISTANT)
async def astaff_only(request) -> HttpResponse:
    return told(await request.alti())


@role_required()
def nobody(request) -> HttpResponse:
    return told(request.lti)


@method_decorator(role_required(Role.INSTRUCTOR), name="get")
class TeachersOnly(View):
    def get(self, request) -> HttpResponse:
        return told(request.lti)


@method_decorator(role_required(Role.INSTRUCTOR), name="dispatch")
class AllForTeachers(View):
    def get(self, request) -> HttpResponse:
        return told(request.lti)


def everything(request) -> HttpResponse:
    lti = request.lti
    names = (lti.consumer, lti.launch.lti_user.user, lti.context, lti.resource_link)
    return HttpResponse(" / ".join(map(str, names)))


urlpatterns = [
    path("lti/", include("lti_provider.urls")),
    path("plain/", plain),
    path("launched/", launched_only),
    path("alaunched/", alaunched_only),
    path("teachers/", teachers_only),
    path("astaff/", astaff_only),
    path("nobody/", nobody),
    path("teachers-class/", TeachersOnly.as_view()),
    path("all-for-teachers/", AllForTeachers.as_view()),
    path("everything/", everything),
    path("async/", atell),
    path("async/<path:page>", atell),
    path("", tell),
    path("<path:page>", tell),
]


@pytest.fixture(autouse=True)
def _everything_is_launchable(settings):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = ["/"]


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas")


def launch(lms: FakeLms, client: Client, page: str, link: str, **changes) -> int:
    lms.launch(client, page, resource_link_id=link, **changes)
    return LtiLaunch.objects.latest("pk").pk


def text(client: Client, url: str) -> str:
    return client.get(url).content.decode()


def test_there_is_no_launch_without_one(client):
    assert text(client, "/") == "no launch"


def test_asking_without_a_session_costs_no_query(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        assert text(client, "/") == "no launch"


def test_a_page_that_does_not_ask_reads_no_session(client, lms, django_assert_num_queries):
    lms.launch(client, "/plain/")
    with django_assert_num_queries(0):
        response = client.get("/plain/")
    assert "Cookie" not in response.get("Vary", "")
    assert not response.wsgi_request.session.accessed


def test_a_page_that_asks_varies_by_cookie(client, lms):
    lms.launch(client, "/page/")
    assert "Cookie" in client.get("/page/")["Vary"]


def test_one_read_brings_all_that_belongs_to_a_launch(client, lms, django_assert_num_queries):
    lms.launch(client, "/plain/")
    with django_assert_num_queries(2):  # the session and the launch
        content = text(client, "/everything/")
    assert content.startswith("Fake canvas / lti-")
    assert content.endswith(" / Algebra / Linear equations")


def test_the_url_names_the_launch_of_its_tab(client, lms):
    first = launch(lms, client, "/page/", "one")
    second = launch(lms, client, "/page/", "two")
    assert text(client, f"/page/?lti_launch={first}") == "one"
    assert text(client, f"/page/?lti_launch={second}") == "two"
    assert text(client, f"/elsewhere/?lti_launch={first}") == "one"


def test_a_page_without_a_name_has_the_longest_launched_path_around_it(client, lms):
    launch(lms, client, "/course/quiz/1/", "quiz")
    launch(lms, client, "/course/", "course")
    launch(lms, client, "/other/", "other")
    assert text(client, "/course/quiz/1/answer/") == "quiz"
    assert text(client, "/course/quiz/1/") == "quiz"
    assert text(client, "/course/quiz/10/") == "course"
    assert text(client, "/course/quiz/2/") == "course"
    assert text(client, "/courses/") == "other"


def test_a_launched_path_is_whole_segments(client, lms):
    launch(lms, client, "/course/quiz", "quiz")
    launch(lms, client, "/other/", "other")
    assert text(client, "/course/quiz") == "quiz"
    assert text(client, "/course/quiz/1/") == "quiz"
    assert text(client, "/course/quizzes/") == "other"


def test_the_same_page_launched_twice_has_the_newer_launch(client, lms):
    launch(lms, client, "/course/", "old")
    launch(lms, client, "/course/", "new")
    assert text(client, "/course/more/") == "new"


def test_a_page_that_nothing_launched_has_the_latest_launch(client, lms):
    launch(lms, client, "/a/", "one")
    launch(lms, client, "/b/", "two")
    assert text(client, "/elsewhere/") == "two"
    assert text(client, "/") == "two"


def test_paths_are_compared_decoded(client, lms):
    launch(lms, client, "/kurse/über uns/", "umlaut")
    launch(lms, client, "/other/", "other")
    assert text(client, "/kurse/%C3%BCber%20uns/mehr/") == "umlaut"


def test_a_launch_of_the_sites_root_contains_every_page(client, lms, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/"
    lms.launch(client, resource_link_id="root")
    assert text(client, "/any/page/") == "root"


def test_two_learners_in_two_browsers_have_their_own_launches(lms):
    robin, kim = Client(), Client()
    launch(lms, robin, "/page/", "one", user_id="robin")
    launch(lms, kim, "/page/", "two", user_id="kim")
    assert text(robin, "/page/") == "one"
    assert text(kim, "/page/") == "two"


def test_the_id_of_another_sessions_launch_is_nobodys(client, lms):
    somebody_elses = launch(lms, Client(), "/page/", "one", user_id="kim", roles="Instructor")
    launch(lms, client, "/page/", "two", user_id="robin")
    assert text(client, f"/page/?lti_launch={somebody_elses}") == "no launch"
    assert client.get(f"/teachers/?lti_launch={somebody_elses}").status_code == 403


def test_the_id_of_ones_own_launch_elsewhere_is_nobodys(client, lms):
    with time_machine.travel(timedelta(minutes=-2), tick=False):
        in_another_browser = launch(lms, Client(), "/page/", "one", roles="Instructor")
    launch(lms, client, "/page/", "two")
    assert text(client, f"/page/?lti_launch={in_another_browser}") == "no launch"


@pytest.mark.parametrize("junk", ["", "x", "0", "-1", "1.0", "%00", "\u0661", "9" * 400, "True"])
def test_a_name_that_is_none_is_nobodys_launch(client, lms, junk):
    launch(lms, client, "/page/", "one")
    assert text(client, f"/page/?lti_launch={junk}") == "no launch"


def test_a_session_remembers_a_bounded_number_of_launches(client, lms, settings):
    settings.LTI_PROVIDER_SESSION_LAUNCHES = 3
    ids = [launch(lms, client, f"/page/{n}/", f"link {n}") for n in range(5)]
    found = [text(client, f"/?lti_launch={pk}") for pk in ids]
    assert found == ["no launch", "no launch", "link 2", "link 3", "link 4"]
    assert text(client, "/page/0/") == "link 4"


def test_twenty_launches_are_remembered_by_default(client, lms):
    first = launch(lms, client, "/page/", "first")
    for n in range(19):
        launch(lms, client, "/other/", f"link {n}")
    assert text(client, f"/?lti_launch={first}") == "first"
    launch(lms, client, "/other/", "the twenty-first")
    assert text(client, f"/?lti_launch={first}") == "no launch"


def test_roles_are_those_of_the_launch_that_a_page_belongs_to(client, lms):
    teaching = launch(lms, client, "/a/", "one", context_id="a", roles="Instructor")
    learning = launch(lms, client, "/b/", "two", context_id="b", roles="Learner")
    assert client.get(f"/teachers/?lti_launch={teaching}").status_code == 200
    assert client.get(f"/teachers/?lti_launch={learning}").status_code == 403
    assert client.get("/teachers/").status_code == 403


def test_a_deactivated_consumer_ends_its_launches(client, lms):
    launch(lms, client, "/page/", "one")
    lms.consumer.is_active = False
    lms.consumer.save()
    assert text(client, "/page/") == "no launch"


def test_a_deactivated_account_ends_its_launches(client, lms):
    launch(lms, client, "/page/", "one", roles="Instructor")
    get_user_model().objects.update(is_active=False)
    assert text(client, "/page/") == "no launch"
    assert client.get("/teachers/").status_code == 403


def test_a_deleted_account_ends_its_launches(client, lms):
    launch(lms, client, "/page/", "one")
    LtiUser.objects.get().user.delete()
    assert text(client, "/page/") == "no launch"


def test_a_deleted_launch_is_none(client, lms):
    launch(lms, client, "/page/", "one")
    LtiLaunch.objects.all().delete()
    assert text(client, "/page/") == "no launch"


def test_after_signing_out_there_is_no_launch(client, lms):
    launch(lms, client, "/page/", "one")
    client.logout()
    assert text(client, "/page/") == "no launch"


def test_after_somebody_elses_sign_in_there_is_no_launch(client, lms):
    pk = launch(lms, client, "/page/", "one")
    ada = get_user_model().objects.create_user("ada")
    client.force_login(ada, "django.contrib.auth.backends.ModelBackend")
    assert text(client, "/page/") == "no launch"
    assert text(client, f"/page/?lti_launch={pk}") == "no launch"


def test_a_session_whose_user_was_changed_underneath_keeps_no_launch(client, lms):
    launch(lms, client, "/page/", "one")
    ada = get_user_model().objects.create_user("ada")
    session = client.session
    session["_auth_user_id"] = str(ada.pk)
    session.save()
    assert text(client, "/page/") == "no launch"


def test_views_only_for_launches_lead_everybody_else_back_to_the_course(client):
    response = client.get("/launched/")
    assert response.status_code == 403
    assert "Go back to your course" in response.content.decode()
    assert not response.cookies
    assert "X-Frame-Options" not in response
    assert "frame-ancestors" not in response["Content-Security-Policy"]
    assert "no-store" in response["Cache-Control"]


def test_views_only_for_launches_show_themselves_to_a_launch(client, lms):
    launch(lms, client, "/launched/", "one")
    assert text(client, "/launched/") == "one"


@pytest.mark.parametrize("page", ["/teachers/", "/teachers-class/", "/all-for-teachers/"])
def test_views_for_a_role_know_the_role(client, lms, page):
    assert client.get(page).status_code == 403
    launch(lms, client, "/a/", "one", roles="Learner,urn:lti:instrole:ims/lis/Instructor")
    response = client.get(page)
    assert response.status_code == 403
    assert "another role" in response.content.decode()
    assert lms.fields["launch_presentation_return_url"] in response.content.decode()
    launch(lms, client, "/b/", "two", roles="Instructor")
    assert text(client, page) == "two"


def test_a_view_for_no_role_admits_nobody(client, lms):
    launch(lms, client, "/a/", "one", roles="Instructor,Administrator")
    assert client.get("/nobody/").status_code == 403


def test_a_decorated_view_keeps_its_name():
    assert launched_only.__name__ == "launched_only"
    assert astaff_only.__name__ == "astaff_only"


async def alaunch(lms: FakeLms, client: AsyncClient, page: str, **changes):
    headers = navigation(framed=False)
    form = urlencode(lms.sign(page, **changes))
    posted = await client.post(
        f"/lti/launch{page}",
        form,
        content_type="application/x-www-form-urlencoded",
        headers=headers,
    )
    entered = await client.get(posted["Location"], headers=headers)
    return await client.get(entered["Location"], headers=headers)


def run(scenario, *args):
    return async_to_sync(scenario)(*args)


def test_a_launch_under_asgi(async_client, lms):
    async def scenario():
        page = await alaunch(lms, async_client, "/async/page/", resource_link_id="one")
        return page, await async_client.get("/page/")

    async_page, sync_page = run(scenario)
    assert async_page.content == b"one"
    assert sync_page.content == b"one"


def test_async_views_only_for_launches(async_client, lms):
    assert run(async_client.get, "/alaunched/").status_code == 403
    run(alaunch, lms, async_client, "/alaunched/")
    assert run(async_client.get, "/alaunched/").status_code == 200


def test_async_views_for_roles(async_client, lms):
    assert run(async_client.get, "/astaff/").status_code == 403
    run(alaunch, lms, async_client, "/async/")
    assert "another role" in run(async_client.get, "/astaff/").content.decode()


def test_async_views_admit_any_of_their_roles(async_client, lms):
    lms.fields["roles"] = "Learner,TeachingAssistant"
    run(alaunch, lms, async_client, "/async/")
    assert run(async_client.get, "/astaff/").status_code == 200


def test_async_views_without_a_launch(async_client):
    assert run(async_client.get, "/async/").content == b"no launch"


def test_async_views_under_wsgi(client, lms):
    launch(lms, client, "/alaunched/", "one")
    assert text(client, "/alaunched/") == "one"
    assert client.get("/astaff/").status_code == 403


def test_a_site_without_time_zones(client, lms, settings):
    settings.USE_TZ = False
    launch(lms, client, "/page/", "one")
    assert text(client, "/page/") == "one"
    assert lms.post(client, "/page/", lti_version="x").status_code == 303


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_a_site_without_time_zones_far_from_greenwich(client, lms, settings, zone):
    settings.TIME_ZONE = zone
    settings.USE_TZ = False
    launch(lms, client, "/page/", "one")
    kept = LtiLaunch.objects.get()
    assert text(client, "/page/") == "one"
    seconds = (kept.nonce_expires_at - kept.received_at).total_seconds()
    assert LONGEST_WINDOW - 10 < seconds < LONGEST_WINDOW + 10


def test_a_site_that_keeps_csrf_tokens_in_sessions(client, lms, settings):
    settings.CSRF_USE_SESSIONS = True
    launch(lms, client, "/page/", "one")
    launch(lms, client, "/page/", "two")
    assert text(client, "/page/") == "two"


NOTHING = {
    **dict.fromkeys(("launch", "consumer", "context", "resource_link", "result"), None),
    **dict.fromkeys(("locale", "return_url"), None),
    **dict.fromkeys(("is_learner", "is_instructor", "is_course_staff"), False),
    "roles": frozenset(),
    "custom": {},
    "lms_name": "",
}


def test_without_a_launch_it_says_nothing_and_does_nothing(client):
    lti = client.get("/plain/").wsgi_request.lti
    assert not lti
    assert {name: getattr(lti, name) for name in NOTHING} == NOTHING
    assert (lti.person.user_id, lti.person.full_name, lti.message.resource_link.id) == ("", "", "")
    assert not lti.has_role(Role.LEARNER)
    assert [lti.submit_score(1), lti.delete_score(), lti.read_score()] == [None, None, None]


def test_all_that_it_offers_without_a_launch_it_offers_with_one(client, lms):
    lms.consumer.personal_data = "name"
    lms.consumer.save()
    lti = lms.launch(client, "/plain/", roles="Instructor", custom_course="7").wsgi_request.lti
    assert lti
    assert (lti.consumer, lti.launch) == (lms.consumer, LtiLaunch.objects.get())
    assert (lti.person.user_id, lti.person.full_name) == (lms.fields["user_id"], "Robin Doe")
    assert (str(lti.context), str(lti.resource_link)) == ("Algebra", "Linear equations")
    assert lti.custom["course"] == "7"
    assert lti.is_instructor
    assert lti.is_course_staff
    assert not lti.is_learner
    assert lti.roles == {Role.INSTRUCTOR}
    assert lti.has_role(Role.INSTRUCTOR)
    assert lti.return_url == lms.fields["launch_presentation_return_url"]
    assert lti.locale == "en"
    assert lti.result == lti.launch.result


@pytest.mark.parametrize("launched", [True, False])
def test_a_template_needs_no_guard_and_changes_nothing(client, lms, launched):
    page = lms.launch(client, "/plain/") if launched else client.get("/plain/")
    told = "{% if request.lti %}{{ request.lti.context }}{% else %}nothing{% endif %}"
    told += "{{ request.lti.delete_score }}{{ request.lti.launch.lti_user.lti_user_id }}"
    shown = engines["django"].from_string(told).render({"request": page.wsgi_request})
    assert shown == (f"Algebra{lms.fields['user_id']}" if launched else "nothing")
    assert not LtiResult.objects.filter(version__gt=0).exists()


def test_an_async_view_gets_it_loaded(async_client, lms, django_assert_num_queries):
    async def scenario():
        lms_page = await alaunch(lms, async_client, "/plain/")
        return await lms_page.asgi_request.alti()

    lti = run(scenario)
    with django_assert_num_queries(0):
        assert (lti.consumer, str(lti.context)) == (lms.consumer, "Algebra")
        assert lti.launch.lti_user.user.username.startswith("lti-")
        assert lti.result is not None


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
def test_every_kind_of_session(client, lms, settings, engine, tmp_path):
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    first = launch(lms, client, "/page/", "one")
    launch(lms, client, "/page/", "two")
    assert text(client, "/page/") == "two"
    assert text(client, f"/page/?lti_launch={first}") == "one"
    client.logout()
    assert text(client, "/page/") == "no launch"


def test_a_site_without_sessions_has_no_launches(client, settings):
    settings.MIDDLEWARE = ["lti_provider.middleware.LtiFrameMiddleware"]
    assert text(client, "/") == "no launch"


def test_a_frame_whose_session_ended_still_leads_back_to_its_lms(client):
    lms = FakeLms.create()
    lms.launch(client, "/content/", framed=True)
    client.cookies.pop("sessionid_lti_frame")
    page = client.get("/launched/", headers={"Sec-Fetch-Dest": "iframe"})
    assert page.status_code == 403
    assert 'href="https://lms.example" target="_top"' in page.content.decode()


def test_a_window_whose_session_ended_has_no_lms_to_lead_to(client):
    page = client.get("/launched/", headers={"Sec-Fetch-Dest": "document"})
    assert "open the activity again" in page.content.decode()
    assert "href" not in page.content.decode()


def test_a_launch_knows_what_the_lms_calls_itself(client, lms):
    named = lms.launch(client, "/page/", tool_consumer_instance_name="Example School")
    nameless = lms.launch(client, "/page/", tool_consumer_instance_name=None)
    assert named.wsgi_request.lti.lms_name == "Example School"
    assert nameless.wsgi_request.lti.lms_name == lms.consumer.consumer_name

"""The same in Firefox, which keeps partitioned cookies by default, and none if told so."""

import shutil
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User

from lti_provider.models import LtiLaunch
from tests.browser.conftest import Lms
from tests.browser.firefox import Firefox

pytestmark = pytest.mark.browser

ALL_COOKIES, NO_CROSS_SITE_COOKIES, DEFAULT = 0, 1, 5


def start(
    tmp_path_factory: pytest.TempPathFactory, cookie_behavior: int, *, partitions: bool = True
) -> Firefox:
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("No Firefox was found on PATH; on Debian: apt-get install firefox-esr")
    profile = tmp_path_factory.mktemp("firefox")
    return Firefox(
        executable,
        profile,
        network__cookie__cookieBehavior=cookie_behavior,
        network__cookie__CHIPS__enabled=partitions,
    )


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with start(tmp_path_factory, DEFAULT) as browser:
        yield browser


@pytest.fixture
def strict_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox that blocks all cross-site cookies, partitioned ones too."""
    with start(tmp_path_factory, NO_CROSS_SITE_COOKIES) as browser:
        yield browser


@pytest.fixture(scope="module")
def one_jar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox that keeps third-party cookies and has never heard of Partitioned."""
    with start(tmp_path_factory, ALL_COOKIES, partitions=False) as browser:
        yield browser


@pytest.fixture
def old_firefox(one_jar: Firefox, lms: Lms) -> Firefox:
    one_jar.open(f"{lms.tool}/content/")
    one_jar("WebDriver:DeleteAllCookies")
    return one_jar


def test_forms_and_messages_work_in_a_frame_of_firefox(firefox: Firefox, lms: Lms) -> None:
    firefox.open(lms.course())
    firefox.enter_frame()
    assert firefox.text("#person") == lms.fake.fields["user_id"]
    firefox.type("[name=answer]", "42")
    firefox.click("#quiz button")
    assert firefox.text(".message") == "You said 42"
    assert firefox.text("#launch") == lms.fake.fields["resource_link_id"]


def expect_launch(firefox: Firefox, lms: Lms, link: str) -> None:
    firefox.open(lms.course(resource_link_id=link))
    firefox.enter_frame()
    # Shown by the content only: nothing of ours has it.
    firefox.find("#launch:not(:empty)")
    assert firefox.text("#launch") == link
    assert firefox.text("#person") == lms.fake.fields["user_id"]


def expect_one_request_for_a_second_activity(firefox: Firefox, lms: Lms, asked: list[str]) -> None:
    expect_launch(firefox, lms, "first")
    assert [each.split("/")[2] for each in asked] == ["launch", "enter"]
    asked.clear()
    expect_launch(firefox, lms, "second")
    assert asked == ["POST /lti/launch/content/quiz/"]


def test_a_second_activity_takes_one_request_in_firefox(
    firefox: Firefox, lms: Lms, asked: list[str]
) -> None:
    expect_one_request_for_a_second_activity(firefox, lms, asked)


def test_a_second_activity_takes_one_request_where_frame_and_tab_share_cookies(
    old_firefox: Firefox, lms: Lms, asked: list[str], alice: User
) -> None:
    sign_in(old_firefox, lms, alice)
    expect_one_request_for_a_second_activity(old_firefox, lms, asked)
    old_firefox.open(f"{lms.tool}/content/quiz/")
    assert old_firefox.text("#user") == "alice"


def test_another_lms_cannot_frame_the_pages_in_firefox(
    firefox: Firefox, lms: Lms, other_lms: Lms
) -> None:
    firefox.open(lms.course())
    firefox.enter_frame()
    firefox.find("#person")
    content = firefox.run("return location.href")
    firefox.open(other_lms.server.add_frame(content))
    assert firefox.address_in_frame().startswith("about:neterror?e=cspBlocked")


def test_without_cookies_in_frames_firefox_goes_on_in_a_window(
    strict_firefox: Firefox, lms: Lms
) -> None:
    strict_firefox.open(lms.course())
    strict_firefox.enter_frame()
    strict_firefox.click("button")
    strict_firefox.enter_new_window()
    assert strict_firefox.text("#person") == lms.fake.fields["user_id"]
    assert LtiLaunch.objects.count() == 1


def sign_in(firefox: Firefox, lms: Lms, user: User) -> None:
    firefox.open(f"{lms.tool}/accounts/login/?next=/content/quiz/")
    firefox.type("[name=username]", user.username)
    firefox.type("[name=password]", "secret")
    firefox.click("[type=submit]")
    assert firefox.text("#launch") == ""
    assert firefox.text("#user") == user.username


def open_course(firefox: Firefox, lms: Lms) -> str:
    firefox.open(lms.course())
    firefox.enter_frame()
    assert firefox.text("#person") == lms.fake.fields["user_id"]
    return firefox.text("#user")


def count(firefox: Firefox) -> str:
    """A request by a script of the page, which counts in the session."""
    firefox.run("document.getElementById('counted').value = ''")
    firefox.click("#script")
    firefox.find("#counted:not(:empty)")
    return firefox.text("#counted")


def test_a_launch_leaves_the_tabs_session_alone_where_frame_and_tab_share_cookies(
    old_firefox: Firefox, lms: Lms, alice: User, settings
) -> None:
    settings.LOGOUT_REDIRECT_URL = "/content/quiz/"
    own, launched = f"{lms.tool}/content/quiz/", lms.course()
    sign_in(old_firefox, lms, alice)
    assert [count(old_firefox), count(old_firefox)] == ["1", "2"]
    learner = open_course(old_firefox, lms)
    assert learner.startswith("lti-")
    assert [count(old_firefox), count(old_firefox)] == ["1", "2"]
    old_firefox.open(own)
    assert old_firefox.text("#user") == "alice"
    assert count(old_firefox) == "3"

    content = f"{own}?lti_launch={LtiLaunch.objects.get().pk}"
    old_firefox.open(content)
    assert old_firefox.text("#launch") == ""
    old_firefox.open(lms.server.add_frame(content))
    old_firefox.enter_frame()
    assert old_firefox.text("#user") == learner
    assert count(old_firefox) == "3"

    old_firefox.click("#logout button")
    old_firefox.find("#user:empty")
    old_firefox.open(own)
    assert old_firefox.text("#user") == "alice"
    assert open_course(old_firefox, lms) == learner
    old_firefox.open(own)
    old_firefox.click("#logout button")
    old_firefox.find("#user:empty")
    old_firefox.open(launched)
    old_firefox.enter_frame()
    assert old_firefox.text("#user") == learner


def test_a_launched_session_does_not_come_to_a_tab_that_shares_cookies(
    old_firefox: Firefox, lms: Lms, alice: User
) -> None:
    learner = open_course(old_firefox, lms)
    assert count(old_firefox) == "1"
    launch = LtiLaunch.objects.get().pk
    old_firefox.open(f"{lms.tool}/content/quiz/?lti_launch={launch}")
    assert old_firefox.text("#user") == ""
    assert old_firefox.text("#launch") == ""
    assert [count(old_firefox), count(old_firefox)] == ["1", "2"]
    sign_in(old_firefox, lms, alice)
    old_firefox.open(lms.server.add_frame(f"{lms.tool}/content/quiz/"))
    old_firefox.enter_frame()
    assert old_firefox.text("#user") == learner
    assert count(old_firefox) == "2"


def test_a_stranger_cannot_show_a_session_where_frame_and_tab_share_cookies(
    old_firefox: Firefox, lms: Lms, other_lms: Lms, alice: User
) -> None:
    sign_in(old_firefox, lms, alice)
    open_course(old_firefox, lms)
    old_firefox.open(other_lms.server.add_frame(f"{lms.tool}/content/quiz/"))
    assert old_firefox.address_in_frame().startswith("about:neterror?e=cspBlocked")

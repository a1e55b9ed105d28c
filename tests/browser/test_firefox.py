"""The same in Firefox, which keeps partitioned cookies by default, and none if told so."""

import shutil
from collections.abc import Iterator

import pytest

from lti_provider.models import LtiLaunch
from tests.browser.conftest import Lms
from tests.browser.firefox import Firefox

pytestmark = pytest.mark.browser

DEFAULT, NO_CROSS_SITE_COOKIES = 5, 1


def start(tmp_path_factory: pytest.TempPathFactory, cookie_behavior: int) -> Firefox:
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if executable is None:
        pytest.skip("No Firefox was found on PATH; on Debian: apt-get install firefox-esr")
    profile = tmp_path_factory.mktemp("firefox")
    return Firefox(executable, profile, network__cookie__cookieBehavior=cookie_behavior)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    with start(tmp_path_factory, DEFAULT) as browser:
        yield browser


@pytest.fixture
def strict_firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Firefox]:
    """A Firefox that blocks all cross-site cookies, partitioned ones too."""
    with start(tmp_path_factory, NO_CROSS_SITE_COOKIES) as browser:
        yield browser


def test_forms_and_messages_work_in_a_frame_of_firefox(firefox: Firefox, lms: Lms) -> None:
    firefox.open(lms.course())
    firefox.enter_frame()
    assert firefox.text("#person") == lms.fake.fields["user_id"]
    firefox.type("[name=answer]", "42")
    firefox.click("#quiz button")
    assert firefox.text(".message") == "You said 42"
    assert firefox.text("#launch") == lms.fake.fields["resource_link_id"]


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

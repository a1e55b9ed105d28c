import os
import shutil
from collections.abc import Iterator

import pytest
from django.conf import settings as site
from django.utils import translation
from hypothesis import HealthCheck, settings

from lti_provider.testing import FakeLms
from tests.connecting import Course, Window
from tests.lms_service import Gradebook

# Two busy cores make examples of a property slow, which says nothing about the code.
settings.register_profile(
    "lti_provider",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("lti_provider")

DUMMY = "django.db.backends.dummy"
#: The databases that the tests use: beside a primary, "default" is empty.
ALIASES = {
    alias for alias, database in site.DATABASES.items() if database.get("ENGINE", DUMMY) != DUMMY
}


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "Of each parametrized test, run the first case only."
    parser.addoption("--one-case", action="store_true", help=text)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the database, so that other databases can be asked just that."""
    if config.getoption("--one-case"):
        items[:] = {item.nodeid.partition("[")[0]: item for item in reversed(items)}.values()
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        marker = item.get_closest_marker("django_db")
        if marker or fixtures & {"db", "transactional_db"}:
            item.add_marker("database")
        if marker and len(ALIASES) > 1:
            everywhere = pytest.mark.django_db(**{**marker.kwargs, "databases": sorted(ALIASES)})
            item.add_marker(everywhere, append=False)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of the system's Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    missing = "No Chromium was found on PATH; on Debian: apt-get install chromium"
    if os.environ.get("LTI_REQUIRE_CHROMIUM"):
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def gradebook() -> Iterator[Gradebook]:
    """An LMS's outcome service on 127.0.0.1."""
    with Gradebook() as served:
        yield served


@pytest.fixture
def course(lms: FakeLms) -> Course:
    """A frame of the module's LMS."""
    return Course(lms)


@pytest.fixture
def window() -> Window:
    """A window of the same person's browser, signed in nowhere."""
    return Window()


@pytest.fixture(autouse=True)
def _nobodys_language() -> None:
    """LocaleMiddleware leaves the last request's language to whatever its thread does next."""
    translation.deactivate()

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent.parent / "lti_provider"

ROWS = (
    {"exceptions", "conf", "origins", "signals"},
    {"message", "products", "form"},
    {"roles"},
    {"models", "egress"},  # tables ask no other host
    {"trial"},
    {"lti11", "lti13"},
    {"protocols"},
    {"sessions", "frames", "pages", "grades", "privacy"},
    {
        *("binding", "error_reports", "backends", "current_launch", "status", "registering"),
        "trial_cleanup",
    },
    {"views", "middleware", "decorators"},
    {"admin", "checks"},  # it makes trial launches; one of them looks for the middleware's class
    {"doctor"},
    {"urls", "apps", "testing", "management", "migrations", "templatetags", "tasks"},
)
ROW_OF = {room: number for number, rooms in enumerate(ROWS) for room in rooms}
#: Modules that open connections.
CLIENTS = {
    *("_socket", "_ssl", "aiohttp", "ftplib", "http.client", "httpx", "imaplib"),
    *("multiprocessing.connection", "poplib", "requests", "smtplib", "socket", "ssl", "telnetlib"),
    *("urllib.request", "urllib3", "xmlrpc.client"),
}
#: What of django.db.transaction is about the database "default", unless told otherwise.
TRANSACTIONS = {
    *("atomic", "commit", "get_connection", "get_rollback", "mark_for_rollback_on_error"),
    *("non_atomic_requests", "on_commit", "rollback", "savepoint", "savepoint_commit"),
    *("savepoint_rollback", "set_autocommit", "set_rollback"),
}
#: They say whom to trust, and open nothing.
HARMLESS = {"ssl.CERT_NONE", "ssl.SSLContext", "ssl.create_default_context"}
NAMELESS = {"utils", "helpers", "mixins", "constants", "common"}
MODULES = sorted(PACKAGE.rglob("*.py"))
SOURCES = {module: module.read_text() for module in MODULES}
#: Who knows the wing: the seam, pages about its credentials and files, what launches and imitates.
DOORS_TO_LTI11 = {
    *("protocols.py", "views/cartridge.py"),
    *("doctor/lti11.py", "testing/__init__.py", "testing/lms.py"),
}
#: Who knows the wing: the seam, the command for this site's own keys, what launches as an LMS.
DOORS_TO_LTI13 = {
    *("protocols.py", "management/commands/lti_keys.py"),
    *("doctor/front_door.py", "doctor/key_sets.py", "doctor/lti13.py", "doctor/temporary.py"),
}


@cache
def parse(source: str) -> ast.Module:
    return ast.parse(source)


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path, source: str) -> Iterator[str]:
    package = ("lti_provider", *module.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*base, node.module) if node.module else base)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def imported_rooms(module: Path, source: str) -> set[str]:
    paths = (name.split(".") for name in imported(module, source))
    rooms = {path[1] for path in paths if path[0] == "lti_provider" and len(path) > 1}
    return rooms - {room_of(module), "__version__"}


def forbidden_rooms(module: Path, source: str) -> set[str]:
    row = ROW_OF[room_of(module)]
    return {room for room in imported_rooms(module, source) if ROW_OF[room] >= row}


def find_module(name: str) -> Path | None:
    path = PACKAGE.parent.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((each for each in candidates if each in SOURCES), None)


def imported_modules(module: Path, source: str) -> set[Path]:
    # A name that is not a module is a name in one.
    found = {
        find_module(name) or find_module(name.rpartition(".")[0])
        for name in imported(module, source)
        if name.startswith("lti_provider.")
    }
    return {each for each in found if each is not None} - {module}


def order_modules(sources: dict[Path, str]) -> list[Path]:
    graph = {module: imported_modules(module, source) for module, source in sources.items()}
    return list(TopologicalSorter(graph).static_order())


def imports_wing(wing: str, module: Path, source: str) -> bool:
    return room_of(module) != wing and wing in imported_rooms(module, source)


def only_re_exports(source: str) -> bool:
    return all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("__"))
        for node in parse(source).body
    )


def settings_read(source: str) -> set[str]:
    read = set()
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.Attribute):
            read.add(node.attr)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            constants = (arg.value for arg in node.args if isinstance(arg, ast.Constant))
            read.update(value for value in constants if isinstance(value, str))
    return {name for name in read if name.startswith("LTI_PROVIDER_") and " " not in name}


def clients(module: Path, source: str) -> set[str]:
    return {
        name
        for name in imported(module, source)
        if name in {"http", "urllib", "xmlrpc", "multiprocessing"}
        or any(f"{name}.".startswith(f"{client}.") for client in CLIENTS)
    } - HARMLESS


def find_bare_transactions(source: str) -> list[str]:
    tree = parse(source)
    told = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and any(word.arg == "using" for word in node.keywords)
    }
    return [
        ast.unparse(node)
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and node.module == "django.db.transaction")
        or (isinstance(node, ast.Attribute) and node.attr in TRANSACTIONS and node not in told)
    ]


def test_every_room_has_its_place_in_the_plan() -> None:
    assert {room_of(module) for module in MODULES} - {"__init__"} <= ROW_OF.keys()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above_it(module: Path) -> None:
    if room_of(module) == "__init__":
        assert not imported_rooms(module, module.read_text())
    else:
        assert not forbidden_rooms(module, module.read_text())


def test_modules_import_one_way_within_a_room_too() -> None:
    assert len(order_modules(SOURCES)) == len(MODULES)


def test_a_package_itself_only_says_what_it_offers() -> None:
    packages = (module for module in MODULES if module.name == "__init__.py")
    assert not [package for package in packages if not only_re_exports(SOURCES[package])]


@pytest.mark.parametrize(("wing", "doors"), [("lti11", DOORS_TO_LTI11), ("lti13", DOORS_TO_LTI13)])
def test_all_but_a_few_ask_protocols_and_not_the_wing(wing: str, doors: set[str]) -> None:
    found = {module for module, source in SOURCES.items() if imports_wing(wing, module, source)}
    assert {str(module.relative_to(PACKAGE)) for module in found} == doors


@pytest.mark.parametrize(("library", "wing"), [("oauthlib", "lti11"), ("joserfc", "lti13")])
@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_wing_and_testing_know_the_protocol_library(
    module: Path, library: str, wing: str
) -> None:
    uses_it = any(name.split(".")[0] == library for name in imported(module, module.read_text()))
    assert not uses_it or room_of(module) in {wing, "testing"}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_conf_reads_the_settings(module: Path) -> None:
    assert not settings_read(module.read_text()) or room_of(module) == "conf"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_egress_asks_other_hosts(module: Path) -> None:
    assert bool(clients(module, module.read_text())) == (room_of(module) == "egress")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_transaction_says_of_which_database(module: Path) -> None:
    assert not find_bare_transactions(module.read_text())


def test_every_module_is_named_for_what_it_does() -> None:
    names = {part for module in MODULES for part in module.relative_to(PACKAGE).parts}
    assert not {name.removesuffix(".py") for name in names} & NAMELESS


@pytest.mark.parametrize(
    "line",
    [
        "from lti_provider.views import LaunchView",
        "from lti_provider import views",
        "import lti_provider.views.launch",
        "from ..views import LaunchView",
        "from .. import views",
        "if TYPE_CHECKING:\n    from lti_provider.views import LaunchView",
        "def late():\n    from lti_provider.views import LaunchView",
        "from lti_provider.current_launch import CurrentLaunch",
    ],
)
def test_an_import_against_the_direction_is_seen(line: str) -> None:
    assert forbidden_rooms(PACKAGE / "models" / "consumer.py", line)


@pytest.mark.parametrize(
    "line",
    [
        "from lti_provider.models.launch import LtiLaunch",
        "from lti_provider.models import LtiLaunch",
        "from lti_provider.models import launch",
        "import lti_provider.models.launch",
        "from .launch import LtiLaunch",
        "from . import LtiLaunch",
        "if TYPE_CHECKING:\n    from lti_provider.models.launch import LtiLaunch",
        "def late():\n    from lti_provider.models.launch import LtiLaunch",
    ],
)
def test_a_cycle_within_a_room_is_seen(line: str) -> None:
    with pytest.raises(CycleError):
        order_modules({**SOURCES, PACKAGE / "models" / "context.py": line})


@pytest.mark.parametrize(
    "line",
    [
        "from lti_provider.lti11.signature import sign",
        "from lti_provider import lti11",
        "from .. import lti11",
        "def late():\n    import lti_provider.lti11.outcomes",
    ],
)
def test_a_way_round_protocols_is_seen(line: str) -> None:
    assert imports_wing("lti11", PACKAGE / "views" / "launch.py", line)


@pytest.mark.parametrize(
    "line", ["def get(): ...", "class View: ...", "NAMES = []", "if True: ...", "get_names()"]
)
def test_a_package_that_does_something_is_seen(line: str) -> None:
    assert not only_re_exports(f'"""Views."""\n\n{line}')


@pytest.mark.parametrize(
    "line",
    [
        "settings.LTI_PROVIDER_DEFAULT_TARGET",
        'getattr(settings, "LTI_PROVIDER_DEFAULT_TARGET", None)',
        'hasattr(settings, "LTI_PROVIDER_DEFAULT_TARGET")',
    ],
)
def test_a_reading_of_a_setting_is_seen(line: str) -> None:
    assert settings_read(line)


@pytest.mark.parametrize(
    "line",
    [
        "transaction.atomic()",
        "transaction.atomic(durable=True)",
        "transaction.set_rollback(True)",
        "transaction.on_commit(send)",
        "@transaction.atomic\ndef view(): ...",
        "decorators = (never_cache, transaction.non_atomic_requests)",
        "from django.db.transaction import atomic",
    ],
)
def test_a_transaction_of_no_database_in_particular_is_seen(line: str) -> None:
    assert find_bare_transactions(line)


@pytest.mark.parametrize(
    "line",
    [
        "import socket",
        "import ssl",
        "import http",
        "import http.client",
        "from http import client",
        "from http.client import HTTPSConnection as Connection",
        "import urllib",
        "from urllib import request",
        "from urllib.request import urlopen",
        "from ssl import *",
        "from ssl import get_server_certificate",
        "def late():\n    import requests",
        "from urllib3.util import parse_url",
    ],
)
def test_a_client_is_seen(line: str) -> None:
    assert clients(PACKAGE / "doctor" / "browser.py", line)


@pytest.mark.parametrize(
    "line",
    [
        "from ssl import SSLContext",
        "from http import HTTPStatus",
        "from http.server import BaseHTTPRequestHandler",
        "from urllib.parse import urlsplit",
    ],
)
def test_what_asks_nobody_is_no_client(line: str) -> None:
    assert not clients(PACKAGE / "doctor" / "browser.py", line)

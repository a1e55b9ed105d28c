import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent.parent / "lti_provider"

ROWS = (
    {"exceptions", "conf", "origins", "signals"},
    {"message", "products"},
    {"models", "egress"},  # tables ask no other host
    {"lti11"},
    {"protocols"},
    {"sessions", "frames", "pages", "error_reports", "grades", "privacy"},
    {"backends", "current_launch", "status"},
    {"views", "middleware", "decorators", "admin"},
    {"checks"},  # one of them looks for the middleware's class
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


def room_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(module: Path, source: str) -> Iterator[str]:
    package = ("lti_provider", *module.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(ast.parse(source)):
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


def settings_read(source: str) -> set[str]:
    read = set()
    for node in ast.walk(ast.parse(source)):
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
    tree = ast.parse(source)
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


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_lti11_and_testing_know_the_protocol_library(module: Path) -> None:
    uses_oauthlib = any(
        name.split(".")[0] == "oauthlib" for name in imported(module, module.read_text())
    )
    assert not uses_oauthlib or room_of(module) in {"lti11", "testing"}


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

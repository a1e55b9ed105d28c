import ast
import dataclasses
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import django
import pytest
from django.contrib import admin
from django.contrib.admin.utils import flatten_fieldsets
from django.core.management import get_commands
from django.dispatch import Signal

from lti_provider import decorators, exceptions, signals
from lti_provider.checks import check_settings
from lti_provider.conf import PREFIX, SETTINGS
from lti_provider.current_launch import CurrentLaunch
from lti_provider.exceptions import LaunchRefused, ReturnableRefusal
from lti_provider.message import GradeService, LaunchMessage
from lti_provider.models import LtiConsumer
from lti_provider.testing import PROFILES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in ROOT.joinpath("docs").glob("*.md")}
MANUAL = "\n".join([README, *PAGES.values()])
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
TOOL = ROOT / "example_project/tool/nightsky"
PYTHON_BLOCKS = [
    re.sub(f"^{indent}", "", code, flags=re.M)
    for indent, code in re.findall(r"^( *)```python[^\n]*\n(.*?)^ *```$", MANUAL, re.S | re.M)
]
STEPS = re.findall(r"^(\d)\. (.*?)(?=^\d\. |^`)", README.partition("## Install")[2], re.S | re.M)


def section(title: str) -> str:
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", MANUAL, re.S | re.M)
    assert found, f"There is no section {title}"
    return found[2]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def settings_in(text: str) -> set[str]:
    return set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", text))


def assigned(name: str, module: Path):
    for node in ast.parse(module.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    raise AssertionError(f"{module} does not assign {name}")


def test_every_setting_is_documented_as_the_code_says():
    documented = rows("Settings")
    assert documented == [
        [
            f"`{setting.name}`",
            " or ".join(f"`{part}`" for part in setting.annotation.split(" | ")),
            f"`{setting.default!r}`",
            setting.meaning,
        ]
        for setting in SETTINGS.values()
    ]


@pytest.mark.parametrize("file", ["README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md"])
def test_no_other_setting_is_named(file):
    assert settings_in((ROOT / file).read_text()) <= SETTINGS.keys()


def test_the_checks_accept_what_is_documented(settings):
    for name, _type, default, _meaning in rows("Settings"):
        setattr(settings, name.strip("`"), ast.literal_eval(default.strip("`")))
    assert check_settings(None) == []


def test_every_refusal_is_documented_with_its_status_and_where_it_is_shown():
    ours = [
        kind for kind in LaunchRefused.by_code().values() if kind.__module__ == exceptions.__name__
    ]
    shown = {True: "LMS", False: "page"}
    expected = {
        (f"`{kind.code}`", str(kind.status), shown[issubclass(kind, ReturnableRefusal)])
        for kind in ours
    }
    documented = [tuple(row[:3]) for row in rows("Refusals")]
    assert sorted(documented) == sorted(expected)
    assert all(row[3] for row in rows("Refusals"))


def test_every_signal_is_documented():
    ours = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert {name for name in ours if f"`{name}`" in PAGES["signals.md"]} == ours
    imported = re.findall(r"from lti_provider.signals import (.*)", PAGES["signals.md"])
    assert set(", ".join(imported).split(", ")) == ours


def test_every_decorator_is_documented():
    ours = {
        name
        for name, value in vars(decorators).items()
        if getattr(value, "__module__", "") == decorators.__name__ and not name.startswith("_")
    }
    assert set(re.findall(r"^`?@(\w+)", section("Decorators"), re.M)) == ours


def test_every_command_is_documented():
    ours = {name for name, app in get_commands().items() if app == "lti_provider"}
    assert set(re.findall(r"manage\.py (lti_\w+)", README)) == ours


def test_every_field_of_a_consumer_is_explained():
    fields = flatten_fieldsets(admin.site.get_model_admin(LtiConsumer).fieldsets)
    explained = {row[0].lower() for row in rows("Connect an LMS")}
    by_hand = {"consumer_name", "launch_url", "consumer_key", "consumer_secret"}
    by_hand |= {"undelivered_grades", "secrets", "registrations"}
    labels = {
        str(LtiConsumer._meta.get_field(name).verbose_name)
        for name in fields
        if name not in by_hand
    }
    assert labels <= explained


def test_what_request_lti_is_said_to_offer_is_there():
    offered = re.findall(r"request\.lti\.(\w+)", MANUAL)
    assert offered
    assert [name for name in offered if not hasattr(CurrentLaunch, name)] == []


def test_every_noun_of_a_message_is_documented():
    documented = {name.strip("`"): said for name, said in rows("What the message holds")}
    assert documented.keys() == {noun.name for noun in dataclasses.fields(LaunchMessage)}
    message = LaunchMessage(grade_service=GradeService())
    nouns = {name: getattr(message, name) for name in documented}
    parts = {
        (name, part.name)
        for name, noun in nouns.items()
        if dataclasses.is_dataclass(noun)
        for part in dataclasses.fields(noun)
    }
    never_stored = {("person", "sis_id")}
    assert never_stored < parts
    assert {(name, part) for name, part in parts if f"`{part}`" not in documented[name]} == (
        never_stored
    )


def test_every_profile_is_named():
    assert [name for name in PROFILES if f"`{name}`" not in PAGES["testing.md"]] == []


@pytest.mark.parametrize("code", PYTHON_BLOCKS)
def test_the_manuals_code_compiles_and_imports_what_exists(code):
    tree = ast.parse(code)
    compile(tree, "manual", "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(("lti_provider", "django")):
            if node.module == "django.tasks" and django.VERSION < (6, 0):
                continue
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


def public_names() -> dict[str, set[str]]:
    return {
        module.strip("`"): set(re.findall(r"`(\w+)`", names))
        for module, names, _purpose in rows("Public names")
    }


def imported_names(code: str) -> set[tuple[str, str]]:
    return {
        (node.module, name.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lti_provider")
        for name in node.names
    }


def test_every_public_name_is_there():
    for module, names in public_names().items():
        assert [name for name in names if not hasattr(importlib.import_module(module), name)] == []


def test_what_sites_are_taught_to_import_or_to_name_in_settings_is_public():
    example = [path.read_text() for path in (ROOT / "example_project").rglob("*.py")]
    taught = {found for code in [*PYTHON_BLOCKS, *example] for found in imported_names(code)}
    assert taught
    text = "\n".join([MANUAL, *example])
    dotted = re.findall(r"""["'](lti_provider\.\w+)\.([A-Z]\w+)["']""", text)
    assert dotted
    labels = re.findall(r"""["']lti_provider\.([A-Z]\w+)["']""", text)
    taught |= {*dotted, *(("lti_provider.models", label) for label in labels)}
    public = {(module, name) for module, names in public_names().items() for name in names}
    assert taught - public == set()


def test_every_signal_is_public():
    ours = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert public_names()[signals.__name__] == ours


def test_there_are_five_steps():
    assert [int(number) for number, _text in STEPS] == [1, 2, 3, 4, 5]
    assert "migrate" in STEPS[4][1]


def test_the_examples_tool_was_made_by_the_five_steps():
    marked = [
        (number, line.strip().rstrip(","))
        for module in (TOOL / "settings.py", TOOL / "urls.py")
        for line, number in re.findall(r"(.*?) *# LTI, step (\d)$", module.read_text(), re.M)
    ]
    assert {number for number, _line in marked} == {number for number, _text in STEPS}
    for number, line in marked:
        assert line.partition(" = ")[0] in dict(STEPS)[number]


@pytest.mark.parametrize(
    "module", [TOOL / "settings.py", ROOT / "tests/settings.py"], ids=["example", "tests"]
)
def test_a_site_has_what_the_steps_say(module):
    assert "lti_provider" in assigned("INSTALLED_APPS", module)
    assert assigned("MIDDLEWARE", module)[0] == "lti_provider.middleware.LtiFrameMiddleware"
    steps = "\n".join(PYTHON_BLOCKS[:5])
    assert assigned("MIDDLEWARE", module)[0] in steps
    backends = re.findall(r'"(\S+Backend)"', steps)
    assert assigned("AUTHENTICATION_BACKENDS", module) == backends
    assert assigned("LTI_PROVIDER_LAUNCHABLE_PATHS", module)


def test_the_distributions_name_is_the_one_to_install():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"`pip install {project['name']}`" in STEPS[0][1]


def test_the_targets_of_make_that_are_named_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        name
        for file in ("README.md", "CONTRIBUTING.md")
        for name in re.findall(r"^make (\w+)|`make (\w+)`", (ROOT / file).read_text(), re.M)
    }
    assert {first or second for first, second in named} <= targets


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.M)
    }
    for link in re.findall(r"\]\(([^)]+)\)", README):
        file, _, anchor = link.partition("#")
        assert (ROOT / file).exists() if file else anchor in headings, link


def test_the_changelog_begins_with_what_is_unreleased():
    assert re.findall(r"^## (.*)$", CHANGELOG, re.M)[0] == "Unreleased"


def test_no_file_names_a_place_that_only_its_author_has():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout of the repository")
    places = re.compile(rb"/" + rb"work/|/tmp/" + rb"dev|\bshared" + rb"/")
    files = (ROOT / name for name in listed.stdout.splitlines())
    assert [file for file in files if file.is_file() and places.search(file.read_bytes())] == []

"""What several files of the project say has to be the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
README = (ROOT / "README.md").read_text()
TOX = (ROOT / "tox.ini").read_text()
WORKFLOWS = sorted(ROOT.joinpath(".github/workflows").glob("*.yml"))


def classified(prefix: str) -> list[str]:
    found = [re.fullmatch(rf"{prefix} :: (\d+\.\d+)", name) for name in classifiers()]
    return [match[1] for match in found if match]


def classifiers() -> list[str]:
    named: list[str] = PROJECT["project"]["classifiers"]
    return named


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    pythons = classified("Programming Language :: Python")
    first, last = pythons[0], pythons[-1]

    assert PROJECT["project"]["requires-python"] == f">={first}"
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{first.replace('.', '')}"
    assert f"Python {first} to {last}, Django" in README
    environments = TOX.partition("env_list =")[2].partition("lint")[0]
    assert [f"3.{minor}" for minor in re.findall(r"\b(?:py)?3(\d\d)\b", environments)] == pythons
    [matrix] = re.findall(r"python: \[(.*)\]", (WORKFLOWS[0]).read_text())
    assert re.findall(r'"(.*?)"', matrix) == pythons


def test_the_versions_of_django_are_the_same_everywhere() -> None:
    djangos = classified("Framework :: Django")
    *others, last = djangos

    assert f"Django>={djangos[0]}" in PROJECT["project"]["dependencies"]
    assert f"Django {', '.join(others)} and {last}" in README
    assert re.findall(r"Django>=([\d.]+),", TOX) == djangos


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_what_a_workflow_uses_is_pinned_to_a_commit(workflow: Path) -> None:
    used = re.findall(r"uses: (.*)", workflow.read_text())

    assert used
    pinned = re.compile(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [action for action in used if not pinned.fullmatch(action)] == []


def test_each_part_that_a_workflow_names_exists() -> None:
    script = (ROOT / ".ci/run").read_text()
    parts = re.findall(r"parts=\((.*?)\)", script, re.S)[0].split()
    [direct] = re.findall(r"run: \.ci/run ([a-z].*)", WORKFLOWS[0].read_text())
    listed = WORKFLOWS[0].read_text().partition("parts:\n")[2].partition("steps:")[0]
    named = {*direct.split(), *re.sub(r"\s- |\n", " ", listed).split()}

    # The matrix of versions has a job of its own.
    assert named == set(parts) - {"matrix"}


def test_pre_commit_has_a_ruff_that_the_project_allows() -> None:
    [rev] = re.findall(r"rev: v(.*)", (ROOT / ".pre-commit-config.yaml").read_text())
    [lowest] = re.findall(r"ruff>=([\d.]+)", " ".join(PROJECT["dependency-groups"]["lint"]))

    assert as_numbers(rev) >= as_numbers(lowest)


def as_numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands
from django.dispatch import Signal
from playwright.sync_api import sync_playwright

from lti_provider import signals
from lti_provider.conf import PREFIX, SETTINGS
from lti_provider.exceptions import LaunchRefused
from lti_provider.products import PRODUCTS
from tests.test_rooms import ROWS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def script(name):
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks, screenshots = script("hooks"), script("screenshots")

SOURCES = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
KNOWN = hooks.places(SOURCES)
PAGES = {path: hooks.expand(text, path, KNOWN) for path, text in SOURCES.items()}
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")
NOT_RUN = ("python3 -m venv", ". .venv", "pip ", "python manage.py createsuperuser")
BLOCKS = re.findall(
    r"^```(\w+)(?: title=\"([^\"\n]*)\")?\n(.*?)^```$", SOURCES["tutorial.md"], re.S | re.M
)


def prose(text):
    return "\n".join(line for line, is_prose in hooks.lines_outside_code(text) if is_prose)


def anchors(text):
    return {hooks.slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(text), re.M)}


def cells(path):
    rows = re.findall(r"^\| (.*) \|$", SOURCES[path], re.M)
    return [row.split(" | ") for row in rows[1:]]


@pytest.mark.parametrize("path", PAGES)
def test_links_lead_to_pages_and_headings(path):
    for link in re.findall(r"\]\(([^)]+)\)", PICTURE.sub("", prose(PAGES[path]))):
        page, _, anchor = link.partition("#")
        target = os.path.normpath(Path(path).parent / page) if page else path
        assert target in PAGES, link
        assert not anchor or anchor in anchors(PAGES[target]), link


def test_every_page_is_in_the_navigation():
    listed = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(PAGES)


def test_pages_show_the_pictures_that_are_made():
    shown = set()
    for path, text in PAGES.items():
        for description, link in PICTURE.findall(prose(text)):
            assert len(description.split()) > 4, link
            shown.add(os.path.normpath(Path(path).parent / link))
    kept = {path.relative_to(DOCS).as_posix() for path in screenshots.FOLDER.iterdir()}
    assert shown == kept == {f"screenshots/{name}.png" for name in screenshots.PICTURES}


@pytest.fixture
def camera_and_page(chromium, tmp_path):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=screenshots.ARGUMENTS)
        yield screenshots.Camera(tmp_path, ["hush"]), browser.new_page()
        browser.close()


@pytest.mark.browser
@pytest.mark.once
@pytest.mark.parametrize(
    "content", ["<p>hush</p>", "<input id=a><script>a.value = 'hu' + 'sh'</script>"]
)
def test_no_picture_shows_a_secret(camera_and_page, content, tmp_path):
    camera, page = camera_and_page
    page.set_content("<p>nothing</p>")
    camera.take("quiz", page)
    page.set_content(content)
    with pytest.raises(ValueError, match="secret"):
        camera.take("setup", page)
    assert [path.name for path in tmp_path.iterdir()] == ["quiz.png"]


@pytest.mark.browser
@pytest.mark.once
def test_the_demo_still_makes_all_pictures(chromium, tmp_path):
    command = [sys.executable, str(DOCS / "screenshots.py"), str(tmp_path)]
    env = os.environ | {"DEMO_LMS_PORT": "0", "DEMO_TOOL_PORT": "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {path.stem: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(made) == set(screenshots.PICTURES)
    assert all(picture.startswith(b"\x89PNG") for picture in made.values())


def test_every_part_of_the_readme_that_is_included_is_there():
    with pytest.raises(LookupError):
        hooks.section("No such section")


def test_each_threat_is_held_by_a_test_that_exists():
    threats = cells("security.md")
    assert len(threats) > 25
    for _threat, _holder, test in threats:
        file, _, name = test.strip("`").partition("::")
        functions = {
            node.name
            for node in ast.parse((ROOT / "tests" / file).read_text()).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in functions, test


def test_the_architecture_page_has_the_rows_that_hold():
    drawn = [(int(row[0]), set(re.findall(r"`(\w+)`", row[1]))) for row in cells("architecture.md")]
    assert drawn == list(enumerate(ROWS, 1))


def test_the_reference_names_everything():
    assert all(f"`{name}`" in PAGES["settings.md"] for name in SETTINGS)
    source = (ROOT / "lti_provider/checks.py").read_text()
    checks = {f"`lti_provider.{number}`" for number in re.findall(r"\b[EW]0\d\d\b", source)}
    assert len(checks) > 15
    assert [check for check in checks if check not in PAGES["checks.md"]] == []
    ours = [name for name, app in get_commands().items() if app == "lti_provider"]
    assert [name for name in ours if name not in PAGES["commands.md"]] == []
    sent = {name for name, value in vars(signals).items() if isinstance(value, Signal)}
    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \|$", SOURCES["signals.md"], re.M)) == sent
    codes = [
        code
        for code, kind in LaunchRefused.by_code().items()
        if kind.__module__ == LaunchRefused.__module__
    ]
    assert [code for code in codes if f"`{code}`" not in PAGES["refusals.md"]] == []


def test_no_other_setting_is_named():
    named = set(re.findall(rf"{PREFIX}[A-Z_]*[A-Z]", "\n".join(SOURCES.values())))
    assert named <= SETTINGS.keys()


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.code)
def test_each_make_of_lms_has_its_guide(product):
    guide = PAGES[f"guides/{product.code}.md"]
    assert str(product.email) in guide
    assert not re.search(r"\{\w+\}", guide)


@pytest.mark.slow
def test_the_tutorial_works_to_the_letter(tmp_path):
    environment = {
        **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for language, title, code in BLOCKS:
        if language == "python":
            file = tmp_path / title.removesuffix(" (at the end)")
            before = file.read_text() if title.endswith("(at the end)") else ""
            file.write_text(before + code)
            continue
        for line in code.splitlines():
            if line.startswith(NOT_RUN) or line.endswith("runserver"):
                continue
            done = subprocess.run(
                line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

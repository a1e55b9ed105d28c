"""MkDocs hook: what the README or the code says already is taken from there, not copied.

A line of a page may be one of

    <!-- section: Settings -->          a section of the README with its subsections
    <!-- opening: Grades -->            a section up to its first subsection
    <!-- table: Connect an LMS -->      its first table
    <!-- steps: canvas -->              the admin's instructions for a make of LMS

Headings take their level from where they land; the README's links to pages and to its own
sections lead to the page here that shows them.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PRODUCTS = ROOT / "lti_provider" / "products.py"
VALUES = {
    "{launch_url}": "`https://your.site/lti/launch/…`",
    "{cartridge_url}": "`https://your.site/lti/cartridge.xml`",
    "{key}": "*key*",
    "{secret}": "*secret*",
    "{name}": "*name of the tool*",
    "{passport}": '`"lti_tool:key:secret"`',
}

Places = dict[str, tuple[str, str]]

_DIRECTIVE = re.compile(r"^<!-- (section|opening|table|steps): (.+?) -->$")
_HEADING = re.compile(r"^(#+) (.+)$")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MkDocs both make it."""
    return re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-")


def lines_outside_code(text: str) -> list[tuple[str, bool]]:
    """Each line and whether it is prose."""
    inside, lines = False, []
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        lines.append((line, not inside and not fence))
        inside ^= fence
    return lines


def heading(line: str, prose: bool) -> tuple[int, str] | None:
    found = _HEADING.match(line) if prose else None
    return (len(found[1]), found[2]) if found else None


def section(title: str) -> list[tuple[str, bool]]:
    """The README's lines below a heading, up to the next one that is not below it."""
    level, kept = 0, []
    for line, prose in lines_outside_code(README.read_text(encoding="utf-8")):
        found = heading(line, prose)
        if level and found and found[0] <= level:
            break
        if level:
            kept.append((line, prose))
        elif found and found[1] == title:
            level = found[0]
    if not level:
        raise LookupError(f"The README has no section “{title}”.")
    return kept


def opening(title: str) -> list[tuple[str, bool]]:
    kept: list[tuple[str, bool]] = []
    for line, prose in section(title):
        if heading(line, prose):
            break
        kept.append((line, prose))
    return kept


def table(title: str) -> list[tuple[str, bool]]:
    kept: list[tuple[str, bool]] = []
    for line, prose in section(title):
        if prose and line.startswith("|"):
            kept.append((line, prose))
        elif kept:
            break
    return kept


def shown(kind: str, title: str) -> list[tuple[str, bool]]:
    return {"section": section, "opening": opening, "table": table}[kind](title)


def places(pages: dict[str, str]) -> Places:
    """Where each section of the README stands: its anchor there → page and anchor here."""
    found: Places = {}
    for path, text in pages.items():
        here = ""
        for line, prose in lines_outside_code(text):
            if named := heading(line, prose):
                here = slug(named[1]) if named[0] > 1 else ""
            directive = _DIRECTIVE.match(line)
            if directive and directive[1] in {"section", "opening"}:
                found[slug(directive[2])] = (path, here)
                for below in filter(None, (heading(*pair) for pair in shown(*directive.groups()))):
                    found[slug(below[1])] = (path, slug(below[1]))
    return found


def connected(line: str, path: str, known: Places) -> str:
    def lead(match: re.Match[str]) -> str:
        page, anchor = (match[1], match[2]) if match[1] else known[match[2]]
        way = posixpath.relpath(page, posixpath.dirname(path) or ".")
        return f"]({way}#{anchor})" if anchor else f"]({way})"

    return re.sub(r"\]\((?:docs/([\w/]+\.md))?(?:#([^)]+))?\)", lead, line)


def included(kind: str, title: str, level: int, path: str, known: Places) -> list[str]:
    lines = shown(kind, title)
    levels = [found[0] for found in (heading(*pair) for pair in lines) if found]
    shift = level + 1 - min(levels, default=0)
    result = []
    for line, prose in lines:
        if found := heading(line, prose):
            result.append(f"{'#' * (found[0] + shift)} {found[1]}")
        else:
            result.append(connected(line, path, known) if prose else line)
    return result


def products() -> dict[str, dict[str, Any]]:
    """The admin's instructions by code, read without importing Django."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return [value(item) for item in node.elts]
        if isinstance(node, ast.Call) and node.keywords:
            return keywords(node)
        return ast.literal_eval(node.args[0] if isinstance(node, ast.Call) else node)

    def keywords(call: ast.Call) -> dict[str, Any]:
        return {word.arg: value(word.value) for word in call.keywords if word.arg}

    tree = ast.parse(PRODUCTS.read_text(encoding="utf-8"))
    calls = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "LmsProduct"
    )
    return {product["code"]: product for product in map(keywords, calls)}


def steps(code: str) -> list[str]:
    product = products()[code]
    lines = [f"{number}. {text}" for number, text in enumerate(product["steps"], 1)]
    lines += ["", f"E-mail addresses: {product['email']}"]
    if product.get("good_to_know"):
        lines += ["", product["good_to_know"]]
    for name, shown_as in VALUES.items():
        lines = [line.replace(name, shown_as) for line in lines]
    return lines


def expand(text: str, path: str, known: Places) -> str:
    """A page with what it includes."""
    level, lines = 1, []
    for line, prose in lines_outside_code(text):
        if found := heading(line, prose):
            level = found[0]
        directive = _DIRECTIVE.match(line) if prose else None
        if directive is None:
            lines.append(line)
        elif directive[1] == "steps":
            lines += steps(directive[2])
        else:
            lines += included(*directive.groups(), level=level, path=path, known=known)
    return "\n".join(lines) + "\n"


_known: Places = {}


def on_files(files: Any, **_kwargs: Any) -> None:
    _known.update(
        places({file.src_uri: file.content_string for file in files.documentation_pages()})
    )


def on_page_markdown(markdown: str, *, page: Any, **_kwargs: Any) -> str:
    return expand(markdown, page.file.src_uri, _known)

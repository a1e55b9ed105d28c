"""A regular expression that takes long over a long text lets one request stop a process."""

import ast
import importlib
import pkgutil
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from django.apps import apps

import lti_provider
from lti_provider import urls

REPETITIONS = 100_000
# What is linear takes milliseconds, what is quadratic a minute.
SECONDS = 10
FUNCTIONS = ("compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub")
NEAR_MISSES = ("", "\0", "x", "!")


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Kill what goes on: matching looks for signals."""

    def stop(*_signal: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sources() -> Iterator[tuple[str, ast.Module]]:
    for found in pkgutil.walk_packages(lti_provider.__path__, "lti_provider."):
        if ".migrations." not in found.name:
            path = importlib.import_module(found.name).__file__
            assert path is not None
            yield found.name, ast.parse(Path(path).read_text())


def text_in(expression: ast.expr, module: ast.Module) -> str | bytes:
    """The constant parts of an expression, put together; a name is what is assigned to it."""
    if isinstance(expression, ast.Name):
        (expression,) = (
            node.value
            for node in ast.walk(module)
            if isinstance(node, ast.Assign)
            and any(isinstance(to, ast.Name) and to.id == expression.id for to in node.targets)
        )
    parts = [node.value for node in ast.walk(expression) if isinstance(node, ast.Constant)]
    assert parts, "Say it so that this test can read it."
    return type(parts[0])().join(parts)


def in_code() -> Iterator[tuple[str, str | bytes]]:
    for name, module in sources():
        for node in ast.walk(module):
            call = node.func if isinstance(node, ast.Call) else None
            if isinstance(call, ast.Attribute) and ast.unparse(call.value) == "re":
                if call.attr in FUNCTIONS:
                    yield name, text_in(node.args[0], module)
                else:
                    assert call.attr == "escape"


def in_fields() -> Iterator[tuple[str, str]]:
    for model in apps.get_app_config("lti_provider").get_models():
        for field in model._meta.get_fields():
            for validator in getattr(field, "validators", ()):
                if hasattr(validator, "regex"):
                    yield f"{model.__name__}.{field.name}", validator.regex.pattern


def in_urls() -> Iterator[tuple[str, str]]:
    for pattern in urls.urlpatterns:
        yield f"urls.{pattern.name}", pattern.pattern.regex.pattern


FOUND = [*in_code(), *in_fields(), *in_urls()]


def a_match(tree: Any) -> str:
    """A short text that this part of an expression takes."""
    return "".join(one_match(*node) for node in tree)


def one_match(kind: Any, rest: Any) -> str:
    if kind is op.LITERAL:
        return chr(rest)
    if kind is op.NOT_LITERAL:
        return "b" if rest == ord("a") else "a"
    if kind is op.ANY:
        return "a"
    if kind is op.IN:
        return next(char for char in map(chr, range(0x10000)) if is_in(rest, char))
    if kind is op.BRANCH:
        return a_match(rest[1][0])
    if kind is op.SUBPATTERN:
        return a_match(rest[3])
    if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
        return a_match(rest[2]) * rest[0]
    assert kind in (op.AT, op.ASSERT, op.ASSERT_NOT)
    return ""


def is_in(items: Any, char: str) -> bool:
    names = {
        op.CATEGORY_WORD: r"\w",
        op.CATEGORY_SPACE: r"\s",
        op.CATEGORY_DIGIT: r"\d",
    }
    negated = items[0][0] is op.NEGATE
    for kind, what in items:
        if (
            (kind is op.LITERAL and what == ord(char))
            or (kind is op.RANGE and what[0] <= ord(char) <= what[1])
            or (kind is op.CATEGORY and re.match(names[what], char))
        ):
            return not negated
    return bool(negated)


def repeated(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """Whatever is repeated, with what has to come before it."""
    for kind, rest in tree:
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            yield before, a_match(rest[2])
            yield from repeated(rest[2], before)
        elif kind is op.BRANCH:
            for branch in rest[1]:
                yield from repeated(branch, before)
        elif kind is op.SUBPATTERN:
            yield from repeated(rest[3], before)
        before += one_match(kind, rest)


def texts_for(pattern: str | bytes) -> Iterator[str]:
    plain = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    tree = parser.parse(plain)
    yield a_match(tree) * REPETITIONS
    for before, one in repeated(tree):
        for near_miss in NEAR_MISSES:
            yield before + one * REPETITIONS + near_miss


def match_all(pattern: str | bytes, seconds: int) -> None:
    compiled = re.compile(pattern)
    for text in texts_for(pattern):
        given: Any = text if isinstance(pattern, str) else text.encode("latin-1")
        with at_most(seconds):
            compiled.match(given)
            compiled.fullmatch(given)
            compiled.search(given)


@pytest.mark.parametrize(
    "pattern",
    [pattern for _where, pattern in FOUND],
    ids=[f"{where}-{number}" for number, (where, _pattern) in enumerate(FOUND)],
)
def test_no_regular_expression_takes_long_over_what_it_repeats(pattern):
    match_all(pattern, SECONDS)


@pytest.mark.parametrize("pattern", [r"a(\s*(;\s*b)?\s*c?\s*)?", r"(\w+)+-"])
def test_expressions_that_take_long_would_be_found(pattern):
    with pytest.raises(TimeoutError):
        match_all(pattern, 1)

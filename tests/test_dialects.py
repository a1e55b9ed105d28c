"""Only a dialect's own rooms have its words; everybody else speaks in nouns."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

PACKAGE = Path(__file__).parent.parent / "lti_provider"
WORDS = re.compile(r"oauth_|lis_|sourcedid|basic-lti|id_token|purl\.imsglobal", re.IGNORECASE)
#: The wing, what imitates an LMS, and what Django writes.
WITH_DIALECT = {"lti11", "lti13", "testing", "doctor", "migrations"}
#: Catalogs have the messages of the wing.
UNREAD = {"locale", "__pycache__"}
NOUNS_ONLY = [
    path
    for path in sorted(PACKAGE.rglob("*"))
    if path.is_file() and (WITH_DIALECT | UNREAD).isdisjoint(path.relative_to(PACKAGE).parts)
]


def find_words(text: str) -> list[str]:
    return [
        f"{number}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), start=1)
        if WORDS.search(line)
    ]


def test_the_house_speaks_in_nouns() -> None:
    found = {str(path): find_words(path.read_text()) for path in NOUNS_ONLY}
    assert not {path: words for path, words in found.items() if words}


def test_code_templates_and_scripts_are_read() -> None:
    assert {".py", ".html", ".js", ".css"} <= {path.suffix for path in NOUNS_ONLY}


def test_the_words_are_those_of_the_wing() -> None:
    assert find_words((PACKAGE / "lti11" / "parameters.py").read_text())


@pytest.mark.parametrize(
    "text",
    [
        'message["lis_person_name_full"]',
        "LIS_RESULT_SOURCEDID = 1",
        "# Canvas leaves out the sourcedid.",
        '"""Reads the id_token."""',
        '<input name="oauth_consumer_key">',
        "http://purl.imsglobal.org/spec/lti/claim/roles",
        "only basic-lti-launch-request",
        "def parse(pairs):\n\n    return pairs['oauth_nonce']",
    ],
)
def test_a_word_of_a_dialect_is_seen(text: str) -> None:
    assert find_words(text)


@pytest.mark.parametrize(
    "text", ["from lti_provider.lti11 import verify", "the list is full", "OAuth does not tie it"]
)
def test_a_noun_is_not_a_word_of_a_dialect(text: str) -> None:
    assert not find_words(text)

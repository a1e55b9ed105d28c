import json
from decimal import Decimal
from pathlib import Path
from xml.dom import minidom

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lti_provider.lti11.outcome_xml import (
    CodeMajor,
    NotAnOutcome,
    NotAScore,
    NotXml,
    build_request,
    format_score,
    parse_answer,
)
from lti_provider.models.attempt import Operation
from lti_provider.models.score import is_sendable_text
from tests.lms_service import Received, envelope, score_body

ANSWERS = json.loads((Path(__file__).parent / "data" / "outcome_answers.json").read_text())
CASES = [
    pytest.param(case, id=f"{system}: {case['case']}")
    for system in ("moodle_4_3", "openedx_block_11_4")
    for case in ANSWERS[system]
]
XML_TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(is_sendable_text)


def received(body: bytes) -> Received:
    return Received.read("/", {}, body)


@pytest.mark.parametrize("case", CASES)
def test_only_the_code_of_a_real_answer_decides(case):
    body = case["body"]
    if "imsx_codeMajor" not in body:
        with pytest.raises(NotAnOutcome):
            parse_answer(body.encode())
        return
    succeeded = "<imsx_codeMajor>success</imsx_codeMajor>" in body
    answer = parse_answer(body.encode())
    assert answer.code == ("success" if succeeded else "failure")
    assert answer.description


@pytest.mark.parametrize(
    "sourcedid",
    [
        '{"data":{"instanceid":"1","userid":"4"},"hash":"5f1d"}',
        "course-v1%3AedX%2BDemo:a+b@c:d",
        "\"quoted\" & 'both' <tag> ]]> &amp; &#13;",
        "line\r\nline\rline\nline\ttab  blanks ",
        "é" * 2000 + "𝄞",
        "x" * 4096,
    ],
)
def test_a_sourcedid_comes_back_byte_for_byte(sourcedid):
    body = build_request(Operation.REPLACE, sourcedid, message_id="1", score=Decimal("0.5"))
    assert received(body).sourcedid == sourcedid


@given(XML_TEXT)
def test_any_text_that_xml_can_carry_comes_back(sourcedid):
    body = build_request(Operation.READ, sourcedid, message_id="1")
    assert received(body).sourcedid == sourcedid


@pytest.mark.parametrize("sourcedid", ["\0", "a\x01b", "\x0b", "\ufffe", "\ud800"])
def test_what_xml_cannot_carry_is_refused(sourcedid):
    with pytest.raises(NotXml):
        build_request(Operation.REPLACE, sourcedid, message_id="1", score=Decimal(1))


def test_a_request_is_the_one_that_the_specification_shows():
    body = build_request(
        Operation.REPLACE, "s", message_id="m", score=Decimal("0.850000"), data=("url", "u&v")
    )
    names = [node.tagName for node in minidom.parseString(body).getElementsByTagName("*")]
    assert names == [
        "imsx_POXEnvelopeRequest",
        "imsx_POXHeader",
        "imsx_POXRequestHeaderInfo",
        "imsx_version",
        "imsx_messageIdentifier",
        "imsx_POXBody",
        "replaceResultRequest",
        "resultRecord",
        "sourcedGUID",
        "sourcedId",
        "result",
        "resultScore",
        "language",
        "textString",
        "resultData",
        "url",
    ]
    assert b'xmlns="http://www.imsglobal.org/services/ltiv1p1/xsd/imsoms_v1p0"' in body
    assert received(body).score == "0.85"
    assert received(body).data == ("url", "u&v")


@pytest.mark.parametrize("operation", [Operation.READ, Operation.DELETE])
def test_reads_and_deletions_carry_no_result(operation):
    body = build_request(operation, "s", message_id="m")
    assert received(body).operation == operation
    assert b"<result>" not in body


@pytest.mark.parametrize(
    ("score", "text"),
    [("0", "0.0"), ("1", "1.0"), ("0.85", "0.85"), ("0.333333", "0.333333"), ("1E-6", "0.000001")],
)
def test_scores_have_a_point_and_no_exponent(score, text):
    assert format_score(Decimal(score)) == text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"success",
        b"<imsx_codeMajor>success</imsx_codeMajor>",
        envelope().replace(b"http://www.imsglobal.org", b"http://www.other.example"),
        envelope().replace(b' xmlns="', b' xmlns:other="'),
        envelope("failed"),
        envelope("").replace(b"severity>status<", b"severity>success<"),
        envelope().replace(b"codeMajor>success<", b"codeMajor><b>success</b><"),
        envelope().replace(
            b"<imsx_severity>", b"<imsx_codeMajor>failure</imsx_codeMajor><imsx_severity>"
        ),
        envelope("x", "success"),
        b"<?xml version='1.0' encoding='nonsense'?><a/>",
        b"\xff\xfe\x00",
        envelope().replace(b"?>", b"?><!DOCTYPE a>", 1),
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;&b;&b;">]><a>&c;&c;&c;&c;</a>',
        b"<a>" * 10_000,
        envelope(body="<a>" * 40 + "</a>" * 40),
    ],
)
def test_what_only_looks_like_success_is_none(body):
    with pytest.raises(NotAnOutcome):
        parse_answer(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    with pytest.raises(NotAnOutcome):
        parse_answer(body)


def test_codes_may_have_blanks_and_capitals():
    assert parse_answer(envelope(" Success\n")).code is CodeMajor.SUCCESS


@pytest.mark.parametrize(
    ("sent", "score"),
    [
        ("0.85", "0.85"),
        ("", None),
        (" 1 ", "1"),
        (".5", "0.5"),
        ("1.25", "1.25"),
        ("100", "100"),
        ("8.0E-4", "0.0008"),
    ],
)
def test_a_read_score(sent, score):
    answer = parse_answer(envelope(body=score_body(sent)))
    assert answer.score == (None if score is None else Decimal(score))


@pytest.mark.parametrize(
    "sent",
    [
        "abc",
        "NaN",
        "Infinity",
        "0,5",
        ".",
        "E5",
        "1E+9999999",
        "1E-9999999",
        "1E999",
        "9" * 60_000,
        "0." + "0" * 60_000 + "1",
        "1_0",
        "\u0660.\u0665",
    ],
)
def test_a_read_score_that_is_none(sent):
    with pytest.raises(NotAScore):
        _ = parse_answer(envelope(body=score_body(sent))).score

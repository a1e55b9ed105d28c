from collections import Counter
from urllib.parse import parse_qsl, quote, quote_plus, urlsplit

import pytest
from django.http import QueryDict
from django.test import RequestFactory
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st
from oauthlib.common import urldecode
from oauthlib.oauth1 import SIGNATURE_TYPE_BODY, Client

from lti_provider.exceptions import LaunchRefused, MalformedRequest
from lti_provider.form import read_form
from lti_provider.lti11.parameters import is_core_name, read_message
from lti_provider.lti11.verification import verify_signature
from lti_provider.models import LtiConsumer
from tests import rfc5849

FORM = "application/x-www-form-urlencoded"
URL = "http://testserver/lti/launch/"
KEY, SECRET = "k & é", "s/ + % = é &"
LAUNCH = [
    ("lti_message_type", "basic-lti-launch-request"),
    ("lti_version", "LTI-1p0"),
    ("resource_link_id", "r1"),
    ("user_id", "learner"),
    ("roles", "Learner"),
    ("custom_page", "3"),
    ("resource_link_description", "First\r\n\r\nSecond"),
]

pytestmark = [pytest.mark.django_db, pytest.mark.slow]

thorough = settings(max_examples=300)


@pytest.fixture
def consumer():
    return LtiConsumer.objects.create(consumer_name="LMS", consumer_key=KEY, consumer_secret=SECRET)


def spell_all(text):
    return "".join(f"%{byte:02x}" for byte in text.encode())


SPELLINGS = [
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: quote_plus(text, safe="!*'();:@/?$,[]{}|^`\"<>\\"),
    spell_all,
    lambda text: quote(text, safe="~").replace("%C3", "%c3"),
]
spellings = st.sampled_from(SPELLINGS)

tricky = st.sampled_from(
    ["", " ", "+", "%", "~", "%20", "%2B", "&", "=", ";", "a;b=c", "\r\n", "\n", "é", "😀",
     "e\u0301", "\u202e", "\ufeff", "'", '"', "<", "\\", "$a.b", "a b", " a ", "\uffff", "\x7f",
     "#", "?", "/"]
)  # fmt: skip
texts = st.one_of(
    tricky, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
)
names = st.one_of(
    texts, st.sampled_from(["a", "A", "custom_x", "ext_y", "next", "Oauth_x", "User_id", "oauth"])
).filter(lambda name: name and not name.startswith("oauth_") and not is_core_name(name))
pairs = st.lists(st.tuples(names, texts), max_size=6)
fields = pairs.map(lambda some: list(dict(some).items()))


def spell(pairs, spelling, bare=False):
    return "&".join(
        spelling(name) if bare and not value else f"{spelling(name)}={spelling(value)}"
        for name, value in pairs
    )


def request(body, query=""):
    path = urlsplit(URL).path
    return RequestFactory().generic("POST", f"{path}?{query}" if query else path, body, FORM)


def verify(posted):
    return verify_signature(posted, read_form(posted))


def signed_by_the_tests(fields, query, method):
    return rfc5849.sign(URL, fields, key=KEY, secret=SECRET, method=method, query=query)


def signed_by_oauthlib(fields, query, method):
    client = Client(
        KEY, client_secret=SECRET, signature_method=method, signature_type=SIGNATURE_TYPE_BODY
    )
    url = f"{URL}?{spell(query, SPELLINGS[1])}"
    _url, _headers, body = client.sign(
        url, "POST", body=spell(fields, quote_plus), headers={"Content-Type": FORM}
    )
    return parse_qsl(body, keep_blank_values=True)


def holds(stored_message, form):
    text = rfc5849.base_string(URL, stored_message)
    made = rfc5849.signature(text, SECRET, form["oauth_signature_method"])
    return made == form["oauth_signature"]


def read_by_others(encoded):
    """The pairs as Django, the standard library and oauthlib read them."""
    query_dict = QueryDict(encoded, encoding="utf-8")
    yield [(name, value) for name, values in query_dict.lists() for value in values]
    yield parse_qsl(encoded, keep_blank_values=True, encoding="utf-8", errors="strict")
    try:
        yield urldecode(encoded)
    except ValueError:
        event("oauthlib does not read it")


@thorough
@given(
    fields=fields,
    query=pairs,
    spelling=spellings,
    bare=st.booleans(),
    signer=st.sampled_from([signed_by_the_tests, signed_by_oauthlib]),
    method=st.sampled_from(["HMAC-SHA1", "HMAC-SHA256"]),
    canvas=st.booleans(),
    order=st.randoms(use_true_random=False),
)
@example(
    fields=[("a", "1")], query=[("a", "1"), ("a", "1")], spelling=quote_plus, bare=False,
    signer=signed_by_the_tests, method="HMAC-SHA1", canvas=True, order=None,
)  # fmt: skip
@example(
    fields=[("a", "1")], query=[("a", "2"), ("a", "1")], spelling=spell_all, bare=False,
    signer=signed_by_oauthlib, method="HMAC-SHA256", canvas=False, order=None,
)  # fmt: skip
def test_what_was_signed_is_what_was_read(
    consumer, fields, query, spelling, bare, signer, method, canvas, order
):
    sent = [*LAUNCH[:-2], *LAUNCH[-1:], *fields]
    if canvas:
        # Canvas copies the query into the form and signs it once.
        sent = list(dict([*query, *sent]).items())
    query_signed = [pair for pair in query if pair not in sent] if canvas else query
    signed = signer(sent, query_signed, method)
    if order is not None:
        order.shuffle(signed)
    body = spell(signed, spelling, bare)

    verified = verify(request(body, spell(query, spelling, bare)))

    covered = [pair for pair in signed if pair[0] != "oauth_signature"]
    assert Counter(verified.pairs) == Counter([*covered, *query_signed])
    assert holds(verified.pairs, dict(signed))
    for others in read_by_others(body):
        assert Counter(others) == Counter(verified.form.body)
    for others in read_by_others(spell(query, spelling, bare)):
        assert Counter(others) == Counter(verified.form.query)
    assert read_message(verified.pairs).person.user_id == "learner"


crooked = st.text("a=&%+;~\r\n \0é\x7f\"'2BbFf0", max_size=40)


@thorough
@given(body=st.one_of(crooked, st.lists(crooked, max_size=5).map("&".join)))
@example(body="a=1&b=%2B+&c")
@example(body="a=1;b=2")
def test_a_form_is_read_as_everybody_reads_it_or_refused(body):
    try:
        form = read_form(request(body.encode()))
    except MalformedRequest:
        event("refused")
        return

    for others in read_by_others(body):
        assert others == list(form)


def flip(body, query, at, to):
    assume(body[at % len(body)] != to)
    changed = bytearray(body)
    changed[at % len(body)] = to
    return bytes(changed), query


MUTATIONS = {
    "append": lambda body, query, pair: (body + b"&" + pair, query),
    "prepend": lambda body, query, pair: (pair + b"&" + body, query),
    "add to the query": lambda body, query, pair: (body, query + b"&" + pair),
    "lead the query": lambda body, query, pair: (body, pair + b"&" + query),
    "only query": lambda body, query, pair: (pair, body),
    "empty the body": lambda body, query, pair: (b"", body + b"&" + query),
    "drop the query": lambda body, query, pair: (body, pair),
}


def genuine(query=b"q=1&q=2&empty="):
    pairs = signed_by_the_tests(
        LAUNCH, parse_qsl(query.decode(), keep_blank_values=True), "HMAC-SHA1"
    )
    return pairs, spell(pairs, quote_plus).encode()


def assert_refused(body, query):
    with pytest.raises(LaunchRefused):
        verify(request(body, query.decode("latin-1")))


def assert_refused_or_the_same(body, query, signed):
    try:
        verified = verify(request(body, query.decode("latin-1")))
    except LaunchRefused:
        return
    covered = [pair for pair in signed if pair[0] != "oauth_signature"]
    assert Counter(verified.pairs) == Counter(covered)


@thorough
@given(name=st.one_of(names, st.sampled_from([name for name, _value in LAUNCH])), value=texts,
       mutation=st.sampled_from(list(MUTATIONS)))  # fmt: skip
def test_nothing_can_be_added_to_a_signed_launch(consumer, name, value, mutation):
    # A pair that the form already has says nothing new in the query: Canvas repeats them there.
    assume((name, value) not in LAUNCH)
    query = b"q=1&q=2&empty="
    _pairs, body = genuine(query)
    added = f"{quote_plus(name)}={quote_plus(value)}".encode()

    assert_refused(*MUTATIONS[mutation](body, query, added))


@thorough
@given(at=st.integers(0, 5000), to=st.integers(0, 255))
def test_a_changed_byte_is_refused_unless_it_spells_the_same(consumer, at, to):
    pairs, body = genuine(b"")

    assert_refused_or_the_same(*flip(body, b"", at, to), pairs)


@thorough
@given(at=st.integers(0, 100), to=st.integers(0x21, 0x7E))
def test_a_changed_byte_of_the_query_is_refused_unless_it_spells_the_same(consumer, at, to):
    query = b"q=1&q=%2a&empty="
    pairs, body = genuine(query)
    signed = [*pairs, *parse_qsl(query.decode(), keep_blank_values=True)]

    changed, _same = flip(query, b"", at, to)

    assert_refused_or_the_same(body, changed, signed)


@pytest.mark.parametrize("index", range(len(LAUNCH) + 5))
def test_no_pair_can_be_left_out_repeated_or_changed(consumer, index):
    pairs, _body = genuine(b"")
    name, value = pairs[index]
    rest = [*pairs[:index], *pairs[index + 1 :]]
    encode = lambda some: spell(some, quote_plus).encode()  # noqa: E731

    assert_refused(encode(rest), b"")
    assert_refused(encode([*pairs, (name, value)]), b"")
    assert_refused(encode([*pairs, (name, "")]), b"")
    assert_refused(encode([(name, "other"), *pairs]), b"")
    for other in (value + " ", " " + value, value + "x", value[:-1], value.swapcase(), ""):
        if other != value:
            assert_refused(encode([*rest, (name, other)]), b"")
    assert_refused(encode([*rest, (name.upper(), value)]), b"")
    assert_refused(encode([*rest, (name, value), ("", "")]), b"")


@pytest.mark.parametrize("index", range(len(LAUNCH) + 5))
def test_a_pair_that_moves_to_the_query_is_refused_or_means_the_same(consumer, index):
    pairs, _body = genuine(b"")
    name, value = pairs[index]
    rest = [*pairs[:index], *pairs[index + 1 :]]
    body, query = spell(rest, quote_plus).encode(), spell([(name, value)], quote_plus).encode()

    if name.startswith("oauth_") or is_core_name(name):
        assert_refused(body, query)
    else:
        # RFC 5849 §3.4.1.3 does not tell query from form; every value is still signed.
        assert_refused_or_the_same(body, query, pairs)


def test_a_repeated_query_is_tolerated_only_to_the_letter(consumer):
    signed = rfc5849.sign(URL, [*LAUNCH, ("a", "1")], key=KEY, secret=SECRET, query=())
    body = spell(signed, quote_plus).encode()

    assert_refused_or_the_same(body, b"a=1", signed)
    assert_refused_or_the_same(body, b"a=%31&a=1", signed)
    for query in (
        b"a=2",
        b"a=1&a=2",
        b"A=1",
        b"a=1+",
        b"a",
        b"a=1&b=1",
        b"b=1",
        b"a=1&user_id=learner",
    ):
        assert_refused(body, query)


def test_an_lms_that_counts_a_repeated_query_twice_is_right_too(consumer):
    signed = rfc5849.sign(URL, [*LAUNCH, ("a", "1")], key=KEY, secret=SECRET, query=[("a", "1")])

    verified = verify(request(spell(signed, quote_plus), "a=1"))

    assert Counter(verified.pairs)["a", "1"] == 2


@pytest.mark.parametrize(
    "url",
    ["http://testserver/lti/launch", "http://testserver/lti//launch/", "https://testserver/lti/launch/",
     "http://testserver:8000/lti/launch/", "http://TESTSERVER.evil/lti/launch/",
     "http://testserver/LTI/launch/", "http://testserver/lti/launch/x"],
)  # fmt: skip
def test_a_launch_signed_for_another_url_is_refused(consumer, url):
    signed = rfc5849.sign(url, LAUNCH, key=KEY, secret=SECRET)

    assert_refused(spell(signed, quote_plus), b"")


@pytest.mark.parametrize(
    "url", ["HTTP://TestServer/lti/launch/", "http://testserver:80/lti/launch/"]
)
def test_the_spelling_of_scheme_and_host_does_not_count(consumer, url):
    signed = rfc5849.sign(url, LAUNCH, key=KEY, secret=SECRET)

    assert verify(request(spell(signed, quote_plus))).consumer == consumer

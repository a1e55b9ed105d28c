import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from lti_provider.models.public_keys import (
    NotAKeySet,
    load_key_set,
    normalize_key_set,
    parse_key_set,
    validate_key_set,
)
from tests.key_server import make_public_key, to_base64, to_jwk, to_set

PEM = {"encoding": Encoding.PEM, "format": PublicFormat.SubjectPublicKeyInfo}
K1 = make_public_key("k1")


def to_pem(key) -> str:
    return key.public_bytes(**PEM).decode()


def find_problem(text: str, kid: str = "k1") -> str:
    key = parse_key_set(text).find(kid)
    assert key.loaded is None
    return str(key.problem)


def is_key(found, name: str) -> bool:
    return found.loaded.public_numbers() == make_public_key(name).public_numbers()


def refusal(text: str) -> str:
    with pytest.raises(NotAKeySet) as caught:
        validate_key_set(text)
    return str(caught.value.text)


def test_each_key_of_a_set_is_found_by_its_name():
    keys = parse_key_set(to_set("k1", "k2"))
    assert is_key(keys.find("k1"), "k1")
    assert is_key(keys.find("k2"), "k2")
    assert keys.find("k3") is None
    assert keys.names == "k1, k2"


@pytest.mark.parametrize("kid", ["K1", "k1 ", " k1", "k", "", "k1\0"])
def test_a_name_is_compared_to_the_letter(kid):
    assert parse_key_set(to_set("k1", "k2")).find(kid) is None


def test_one_key_alone_is_a_set_of_one():
    keys = parse_key_set(json.dumps(to_jwk("k1")))
    assert is_key(keys.find("k1"), "k1")
    assert keys.find("k2") is None


@pytest.mark.parametrize("text", [to_pem(K1), f"\n  {to_pem(K1)}\n", to_set(to_jwk(None, K1))])
def test_the_only_key_of_a_set_needs_no_name(text):
    assert is_key(parse_key_set(text).find("anything"), "k1")
    assert is_key(parse_key_set(normalize_key_set(text)).find("anything"), "k1")


def test_a_key_without_a_name_is_nobodys_beside_others():
    keys = parse_key_set(to_set(to_jwk(None, K1), "k2"))
    assert keys.find("k1") is None
    assert is_key(keys.find("k2"), "k2")
    assert parse_key_set(to_set(to_jwk(None, K1), to_jwk(None))).find("k1") is None


@pytest.mark.parametrize("kid", [None, 1, ["k1"], {}])
def test_a_name_that_is_not_a_text_is_none(kid):
    odd = {**to_jwk("k1"), "kid": kid}
    assert parse_key_set(to_set(odd)).find("k1") is None


@pytest.mark.parametrize("changes", [{"use": None}, {"alg": None}, {"use": None, "alg": None}])
def test_use_and_algorithm_may_be_left_out(changes):
    assert is_key(parse_key_set(to_set(to_jwk("k1", **changes))).find("k1"), "k1")


def test_padding_is_no_reason_to_refuse():
    padded = to_jwk("k1")["n"] + "=="
    assert is_key(parse_key_set(to_set(to_jwk("k1", n=padded))).find("k1"), "k1")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"use": "enc"}, "its use is enc, and sig is needed"),
        ({"use": ["sig"]}, "its use is ['sig'], and sig is needed"),
        ({"alg": "RS512"}, "its algorithm is RS512, and RS256 is needed"),
        ({"alg": "HS256"}, "its algorithm is HS256, and RS256 is needed"),
        ({"kty": "oct", "k": "c2VjcmV0"}, "its type is oct, and RSA is needed"),
        ({"kty": None}, "its type is None, and RSA is needed"),
        ({"n": None}, "it cannot be read"),
        ({"e": None}, "it cannot be read"),
        ({"n": 5}, "it cannot be read"),
        ({"n": "n" * 345}, "it cannot be read"),
        ({"n": "é" * 342}, "it cannot be read"),
        ({"n": "*" * 342}, "it cannot be read"),
        ({"n": " " + to_base64(K1.public_numbers().n)}, "it cannot be read"),
        ({"n": ""}, "it has 0 bits, and 2048 to 8192 are accepted"),
        ({"e": ""}, "its exponent is not usual"),
        ({"e": "AQ"}, "its exponent is not usual"),
        ({"e": "AQAA"}, "its exponent is not usual"),
        ({"e": to_base64(2**32 + 1)}, "its exponent is not usual"),
        ({"e": to_base64(K1.public_numbers().n - 2)}, "its exponent is not usual"),
        ({"n": to_base64(2**2047 - 1)}, "it has 2047 bits, and 2048 to 8192 are accepted"),
        ({"n": to_base64(2**8192 + 1)}, "it has 8193 bits, and 2048 to 8192 are accepted"),
        ({"n": to_base64(2**300_000 - 1)}, "it has 300000 bits, and 2048 to 8192 are accepted"),
    ],
)
def test_a_key_that_cannot_be_used_says_why_and_spoils_no_other(changes, problem):
    keys = to_set("k0", to_jwk("k1", **changes), "k2")
    assert find_problem(keys) == problem
    assert is_key(parse_key_set(keys).find("k0"), "k0")
    assert is_key(parse_key_set(keys).find("k2"), "k2")


def test_a_short_key_is_refused():
    short = make_public_key("short", 1024)
    assert "1024 bits" in find_problem(to_set(to_jwk("k1", short)))
    assert "1024 bits" in find_problem(to_pem(short))


def test_two_keys_of_one_name_are_nobodys():
    assert find_problem(to_set("k1", to_jwk("k1", make_public_key("other")))) == (
        "several different keys have this kid"
    )
    encrypts = to_jwk("k1", make_public_key("other"), use="enc", alg=None)
    assert "several" in find_problem(to_set(encrypts, "k1"))


def test_a_key_that_is_there_twice_is_one():
    assert is_key(parse_key_set(to_set("k1", "k1")).find("k1"), "k1")


def test_a_key_of_a_different_type_may_have_the_same_name():
    keys = to_set({"kty": "EC", "kid": "k1"}, "k1", {"kty": "OKP", "kid": "k1"})
    assert is_key(parse_key_set(keys).find("k1"), "k1")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keys",
        "[]",
        "null",
        "1",
        "{}",
        '{"error": "maintenance"}',
        '{"keys": {}}',
        '{"keys": null}',
        "[" * 30_000,
        '{"keys":' * 10_000,
        '{"keys": [' + "9" * 5000 + "]}",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "-----BEGIN é-----",
        "\ufeff" + to_set("k1"),
    ],
)
def test_what_is_not_a_key_set_is_refused_and_has_no_keys(text):
    for read in (parse_key_set, normalize_key_set, validate_key_set):
        with pytest.raises(NotAKeySet):
            read(text)
    assert load_key_set(text).find("k1") is None
    assert load_key_set(text).names == ""


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
    ],
)
def test_a_pem_of_a_different_type_says_so(key):
    assert refusal(to_pem(key)) == "This is not an RSA key, and RSA is needed."


def test_what_a_key_set_may_hold_besides_keys():
    keys = json.loads(to_set("k1")) | {"keys": [1, None, [], "k1", to_jwk("k1")], "more": {}}
    assert is_key(parse_key_set(json.dumps(keys)).find("k1"), "k1")


def test_an_administrator_s_keys_are_good_if_one_can_be_used():
    for text in (to_set("k1"), to_set({"kty": "EC", "kid": "k0"}, "k1"), to_pem(K1)):
        validate_key_set(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (to_set(), "There is no key in it, or none with a kid."),
        (to_set(to_jwk(None), to_jwk(None)), "There is no key in it, or none with a kid."),
        (
            to_set(to_jwk("k1", use="enc"), to_jwk("k2", alg="ES256")),
            "Key k1 of the key set cannot be used: its use is enc, and sig is needed.",
        ),
        (
            to_pem(make_public_key("short", 1024)),
            "The key cannot be used: it has 1024 bits, and 2048 to 8192 are accepted.",
        ),
        ("our key", "This is neither a JWK set nor a JWK nor a public key in PEM."),
        ("-----BEGIN RSA-----", "This is not a public key in PEM."),
    ],
)
def test_an_administrator_is_told_what_is_wrong(text, said):
    assert refusal(text) == said


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_is_not_taken(form):
    private = generate_private_key(65537, 2048)
    pem = private.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    number = to_base64(private.private_numbers().d)
    for text in (pem, to_set("k1", to_jwk("k2", private.public_key(), d=number))):
        assert "private key" in refusal(text)


def test_what_is_kept_of_a_key_set_is_what_counts():
    given = to_jwk("k1", x5c=["AAAA"], x5u="https://evil.example/", d="c2VjcmV0", jku="x")
    kept = json.loads(normalize_key_set(to_set(given, {"kty": "EC", "kid": "k\0", "x": "1"})))
    assert kept == {"keys": [to_jwk("k1"), {"kty": "EC", "kid": "k\0"}]}
    assert "\0" not in normalize_key_set(to_set({"kid": "k\0"}))


def test_names_are_shown_short_few_and_printable():
    odd = [to_jwk(f"{number}\n\ud800" + "x" * 100) for number in range(9)]
    names = parse_key_set(to_set(*odd)).names
    assert names.count("x" * 61) == 5
    assert names.endswith(", …")
    assert names.isprintable()
    assert len(names) < 400


def test_blanks_of_a_name_are_seen():
    assert parse_key_set(to_set(to_jwk(" k1"), to_jwk(""))).names == "“ k1”, “”"


def test_keys_are_loaded_once():
    first = load_key_set(to_set("k1")).find("k1").loaded
    assert load_key_set(to_set("k1")).find("k1").loaded is first


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
MEMBERS = st.dictionaries(
    st.sampled_from(["kty", "kid", "use", "alg", "n", "e", "d"]),
    ANYTHING | st.sampled_from(["RSA", "EC", "sig", "RS256", "AQAB"]),
)


@given(st.lists(MEMBERS | ANYTHING, max_size=4))
def test_nothing_in_a_key_set_is_an_error_of_ours(keys):
    text = json.dumps({"keys": keys})
    for read in (parse_key_set, lambda text: parse_key_set(normalize_key_set(text))):
        found = read(text)
        assert all(str(key.problem) or key.loaded for key in found.named.values())
        found.names.encode()


@given(st.text() | st.text().map(lambda text: f"-----BEGIN PUBLIC KEY-----{text}"))
def test_no_text_is_an_error_of_ours(text):
    assert load_key_set(text).names == ""
    assert refusal(text)

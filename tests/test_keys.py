"""This site's own keys: what it publishes, what it signs with, and how one follows another."""

import base64
import hashlib
import json
import logging
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
import time_machine
from cryptography.exceptions import InvalidSignature
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core import serializers
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from lti_provider import protocols
from lti_provider.exceptions import SecretUnreadable
from lti_provider.lti13 import keys
from lti_provider.models import LtiKey
from lti_provider.models.key import PUBLISHED_AFTER, PUBLISHED_BEFORE
from lti_provider.models.secret import PREFIX
from lti_provider.views.jwks import MAX_AGE

pytestmark = pytest.mark.django_db

OLD = Fernet.generate_key().decode()
NEW = Fernet.generate_key().decode()
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
#: RFC 7518 §6.3.2, and what a PEM says of itself.
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def fetch() -> dict[str, dict[str, str]]:
    """The key set as an LMS reads it, by kid."""
    return {key["kid"]: key for key in Client().get("/lti/jwks/").json()["keys"]}


def verify(token: str, jwk: dict[str, str]) -> dict[str, object]:
    """What an LMS makes of a token, with nothing of the library that signed it."""
    signed, _dot, signature = token.rpartition(".")
    numbers = rsa.RSAPublicNumbers(*(int.from_bytes(decode(jwk[name])) for name in ("e", "n")))
    public = numbers.public_key()
    public.verify(decode(signature), signed.encode(), padding.PKCS1v15(), SHA256())
    return json.loads(decode(signed.partition(".")[2]))


def read_header(token: str) -> dict[str, str]:
    return json.loads(decode(token.partition(".")[0]))


def get_signer() -> str:
    return read_header(keys.sign_token({}))["kid"]


def stored() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT private_key FROM lti_provider_ltikey ORDER BY number")
        return [row[0] for row in cursor.fetchall()]


def make(number: int, **fields) -> LtiKey:
    """A key that costs no time to make; it signs nothing."""
    given = {"kid": f"k{number}", "private_key": "none", "public_jwk": {}, "published_from": NOW}
    return LtiKey.objects.create(number=number, **{**given, "signs_from": NOW, **fields})


def kids(queryset) -> list[str]:
    return [key.kid for key in queryset]


# The key set


def test_anybody_reads_the_key_set(client):
    response = client.get("/lti/jwks/")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    assert set(response["Cache-Control"].split(", ")) == {"public", "max-age=3600"}
    assert len(response.json()["keys"]) == 1
    assert not response.cookies
    assert "Cookie" not in response.get("Vary", "")
    head = client.head("/lti/jwks/")
    assert (head.status_code, head.content) == (200, b"")
    assert head["Cache-Control"] == response["Cache-Control"]


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch", "options"])
def test_nobody_changes_it(client, method):
    assert getattr(client, method)("/lti/jwks/").status_code == 405
    assert not LtiKey.objects.exists()


def test_a_site_that_asks_everybody_to_sign_in_asks_no_lms(client, settings):
    required = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, required]
    assert client.get("/lti/jwks/").status_code == 200


def test_no_session_is_looked_at(client):
    client.force_login(get_user_model().objects.create(username="robin"))
    (kid,) = fetch()
    response = client.get("/lti/jwks/")
    assert [key["kid"] for key in response.json()["keys"]] == [kid]
    assert not response.cookies
    assert "Cookie" not in response.get("Vary", "")


def test_one_read_answers_it(client, django_assert_num_queries):
    client.get("/lti/jwks/")
    keys.rotate_key()
    with django_assert_num_queries(1):
        assert len(client.get("/lti/jwks/").json()["keys"]) == 2


def test_the_set_is_read_again_before_a_new_key_signs():
    assert timedelta(seconds=MAX_AGE) < PUBLISHED_BEFORE


def test_a_key_is_2048_bits_named_by_its_thumbprint():
    ((kid, jwk),) = fetch().items()
    assert jwk.keys() == {"kty", "use", "alg", "kid", "n", "e"}
    assert (jwk["kty"], jwk["use"], jwk["alg"], jwk["e"]) == ("RSA", "sig", "RS256", "AQAB")
    assert "=" not in jwk["n"] + kid
    assert int.from_bytes(decode(jwk["n"])).bit_length() == 2048
    # RFC 7638 §3.1
    text = f'{{"e":"{jwk["e"]}","kty":"RSA","n":"{jwk["n"]}"}}'
    assert decode(kid) == hashlib.sha256(text.encode()).digest()


def test_no_private_member_is_published_whatever_a_row_holds(client):
    key = keys.get_signing_key()
    pair = keys.load_private_key(key)
    key.public_jwk |= pair.as_dict(private=True)
    key.save()
    assert PRIVATE_MEMBERS & key.public_jwk.keys()
    text = client.get("/lti/jwks/").content.decode()
    assert not PRIVATE_MEMBERS & json.loads(text)["keys"][0].keys()
    assert key.public_jwk["d"] not in text
    assert "PRIVATE" not in protocols.get_public_pem()


def test_the_first_need_makes_one_key(client):
    assert not LtiKey.objects.exists()
    (kid,) = fetch()
    assert get_signer() == kid
    assert fetch().keys() == {kid}
    assert LtiKey.objects.get().number == 1


def faster_at(number: int):
    """Before the numbered read of a process, a different one makes the first key."""
    reads = []

    def execute_later(execute, sql, params, many, context):
        if sql.startswith("SELECT"):
            reads.append(sql)
            if len(reads) == number:
                keys.get_signing_key()
        return execute(sql, params, many, context)

    return connection.execute_wrapper(execute_later)


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("need", [keys.get_signing_key, keys.rotate_key])
def test_whoever_is_faster_makes_the_first_key(need, number):
    with faster_at(number):
        needed = need()
    made = LtiKey.objects.order_by("number")
    assert needed == made.last()
    # A rotation that finds the key in time is one.
    assert made.count() == 1 or (need == keys.rotate_key and made.count() == 2 and number == 1)


def test_the_pem_is_the_key_that_signs():
    pem = protocols.get_public_pem()
    (jwk,) = protocols.get_key_set()["keys"]
    numbers = load_pem_public_key(pem.encode()).public_numbers()
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n")
    assert numbers.n == int.from_bytes(decode(jwk["n"]))


# Signatures


def test_an_lms_verifies_what_is_signed():
    claims = {"iss": "client", "aud": ["a"], "n": 1, "text": "Zoë"}
    token = keys.sign_token(claims)
    header = read_header(token)
    assert header == {"typ": "JWT", "alg": "RS256", "kid": header["kid"]}
    assert verify(token, fetch()[header["kid"]]) == claims
    with pytest.raises(InvalidSignature):
        verify(keys.sign_token({})[:-8] + "AAAAAAAA", fetch()[header["kid"]])


def test_a_warm_process_parses_no_key_and_reads_one_row(settings, django_assert_num_queries):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    keys.sign_token({})
    parsed = keys._parse_private_key.cache_info().misses
    with django_assert_num_queries(1):
        keys.sign_token({})
    call_command("lti_reencrypt", stdout=StringIO())
    keys.sign_token({})
    assert keys._parse_private_key.cache_info().misses == parsed


def test_a_row_that_changed_is_noticed():
    keys.sign_token({})
    other = keys.RSAKey.generate_key(2048)
    LtiKey.objects.update(
        kid="other",
        private_key=other.as_pem(private=True).decode(),
        public_jwk=other.as_dict(private=False) | {"kid": "other", "use": "sig", "alg": "RS256"},
    )
    token = keys.sign_token({"a": 1})
    assert verify(token, fetch()["other"]) == {"a": 1}


# Encryption


def test_the_private_key_is_encrypted_at_rest(settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    token = keys.sign_token({"a": 1})
    (private,) = stored()
    assert private.startswith(PREFIX)
    assert "PRIVATE" not in private
    assert verify(token, fetch()[read_header(token)["kid"]]) == {"a": 1}


@pytest.mark.parametrize("at_hand", [[NEW], []])
def test_a_lost_key_is_said_and_the_key_set_goes_on(settings, at_hand):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    kid = get_signer()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = at_hand
    with pytest.raises(SecretUnreadable) as raised:
        keys.sign_token({})
    assert f"private key {kid} was encrypted with a key that is not in" in str(raised.value.hint)
    assert fetch().keys() == {kid}
    assert protocols.get_public_pem()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW, OLD]
    assert get_signer() == kid


def test_reencrypt_takes_it_to_the_first_key(settings):
    kid = get_signer()
    for number, given in enumerate(([OLD], [NEW, OLD])):
        settings.LTI_PROVIDER_ENCRYPTION_KEYS = given
        out = StringIO()
        call_command("lti_reencrypt", stdout=out)
        assert "Encrypted 1 secrets." in out.getvalue(), number
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    assert get_signer() == kid
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    before = stored()
    with pytest.raises(CommandError, match=rf"of: {kid} \(number \d+, private_key\)"):
        call_command("lti_reencrypt", stdout=StringIO())
    assert stored() == before


# Rotation


def test_a_new_key_is_published_at_once_and_signs_a_day_later(clock):
    first = get_signer()
    second = keys.rotate_key().kid
    assert list(fetch()) == [second, first]
    clock.shift(PUBLISHED_BEFORE - SECOND)
    assert get_signer() == first
    clock.shift(SECOND)
    assert get_signer() == second
    assert list(fetch()) == [second, first]


def test_the_old_one_stays_published_for_thirty_days_after_it_ceased_to_sign(clock):
    first = get_signer()
    token = keys.sign_token({})
    second = keys.rotate_key().kid
    clock.shift(PUBLISHED_BEFORE + PUBLISHED_AFTER - SECOND)
    verify(token, fetch()[first])
    clock.shift(SECOND)
    assert fetch().keys() == {second}
    assert get_signer() == second


def test_a_rotation_during_a_rotation_changes_nothing(clock):
    get_signer()
    waiting = keys.rotate_key()
    clock.shift(DAY / 2)
    assert keys.rotate_key() == waiting
    assert LtiKey.objects.count() == 2
    clock.shift(DAY / 2)
    assert keys.rotate_key() != waiting


def test_a_rotation_without_any_key_makes_one_that_signs_at_once():
    assert get_signer() == keys.rotate_key().kid or LtiKey.objects.count() == 2
    LtiKey.objects.all().delete()
    made = keys.rotate_key()
    assert (made.signs_from, get_signer()) == (NOW, made.kid)


def test_if_the_present_key_cannot_sign_its_successor_does_at_once(settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    lost = get_signer()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    made = keys.rotate_key()
    assert get_signer() == made.kid != lost
    assert fetch().keys() == {made.kid, lost}


def test_if_the_present_key_cannot_sign_the_one_that_waits_does_at_once(settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    get_signer()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW, OLD]
    waiting = keys.rotate_key()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    assert keys.rotate_key() == waiting
    assert get_signer() == waiting.kid
    assert LtiKey.objects.count() == 2


def test_a_key_that_waits_and_cannot_sign_is_followed_by_one_that_can(settings):
    get_signer()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    lost = keys.rotate_key()
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    assert not LtiKey.objects.get(kid=lost.kid).is_readable
    made = keys.rotate_key()
    assert made.number == 3
    assert made.signs_from == NOW + PUBLISHED_BEFORE
    # The one that signs is lost too, and so is the one that waits next.
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    LtiKey.objects.filter(number=1).update(private_key=f"{PREFIX}lost")
    assert (keys.rotate_key().number, LtiKey.objects.count()) == (4, 4)


# Retirement


def test_an_old_key_is_retired_at_once_and_alone(clock):
    first = keys.get_signing_key()
    keys.rotate_key()
    clock.shift(PUBLISHED_BEFORE)
    assert keys.retire_key(first) is None
    assert first.kid not in fetch()
    assert LtiKey.objects.count() == 2


def test_a_key_that_waits_is_retired_and_the_present_one_goes_on(clock):
    first, second = get_signer(), keys.rotate_key()
    assert keys.retire_key(second) is None
    clock.shift(PUBLISHED_BEFORE + PUBLISHED_AFTER + DAY)
    assert get_signer() == first
    assert fetch().keys() == {first}


def test_the_only_key_is_replaced_at_once():
    only = keys.get_signing_key()
    successor = keys.retire_key(only)
    assert successor.signs_from == NOW
    assert get_signer() == successor.kid != only.kid
    assert fetch().keys() == {successor.kid}


def test_the_one_that_waits_replaces_the_only_key_that_signs():
    only, waiting = keys.get_signing_key(), keys.rotate_key()
    assert keys.retire_key(only) == waiting
    assert get_signer() == waiting.kid
    assert fetch().keys() == {waiting.kid}


def test_an_older_key_that_lmss_know_signs_until_a_successor_is_known_too(clock):
    first, second = keys.get_signing_key(), keys.rotate_key()
    clock.shift(PUBLISHED_BEFORE + SECOND)
    third = keys.retire_key(second)
    assert third.number == 3
    assert get_signer() == first.kid
    assert fetch().keys() == {first.kid, third.kid}
    clock.shift(PUBLISHED_BEFORE)
    assert get_signer() == third.kid
    # It ceased when its first successor began, and that one's retirement does not bring it back.
    clock.move_to(NOW + PUBLISHED_BEFORE + PUBLISHED_AFTER)
    assert fetch().keys() == {third.kid}


def test_a_key_that_left_the_set_never_comes_back(clock):
    get_signer()
    second = keys.rotate_key()
    clock.shift(PUBLISHED_BEFORE + PUBLISHED_AFTER)
    third = keys.retire_key(second)
    assert (fetch().keys(), get_signer()) == ({third.kid}, third.kid)


def test_keys_of_any_age_are_published_by_their_dates(clock):
    ago = [NOW - timedelta(days=days) for days in (100, 60, 31, 29, 1)]
    for number, signs_from in enumerate(ago, start=1):
        make(number, signs_from=signs_from)
    make(6, signs_from=NOW + DAY)
    assert kids(LtiKey.objects.published()) == ["k6", "k5", "k4", "k3"]
    assert kids(LtiKey.objects.signing()) == ["k5", "k4", "k3"]
    assert kids(LtiKey.objects.waiting()) == ["k6"]
    assert LtiKey.objects.purge(NOW - timedelta(days=31)) == 0
    LtiKey.objects.filter(number=5).update(retired_at=NOW - timedelta(days=32))
    assert LtiKey.objects.purge(NOW - timedelta(days=29)) == 2
    assert kids(LtiKey.objects.order_by("number")) == ["k2", "k3", "k4", "k6"]


def test_what_left_the_key_set_long_ago_is_purged(clock):
    get_signer()
    second = keys.rotate_key()
    clock.shift(PUBLISHED_BEFORE + PUBLISHED_AFTER + timedelta(days=90))
    for count in (0, 1):
        out = StringIO()
        call_command("lti_purge", stdout=out)
        assert f"{count} keys of this site" in out.getvalue()
        clock.shift(SECOND)
    assert LtiKey.objects.get() == second


# manage.py lti_keys


def run(*args: str) -> str:
    out = StringIO()
    call_command("lti_keys", *args, stdout=out)
    return out.getvalue()


def list_states() -> dict[str, str]:
    return {row["kid"]: row["state"] for row in json.loads(run("list", "--format", "json"))}


def test_the_list_says_what_each_key_does(settings, clock):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    assert run("list") == ""
    assert not LtiKey.objects.exists()
    first, second = get_signer(), keys.rotate_key()
    assert list_states() == {first: "signs", second.kid: "waits"}
    clock.shift(PUBLISHED_BEFORE)
    assert list_states() == {first: "published", second.kid: "signs"}
    clock.shift(PUBLISHED_AFTER)
    keys.retire_key(second)
    (third,) = fetch()
    assert list_states() == {first: "expired", second.kid: "retired", third: "signs"}
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [OLD]
    assert list_states()[third] == "unreadable"


def test_the_list_has_dates_in_columns_and_in_json():
    first = keys.get_signing_key()
    run("rotate")
    (line, _second) = run("list").splitlines()
    ends = NOW + PUBLISHED_BEFORE + PUBLISHED_AFTER
    columns = ["1", first.kid, "signs", NOW.isoformat(), ends.isoformat()]
    assert line.split("\t") == columns
    row, second = json.loads(run("list", "--format", "json"))
    assert row == {
        "number": 1,
        "kid": first.kid,
        "state": "signs",
        "published_from": "2026-11-23T12:00:00Z",
        "signs_from": "2026-11-23T12:00:00Z",
        "published_until": "2026-12-24T12:00:00Z",
        "public_jwk": fetch()[first.kid],
    }
    assert second["published_until"] is None


def test_rotate_says_which_key_signs_next_and_when():
    first = get_signer()
    said = run("rotate")
    (second,) = fetch().keys() - {first}
    assert f"kid: {second}\nstate: waits\nsigns_from: 2026-11-24T12:00:00+00:00\n" in said
    assert json.loads(run("rotate", "--format", "json"))["kid"] == second


def test_retire_says_what_signs_in_its_place():
    first = get_signer()
    said = run("retire", "--", first)
    (second,) = fetch()
    assert f"kid: {first}\nstate: retired\n" in said
    assert said.endswith(f"{second} signs from 2026-11-23T12:00:00+00:00.\n")
    with pytest.raises(CommandError, match=rf"{first} was retired at 2026-11-23 12:00 UTC\."):
        run("retire", "1")
    run("rotate")
    assert json.loads(run("retire", "3", "--format", "json"))["state"] == "retired"


def test_a_key_is_named_by_its_number_too_for_a_kid_may_begin_with_a_dash():
    keys.get_signing_key()
    LtiKey.objects.update(kid="-abc")
    assert "kid: -abc" in run("retire", "1")


@pytest.mark.parametrize("action", ["retire", "pem"])
def test_an_unknown_key_is_not_found(action):
    get_signer()
    for name in ("unknown", "2", ""):
        with pytest.raises(CommandError, match="There is no key with the kid") as raised:
            run(action, name)
        assert raised.value.returncode == 3


def test_the_pem_is_of_the_key_that_signs_or_of_a_named_one():
    signing = protocols.get_public_pem()
    assert run("pem") == signing
    waiting = keys.rotate_key()
    assert (
        run("pem", "--", waiting.kid) == run("pem", "2") == keys.get_public_pem(waiting) != signing
    )
    written = json.loads(run("pem", "--format", "json"))
    assert written == {"kid": get_signer(), "pem": signing, "public_jwk": fetch()[get_signer()]}


# Nowhere else


def test_the_private_key_is_in_no_text(settings, caplog):
    caplog.set_level(logging.DEBUG)
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    first = keys.get_signing_key()
    private = keys.load_private_key(first)
    secrets = [first.private_key, private.as_dict(private=True)["d"], first.private_key[100:140]]
    token = keys.sign_token({"canary": "claim"})
    said = run("rotate") + run("list") + run("list", "--format", "json") + run("pem")
    said += run("retire", str(first.number), "--format", "json") + run("pem", "--format", "json")
    row = LtiKey.objects.get(pk=first.pk)
    dumped = serializers.serialize("json", LtiKey.objects.all())
    texts = [repr(first), str(first), repr(row), repr(vars(row)), repr(private), dumped, said]
    texts += [repr(LtiKey.objects.published()), repr(keys._parse_private_key)]
    logged = "\n".join(
        f"{record.getMessage()} {vars(record)!r}"
        for record in caplog.records
        if record.name != "django.db.backends"
    )
    assert "lti_key_made" in logged
    assert [text for text in [*texts, logged] if any(secret in text for secret in secrets)] == []
    assert [text for text in [*texts, logged] if token in text or "PRIVATE" in text] == []
    assert LtiKey not in admin.site._registry


def test_a_dump_comes_back_as_it_was_stored(settings):
    settings.LTI_PROVIDER_ENCRYPTION_KEYS = [NEW]
    kid = get_signer()
    dumped = serializers.serialize("json", LtiKey.objects.all())
    assert stored()[0] in dumped
    LtiKey.objects.all().delete()
    for restored in serializers.deserialize("json", dumped):
        restored.save()
    assert get_signer() == kid


def test_each_change_is_one_line_with_the_kid(caplog):
    caplog.set_level(logging.INFO, "lti_provider")
    first, second = keys.get_signing_key(), keys.rotate_key()
    keys.rotate_key()
    keys.retire_key(first)
    assert [(record.event, record.kid) for record in caplog.records] == [
        ("lti_key_made", first.kid),
        ("lti_key_made", second.kid),
        ("lti_key_retired", first.kid),
        ("lti_key_signs_early", second.kid),
    ]

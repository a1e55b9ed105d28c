import json
import logging
import socket
import threading
from datetime import timedelta

import pytest
import time_machine
import trustme
from django.core.exceptions import ValidationError
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lti_provider import egress
from lti_provider.exceptions import KeySetUnavailable, UnknownSigningKey, UnsuitableKey
from lti_provider.lti13.key_set import find_key
from lti_provider.models import LtiLaunch, LtiRegistration
from lti_provider.testing import FakePlatform
from tests.key_server import KeyServer, make_public_key, to_jwk, to_set

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def server():
    with KeyServer("k1", "k2") as server:
        yield server


@pytest.fixture
def clock():
    """One moment; `.shift(interval)` moves on."""
    with time_machine.travel(timezone.now(), tick=False) as traveller:
        yield traveller


@pytest.fixture
def lms(server):
    return register(jwks_uri=server.url)


def register(**fields):
    given = {
        "issuer": "https://lms.example",
        "client_id": "17",
        "authorization_endpoint": "https://lms.example/auth",
        "service_networks": "127.0.0.0/8",
    }
    return LtiRegistration.objects.create(**(given | fields))


def read(registration):
    """The registration as the next launch reads it."""
    return LtiRegistration.objects.get(pk=registration.pk)


def find(registration, kid="k1"):
    """Which key the next launch of this kid is verified with."""
    key = find_key(read(registration), kid)
    return key.public_key.public_numbers()


def named(name):
    return make_public_key(name).public_numbers()


def refusal(kind, registration, kid="k1"):
    with pytest.raises(kind) as caught:
        find(registration, kid)
    return str(caught.value.hint)


# Keys on file


@pytest.mark.parametrize("kid", ["k1", "k2"])
def test_a_key_on_file_is_found_by_its_name(kid):
    assert find(register(jwks=to_set("k1", "k2")), kid) == named(kid)


def test_an_unknown_name_is_said_beside_those_that_are_known():
    hint = refusal(UnknownSigningKey, register(jwks=to_set("k1", "k2")), "k9")
    assert hint == "The token is signed with kid k9, the key set has k1, k2."


@pytest.mark.parametrize("jwks", ["", "our key", to_set()])
def test_no_keys_on_file(jwks):
    hint = refusal(UnknownSigningKey, register(jwks=jwks))
    assert hint == "The token is signed with kid k1, the key set has no keys."


def test_a_key_that_may_not_sign_is_said_to_be_that():
    hint = refusal(UnsuitableKey, register(jwks=to_set(to_jwk("k1", alg="RS512"), "k2")))
    assert hint == (
        "Key k1 of the key set cannot be used: its algorithm is RS512, and RS256 is needed."
    )


def test_a_key_on_file_without_a_name_is_the_one():
    assert find(register(jwks=json.dumps(to_jwk(None, make_public_key("k1")))), "any") == named(
        "k1"
    )


def test_keys_on_file_cost_no_query():
    registration = register(jwks=to_set("k1"))
    with CaptureQueriesContext(connection) as queries:
        find_key(registration, "k1")
        refusal_of_unknown = pytest.raises(UnknownSigningKey)
        with refusal_of_unknown:
            find_key(registration, "k9")
    assert not queries


def test_keys_on_file_do_not_count_beside_an_address(server):
    registration = register(jwks_uri=server.url, jwks=to_set("k3"))
    assert find(registration) == named("k1")
    refusal(UnknownSigningKey, registration, "k3")


@pytest.mark.parametrize(
    "jwks", ["our key", to_set(), to_set(to_jwk("k1", make_public_key("short", 1024)))]
)
def test_an_administrator_cannot_enter_keys_of_no_use(jwks):
    registration = register(jwks=to_set("k1"))
    registration.full_clean()
    registration.jwks = jwks
    with pytest.raises(ValidationError) as caught:
        registration.full_clean()
    assert caught.value.error_dict["jwks"][0].code == "invalid_key_set"


# Keys of an address


def test_an_address_is_enough_to_enter(lms):
    lms.full_clean()
    lms.jwks_uri = ""
    with pytest.raises(ValidationError):
        lms.full_clean()


def test_keys_are_fetched_at_first_need_and_kept(server, lms):
    assert not server.requests
    assert find(lms) == named("k1")
    assert find(lms, "k2") == named("k2")
    assert len(server.requests) == 1
    stored = read(lms)
    assert json.loads(stored.fetched_jwks) == json.loads(to_set("k1", "k2"))
    assert stored.jwks_fetched_at == stored.jwks_tried_at
    assert (stored.jwks_error, stored.key_set_problem) == ("", "")


def test_a_request_says_who_asks_and_nothing_of_the_launch(server, lms):
    find(lms)
    (headers,) = server.requests
    assert headers == {
        "Host": f"127.0.0.1:{server.port}",
        "User-Agent": "django-pluggable-lti",
        "Accept": "application/json, */*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def test_a_known_key_costs_no_request_no_query_and_is_not_loaded_again(server, lms):
    first = find_key(read(lms), "k1")
    warm = read(lms)
    with CaptureQueriesContext(connection) as queries:
        again = find_key(warm, "k1")
    assert not queries
    assert len(server.requests) == 1
    assert again.public_key is first.public_key


@pytest.mark.parametrize("media_type", ["text/html", "application/jwk-set+json", "image/png"])
def test_the_media_type_does_not_count(server, lms, media_type):
    server.headers["Content-Type"] = media_type
    assert find(lms) == named("k1")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 3600),
        ("", 3600),
        ("public", 3600),
        ("max-age", 3600),
        ("max-age=soon", 3600),
        ("max-age=-5", 3600),
        ("max-age=²", 3600),
        ("max-age=7200", 7200),
        ("Public, MAX-AGE=7200, s-maxage=1", 7200),
        ('max-age="7200"', 7200),
        ("max-age=0", 300),
        ("max-age=299", 300),
        ("no-store", 300),
        ("no-cache, max-age=7200", 300),
        ("max-age=86400", 86400),
        ("max-age=86401", 86400),
        ("max-age=" + "9" * 5000, 86400),
    ],
)
def test_keys_are_kept_as_long_as_the_lms_says_within_reason(server, lms, clock, header, seconds):
    if header is not None:
        server.headers["Cache-Control"] = header
    find(lms)
    clock.shift(timedelta(seconds=seconds - 1))
    find(lms)
    assert len(server.requests) == 1
    clock.shift(timedelta(seconds=1))
    find(lms)
    assert len(server.requests) == 2


def test_a_new_key_is_fetched_when_it_signs(server, lms, clock):
    find(lms)
    server.body = to_set("k2", "k3")
    clock.shift(MINUTE)
    assert find(lms, "k3") == named("k3")
    assert find(lms, "k2") == named("k2")
    assert len(server.requests) == 2


def test_a_key_that_is_not_published_any_more_does_not_count(server, lms, clock):
    find(lms)
    server.body = to_set("k2", "k3")
    clock.shift(MINUTE)
    find(lms, "k3")
    hint = refusal(UnknownSigningKey, lms, "k1")
    assert hint == "The token is signed with kid k1, the key set has k2, k3."


def test_a_key_that_was_unsuitable_is_fetched_anew(server, lms, clock):
    server.body = to_set(to_jwk("k1", use="enc"))
    refusal(UnsuitableKey, lms)
    server.body = to_set("k1")
    refusal(UnsuitableKey, lms)
    clock.shift(MINUTE)
    assert find(lms) == named("k1")


def test_unknown_keys_fetch_once_a_minute(server, lms, clock):
    find(lms)
    for number in range(5):
        refusal(UnknownSigningKey, lms, f"unknown {number}")
    assert len(server.requests) == 1
    for times in (2, 3):
        clock.shift(MINUTE)
        for number in range(5):
            refusal(UnknownSigningKey, lms, f"unknown {number}")
        assert len(server.requests) == times


def test_a_second_look_in_the_same_minute_costs_no_query(server, lms):
    find(lms)
    warm = read(lms)
    with CaptureQueriesContext(connection) as queries, pytest.raises(UnknownSigningKey):
        find_key(warm, "k9")
    assert not queries


def test_expired_keys_count_while_no_newer_ones_come(server, lms, clock):
    find(lms)
    server.status = 500
    for times in (2, 3):
        clock.shift(HOUR)
        assert find(lms) == named("k1")
        assert find(lms, "k2") == named("k2")
        assert len(server.requests) == times
    assert read(lms).key_set_problem == "The LMS answered with HTTP status 500."


def test_what_was_revoked_does_not_count_once_newer_keys_are_here(server, lms, clock):
    find(lms)
    server.body = to_set("k2")
    assert find(lms) == named("k1")
    clock.shift(HOUR)
    refusal(UnknownSigningKey, lms)


def test_an_empty_set_is_an_answer(server, lms, clock):
    find(lms)
    server.body = to_set()
    clock.shift(HOUR)
    assert refusal(UnknownSigningKey, lms).endswith("the key set has no keys.")


def test_a_clock_that_was_ahead_keeps_nothing_for_long(server, lms, clock):
    clock.shift(timedelta(days=400))
    find(lms)
    clock.shift(-timedelta(days=400))
    server.body = to_set("k3")
    assert find(lms, "k3") == named("k3")


def fail_with(**changes):
    def change(server):
        for name, value in changes.items():
            setattr(server, name, value)

    return change


REDIRECT = {"status": 302, "headers": {"Location": "http://127.0.0.1:1/"}, "body": to_set("k1")}
NO_KEYS = "The answer was not a key set."
#: What the LMS does, what its registration says then, and the sentence for it.
FAILURES = {
    "forbidden": (fail_with(status=403), "status_403", "The LMS answered with HTTP status 403."),
    "broken": (fail_with(status=500), "status_500", "The LMS answered with HTTP status 500."),
    "gone": (
        fail_with(status=404, body=""),
        "status_404",
        "The LMS answered with HTTP status 404.",
    ),
    "moved": (
        fail_with(**REDIRECT),
        "status_302",
        "It has moved (HTTP status 302); redirects are not followed.",
    ),
    "not JSON": (fail_with(body="<html>"), "not_a_key_set", NO_KEYS),
    "something else": (fail_with(body='{"error": "no"}'), "not_a_key_set", NO_KEYS),
    "not text": (fail_with(body=b"\xff\xfe"), "not_a_key_set", NO_KEYS),
    "deep": (fail_with(body="[" * 60_000), "not_a_key_set", NO_KEYS),
    "huge": (fail_with(body=b" " * 65_537), "too_large", "The answer was too large."),
}


@pytest.mark.parametrize("case", FAILURES)
def test_keys_that_cannot_be_fetched_are_a_try_again(server, lms, caplog, case):
    fail, code, sentence = FAILURES[case]
    fail(server)
    for _time in range(3):
        assert refusal(KeySetUnavailable, lms) == f"{server.url}: {sentence}"
    assert len(server.requests) == 1
    stored = read(lms)
    assert (stored.jwks_error, stored.key_set_problem) == (code, sentence)
    assert (stored.fetched_jwks, stored.jwks_fetched_at) == ("", None)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == f"key_set_not_fetched registration={lms.pk} code={code}"
    assert (record.event, record.registration, record.code) == (
        "key_set_not_fetched",
        lms.pk,
        code,
    )


@pytest.mark.parametrize("case", FAILURES)
def test_a_failed_fetch_keeps_what_is_known(server, lms, clock, case):
    find(lms)
    FAILURES[case][0](server)
    clock.shift(MINUTE)
    refusal(KeySetUnavailable, lms, "k3")
    assert find(lms) == named("k1")
    refusal(KeySetUnavailable, lms, "k4")
    assert len(server.requests) == 2


def test_keys_are_fetched_again_a_minute_after_a_failure(server, lms, clock):
    server.status = 503
    refusal(KeySetUnavailable, lms)
    server.status = 200
    refusal(KeySetUnavailable, lms)
    clock.shift(MINUTE)
    assert find(lms) == named("k1")
    assert not read(lms).jwks_error
    refusal(UnknownSigningKey, lms, "k9")


def test_nobody_listens(lms, server):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        registration = register(
            client_id="18", jwks_uri=f"http://127.0.0.1:{silent.getsockname()[1]}/jwks"
        )
        assert refusal(KeySetUnavailable, registration).endswith("The LMS could not be reached.")


def test_a_slow_key_set_is_given_up(server, lms, monkeypatch):
    monkeypatch.setattr("lti_provider.lti13.key_set._TIMEOUT", 0.5)
    server.pause = 2
    assert refusal(KeySetUnavailable, lms).endswith("The LMS did not answer in time.")


def test_a_redirect_is_not_followed(server, lms):
    with KeyServer("k1") as other:
        server.status, server.headers["Location"] = 307, other.url
        refusal(KeySetUnavailable, lms)
        assert not other.requests


# Where keys may be fetched


def test_an_address_inside_is_asked_only_if_its_network_is_listed(server):
    registration = register(jwks_uri=server.url, service_networks="10.0.0.0/8")
    assert refusal(KeySetUnavailable, registration).endswith(
        "127.0.0.1 is not at a public address: list its network on the registration if it is yours."
    )
    assert not server.requests


def test_plain_http_is_for_listed_networks_only(monkeypatch):
    public = [(socket.AF_INET, 1, 6, "", ("93.184.215.14", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: public)
    registration = register(jwks_uri="http://lms.example/jwks")
    assert "by plain http only" in refusal(KeySetUnavailable, registration)
    assert read(registration).jwks_error == "not_https"


@pytest.mark.parametrize("url", ["ftp://lms.example/jwks", "file:///etc/passwd", "jwks", "//x/"])
def test_other_addresses_are_not_asked(url):
    assert "not an http or https address" in refusal(KeySetUnavailable, register(jwks_uri=url))


@pytest.fixture
def authority(monkeypatch, tmp_path):
    """A certificate authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    egress._default_tls.cache_clear()
    yield made
    egress._default_tls.cache_clear()


def test_https_is_verified(authority):
    with KeyServer("k1", certificate=authority.issue_cert("127.0.0.1")) as server:
        assert find(register(jwks_uri=server.url)) == named("k1")
    with KeyServer("k1", certificate=trustme.CA().issue_cert("127.0.0.1")) as server:
        registration = register(client_id="18", jwks_uri=server.url)
        assert "certificate is not valid for 127.0.0.1" in refusal(KeySetUnavailable, registration)
        assert not server.requests


# Launches


REFUSALS = {
    "unknown_signing_key": ({"jwks": to_set("k1")}, 401, "the key set has k1."),
    "unsuitable_key": ({"jwks": json.dumps(to_jwk(None, use="enc"))}, 401, "its use is enc"),
    "key_set_unavailable": ({"jwks_uri": "https://127.0.0.1/jwks"}, 503, "not at a public address"),
}


@pytest.mark.parametrize("code", REFUSALS)
def test_a_launch_is_refused_with_a_page_and_an_entry_in_the_log(client, code):
    keys, status, hint = REFUSALS[code]
    platform = FakePlatform.create("moodle")
    LtiRegistration.objects.update(**keys)
    response = platform.post(client, "/content/", name="Canary")
    assert response.status_code == status
    assert f"<code>{code}</code>" in response.text
    assert not {"Canary", "href"} & set(response.text.split('"'))
    launch = LtiLaunch.objects.refused().get()
    assert (launch.refusal_code, launch.registration) == (code, platform.registration)
    assert hint in launch.refusal_hint


def test_the_same_launch_is_accepted_once_the_keys_are_there(client, server):
    platform = FakePlatform.create("moodle")
    (key,) = json.loads(platform.key_set)["keys"]
    update(platform.registration, jwks_uri=server.url, service_networks="127.0.0.0/8")
    server.status = 503
    redirect = platform.log_in(client, platform.begin_login("/content/"))["Location"]
    answer = platform.authorize(redirect)
    assert platform.post_token(client, answer).status_code == 503
    server.status, server.body = 200, to_set(key)
    update(platform.registration, service_networks="127.0.0.0/8")
    assert "/enter/" in platform.post_token(client, answer)["Location"]


def test_a_warm_launch_asks_nobody(client, server):
    platform = FakePlatform.create("moodle")
    server.body = platform.key_set
    update(platform.registration, jwks_uri=server.url, service_networks="127.0.0.0/8")
    for _time in range(3):
        assert platform.launch(client, "/content/").status_code == 200
    assert len(server.requests) == 1


# One registration at a time


def test_keys_of_one_registration_are_not_those_of_another(server, lms):
    with KeyServer("k3") as other_server:
        other = register(client_id="18", jwks_uri=other_server.url)
        find(lms)
        find(other, "k3")
        refusal(UnknownSigningKey, lms, "k3")
        refusal(UnknownSigningKey, other, "k1")
    assert (len(server.requests), len(other_server.requests)) == (1, 1)


def test_saving_a_registration_does_not_write_old_keys_back(server, lms, clock):
    find(lms)
    old = read(lms)
    server.body = to_set("k3")
    clock.shift(MINUTE)
    find(lms, "k3")
    old.clock_leeway = 120
    old.save()
    assert read(lms).clock_leeway == 120
    assert find(lms, "k3") == named("k3")
    assert len(server.requests) == 2


def save_whole(registration, **changes):
    vars(registration).update(changes)
    registration.save()


def save_fields(registration, **changes):
    vars(registration).update(changes)
    registration.save(update_fields=list(changes))


def update(registration, **changes):
    LtiRegistration.objects.filter(pk=registration.pk).update(**changes)


WRITERS = [save_whole, save_fields, update]


@pytest.mark.parametrize("write", WRITERS)
def test_keys_of_a_former_address_are_forgotten(server, lms, write):
    find(lms)
    with KeyServer("k1") as new_server:
        new_server.body = to_set(to_jwk("k1", make_public_key("new")))
        write(read(lms), jwks_uri=new_server.url)
        assert read(lms).fetched_jwks == ""
        assert find(lms) == named("new")
        refusal(UnknownSigningKey, lms, "k2")
    assert len(server.requests) == 1


@pytest.mark.parametrize("write", WRITERS)
def test_a_network_that_was_listed_is_asked_at_once(server, write):
    registration = register(jwks_uri=server.url, service_networks="")
    refusal(KeySetUnavailable, registration)
    write(read(registration), service_networks="127.0.0.0/8")
    assert find(registration) == named("k1")


@pytest.mark.parametrize("write", WRITERS)
def test_other_changes_keep_the_keys(server, lms, write):
    find(lms)
    write(read(lms), is_active=False)
    assert find(lms) == named("k1")
    assert len(server.requests) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("write", WRITERS)
def test_what_a_former_address_answers_late_is_not_stored(server, lms, write):
    with KeyServer("k3") as new_server:
        server.before = lambda: write_elsewhere(write, lms, jwks_uri=new_server.url)
        refusal(KeySetUnavailable, lms)
        assert read(lms).fetched_jwks == ""
        assert find(lms, "k3") == named("k3")


def write_elsewhere(write, registration, **changes):
    write(read(registration), **changes)
    connection.close()


def test_a_registration_that_is_deleted_meanwhile(server, lms):
    registration = read(lms)
    lms.delete()
    with pytest.raises(KeySetUnavailable):
        find_key(registration, "k1")


# At once


def find_at_once(registrations, kid="k1"):
    """What each thread found, or the class that it was refused with."""
    found = []
    gate = threading.Barrier(len(registrations))

    def look_up(registration):
        try:
            gate.wait(60)
            found.append(find_key(registration, kid).public_key.public_numbers())
        except Exception as error:
            found.append(type(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=look_up, args=(each,)) for each in registrations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.django_db(transaction=True)
def test_fifty_cold_launches_fetch_once(server, lms):
    server.pause = 0.5
    assert find_at_once([read(lms) for _time in range(50)]) == [named("k1")] * 50
    assert len(server.requests) == 1


@pytest.mark.django_db(transaction=True)
def test_fifty_launches_with_a_new_key_fetch_once(server, lms, clock):
    find(lms)
    server.body = to_set("k3")
    server.pause = 0.5
    clock.shift(MINUTE)
    assert find_at_once([read(lms) for _time in range(50)], "k3") == [named("k3")] * 50
    assert len(server.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_fifty_cold_launches_fail_once(server, lms):
    server.pause, server.status = 0.5, 500
    assert find_at_once([read(lms) for _time in range(50)]) == [KeySetUnavailable] * 50
    assert len(server.requests) == 1


@pytest.mark.django_db(transaction=True)
def test_with_expired_keys_one_launch_fetches_and_the_others_do_not_wait(server, lms, clock):
    find(lms)
    clock.shift(HOUR)
    arrived, go_on = threading.Event(), threading.Event()
    server.before = lambda: (arrived.set(), go_on.wait(60))
    first = threading.Thread(target=find_at_once, args=([read(lms)],))
    first.start()
    assert arrived.wait(60)
    assert find_at_once([read(lms) for _time in range(10)]) == [named("k1")] * 10
    go_on.set()
    first.join(60)
    assert len(server.requests) == 2
    assert read(lms).are_keys_fresh


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_lms_is_asked(server, lms):
    # With an open transaction, this would wait for the launch, which waits for it.
    server.before = lambda: (
        LtiRegistration.objects.filter(pk=lms.pk).update(clock_leeway=99),
        connection.close(),
    )
    assert find(lms) == named("k1")
    assert read(lms).clock_leeway == 99


def test_a_fetch_whose_process_ended_is_not_waited_for_long(server, lms, clock):
    begun = read(lms)
    assert begun.begin_key_fetch()
    clock.shift(timedelta(seconds=10))
    hint = refusal(KeySetUnavailable, lms)
    assert hint == "The key set URL of the registration did not answer with a key set."
    assert not server.requests
    clock.shift(MINUTE)
    assert find(lms) == named("k1")


def test_waiting_ends(server, lms, monkeypatch):
    monkeypatch.setattr("lti_provider.lti13.key_set._LOOKS", 2)
    assert read(lms).begin_key_fetch()
    refusal(KeySetUnavailable, lms)
    assert not server.requests

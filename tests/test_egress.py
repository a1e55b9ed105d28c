import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from types import SimpleNamespace
from typing import get_args

import pytest
import trustme

from lti_provider import egress
from lti_provider.egress import EgressError, Forbidden, is_public, request

METHODS = get_args(egress.Method)
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
PUBLIC = "93.184.215.14"
#: What comes in time on the busiest machine, and what tests of the deadline wait out.
TIMEOUT = 60
SHORT = 0.5


@contextmanager
def serve(behave: Callable[[socket.socket], None], address: str = "127.0.0.1"):
    """A server whose every connection is handed to ``behave``."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    seen = SimpleNamespace(port=listener.getsockname()[1], requests=[], connections=0)

    def run() -> None:
        while True:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            seen.connections += 1
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        try:
            with connection:
                seen.requests.append(read_request(connection))
                behave(connection)
        except OSError:
            return

    threading.Thread(target=run, daemon=True).start()
    try:
        yield seen
    finally:
        # Closing alone does not wake the thread that accepts.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (part := connection.recv(4096)):
            return data
        data += part
    head, _blank, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
    while len(body) < length:
        body += connection.recv(4096)
    return head + b"\r\n\r\n" + body


def answer(body: bytes = b"done", head: str = "HTTP/1.1 200 OK", length: int | None = None):
    size = len(body) if length is None else length
    written = f"{head}\r\nContent-Length: {size}\r\n\r\n".encode() + body
    return lambda connection: connection.sendall(written)


def drip(parts: bytes, pause: float = 0.05):
    def behave(connection: socket.socket) -> None:
        for number in range(len(parts)):
            connection.sendall(parts[number : number + 1])
            time.sleep(pause)

    return behave


def send(port, path="/grades", *, method="POST", host="127.0.0.1", scheme="http", **changes):
    given = {
        "headers": {"Content-Type": "application/xml"},
        "body": b"<x/>",
        "hosts": [f"{host}:{port}"],
        "networks": LOOPBACK,
        "timeout": TIMEOUT,
    }
    return request(method, f"{scheme}://{host}:{port}{path}", **(given | changes))


def refusal(*arguments, **changes) -> EgressError:
    with pytest.raises(EgressError) as caught:
        send(*arguments, **changes)
    return caught.value


def answering_in_turn(*answers):
    """A resolver that answers differently each time; the last answer is kept."""
    left = list(answers)

    def getaddrinfo(host, port, *_args, **_kwargs):
        address = left.pop(0) if len(left) > 1 else left[0]
        addresses = [address] if isinstance(address, str) else address
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, port))
            for ip in addresses
        ]

    return getaddrinfo


@pytest.fixture(autouse=True)
def no_proxy_counts(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")


def test_what_is_sent_and_what_comes_back():
    head = "HTTP/1.1 429 Slow down\r\nRetry-After: 7\r\nSet-Cookie: a=b"
    with serve(answer(b"wait", head)) as server:
        received = send(server.port, "/a+b:c@d?e=%20f&g")
        send(server.port)
    assert (received.status, received.body) == (429, b"wait")
    assert received.headers["retry-AFTER"] == "7"
    first, second = server.requests
    assert first.startswith(b"POST /a+b:c@d?e=%20f&g HTTP/1.1\r\n")
    assert headers_of(first) == {
        b"Host": f"127.0.0.1:{server.port}".encode(),
        b"Accept-Encoding": b"identity",
        b"Connection": b"close",
        b"Content-Length": b"4",
        b"User-Agent": b"django-pluggable-lti",
        b"Content-Type": b"application/xml",
    }
    assert first.endswith(b"<x/>")
    assert b"ookie" not in second


def headers_of(sent: bytes) -> dict[bytes, bytes]:
    lines = sent.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return dict(line.split(b": ", 1) for line in lines)


@pytest.mark.parametrize("body", [b"", b"<x/>"], ids=["empty", "body"])
@pytest.mark.parametrize("method", METHODS)
def test_each_method_sends_its_body(method, body):
    with serve(answer()) as server:
        assert send(server.port, method=method, body=body).body == b"done"
    (sent,) = server.requests
    assert sent.startswith(f"{method} /grades HTTP/1.1\r\n".encode())
    assert sent.endswith(b"\r\n\r\n" + body)
    # RFC 9110 §8.6: a method that expects a body says that there is none.
    length = str(len(body)).encode() if body or method in ("POST", "PUT") else None
    assert headers_of(sent).get(b"Content-Length") == length


def test_repeated_headers_are_all_there():
    with serve(answer(head="HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2")) as server:
        headers = send(server.port).headers
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert headers.get("Location") is None


@pytest.mark.parametrize("method", METHODS)
def test_an_answer_without_a_body(method):
    with serve(lambda connection: connection.sendall(b"HTTP/1.1 204 Done\r\n\r\n")) as server:
        received = send(server.port, method=method)
    assert (received.status, received.body) == (204, b"")


@pytest.mark.parametrize("value", ["secret\r\nX-Injected: 1", "secret\n", "secret\u20ac"])
def test_a_header_that_http_cannot_carry_is_not_sent_and_not_repeated(value):
    with serve(answer()) as server:
        with pytest.raises(ValueError, match="Authorization") as caught:
            send(server.port, headers={"Authorization": value})
        assert not server.connections
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["lms.example", "127.0.0.1", "127.0.0.1:80"])
def test_only_known_hosts_are_asked(host):
    with serve(answer()) as server:
        assert isinstance(refusal(server.port, hosts=[host]), Forbidden)
        assert not server.connections


@pytest.mark.parametrize(
    "url", ["ftp://lms.example/", "file:///etc/passwd", "gopher://lms.example/", "//x/", "x"]
)
def test_only_http_and_https(url):
    with pytest.raises(Forbidden):
        request("GET", url, headers={}, hosts=["lms.example", ""], networks=(), timeout=TIMEOUT)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "192.88.99.1",
        "2001:20::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_only_public_addresses(address, monkeypatch):
    assert not is_public(address)
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn(address))
    error = refusal(80, host="lms.example", hosts=["lms.example"], networks=())
    assert (error.code, error.text, error.may_have_arrived) == (
        "address_not_public",
        "lms.example",
        False,
    )


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "93.184.215.14", "2606:4700::1111"])
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "localhost", "[::1]"])
def test_loopback_by_any_name_needs_its_network(host):
    with serve(answer()) as server:
        assert refusal(server.port, host=host, networks=()).code in (
            "address_not_public",
            "unknown_host",
        )
        assert not server.connections


def test_a_listed_network_is_reached_and_no_other():
    with serve(answer(b"one"), "127.0.0.2") as server:
        narrow = (ip_network("127.0.0.2/32"),)
        assert send(server.port, host="127.0.0.2", networks=narrow).body == b"one"
        other = (ip_network("127.0.0.3/32"), ip_network("::/0"))
        assert refusal(server.port, host="127.0.0.2", networks=other).code == "address_not_public"


@pytest.fixture
def public_internet(monkeypatch):
    """93.184.215.14 is lms.example, at the same ports of 127.0.0.1."""
    connect = socket.socket.connect

    def connect_here(self, address):
        connect(self, ("127.0.0.1" if address[0] == PUBLIC else address[0], *address[1:]))

    monkeypatch.setattr(socket.socket, "connect", connect_here)
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn(PUBLIC))


def test_plain_http_reaches_no_public_address_where_that_is_asked_for(public_internet):
    with serve(answer()) as server:
        assert send(server.port, host="lms.example").body == b"done"
        error = refusal(server.port, host="lms.example", plain_to_networks_only=True)
        assert isinstance(error, Forbidden)
        assert (error.code, error.text) == ("not_https", "lms.example")
        assert server.connections == 1
        listed = (ip_network(f"{PUBLIC}/32"),)
        given = {"host": "lms.example", "networks": listed, "plain_to_networks_only": True}
        assert send(server.port, **given).body == b"done"


def test_plain_http_passes_a_public_address_by(public_internet, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn([PUBLIC, "127.0.0.2"]))
    with serve(answer(b"listed"), "127.0.0.2") as listed:
        given = {"host": "lms.example", "plain_to_networks_only": True}
        assert send(listed.port, **given).body == b"listed"


def test_https_reaches_public_addresses(public_internet, authority):
    given = {"host": "lms.example", "networks": (), "plain_to_networks_only": True}
    with serve_tls(authority.issue_cert("lms.example")) as (port, _names):
        assert send(port, scheme="https", **given).body == b"secure"


def test_a_literal_address_in_six(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn("127.0.0.1"))
    with serve(answer()) as server:
        assert send(server.port, host="[2001:db8::beef]").body == b"done"
    port = str(server.port).encode()
    assert headers_of(server.requests[0])[b"Host"] == b"[2001:db8::beef]:" + port


def test_a_mapped_address_counts_as_the_one_it_is_mapped_to(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn("::ffff:127.0.0.1"))
    with serve(answer(), "127.0.0.1") as server:
        received = send(server.port, host="lms.example")
        assert received.body == b"done"
        everything_in_six = (ip_network("::/0"),)
        error = refusal(server.port, host="lms.example", networks=everything_in_six)
        assert error.code == "address_not_public"


def test_a_name_is_resolved_once(monkeypatch):
    trusted = (ip_network("127.0.0.2/32"),)
    with serve(answer(b"right"), "127.0.0.2") as right:
        monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn("127.0.0.2", "127.0.0.1"))
        assert send(right.port, host="lms.example", networks=trusted).body == b"right"
        error = refusal(right.port, host="lms.example", networks=trusted)
        assert error.code == "address_not_public"


def test_an_inner_address_beside_an_outer_one_is_left_out(monkeypatch):
    trusted = (ip_network("127.0.0.2/32"),)
    both = answering_in_turn(["127.0.0.1", "127.0.0.2"])
    monkeypatch.setattr(socket, "getaddrinfo", both)
    with serve(answer(b"outer"), "127.0.0.2") as outer:
        assert send(outer.port, host="lms.example", networks=trusted).body == b"outer"


def test_the_next_address_is_tried(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn(["127.0.0.3", "127.0.0.2"]))
    with serve(answer(b"second"), "127.0.0.2") as server:
        assert send(server.port, host="lms.example").body == b"second"


def test_a_name_that_nobody_knows(monkeypatch):
    def unknown(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = refusal(80, host="lms.example", hosts=["lms.example"])
    assert (error.code, error.may_have_arrived) == ("unknown_host", False)


def test_a_name_that_cannot_be_one():
    host = "x" * 70 + ".example"
    assert refusal(443, host=host, hosts=[f"{host}:443"]).code == "unknown_host"


def test_a_resolver_that_hangs(monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [hangs.wait(TIMEOUT)][1:])
    error = refusal(80, host="lms.example", hosts=["lms.example"], timeout=SHORT)
    hangs.set()
    assert (error.code, error.may_have_arrived) == ("timeout", False)


def test_nobody_listens():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        error = refusal(silent.getsockname()[1])
    assert (error.code, error.may_have_arrived) == ("unreachable", False)
    assert error.detail.startswith("ConnectionRefusedError: ")


def stall(connection: socket.socket) -> None:
    """Say nothing until the other side hangs up."""
    with suppress(TimeoutError):
        connection.settimeout(TIMEOUT)
        connection.recv(1)


@pytest.mark.parametrize(
    "behave",
    [
        stall,
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900),
        drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200),
        drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
    ],
    ids=["stall", "drip of a body", "drip of headers", "drip of nothing"],
)
@pytest.mark.parametrize("method", METHODS)
def test_the_deadline_is_for_all_of_it(method, behave):
    with serve(behave) as server:
        error = refusal(server.port, method=method, timeout=SHORT)
    assert (error.code, error.may_have_arrived) == ("timeout", True)


def test_a_body_that_nobody_takes_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        error = refusal(port, method="PUT", body=b"x" * 10**8, timeout=SHORT)
    assert (error.code, error.may_have_arrived) == ("timeout", True)


@pytest.mark.parametrize(
    "behave",
    [
        lambda connection: None,
        answer(b"cut", length=100),
        lambda connection: connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"),
        answer(head="HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked"),
    ],
    ids=["cut before", "cut within", "another protocol", "no chunks"],
)
def test_what_is_cut_or_no_http(behave):
    with serve(behave) as server:
        error = refusal(server.port)
    assert (error.code, error.may_have_arrived) == ("unreachable", True)


@pytest.mark.parametrize(
    "behave",
    [
        answer(b"x" * (egress.BODY_LIMIT + 1)),
        lambda connection: connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 10**6),
        lambda connection: connection.sendall(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"fff\r\n" + b"x" * 10**6
        ),
        lambda connection: connection.sendall(
            b"HTTP/1.1 200 OK\r\n" + (b"X-Y: " + b"y" * 60_000 + b"\r\n") * 20 + b"\r\n"
        ),
    ],
    ids=["announced", "endless", "chunked", "headers"],
)
def test_what_is_too_large(behave):
    with serve(behave) as server:
        error = refusal(server.port)
    assert error.code in ("too_large", "unreachable")
    assert error.may_have_arrived


@pytest.mark.parametrize("limit", [0, 3, egress.BODY_LIMIT, 10**6])
def test_as_much_as_is_allowed(limit):
    with serve(answer(b"x" * limit)) as server:
        assert len(send(server.port, limit=limit).body) == limit
    with serve(answer(b"x" * (limit + 1))) as server:
        assert refusal(server.port, limit=limit).code == "too_large"


def chunked(size: int, count: int):
    """Chunks of ``size`` bytes, without an end."""
    chunk = f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda connection: connection.sendall(head + chunk * count)


@pytest.mark.parametrize(
    "behave",
    [
        answer(b"x" * 10**6),
        answer(b"x" * 10**5, length=10**9),
        chunked(1000, 1000),
        chunked(3, 22_000),
    ],
    ids=["announced", "endless", "chunked", "small chunks"],
)
def test_an_answer_is_cut_where_that_is_asked_for(behave):
    with serve(behave) as server:
        received = send(server.port, truncate=True)
    assert received.body == b"x" * egress.BODY_LIMIT


def test_what_breaks_off_before_the_cut_is_an_error():
    with serve(answer(b"x", length=10**9)) as server:
        assert refusal(server.port, truncate=True).code == "unreachable"


def test_headers_have_a_limit_of_their_own():
    head = "HTTP/1.1 200 OK" + f"\r\nX-Y: {'y' * 60_000}" * 5
    with serve(answer(b"", head)) as server:
        error = refusal(server.port, truncate=True)
    assert (error.code, error.detail) == ("too_large", "the answer is too large")


def test_a_compressed_answer_stays_as_it_is():
    with serve(answer(b"\x1f\x8b", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip")) as server:
        assert send(server.port).body == b"\x1f\x8b"


def test_a_redirect_is_an_answer():
    with serve(answer()) as inner:
        head = f"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:{inner.port}/"
        with serve(answer(b"", head)) as server:
            assert send(server.port).status == 307
        assert not inner.connections


@pytest.fixture
def authority(monkeypatch, tmp_path):
    """A certificate authority that this machine trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    egress._default_tls.cache_clear()
    yield made
    egress._default_tls.cache_clear()


@contextmanager
def serve_tls(certificate, behave=None, pause=0.0):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    names = []
    context.sni_callback = lambda connection, name, context: names.append(name)

    def talk(connection):
        time.sleep(pause)
        with context.wrap_socket(connection, server_side=True) as secure:
            read_request(secure)
            (behave or answer(b"secure"))(secure)

    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            try:
                connection, _address = listener.accept()
                talk(connection)
            except ssl.SSLError:
                continue
            except OSError:
                return

    threading.Thread(target=run, daemon=True).start()
    try:
        yield listener.getsockname()[1], names
    finally:
        listener.close()


def test_a_certificate_is_verified_for_the_name(authority, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn("127.0.0.1"))
    with serve_tls(authority.issue_cert("lms.example")) as (port, names):
        assert send(port, host="lms.example", scheme="https").body == b"secure"
        assert names == ["lms.example"]
        error = refusal(port, host="other.example", scheme="https")
        assert (error.code, error.text) == ("certificate", f"other.example:{port}")
        assert not error.may_have_arrived


def test_a_stranger_s_certificate_is_refused(authority, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", answering_in_turn("127.0.0.1"))
    with serve_tls(trustme.CA().issue_cert("lms.example")) as (port, _names):
        assert refusal(port, host="lms.example", scheme="https").code == "certificate"


def test_a_context_of_the_caller_counts(authority):
    unknown = trustme.CA()
    trusting = ssl.create_default_context()
    unknown.configure_trust(trusting)
    careless = ssl.create_default_context()
    careless.check_hostname = False
    careless.verify_mode = ssl.CERT_NONE
    with serve_tls(unknown.issue_cert("127.0.0.1")) as (port, _names):
        assert send(port, scheme="https", tls=trusting).body == b"secure"
        assert send(port, scheme="https", tls=careless).body == b"secure"
        error = refusal(port, scheme="https")
    assert error.code == "certificate"
    assert "issuer" in error.detail


def test_a_handshake_counts_too(authority):
    with serve(stall) as server:
        error = refusal(server.port, scheme="https", timeout=SHORT)
    assert (error.code, error.may_have_arrived) == ("timeout", False)


def slow_resolver(seconds):
    def getaddrinfo(host, port, *_args, **_kwargs):
        time.sleep(seconds)
        return [(socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    return getaddrinfo


def test_a_handshake_gets_what_the_name_left_of_the_deadline(authority, monkeypatch):
    # Either alone is in time; the host would answer if it were given longer.
    monkeypatch.setattr(socket, "getaddrinfo", slow_resolver(0.6))
    with serve_tls(authority.issue_cert("lms.example"), pause=0.6) as (port, _names):
        error = refusal(port, host="lms.example", scheme="https", timeout=1)
        assert (error.code, error.may_have_arrived) == ("timeout", False)
        assert send(port, host="lms.example", scheme="https", timeout=20).body == b"secure"


def test_connecting_gets_what_the_name_left_of_the_deadline(monkeypatch):
    # A full queue drops what asks to connect, and the system asks again a second later.
    monkeypatch.setattr(socket, "getaddrinfo", slow_resolver(0.6))
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    ends: list[socket.socket] = []

    def take_all():
        with suppress(OSError):
            while True:
                ends.append(listener.accept()[0])

    with listener:
        port = listener.getsockname()[1]
        with suppress(TimeoutError):
            while True:
                ends.append(socket.create_connection(("127.0.0.1", port), timeout=0.2))
        timer = threading.Timer(1.2, take_all)
        timer.start()
        error = refusal(port, timeout=1)
        timer.join(1)
        listener.shutdown(socket.SHUT_RDWR)
        timer.join()
    for end in ends:
        end.close()
    assert (error.code, error.may_have_arrived) == ("timeout", False)


def test_nothing_here_looks_up_names_by_itself():
    assert http.client.HTTPConnection("lms.example").auto_open
    connection = http.client.HTTPConnection("lms.example")
    connection.auto_open = 0
    with pytest.raises(http.client.NotConnected):
        connection.request("POST", "/")


def test_no_time_is_no_time():
    error = refusal(81, timeout=0)
    assert (error.code, error.may_have_arrived) == ("timeout", False)

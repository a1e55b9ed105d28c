"""The one door from this site to other hosts: where it may lead, how long, and how much comes back.

What an LMS names as its address is input. A host is resolved once, every address is checked, and
the connection goes to a checked address; the certificate is verified for the name. There are no
redirects, no proxies, no cookies and no compression.

It stays on the standard library, seen in November 2026 (look again each year):
``requests-hardened`` has no total deadline and no list of networks, ``urllib3`` no deadline over a
slow answer, and ``httpx`` has had no release since 2024.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from functools import cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal
from urllib.parse import urlsplit

from lti_provider.origins import get_host, get_port

BODY_LIMIT = 64 * 1024
_HEADER_LIMIT = 64 * 1024
_CONNECT_TIMEOUT = 5.0
# The only IPv6 unicast addresses that are routed; most translated IPv4 ones lie elsewhere.
_GLOBAL_UNICAST = ip_network("2000::/3")
# Not for hosts of the public internet (IANA special-purpose registries), which not every Python
# that is supported knows: protocol assignments, relays and tunnels, documentation.
_SPECIAL = tuple(
    map(
        ip_network,
        ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2002::/16", "3fff::/20"),
    )
)

Method = Literal["GET", "POST", "PUT", "DELETE"]
Networks = Collection[IPv4Network | IPv6Network]


class EgressError(Exception):
    """No usable answer came back.

    ``code`` is one of ``REASONS``, and ``text`` what that sentence is about. ``detail`` is what
    the system says, for operators. ``may_have_arrived`` is False where the request was not sent.
    """

    def __init__(
        self, code: str, text: str = "", *, detail: str = "", may_have_arrived: bool = False
    ) -> None:
        self.code = code
        self.text = text
        self.detail = detail or code
        self.may_have_arrived = may_have_arrived
        super().__init__(code)


class Forbidden(EgressError):
    """The request may not go there, and nothing was sent."""


@dataclass(frozen=True, repr=False)
class HttpAnswer:
    """What came back. ``headers`` are asked for in any case; ``get_all`` returns repeated ones."""

    status: int
    headers: Message
    body: bytes


def request(
    method: Method,
    url: str,
    *,
    headers: Mapping[str, str],
    body: bytes = b"",
    hosts: Collection[str],
    networks: Networks,
    timeout: float,
    limit: int = BODY_LIMIT,
    truncate: bool = False,
    tls: ssl.SSLContext | None = None,
    plain_to_networks_only: bool = False,
) -> HttpAnswer:
    """Send a request and read the answer in ``timeout`` seconds, name and handshake included.

    Only to one of ``hosts``, and only to a public address or one in ``networks``. A body of more
    than ``limit`` bytes is an error, or is cut there with ``truncate``. Without ``tls``, the
    authorities count that this machine trusts. With ``plain_to_networks_only``, http reaches no
    public address: for tokens and key sets, which are as good as the way that they come.

    Raises EgressError, and ValueError for a header that HTTP cannot carry.
    """
    host = get_host(url)
    if not host:
        raise Forbidden("host_not_known", detail="this is not a plain http or https address")
    if host not in hosts:
        raise Forbidden("host_not_known", host)
    connection = _write_head(method, url, headers, len(body))
    deadline = _Deadline(timeout)
    may_have_arrived = False
    try:
        allowed = _find_addresses(url, networks, deadline, plain_to_networks_only)
        with closing(_connect(url, allowed, deadline, tls)) as connected:
            may_have_arrived = True
            connection.sock = _TimedSocket(connected, deadline, limit)
            connection.endheaders(body)
            return _read_answer(connection.getresponse(), limit, truncate)
    except (OSError, http.client.HTTPException) as error:
        raise _explain_failure(error, host, may_have_arrived) from None


def _explain_failure(error: Exception, host: str, may_have_arrived: bool) -> EgressError:
    detail = f"{type(error).__name__}: {error}"
    match error:
        case TimeoutError():
            return EgressError("timeout", detail=detail, may_have_arrived=may_have_arrived)
        case socket.gaierror():
            return EgressError("unknown_host", host, detail=detail)
        case ssl.SSLCertVerificationError():
            return EgressError("certificate", host, detail=error.verify_message)
    return EgressError("unreachable", detail=detail, may_have_arrived=may_have_arrived)


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet, whatever it may be translated to."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address) and ip not in _GLOBAL_UNICAST:
        return False
    special = ip.is_multicast or ip.is_reserved or any(ip in network for network in _SPECIAL)
    return ip.is_global and not special


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    def left(self) -> float:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left


_Address = tuple[socket.AddressFamily, Any]


def _find_addresses(
    url: str, networks: Networks, deadline: _Deadline, plain_to_networks_only: bool
) -> list[_Address]:
    parts = urlsplit(url)
    name, port = parts.hostname or "", get_port(url)
    found = _resolve(name, port, deadline)
    allowed = [each for each in found if _is_allowed(_unmapped(each[1][0]), networks)]
    if not allowed:
        raise Forbidden("address_not_public", name)
    if plain_to_networks_only and parts.scheme == "http":
        allowed = [each for each in allowed if _is_listed(_unmapped(each[1][0]), networks)]
        if not allowed:
            raise Forbidden("not_https", name)
    return allowed


def _connect(
    url: str, allowed: list[_Address], deadline: _Deadline, tls: ssl.SSLContext | None
) -> socket.socket:
    parts = urlsplit(url)
    plain = _connect_to_first(allowed, deadline)
    if parts.scheme == "http":
        return plain
    plain.settimeout(deadline.left())
    try:
        return (tls or _default_tls()).wrap_socket(plain, server_hostname=parts.hostname or "")
    except BaseException:
        plain.close()
        raise


def _resolve(name: str, port: int, deadline: _Deadline) -> list[_Address]:
    # A resolver knows no deadline, so it gets a thread that may outlive this call.
    found: SimpleQueue[list[_Address] | OSError | UnicodeError] = SimpleQueue()

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            found.put([(family, address) for family, _kind, _proto, _name, address in entries])
        except (OSError, UnicodeError) as error:
            found.put(error)

    Thread(target=look_up, daemon=True, name="lti-resolve").start()
    try:
        answer = found.get(timeout=deadline.left())
    except Empty:
        raise TimeoutError("the name was not found in time") from None
    if isinstance(answer, UnicodeError):
        raise socket.gaierror(socket.EAI_NONAME) from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _unmapped(address: str) -> str:
    ip = ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return str(mapped or address)


def _is_allowed(address: str, networks: Networks) -> bool:
    return is_public(address) or _is_listed(address, networks)


def _is_listed(address: str, networks: Networks) -> bool:
    ip = ip_address(address)
    return any(ip in network for network in networks)


def _connect_to_first(addresses: list[_Address], deadline: _Deadline) -> socket.socket:
    failure: OSError = OSError()
    for family, address in addresses:
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(min(deadline.left(), _CONNECT_TIMEOUT))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise failure


@cache
def _default_tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _write_head(
    method: Method, url: str, headers: Mapping[str, str], length: int
) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0)
    connection.auto_open = 0  # it must never look up a name by itself
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    ours = {
        "Host": get_host(url),
        "Accept-Encoding": "identity",
        "Connection": "close",
        "User-Agent": "django-pluggable-lti",
    }
    if length or method in ("POST", "PUT"):
        ours["Content-Length"] = str(length)
    for name, value in (ours | dict(headers)).items():
        _write_header(connection, name, value)
    return connection


def _write_header(connection: http.client.HTTPConnection, name: str, value: str) -> None:
    try:
        connection.putheader(name, value)
    except ValueError:
        # What it says repeats the value, which may be a secret.
        raise ValueError(f"HTTP cannot carry this value of {name}.") from None


def _read_answer(response: http.client.HTTPResponse, limit: int, truncate: bool) -> HttpAnswer:
    body = response.read(limit + 1)
    if len(body) > limit and not truncate:
        raise _too_large()
    if len(body) <= limit and response.length:
        raise http.client.IncompleteRead(body, response.length)
    return HttpAnswer(response.status, response.headers, body[:limit])


def _too_large() -> EgressError:
    return EgressError("too_large", detail="the answer is too large", may_have_arrived=True)


class _TimedSocket:
    """As much of a socket as http.client needs, with one deadline over all of it."""

    def __init__(self, connected: socket.socket, deadline: _Deadline, limit: int) -> None:
        self._connected = connected
        self._deadline = deadline
        self._limit = limit

    def sendall(self, data: bytes) -> None:
        self._connected.settimeout(self._deadline.left())
        self._connected.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._connected, self._deadline, self._limit))

    def close(self) -> None:
        """http.client closes before it has read the body; ``request`` closes for good."""


class _TimedReader(io.RawIOBase):
    def __init__(self, connected: socket.socket, deadline: _Deadline, limit: int) -> None:
        self._connected = connected
        self._deadline = deadline
        # Twice: chunks have heads of their own.
        self._left = _HEADER_LIMIT + 2 * limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._connected.settimeout(self._deadline.left())
        count = self._connected.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise _too_large()
        return count

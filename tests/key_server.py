"""An LMS's key set over HTTP, written on its own: it rotates, dawdles and misbehaves."""

from __future__ import annotations

import json
import ssl
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, generate_private_key


@cache
def make_public_key(name: str, size: int = 2048) -> RSAPublicKey:
    """The same key for the same name."""
    return generate_private_key(65537, size).public_key()


def to_jwk(kid: str | None, key: RSAPublicKey | None = None, **changes: Any) -> dict[str, Any]:
    """A JWK (RFC 7517) of a key; the one that is called like ``kid``, unless another is given."""
    numbers = (key or make_public_key(str(kid))).public_numbers()
    parts = {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256"}
    parts |= {"n": to_base64(numbers.n), "e": to_base64(numbers.e)} | changes
    return {name: value for name, value in parts.items() if value is not None}


def to_base64(number: int) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8)
    return urlsafe_b64encode(octets).decode().strip("=")


def to_set(*keys: Any) -> str:
    """A JWK set; a text stands for the key that is called so."""
    return json.dumps({"keys": [to_jwk(key) if isinstance(key, str) else key for key in keys]})


class KeyServer:
    """Serves ``body`` on a free port of 127.0.0.1; a context manager.

    ``requests`` are the headers of each request. ``before`` is called before an answer.
    """

    def __init__(self, *keys: Any, certificate: Any = None) -> None:
        self.body: str | bytes = to_set(*keys)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[dict[str, str]] = []
        self.pause = 0.0
        self.before: Callable[[], object] = lambda: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.url = f"{scheme}://127.0.0.1:{self.port}/jwks"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(dict(self.headers))
                server.before()
                time.sleep(server.pause)
                body = server.body if isinstance(server.body, bytes) else server.body.encode()
                self.send_response(server.status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        return Handler

"""An outcome service over HTTP, written on its own: a gradebook that can misbehave."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit
from xml.dom import minidom
from xml.sax.saxutils import escape

SUCCESS = """<?xml version="1.0" encoding="UTF-8"?>
<imsx_POXEnvelopeResponse xmlns="http://www.imsglobal.org/services/ltiv1p1/xsd/imsoms_v1p0">
<imsx_POXHeader><imsx_POXResponseHeaderInfo><imsx_version>V1.0</imsx_version>
<imsx_messageIdentifier>1</imsx_messageIdentifier><imsx_statusInfo>
<imsx_codeMajor>{code}</imsx_codeMajor><imsx_severity>status</imsx_severity>
<imsx_description>{description}</imsx_description></imsx_statusInfo>
</imsx_POXResponseHeaderInfo></imsx_POXHeader><imsx_POXBody>{body}</imsx_POXBody>
</imsx_POXEnvelopeResponse>"""


def envelope(code: str = "success", description: str = "", body: str = "") -> bytes:
    return SUCCESS.format(code=code, description=escape(description), body=body).encode()


def score_body(score: str) -> str:
    text = f"<resultScore><language>en</language><textString>{score}</textString></resultScore>"
    return f"<readResultResponse><result>{text}</result></readResultResponse>"


@dataclass
class Received:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    operation: str = ""
    sourcedid: str = ""
    score: str | None = None
    data: tuple[str, str] | None = None

    @classmethod
    def read(cls, path: str, headers: dict[str, str], body: bytes) -> Self:
        received = cls(path, headers, body, time.monotonic())
        document = minidom.parseString(body)
        names = {node.localName: node for node in document.getElementsByTagName("*")}
        received.operation = next(
            name.removesuffix("ResultRequest") for name in names if name.endswith("ResultRequest")
        )
        received.sourcedid = text_of(names["sourcedId"])
        if "textString" in names:
            received.score = text_of(names["textString"])
        for name in ("url", "text"):
            if name in names:
                received.data = (name, text_of(names[name]))
        return received

    @property
    def oauth(self) -> dict[str, str]:
        pairs = re.findall(r'(\w+)="([^"]*)"', self.headers["Authorization"])
        return {name: unquote(value) for name, value in pairs}


def text_of(node: Any) -> str:
    return "".join(child.data for child in node.childNodes)


def signature_holds(received: Received, url: str, secret: str) -> bool:
    """RFC 5849 and the body hash, without any library that the package uses."""

    def encoded(text: str) -> str:
        return quote(text, safe="~-._")

    oauth = dict(received.oauth)
    given = oauth.pop("oauth_signature")
    hashed = base64.b64encode(hashlib.sha1(received.body).digest()).decode()
    parts = urlsplit(url)
    pairs = [*oauth.items()]
    for segment in filter(None, parts.query.split("&")):
        name, _equals, value = segment.partition("=")
        pairs.append((unquote(name.replace("+", " ")), unquote(value.replace("+", " "))))
    normal = "&".join("=".join(pair) for pair in sorted((encoded(n), encoded(v)) for n, v in pairs))
    text = "&".join(map(encoded, ("POST", f"{parts.scheme}://{parts.netloc}{parts.path}", normal)))
    made = hmac.digest(f"{encoded(secret)}&".encode(), text.encode(), "sha1")
    return oauth["oauth_body_hash"] == hashed and base64.b64encode(made).decode() == given


Answer = tuple[int, dict[str, str], bytes]
Behaviour = Callable[["Gradebook", Received, Any], Answer | None]


@dataclass
class Gradebook:
    """Serves on a free port of ``address``; a context manager.

    ``behave`` gets the gradebook, what was received and the connection's handler; it answers with
    status, headers and body, or itself through the handler and with None.
    """

    address: str = "127.0.0.1"
    grades: dict[str, str | None] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    behave: Behaviour | None = None
    at_once: dict[str, int] = field(default_factory=dict)
    most_at_once: int = 0
    overlaps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._server = Server((self.address, 0), self._handler())
        self.port = self._server.server_port
        self.url = f"http://{self.address}:{self.port}/outcomes"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, received: Received, handler: Any) -> Answer | None:
        with self._lock:
            self.received.append(received)
            if self.at_once.get(received.sourcedid):
                self.overlaps.append(received.sourcedid)
            self.at_once[received.sourcedid] = self.at_once.get(received.sourcedid, 0) + 1
            self.most_at_once = max(self.most_at_once, sum(self.at_once.values()))
        try:
            if self.behave is not None:
                return self.behave(self, received, handler)
            return self.succeed(received)
        finally:
            with self._lock:
                self.at_once[received.sourcedid] -= 1

    def succeed(self, received: Received) -> Answer:
        if received.operation == "read":
            score = self.grades.get(received.sourcedid)
            return ok(envelope(body=score_body(score or "")))
        self.grades[received.sourcedid] = received.score
        return ok(envelope())

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gradebook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received = Received.read(self.path, dict(self.headers.items()), body)
                answer = gradebook.answer(received, self)
                if answer is None:
                    return
                status, headers, content = answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """The tests have a log of their own."""

        return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *args: object) -> None:
        """A deliverer that was killed or lost patience is no news."""


def ok(body: bytes) -> Answer:
    return 200, {"Content-Type": "application/xml"}, body


def always(status: int, body: bytes = b"", **headers: str) -> Behaviour:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda gradebook, received, handler: (status, named, body)

"""A proxy in front of a live server that does what it should not."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self
from urllib.parse import urlsplit

from django.db import connections

from tests.waiting import PATIENCE

Headers = list[tuple[str, str]]
Reply = tuple[int, Headers, bytes]


class Proxy:
    """Changes requests with ``before`` and answers with ``after``; a context manager.

    ``before`` may answer itself: it gets method, path and headers and returns None to go on.
    """

    def __init__(
        self,
        upstream: str,
        before: Callable[[str, str, dict[str, str]], Reply | None] | None = None,
        after: Callable[[str, str, Reply], Reply] | None = None,
    ) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.before = before or (lambda method, path, headers: None)
        self.after = after or (lambda method, path, reply: reply)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"localhost:{self._server.server_port}"
        self.url = f"http://{self.host}"

    def __enter__(self) -> Self:
        # Its shutdown waits for the next look, which is every half second by itself.
        Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        own = self.before(method, path, headers)
        # It may have used the database, in this thread's own connection.
        connections.close_all()
        if own is not None:
            return own
        connection = HTTPConnection(self.upstream, timeout=PATIENCE)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            kept = [
                (name, value)
                for name, value in response.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "content-length")
            ]
            return self.after(method, path, (response.status, kept, response.read()))
        finally:
            connection.close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = dict(self.headers.items())
                status, sent, content = proxy.ask(self.command, self.path, headers, body)
                self.send_response_only(status)
                for name, value in sent:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = answer  # noqa: N815

            def log_message(self, *args: object) -> None:
                """Stay silent: the tests have a log of their own."""

        return Handler

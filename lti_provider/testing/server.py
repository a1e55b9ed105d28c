"""A small LMS over HTTP, for tests with a real browser: pages that launch, and a return page.

It answers the logins and publishes the keys of LTI 1.3, too.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Protocol, Self
from urllib.parse import parse_qsl, urlsplit

_PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><body>{body}"


class Platform(Protocol):
    """What answers logins."""

    @property
    def client_id(self) -> str: ...

    @property
    def redirect_uri(self) -> str: ...

    @property
    def key_set(self) -> str: ...

    def authorize(self, url: str) -> list[tuple[str, str]]: ...


class LmsServer:
    """Serves on a free port of 127.0.0.1, another site than localhost; a context manager.

    ``returned`` lists the query of each visit of the return page, oldest first.
    """

    def __init__(self) -> None:
        self.returned: list[dict[str, str]] = []
        self._pages: dict[str, str] = {}
        self._platforms: dict[str, Platform] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.return_url = f"{self.url}/return"
        self.authorization_endpoint = f"{self.url}/auth"
        self.jwks_uri = f"{self.url}/jwks"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add_page(self, body: str, title: str = "LMS") -> str:
        """Serve a page with this body; the answer is its URL."""
        path = f"/page/{len(self._pages)}"
        self._pages[path] = _PAGE.format(title=title, body=body)
        return f"{self.url}{path}"

    def add_launch(
        self, url: str, pairs: Iterable[tuple[str, str]], *, target: str = "_self"
    ) -> str:
        """A page that posts a form at once: a signed launch, or a login; ``target`` as in HTML."""
        return self.add_page(_build_form(url, pairs, target))

    def add_platform(self, platform: Platform) -> None:
        """Answer the logins of a ``FakePlatform``, and publish its key."""
        self._platforms[platform.client_id] = platform

    def add_frame(self, url: str, attributes: str = "") -> str:
        """A page that shows ``url`` in a frame named ``tool``."""
        frame = f'<iframe name=tool title=Activity width=900 height=700 src="{html.escape(url)}"'
        return self.add_page(f"<h1>Course</h1>{frame} {attributes}></iframe>")

    def _authorize(self, url: str) -> str:
        client_id = dict(parse_qsl(urlsplit(url).query)).get("client_id", "")
        platform = self._platforms[client_id]
        return _build_form(platform.redirect_uri, platform.authorize(url), "_self")

    def _find_page(self, url: str) -> str | None:
        parts = urlsplit(url)
        if parts.path == "/return":
            self.returned.append(dict(parse_qsl(parts.query)))
            return _PAGE.format(title="LMS", body="<h1>Back in the course</h1>")
        if parts.path == "/auth":
            return _PAGE.format(title="LMS", body=self._authorize(url))
        if parts.path == "/jwks":
            found = [json.loads(each.key_set)["keys"] for each in self._platforms.values()]
            return json.dumps({"keys": [key for keys in found for key in keys]})
        return self._pages.get(parts.path)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    page = server._find_page(self.path)
                    status = 404 if page is None else 200
                except (AssertionError, KeyError) as error:
                    status, page = 400, html.escape(str(error))
                content = (page or "").encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Stay silent: the tests have a log of their own."""

        return Handler


def _build_form(url: str, pairs: Iterable[tuple[str, str]], target: str) -> str:
    inputs = "".join(
        f'<input type=hidden name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in pairs
    )
    form = f'<form method=post target="{target}" action="{html.escape(url)}">{inputs}</form>'
    return f"{form}<script>document.forms[0].submit()</script>"

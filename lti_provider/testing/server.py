"""A small LMS over HTTP, for tests with a real browser: pages that launch, and a return page."""

from __future__ import annotations

import html
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Self
from urllib.parse import parse_qsl, urlsplit

_PAGE = "<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><body>{body}"


class LmsServer:
    """Serves on a free port of 127.0.0.1, another site than localhost; a context manager.

    ``returned`` lists the query of each visit of the return page, oldest first.
    """

    def __init__(self) -> None:
        self.returned: list[dict[str, str]] = []
        self._pages: dict[str, str] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.return_url = f"{self.url}/return"

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
        """A page that posts a signed form at once; ``target`` as in HTML."""
        inputs = "".join(
            f'<input type=hidden name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in pairs
        )
        form = f'<form method=post target="{target}" action="{html.escape(url)}">{inputs}</form>'
        return self.add_page(f"{form}<script>document.forms[0].submit()</script>")

    def add_frame(self, url: str, attributes: str = "") -> str:
        """A page that shows ``url`` in a frame named ``tool``."""
        frame = f'<iframe name=tool title=Activity width=900 height=700 src="{html.escape(url)}"'
        return self.add_page(f"<h1>Course</h1>{frame} {attributes}></iframe>")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                page = server._pages.get(parts.path)
                if parts.path == "/return":
                    server.returned.append(dict(parse_qsl(parts.query)))
                    page = _PAGE.format(title="LMS", body="<h1>Back in the course</h1>")
                content = (page or "").encode()
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                """Stay silent: the tests have a log of their own."""

        return Handler

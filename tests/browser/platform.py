"""An LMS of LTI 1.3 with pages for a browser, on 127.0.0.1."""

from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from lti_provider.testing import FakePlatform, LmsServer


@dataclass
class Platform:
    """It is known by its authorization endpoint alone: it sends no return URL."""

    server: LmsServer
    fake: FakePlatform

    @classmethod
    def create(cls, server: LmsServer, tool: str, **consumer: Any) -> Self:
        consumer = {"frame_origins": "", **consumer}
        return cls(server, FakePlatform.create("open_edx", site=tool, server=server, **consumer))

    def launch(self, method: str = "POST", path: str = "content/quiz/", **changes: Any) -> str:
        """The address of a page, or of the site, that launches where it is shown."""
        pairs = self.fake.begin_login(path, **changes)
        if method == "POST":
            return self.server.add_launch(self.fake.login_url, pairs)
        return f"{self.fake.login_url}?{urlencode(pairs)}"

    def course(self, method: str = "POST", **changes: Any) -> str:
        """A page that launches in a frame."""
        return self.server.add_frame(self.launch(method, **changes))

"""An LMS that launches through Django's test client."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.test import Client
from django.urls import reverse

from lti_provider import frames
from lti_provider.lti11 import sign_launch
from lti_provider.models import LtiConsumer
from lti_provider.testing.profiles import PROFILES

_FORM = "application/x-www-form-urlencoded"


@dataclass
class FakeLms:
    """Launches as the LMS of one consumer.

    ``fields`` are what it sends; each call may change some, and None leaves one out.
    """

    consumer: LtiConsumer
    fields: dict[str, str] = field(default_factory=dict)

    @classmethod
    def create(cls, profile: str = "canvas", **consumer: Any) -> Self:
        """Make a consumer and an LMS of the product ``profile``, one of ``PROFILES``.

        For products without a return URL the consumer knows who frames it, as an administrator
        would have entered.
        """
        consumer.setdefault("consumer_name", f"Fake {profile}")
        if not PROFILES[profile].get("launch_presentation_return_url"):
            consumer.setdefault("frame_origins", "https://lms.example")
        return cls(LtiConsumer.objects.create(**consumer), dict(PROFILES[profile]))

    def sign(
        self, path: str | None = None, *, host: str = "http://testserver", **changes: Any
    ) -> list[tuple[str, str]]:
        """The signed form of a launch of ``path``, which may have a query."""
        sent = {**self.fields, **changes}
        return sign_launch(
            f"{host}{launch_path(path)}",
            {name: value for name, value in sent.items() if value is not None},
            key=self.consumer.signing_key,
            secret=self.consumer.consumer_secret,
        )

    def post(
        self,
        client: Client,
        path: str | None = None,
        *,
        framed: bool = False,
        **changes: Any,
    ) -> Any:
        """Post a launch; the answer is a redirect to the page or to ``enter``, or a refusal."""
        return client.post(
            launch_path(path),
            urlencode(self.sign(path, **changes)),
            content_type=_FORM,
            headers=navigation(framed=framed),
        )

    def launch(
        self,
        client: Client,
        path: str | None = None,
        *,
        framed: bool = False,
        **changes: Any,
    ) -> Any:
        """Launch and follow to the site's page, as the browser does."""
        response = self.post(client, path, framed=framed, **changes)
        while response.status_code in (301, 302, 303):
            response = client.get(response["Location"], headers=navigation(framed=framed))
        return response


def get_framed_session(client: Client) -> SessionBase:
    """The session of what ``client`` launched in frames; ``client.session`` is a window's."""
    cookie = client.cookies.get(frames.get_session_cookie(framed=True))
    store: type[SessionBase] = import_module(settings.SESSION_ENGINE).SessionStore
    return store(cookie.value if cookie else None)


def launch_path(path: str | None = None) -> str:
    """The launch URL's path for a page of the site, None for the default target."""
    if path is None:
        return reverse("lti_provider:launch")
    target, mark, query = path.partition("?")
    return reverse("lti_provider:launch_target", args=[target.removeprefix("/")]) + mark + query


def navigation(*, framed: bool) -> dict[str, str]:
    """The headers that a browser adds to a cross-site navigation."""
    return {
        "Sec-Fetch-Dest": "iframe" if framed else "document",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Site": "cross-site",
    }

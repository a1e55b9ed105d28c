"""Speaks WSGI to the site as an LMS and a browser would, and counts what the site's part costs."""

from __future__ import annotations

import io
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from itertools import islice
from urllib.parse import urlencode

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from benchmarks.floor import FLOOR_SECRET, User
from lti_provider.message import LaunchMessage
from lti_provider.models import (
    LtiConsumer,
    LtiContext,
    LtiLaunch,
    LtiResourceLink,
    LtiResult,
    LtiUser,
)
from lti_provider.models.context import digest_link
from lti_provider.models.digest import digest
from lti_provider.origins import get_host
from lti_provider.testing import PROFILES, sign_launch

HOST = "tool.example"
LAUNCH_PATH = "/lti/launch/content/quiz/1/"
BATCH = 5000


@dataclass
class Cost:
    """Milliseconds of this thread, and of the clock.

    Only the clock sees what a database server does.
    """

    cpu: float = 0
    wall: float = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add what the block costs."""
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        yield
        self.cpu += (time.thread_time_ns() - cpu) / 1e6
        self.wall += (time.perf_counter_ns() - wall) / 1e6


@dataclass
class Browser:
    """One empty jar of cookies. Only the site's own work is counted, not the browser's."""

    application: Callable
    framed: bool = True
    cost: Cost = field(default_factory=Cost)
    cookies: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, path: str, body: bytes = b"") -> str:
        """Send a request and keep its cookies; the answer is where it redirects to."""
        environ = self._environ(method, path, body)
        started = []
        with self.cost.counted():
            response = self.application(environ, lambda *args: started.append(args))
            b"".join(response)
            response.close()
        status, headers = started[0]
        assert status.startswith("30"), f"{method} {path}: {status}"
        for name, value in headers:
            if name == "Set-Cookie":
                self._keep(value.replace("; Partitioned", ""))
        return dict(headers)["Location"]

    def _keep(self, header: str) -> None:
        for name, morsel in SimpleCookie(header).items():
            self.cookies[name] = morsel.coded_value

    def _environ(self, method: str, path: str, body: bytes) -> dict[str, object]:
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": "",
            "SERVER_NAME": HOST,
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "HTTP_HOST": HOST,
            "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
            "HTTP_ACCEPT": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            "HTTP_ACCEPT_ENCODING": "gzip, deflate, br, zstd",
            "HTTP_ACCEPT_LANGUAGE": "en-US,en;q=0.9",
            "HTTP_REFERER": "https://lms.example/",
            "HTTP_SEC_FETCH_DEST": "iframe" if self.framed else "document",
            "HTTP_SEC_FETCH_MODE": "navigate",
            "HTTP_SEC_FETCH_SITE": "cross-site",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        if method == "POST":
            environ["CONTENT_TYPE"] = "application/x-www-form-urlencoded"
            environ["CONTENT_LENGTH"] = str(len(body))
            environ["HTTP_ORIGIN"] = "https://lms.example"
        if self.cookies:
            pairs = (f"{name}={value}" for name, value in self.cookies.items())
            environ["HTTP_COOKIE"] = "; ".join(pairs)
        return environ


class Bench:
    """A site with the app, the same site without it, and one LMS for both."""

    def __init__(self) -> None:
        self.site = WSGIHandler()
        with override_settings(MIDDLEWARE=settings.MIDDLEWARE[1:]):
            self.bare_site = WSGIHandler()
        self.consumer = LtiConsumer.objects.create(
            consumer_name="Benchmark",
            instance_guid=PROFILES["canvas"]["tool_consumer_instance_guid"],
        )

    def launch(self, user: str, link: str, *, framed: bool = True) -> Cost:
        """A whole launch: the form, and ``enter``, which redirects to the content."""
        browser = Browser(self.site, framed=framed)
        form = self._form(LAUNCH_PATH, self.consumer.consumer_secret, user, link)
        browser.request("GET", browser.request("POST", LAUNCH_PATH, form))
        return browser.cost

    def floor(self, path: str, user: str, link: str) -> Cost:
        """The same form to one of FLOOR's views."""
        browser = Browser(self.bare_site)
        browser.request("POST", path, self._form(path, FLOOR_SECRET, user, link))
        return browser.cost

    def _form(self, path: str, secret: str, user: str, link: str) -> bytes:
        fields = launch_fields(user, link)
        url, key = f"https://{HOST}{path}", self.consumer.consumer_key
        return urlencode(sign_launch(url, fields, key=key, secret=secret)).encode()

    def add_users(self, names: list[str]) -> None:
        """Accounts that have launched before; FLOOR finds them by the same name."""
        for batch in batches(names):
            users = User.objects.bulk_create(User(username=name, password="!") for name in batch)
            LtiUser.objects.bulk_create(
                LtiUser(
                    lti_consumer=self.consumer,
                    lti_user_id=user.username,
                    lti_user_digest=digest(user.username),
                    user=user,
                )
                for user in users
            )

    def add_links(self, names: list[str]) -> None:
        """Activities of one course that were launched before."""
        message = LaunchMessage(tuple(launch_fields("", "").items()))
        course, _created = LtiContext.objects.get_or_create(
            lti_consumer=self.consumer,
            context_digest=digest(message.context_id),
            defaults={
                "context_id": message.context_id,
                "title": message.get("context_title"),
                "label": message.get("context_label"),
            },
        )
        LtiResourceLink.objects.bulk_create(
            LtiResourceLink(
                lti_consumer=self.consumer,
                lti_context=course,
                resource_link_id=name,
                resource_link_digest=digest(message.context_id, name),
                title=message.get("resource_link_title"),
            )
            for name in names
        )

    def add_results(self, people_and_links: Iterable[tuple[str, str]]) -> None:
        """What the LMS calls the grades of people who opened an activity before."""
        message = LaunchMessage(tuple(launch_fields("", "").items()))
        service = message.grade_service
        assert service is not None
        for batch in batches(people_and_links):
            LtiResult.objects.bulk_create(
                LtiResult(
                    lti_consumer=self.consumer,
                    user_digest=digest(user),
                    link_digest=digest(message.context_id, link),
                    service=service.service,
                    service_url=service.url,
                    service_host=get_host(service.url),
                    remote_id=service.remote_id,
                    accepts=",".join(service.accepts),
                )
                for user, link in batch
            )

    def add_launches(self, people_and_links: Iterable[tuple[str, str]]) -> None:
        """Launches of the past, such as ``LtiLaunch.objects.accept`` keeps."""
        for batch in batches(people_and_links):
            LtiLaunch.objects.bulk_create(self._past_launch(*each) for each in batch)

    def _past_launch(self, user: str, link: str) -> LtiLaunch:
        message = LaunchMessage(tuple(launch_fields(user, link).items()))
        kept = message.without_personal_data(self.consumer.personal_data_kept)
        return LtiLaunch(
            lti_consumer=self.consumer,
            nonce_digest=secrets.token_hex(32),
            handle_digest=secrets.token_hex(32),
            user_digest=digest(user),
            link_digest=digest_link(message),
            message_pairs=kept.pairs,
            target="/content/quiz/1/",
        )


def launch_fields(user: str, link: str) -> dict[str, str]:
    """What the LMS sends, OAuth aside."""
    return {**PROFILES["canvas"], "user_id": user, "resource_link_id": link}


def batches(items: Iterable) -> Iterator[list]:
    """Lists of items; a million models would not fit in memory."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch

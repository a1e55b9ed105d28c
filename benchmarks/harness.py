"""Speaks WSGI to the site as an LMS and a browser would, and counts what a launch costs."""

from __future__ import annotations

import io
import random
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookies import SimpleCookie
from itertools import cycle, islice
from typing import TypeVar
from urllib.parse import urlencode

from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.db.models import Model
from django.test import override_settings
from django.utils import timezone

from benchmarks.floor import CONTENT, FLOOR_SECRET, User
from benchmarks.server_cpu import read_server_cpu
from lti_provider.lti13 import id_token, token_checks
from lti_provider.lti13.claims import check_claims
from lti_provider.lti13.key_set import find_key
from lti_provider.lti13.state import LoginState
from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiLaunch,
    LtiRegistration,
    LtiResourceLink,
    LtiResult,
    LtiUser,
)
from lti_provider.models.digest import digest
from lti_provider.models.public_keys import normalize_key_set
from lti_provider.testing import PROFILES, FakePlatform, sign_launch

HOST = "tool.example"
LOGIN_PATH, REDIRECT_PATH = "/lti/login/", "/lti/launch/"
LAUNCH_PATH = f"/lti/launch{CONTENT}"
FRAME_MARKER = "__Host-lti_frame"
MOST_REQUESTS = 9
BATCH = 5000
CHECKS = 20

M = TypeVar("M", bound=Model)


@dataclass
class Cost:
    """Requests to the site, and milliseconds of CPU: of its thread and of the database server."""

    requests: int = 0
    site: float = 0
    server: float = 0

    @property
    def cpu(self) -> float:
        return self.site + self.server

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Add what a request costs."""
        server, site = read_server_cpu(), time.thread_time_ns()
        yield
        self.site += (time.thread_time_ns() - site) / 1e6
        self.server += (read_server_cpu() - server) / 1e6
        self.requests += 1


@dataclass
class Browser:
    """One jar of cookies. Only the site's own work is counted, not the browser's."""

    application: Callable
    framed: bool = True
    cookies: dict[str, str] = field(default_factory=dict)
    cost: Cost = field(default_factory=Cost)

    def log_in(self, form: str) -> str:
        """Send a login, and follow as far as the LMS's address, which is the answer."""
        location = self._request("GET", f"{LOGIN_PATH}?{form}")
        while location.startswith("/"):
            assert self.cost.requests < MOST_REQUESTS, location
            location = self._request("GET", location)
        return location

    def launch(self, path: str, form: bytes) -> Cost:
        """Post a signed form, and follow where it leads, as far as the content's address."""
        location = self._request("POST", path, form)
        while not location.startswith(CONTENT):
            assert self.cost.requests < MOST_REQUESTS, location
            location = self._request("GET", location)
        return self.cost

    def _request(self, method: str, url: str, body: bytes = b"") -> str:
        environ = self._environ(method, url, body)
        started = []
        with self.cost.counted():
            response = self.application(environ, lambda *args: started.append(args))
            b"".join(response)
            response.close()
        status, headers = started[0]
        assert status.startswith("30"), f"{method} {url}: {status}"
        for name, value in headers:
            if name == "Set-Cookie":
                self._keep(value.replace("; Partitioned", ""))
        return dict(headers)["Location"]

    def _keep(self, header: str) -> None:
        for name, morsel in SimpleCookie(header).items():
            self.cookies[name] = morsel.coded_value

    def _environ(self, method: str, url: str, body: bytes) -> dict[str, object]:
        path, _mark, query = url.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
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
    """A site with the app, the same site without it, and an LMS of each dialect for both."""

    def __init__(self, users: list[str], links: list[str]) -> None:
        """Everybody opens one of the activities, and FLOOR gets an account for each."""
        self.site = WSGIHandler()
        with override_settings(MIDDLEWARE=settings.MIDDLEWARE[1:]):
            self.bare_site = WSGIHandler()
        self.consumer = LtiConsumer.objects.create(consumer_name="Benchmark")
        self.platform = FakePlatform.create("canvas", site=f"https://{HOST}")
        keep_fetched_keys(self.platform.registration)
        self.opened = list(zip(users, cycle(links), strict=False))
        User.objects.bulk_create(User(username=name, password="!") for name in users)
        for user, link in self.opened:
            self.launch(user, link)
            self.launch13(user, link)
        update_statistics()
        self.renew_marker()

    @property
    def has_fetched_keys(self) -> bool:
        """Whether anything has asked the LMS for its keys."""
        known = self.platform.registration
        return LtiRegistration.objects.get(pk=known.pk).jwks_tried_at != known.jwks_tried_at

    def renew_marker(self) -> None:
        """Launch in a frame, uncounted: a browser's marker is never older than its last launch."""
        browser, browser13 = Browser(self.site), Browser(self.site)
        self._launch(browser, *self.opened[0])
        self._launch13(browser13, *self.opened[0])
        self.marker = {FRAME_MARKER: browser.cookies[FRAME_MARKER]}
        self.marker13 = {FRAME_MARKER: browser13.cookies[FRAME_MARKER]}

    def launch(self, user: str, link: str, *, framed: bool = True, marked: bool = False) -> Cost:
        """A whole launch, in a browser that brings nothing or the marker of this frame."""
        cookies = dict(self.marker) if marked else {}
        return self._launch(Browser(self.site, framed, cookies), user, link)

    def launch13(self, user: str, link: str, *, framed: bool = True, marked: bool = False) -> Cost:
        """The same by LTI 1.3, with its login."""
        cookies = dict(self.marker13) if marked else {}
        return self._launch13(Browser(self.site, framed, cookies), user, link)

    def log_in13(self, user: str, link: str) -> Cost:
        """A login in a window, without its launch."""
        browser = Browser(self.site, framed=False)
        browser.log_in(urlencode(self._begin_login(user, link)))
        return browser.cost

    def check_token(self, user: str, link: str) -> Cost:
        """What the wing does with a token before it knows the consumer, less the read of that."""
        state = LoginState.issue(self.platform.registration.pk, "", None)
        text = self._sign13(user, link, nonce=state.nonce)
        registration, cost = self.platform.registration, Cost()
        with cost.counted():
            for _time in range(CHECKS):
                token = id_token.read_id_token(text)
                id_token.check_header(token)
                id_token.check_signature(token, find_key(registration, token.kid))
                token_checks.check_issuer(token.claims, registration)
                token_checks.check_audience(token.claims, registration)
                token_checks.check_times(token.claims, registration, state)
                token_checks.check_nonce(token.claims, state)
                check_claims(token.claims)
        return Cost(0, cost.site / CHECKS, cost.server / CHECKS)

    def _launch(self, browser: Browser, user: str, link: str) -> Cost:
        form = self._sign(LAUNCH_PATH, self.consumer.consumer_secret, user, link)
        return browser.launch(LAUNCH_PATH, form)

    def _launch13(self, browser: Browser, user: str, link: str) -> Cost:
        asked = browser.log_in(urlencode(self._begin_login(user, link)))
        return browser.launch(REDIRECT_PATH, urlencode(self.platform.authorize(asked)).encode())

    def _begin_login(self, user: str, link: str) -> list[tuple[str, str]]:
        return self.platform.begin_login(CONTENT, sub=user, resource_link={"id": link})

    def _sign13(self, user: str, link: str, **changes: str) -> str:
        claims = self.platform.build_claims(sub=user, resource_link={"id": link}, **changes)
        return self.platform.sign(claims)

    def floor(self, path: str, user: str, link: str) -> Cost:
        """The same form to one of FLOOR's views."""
        return Browser(self.bare_site).launch(path, self._sign(path, FLOOR_SECRET, user, link))

    def floor13(self, path: str, user: str, link: str) -> Cost:
        """The same token to FLOOR13's view."""
        form = urlencode({"id_token": self._sign13(user, link), "state": ""}).encode()
        return Browser(self.bare_site).launch(path, form)

    def _sign(self, path: str, secret: str, user: str, link: str) -> bytes:
        fields = {**PROFILES["canvas"], "user_id": user, "resource_link_id": link}
        url, key = f"https://{HOST}{path}", self.consumer.consumer_key
        return urlencode(sign_launch(url, fields, key=key, secret=secret)).encode()

    def add_registrations(self, count: int) -> None:
        """LMSs that nobody will launch from, each with a key set that was fetched."""
        registration, deployment = self.platform.registration, self.platform.deployment
        names = [secrets.token_hex(10) for _registration in range(count)]
        made = LtiRegistration.objects.bulk_create(
            copied(registration, client_id=name, registration_digest=digest(name)) for name in names
        )
        LtiDeployment.objects.bulk_create(
            copied(deployment, registration_id=each.pk, deployment_digest=digest(each.client_id))
            for each in made
        )
        update_statistics()

    def grow(self, people: int, links: int, launches: int) -> None:
        """Copy what the first launch left, for people and activities that nobody will launch."""
        launch = LtiLaunch.objects.filter(registration=None).earliest("pk")
        person, result = LtiUser.objects.earliest("pk"), LtiResult.objects.earliest("pk")
        digests = [secrets.token_hex(32) for _person in range(people)]
        for batch in batches(digests):
            accounts = User.objects.bulk_create(copied(person.user, username=d) for d in batch)
            LtiUser.objects.bulk_create(
                copied(person, user_id=account.pk, lti_user_id=d, lti_user_digest=d)
                for account, d in zip(accounts, batch, strict=True)
            )
            LtiResult.objects.bulk_create(copied(result, user_digest=d) for d in batch)
        link = LtiResourceLink.objects.earliest("pk")
        LtiResourceLink.objects.bulk_create(
            copied(link, resource_link_id=d, resource_link_digest=d) for d in digests[:links]
        )
        for batch in batches(range(launches)):
            LtiLaunch.objects.bulk_create(
                copied(
                    launch,
                    nonce_digest=secrets.token_hex(32),
                    handle_digest=secrets.token_hex(32),
                    user_digest=random.choice(digests),
                    link_digest=random.choice(digests[:links]),
                )
                for _launch in batch
            )
        update_statistics()


def keep_fetched_keys(registration: LtiRegistration) -> None:
    """Have the keys that the LMS publishes as if they were fetched, so that none are."""
    now = timezone.now()
    fetched = {
        "jwks_uri": "https://lms.example/jwks",
        "fetched_jwks": normalize_key_set(registration.jwks),
        "jwks": "",
        "jwks_tried_at": now,
        "jwks_fetched_at": now,
        "jwks_expires_at": now + timedelta(days=1),
    }
    LtiRegistration.objects.filter(pk=registration.pk).update(**fetched)
    vars(registration).update(fetched)


def update_statistics() -> None:
    """As PostgreSQL's autovacuum would have done by then."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")


def copied(row: M, **changes: object) -> M:
    """An unsaved copy of a row."""
    fields = [field for field in row._meta.concrete_fields if not field.primary_key]
    return type(row)(**{field.attname: getattr(row, field.attname) for field in fields} | changes)


def batches(items: Iterable) -> Iterator[list]:
    """Lists of items; a million models would not fit in memory."""
    iterator = iter(items)
    while batch := list(islice(iterator, BATCH)):
        yield batch

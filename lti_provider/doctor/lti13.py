"""Lti13Examination: a launch by LTI 1.3, a login before a signed token."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.db.models import Q
from django.urls import reverse

from lti_provider import frames
from lti_provider.doctor.answers import NO_CACHE, examine_caching, explain_address
from lti_provider.doctor.browser import Answer, Browser
from lti_provider.doctor.finding import Finding, Stopped, error
from lti_provider.doctor.launch import (
    TAKEN_AWAY,
    LaunchExamination,
    build_cookies_not_sent,
    check_location,
)
from lti_provider.exceptions import InvalidState
from lti_provider.lti13.trial_launch import TrialPlatform

# A frame asks once more, to see whether its cookie comes back.
_REPEATED = 2


class Lti13Examination(LaunchExamination):
    """Logs in, plays the LMS that answers, and posts its token to the redirect URI."""

    arrived = ("framed_launch_lti13", "window_launch_lti13")

    @property
    def platform(self) -> TrialPlatform:
        """Who signs."""
        return cast("TrialPlatform", self.door.platform)

    @property
    def login_url(self) -> str:
        """Where an LMS sends the browser first."""
        return self.door.base + reverse("lti_provider:login")

    @property
    def post_url(self) -> str:
        """The redirect URI; the launch URL stands in the token."""
        return self.door.redirect_uri

    @property
    def launch_cookie(self) -> str:
        """The frame's marker; it is the login that binds the browser."""
        return frames.MARKER_COOKIE if self.browser.framed else ""

    @property
    def sender(self) -> Q:
        """Before the token is read, only the registration is known."""
        return super().sender | Q(registration=self.platform.deployment.registration)

    def get_form(self) -> Generator[Finding, None, str]:
        """Log in, examine what the site asks the LMS, and sign the answer."""
        first = self._send_login(self.browser)
        yield from self._examine_login_cookie(first)
        yield from examine_caching(first)
        asked = self._read_request(self._repeat(self.browser, first))
        self._examine_redirect_uri(asked.get("redirect_uri", ""))
        self._examine_login_reuse(asked)
        return urlencode(self.platform.answer_login(self.door.launch_url, asked))

    def _send_login(self, browser: Browser) -> Answer:
        # LMSs do it in both ways.
        form = urlencode(self.platform.begin_login(self.door.launch_url))
        if browser.framed:
            return browser.get(f"{self.login_url}?{form}")
        return browser.post(self.login_url, form)

    def _repeat(self, browser: Browser, answer: Answer) -> Answer:
        for _number in range(_REPEATED):
            if not self._asks_again(answer):
                break
            answer = browser.get(answer.location)
        return answer

    def _asks_again(self, answer: Answer) -> bool:
        led, asked = urlsplit(answer.location), urlsplit(answer.url)
        # With a state; whoever else redirects changes the rest of the address.
        return led.path == asked.path and led.query != asked.query

    def _examine_login_cookie(self, answer: Answer) -> Iterator[Finding]:
        if not self._asks_again(answer) and not self._is_request(answer):
            raise Stopped(self.explain_failure(answer))
        if not self._is_request(answer):
            check_location(answer, "a login")
        prefix = frames.LOGIN_FRAMED if self.browser.framed else frames.LOGIN_TOP_LEVEL
        if not any(name.startswith(prefix) for name in answer.cookies):
            text = f"The answer to a login in {self.where} comes without its cookie ({prefix}…)."
            raise Stopped(error("cookies_stripped", text, TAKEN_AWAY))
        yield from self.examine_attributes(answer)

    def _is_request(self, answer: Answer) -> bool:
        endpoint = self.platform.deployment.registration.authorization_endpoint
        return bool(answer.location.partition("?")[0] == endpoint)

    def _read_request(self, answer: Answer) -> dict[str, str]:
        if self._is_request(answer):
            return dict(parse_qsl(urlsplit(answer.location).query))
        if self.browser.framed and answer.status == 200:
            raise Stopped(build_cookies_not_sent())
        raise Stopped(self.explain_failure(answer))

    def _examine_redirect_uri(self, redirect_uri: str) -> None:
        consequence = "LMSs refuse a login with a redirect URI that they do not have on file"
        if found := explain_address(self.door.redirect_uri, redirect_uri, consequence):
            raise Stopped(found)

    def _examine_login_reuse(self, asked: dict[str, str]) -> None:
        # A second browser, so that the cookies of the login stay.
        other = Browser(framed=self.browser.framed, tls=self.door.tls, timeout=self.door.timeout)
        again = self._read_request(self._repeat(other, self._send_login(other)))
        if again.get("state") == asked.get("state"):
            text = "Two logins get the same answer: a cache in front of the site keeps it."
            raise Stopped(error("cached", text, NO_CACHE))

    def explain_refusal(self, code: str) -> Finding:
        """What came back of a login names nobody if this site cannot read it."""
        if code == InvalidState.code:
            text = "The site does not know the state of its own login."
            hint = "Do all processes share SECRET_KEY, and does nothing change forms on the way?"
            return error("state_lost", text, hint)
        return super().explain_refusal(code)

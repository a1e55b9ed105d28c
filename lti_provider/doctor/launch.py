"""Examines one launch through the front door, as an LMS and a browser make it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.db.models import Q
from django.shortcuts import resolve_url
from django.urls import reverse

from lti_provider import frames
from lti_provider.doctor.answers import (
    NO_CACHE,
    examine_caching,
    examine_date,
    explain_redirect,
    explain_status,
    find_frame_ancestors,
    find_refusal_code,
)
from lti_provider.doctor.browser import Answer, Browser
from lti_provider.doctor.finding import Finding, Stopped, error, fine, note, warning
from lti_provider.doctor.front_door import FrontDoor
from lti_provider.exceptions import LaunchUsed, OtherBrowser, ReplayedLaunch, TargetNotLaunchable
from lti_provider.models import LtiLaunch
from lti_provider.sessions import LAUNCH_PARAMETER

_REDIRECTS_FOLLOWED = 5
_HANDLE = "HANDLE"


@dataclass
class LaunchExamination(ABC):
    """One launch, step by step; a step that fails ends it with Stopped."""

    door: FrontDoor
    browser: Browser
    since: int = 0

    #: Of the findings that say that a launch arrived: in a frame, in a window.
    arrived: ClassVar[tuple[str, str]]

    @property
    def where(self) -> str:
        """What the browser is, for sentences."""
        return "a frame" if self.browser.framed else "a window"

    @property
    @abstractmethod
    def post_url(self) -> str:
        """Where the LMS posts the launch."""

    @property
    @abstractmethod
    def launch_cookie(self) -> str:
        """What the answer to the launch has to set; blank for nothing."""

    @property
    def sender(self) -> Q:
        """Whose entries of the launch log may be this launch's."""
        return Q(lti_consumer=self.door.consumer)

    @abstractmethod
    def get_form(self) -> Generator[Finding, None, str]:
        """Do what the LMS does before, and return the form that it posts."""

    def explain_refused(self, logged: LtiLaunch) -> Finding:
        """Why the site refused, from its launch log."""
        text = f"The launch was refused: {logged.refusal_code}."
        return error("refused", text, logged.refusal_hint)

    def examine(self) -> Iterator[Finding]:
        """Launch, and follow to the page."""
        newest = LtiLaunch.objects.order_by("-pk").values_list("pk", flat=True).first()
        self.since = newest or 0
        form = yield from self.get_form()
        launched = self.browser.post(self.post_url, form)
        yield from examine_date(launched)
        entered = yield from self._enter(launched)
        content = self._get_content_url(launched, entered)
        yield from self._examine_session(entered)
        if entered is not launched:
            self._examine_reuse(launched)
        self._examine_replay(form)
        yield from self._examine_page(content)
        text = f"A launch in {self.where} arrives at {urlsplit(content).path}."
        yield fine(self.arrived[0 if self.browser.framed else 1], text)

    def _enter(self, launched: Answer) -> Generator[Finding, None, Answer]:
        is_at_once = _is_content(launched)
        if not is_at_once and not self._is_enter(launched.location):
            raise Stopped(self.explain_failure(launched))
        if not is_at_once:
            yield from self._examine_launch_cookies(launched)
        yield from examine_caching(launched)
        return launched if is_at_once else self.browser.get(launched.location)

    def _is_enter(self, location: str) -> bool:
        before, _handle, after = reverse("lti_provider:enter", args=[_HANDLE]).partition(_HANDLE)
        base = urlsplit(self.door.base).path
        wanted = re.escape(base + before) + r"[\w-]+" + re.escape(after)
        return bool(re.fullmatch(wanted, urlsplit(location).path))

    def _examine_launch_cookies(self, launched: Answer) -> Iterator[Finding]:
        check_location(launched, "a launch")
        if (name := self.launch_cookie) and name not in launched.cookies:
            text = f"The answer to a launch in {self.where} comes without the cookie {name}."
            raise Stopped(error("cookies_stripped", text, TAKEN_AWAY))
        yield from self.examine_attributes(launched)

    def examine_attributes(self, answer: Answer) -> Iterator[Finding]:
        """Look whether a frame would keep the cookies of an answer."""
        if not self.browser.framed:
            return
        for cookie in answer.cookies.values():
            ours = "path" in cookie.attributes and not cookie.name.startswith("lti_enter")
            if ours and (missing := cookie.missing_for_frames):
                text = f"In a frame, the cookie {cookie.name} comes without {', '.join(missing)}."
                hint = (
                    "Put LtiFrameMiddleware first in MIDDLEWARE, and let the proxy leave the "
                    "attributes of cookies alone: browsers drop such a cookie in a frame."
                )
                raise Stopped(error("cookie_attributes", text, hint))
        yield from ()

    def _get_content_url(self, launched: Answer, entered: Answer) -> str:
        if _is_content(entered):
            return entered.location
        code = find_refusal_code(entered)
        if self.browser.framed and entered.status == 200:
            if self.door.consumer.require_user_account:
                text = "The launch stops where a learner without an account is asked to sign in."
                raise Stopped(note("sign_in_asked", text))
            raise Stopped(build_cookies_not_sent())
        if code == LaunchUsed.code:
            text = f"{urlsplit(launched.location).path} was opened before the browser came to it."
            hint = "Something in front of the site fetches addresses by itself, or answers twice."
            raise Stopped(error("used_before", text, hint))
        raise Stopped(self.explain_failure(entered))

    def _examine_session(self, entered: Answer) -> Iterator[Finding]:
        name = frames.get_session_cookie(framed=self.browser.framed)
        cookie = entered.cookies.get(name)
        if cookie is None:
            text = f"Signing in sets no cookie {name}."
            raise Stopped(error("cookies_stripped", text, TAKEN_AWAY))
        yield from self.examine_attributes(entered)
        if self.door.url.startswith("https:") and "secure" not in cookie.attributes:
            text = f"The cookie {name} is not Secure: it would travel over plain http too."
            yield warning("cookie_not_secure", text, "Set SESSION_COOKIE_SECURE = True.")

    def _examine_reuse(self, launched: Answer) -> None:
        again = self.browser.get(launched.location)
        if LAUNCH_PARAMETER in parse_qs(urlsplit(again.location).query):
            text = "The same answer comes twice: a cache in front of the site keeps it."
            raise Stopped(error("cached", text, NO_CACHE))

    def _examine_replay(self, form: str) -> None:
        # A second browser, so that the cookies of the launch stay.
        other = Browser(framed=False, tls=self.door.tls, timeout=self.door.timeout)
        again = other.post(self.post_url, form)
        if find_refusal_code(again) != ReplayedLaunch.code:
            text = "The same signed form was not refused the second time."
            hint = "All processes of the site need one database, and no cache may answer POSTs."
            raise Stopped(error("replay", text, hint))

    def _examine_page(self, location: str) -> Iterator[Finding]:
        answer = self._follow_redirects(location)
        path = urlsplit(answer.url).path
        if path == urlsplit(resolve_url(settings.LOGIN_URL)).path:
            text = f"After the launch, {urlsplit(location).path} asks to sign in again."
            hint = "The session is lost: do all processes share SESSION_ENGINE and SECRET_KEY?"
            yield error("session_lost", text, hint)
            return
        yield from examine_caching(answer, ours=False)
        if answer.status >= 400:
            text = f"The launched page {path} answers {answer.status}."
            yield warning("page", text, "--target names another page to launch.")
        elif self.browser.framed:
            yield from self._examine_framing(answer)

    def _follow_redirects(self, location: str) -> Answer:
        answer = self.browser.get(location)
        for _number in range(_REDIRECTS_FOLLOWED):
            if not answer.location:
                break
            answer = self.browser.get(answer.location)
        return answer

    def _examine_framing(self, answer: Answer) -> Iterator[Finding]:
        options = answer.headers.get("X-Frame-Options")
        if options is not None:
            text = f"The launched page comes with X-Frame-Options {options}: no LMS can frame it."
            hint = "Put LtiFrameMiddleware first in MIDDLEWARE, and let the proxy add none."
            yield error("frame_options", text, hint)
        policies = ",".join(answer.headers.get_all("Content-Security-Policy", [])).split(",")
        found = [find_frame_ancestors(policy) for policy in policies]
        allowing = [sources for sources in found if sources is not None]
        if not allowing:
            text = "The launched page comes without frame-ancestors: everyone may frame it."
            hint = "Something in front of the site takes Content-Security-Policy away."
            yield error("frame_ancestors", text, hint)
        elif any(self.door.origin not in sources for sources in allowing):
            text = "The launched page's frame-ancestors do not name the LMS: it cannot frame it."
            hint = "Let the proxy add no Content-Security-Policy of its own with frame-ancestors."
            yield error("frame_ancestors", text, hint)

    def explain_failure(self, answer: Answer) -> Finding:
        """Why an answer is not the one that leads on."""
        if code := find_refusal_code(answer):
            return self.explain_refusal(code)
        return explain_redirect(answer) if answer.location else explain_status(answer)

    def explain_refusal(self, code: str) -> Finding:
        """Why the site refused, by the code that it showed or sent back."""
        if code == OtherBrowser.code:
            return build_cookies_not_sent()
        if code == TargetNotLaunchable.code:
            text = "The launch was verified, but there is no page to launch."
            hint = (
                "Set LTI_PROVIDER_DEFAULT_TARGET or LTI_PROVIDER_LAUNCHABLE_PATHS, or name a page "
                "with --target."
            )
            return warning("no_target", text, hint)
        logged = self._find_refused(code)
        if logged is None:
            text = f"The launch was refused ({code}); this database's launch log has no such entry."
            hint = "The site at this address uses another database than this command."
            return error("other_database", text, hint)
        return self.explain_refused(logged)

    def _find_refused(self, code: str) -> LtiLaunch | None:
        newer = LtiLaunch.objects.filter(refusal_code=code, pk__gt=self.since)
        refused = newer.filter(self.sender)
        return refused.order_by("-pk").first()


TAKEN_AWAY = "Something in front of the site takes Set-Cookie away."


def check_location(answer: Answer, what: str) -> None:
    """Stop where an answer that redirects within the site names a different host."""
    seen, asked = urlsplit(answer.location), urlsplit(answer.url)
    if (seen.scheme, seen.netloc) != (asked.scheme, asked.netloc):
        where = f"{seen.scheme}://{seen.netloc}"
        text = f"The answer to {what} leads away from the site, to {where}."
        raise Stopped(error("location_changed", text, "Let the proxy leave Location alone."))


def build_cookies_not_sent() -> Finding:
    """The finding that cookies do not come back."""
    text = "The site does not get back the cookies that it set."
    return error("cookies_not_sent", text, "Let the proxy pass on the Cookie header.")


def _is_content(answer: Answer) -> bool:
    query = parse_qs(urlsplit(answer.location).query)
    return LAUNCH_PARAMETER in query and not find_refusal_code(answer)

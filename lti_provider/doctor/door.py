"""Examines launches through the site's front door: proxies, redirects, caches, cookies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ssl import SSLContext
from urllib.parse import parse_qs, urlencode, urlsplit

from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import reverse

from lti_provider import frames
from lti_provider.doctor.browser import Answer, Browser
from lti_provider.doctor.deployment import compare_clocks
from lti_provider.doctor.finding import Finding, Stopped, error, fine, note, warning
from lti_provider.egress import EgressError
from lti_provider.exceptions import (
    InvalidSignature,
    LaunchRefused,
    LaunchUsed,
    OtherBrowser,
    ReplayedLaunch,
    TargetNotLaunchable,
)
from lti_provider.lti11.trial_launch import DOCTOR, TrialLaunch
from lti_provider.message import Role
from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.sessions import LAUNCH_PARAMETER

_LMS = "https://lti-doctor.invalid"
_REDIRECTS_FOLLOWED = 5
_CODE = re.compile(r"<code>([a-z_]+)</code>")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HANDLE = "HANDLE"


@dataclass(frozen=True, kw_only=True)
class FrontDoor:
    """Where and as which consumer to launch.

    ``url`` is the site's address or the launch URL; ``target`` is a path, blank for
    ``LTI_PROVIDER_DEFAULT_TARGET``.
    """

    url: str
    consumer: LtiConsumer
    tls: SSLContext
    target: str = ""
    timeout: float = 10.0

    @property
    def base(self) -> str:
        """The site's address, without the slash at its end."""
        return self.url.rstrip("/").removesuffix(reverse("lti_provider:launch").rstrip("/"))

    @property
    def launch_url(self) -> str:
        """The URL that an LMS would post to."""
        if not self.target:
            return self.base + reverse("lti_provider:launch")
        target = self.target.removeprefix("/")
        return self.base + reverse("lti_provider:launch_target", args=[target])

    @property
    def origin(self) -> str:
        """An origin that may frame what is launched."""
        return next(iter(self.consumer.frame_origin_list), _LMS)


def examine_door(door: FrontDoor, sessions: list[str]) -> Iterator[Finding]:
    """Launch in a frame and in a window; the keys of their sessions are added to ``sessions``."""
    parts = urlsplit(door.url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        yield warning(
            "plain_http",
            f"{door.url} is not an https address: browsers keep no cookies in frames there.",
            "Serve the site over https.",
        )
    for framed in (True, False):
        browser = Browser(framed=framed, tls=door.tls, timeout=door.timeout)
        try:
            yield from _LaunchExamination(door, browser).examine()
        except Stopped as stopped:
            yield stopped.finding
            return
        except EgressError as problem:
            yield _explain_silence(door, problem)
            return
        finally:
            name = frames.get_session_cookie(framed=framed)
            sessions += [kept.value for kept in browser.jar.values() if kept.name == name]


def _explain_silence(door: FrontDoor, problem: EgressError) -> Finding:
    if problem.code == "certificate":
        text = f"The certificate of {door.url} is not accepted: {problem.detail}."
        hint = "Renew it or send the whole chain; --ca-file names a private authority."
        return error("certificate", text, hint)
    text = f"{door.url} does not answer: {problem.detail}."
    return error("unreachable", text, "Is the address right, and the server running?")


@dataclass
class _LaunchExamination:
    """One launch, step by step; a step that fails ends it with Stopped."""

    door: FrontDoor
    browser: Browser
    since: int = 0

    @property
    def where(self) -> str:
        return "a frame" if self.browser.framed else "a window"

    def examine(self) -> Iterator[Finding]:
        trial_launch = TrialLaunch(
            consumer=self.door.consumer,
            role=Role.LEARNER,
            title=DOCTOR,
            return_url=f"{_LMS}/",
        )
        form = urlencode(trial_launch.sign(self.door.launch_url))
        newest = LtiLaunch.objects.order_by("-pk").values_list("pk", flat=True).first()
        self.since = newest or 0
        launched = self.browser.post(self.door.launch_url, form)
        yield from _examine_date(launched)
        if not self._is_enter(launched.location):
            raise Stopped(self._explain_failure(launched))
        yield from self._examine_launch_cookies(launched)
        yield from _examine_caching(launched)
        entered = self.browser.get(launched.location)
        content = self._get_content_url(launched, entered)
        yield from self._examine_session(entered)
        self._examine_reuse(launched)
        self._examine_replay(form)
        yield from self._examine_page(content)
        text = f"A launch in {self.where} arrives at {urlsplit(content).path}."
        yield fine("framed_launch" if self.browser.framed else "window_launch", text)

    def _is_enter(self, location: str) -> bool:
        before, _handle, after = reverse("lti_provider:enter", args=[_HANDLE]).partition(_HANDLE)
        base = urlsplit(self.door.base).path
        wanted = re.escape(base + before) + r"[\w-]+" + re.escape(after)
        return bool(re.fullmatch(wanted, urlsplit(location).path))

    def _examine_launch_cookies(self, launched: Answer) -> Iterator[Finding]:
        seen, asked = urlsplit(launched.location), urlsplit(self.door.launch_url)
        if (seen.scheme, seen.netloc) != (asked.scheme, asked.netloc):
            where = f"{seen.scheme}://{seen.netloc}"
            text = f"The answer to a launch leads away from the site, to {where}."
            raise Stopped(error("location_changed", text, "Let the proxy leave Location alone."))
        name = frames.MARKER_COOKIE if self.browser.framed else "lti_enter"
        cookie = launched.cookies.get(name)
        if cookie is None:
            text = f"The answer to a launch in {self.where} comes without the cookie {name}."
            hint = "Something in front of the site takes Set-Cookie away."
            raise Stopped(error("cookies_stripped", text, hint))
        yield from self._examine_attributes(launched)

    def _examine_attributes(self, answer: Answer) -> Iterator[Finding]:
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
        code = _find_refusal_code(entered)
        query = parse_qs(urlsplit(entered.location).query)
        if entered.location and not code and LAUNCH_PARAMETER in query:
            return entered.location
        address = urlsplit(launched.location).path
        if code == OtherBrowser.code or (self.browser.framed and entered.status == 200):
            if self.door.consumer.require_user_account and entered.status == 200:
                text = "The launch stops where a learner without an account is asked to sign in."
                raise Stopped(note("sign_in_asked", text))
            text = "The site does not get back the cookies that it set."
            hint = "Let the proxy pass on the Cookie header."
            raise Stopped(error("cookies_not_sent", text, hint))
        if code == LaunchUsed.code:
            text = f"{address} was opened before the browser came to it."
            hint = "Something in front of the site fetches addresses by itself, or answers twice."
            raise Stopped(error("used_before", text, hint))
        raise Stopped(self._explain_failure(entered))

    def _examine_session(self, entered: Answer) -> Iterator[Finding]:
        name = frames.get_session_cookie(framed=self.browser.framed)
        cookie = entered.cookies.get(name)
        if cookie is None:
            text = f"Signing in sets no cookie {name}."
            hint = "Something in front of the site takes Set-Cookie away."
            raise Stopped(error("cookies_stripped", text, hint))
        yield from self._examine_attributes(entered)
        if self.door.url.startswith("https:") and "secure" not in cookie.attributes:
            text = f"The cookie {name} is not Secure: it would travel over plain http too."
            yield warning("cookie_not_secure", text, "Set SESSION_COOKIE_SECURE = True.")

    def _examine_reuse(self, launched: Answer) -> None:
        again = self.browser.get(launched.location)
        if LAUNCH_PARAMETER in parse_qs(urlsplit(again.location).query):
            text = "The same answer comes twice: a cache in front of the site keeps it."
            raise Stopped(error("cached", text, _NO_CACHE))

    def _examine_replay(self, form: str) -> None:
        # A second browser, so that the cookies of the launch stay.
        other = Browser(framed=False, tls=self.door.tls, timeout=self.door.timeout)
        again = other.post(self.door.launch_url, form)
        if _find_refusal_code(again) != ReplayedLaunch.code:
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
        yield from _examine_caching(answer, ours=False)
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
        found = [_find_frame_ancestors(policy) for policy in policies]
        allowing = [sources for sources in found if sources is not None]
        if not allowing:
            text = "The launched page comes without frame-ancestors: everyone may frame it."
            hint = "Something in front of the site takes Content-Security-Policy away."
            yield error("frame_ancestors", text, hint)
        elif any(self.door.origin not in sources for sources in allowing):
            text = "The launched page's frame-ancestors do not name the LMS: it cannot frame it."
            hint = "Let the proxy add no Content-Security-Policy of its own with frame-ancestors."
            yield error("frame_ancestors", text, hint)

    def _explain_failure(self, answer: Answer) -> Finding:
        if code := _find_refusal_code(answer):
            return self._explain_refusal(code)
        return _explain_redirect(answer) if answer.location else _explain_status(answer)

    def _explain_refusal(self, code: str) -> Finding:
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
        if code == InvalidSignature.code:
            return _explain_signature(self.door, logged)
        return error("refused", f"The launch was refused: {code}.", logged.refusal_hint)

    def _find_refused(self, code: str) -> LtiLaunch | None:
        refused = LtiLaunch.objects.filter(
            lti_consumer=self.door.consumer, refusal_code=code, pk__gt=self.since
        )
        return refused.order_by("-pk").first()


_NO_CACHE = "Let it pass on everything under the launch URLs; their answers are marked no-store."


def _find_frame_ancestors(policy: str) -> list[str] | None:
    for directive in policy.split(";"):
        name, *sources = directive.split() or [""]
        if name.lower() == "frame-ancestors":
            return sources
    return None


def _examine_date(answer: Answer) -> Iterator[Finding]:
    try:
        date = parsedate_to_datetime(answer.headers.get("Date", ""))
    except ValueError:
        return
    yield from compare_clocks("site_clock", f"that of {answer.url}", date.timestamp())


def _examine_caching(answer: Answer, *, ours: bool = True) -> Iterator[Finding]:
    told = [
        f"{name}: {value}"
        for name in ("X-Cache", "X-Cache-Status", "CF-Cache-Status", "X-Proxy-Cache")
        if "HIT" in (value := answer.headers.get(name, "")).upper()
    ]
    if told:
        text = f"A cache answered in place of the site ({told[0]})."
        yield error("cached", text, _NO_CACHE)
    elif ours and "no-store" not in answer.headers.get("Cache-Control", ""):
        text = "The answer to a launch comes without Cache-Control: no-store."
        hint = "Let the proxy leave the site's headers alone: a cache could keep the answer."
        yield warning("headers_stripped", text, hint)


def _find_refusal_code(answer: Answer) -> str:
    """The code that our page shows, or that goes back to the LMS."""
    sent_back = parse_qs(urlsplit(answer.location).query).get("lti_errorlog", [""])[0]
    shown = [code for code in _CODE.findall(answer.text) if code in LaunchRefused.by_code()]
    return sent_back or (shown[-1] if shown else "")


def _explain_signature(door: FrontDoor, logged: LtiLaunch) -> Finding:
    asked, seen = urlsplit(door.launch_url), urlsplit(logged.launch_url)
    text = f"The site takes {door.launch_url} for {logged.launch_url}: every signature fails."
    if asked.hostname != seen.hostname or asked.port != seen.port:
        hint = "Let the proxy pass on the Host header as it came, or set USE_X_FORWARDED_HOST."
        if asked.scheme == seen.scheme:
            return error("proxy_host", text, hint)
        return error("proxy_host", text, f"{hint} {_build_scheme_hint()}")
    if asked.scheme != seen.scheme:
        return error("proxy_scheme", text, _build_scheme_hint())
    if asked.path != seen.path:
        hint = "Let the proxy pass on the path as it came, or set FORCE_SCRIPT_NAME."
        return error("proxy_path", text, hint)
    text = "The signature of a launch does not hold: something changes its form on the way."
    return error("body_changed", text, logged.refusal_hint)


def _build_scheme_hint() -> str:
    header = settings.SECURE_PROXY_SSL_HEADER
    if header is None:
        return (
            "SECURE_PROXY_SSL_HEADER is not set: set it to the header by which the proxy says "
            "https, such as ('HTTP_X_FORWARDED_PROTO', 'https'), and let the proxy overwrite that "
            "header in every request."
        )
    name = header[0].removeprefix("HTTP_").replace("_", "-").title()
    return (
        f"SECURE_PROXY_SSL_HEADER is {header!r}, but the proxy does not send "
        f"“{name}: {header[1]}”: correct the setting or the proxy."
    )


def _explain_redirect(answer: Answer) -> Finding:
    asked, led = urlsplit(answer.url), urlsplit(answer.location)
    text = f"A launch at {answer.url} is redirected to {answer.location}, which loses the form."
    if led == asked:
        text = f"{answer.url} redirects to itself: the site takes https requests for http ones."
        return error("proxy_scheme", text, _build_scheme_hint())
    if led.path == urlsplit(resolve_url(settings.LOGIN_URL)).path:
        text = f"{answer.url} asks to sign in before anything else."
        hint = (
            "Let the middleware or proxy that requires sign-in leave the launch URLs alone; they "
            "are marked login_not_required."
        )
        return error("sign_in_required", text, hint)
    if led.netloc == asked.netloc and led.path == asked.path:
        hint = f"Give the LMS the address {led.scheme}://{led.netloc}{led.path}."
        return error("redirect_scheme", text, hint)
    if led.path == f"{asked.path}/":
        return error("redirect_slash", text, "Give the LMS the address with the slash at its end.")
    if led.netloc != asked.netloc and led.path == asked.path:
        hint = f"Give the LMS the address of {led.netloc}, or let both names answer."
        return error("redirect_host", text, hint)
    return error("redirect", text, "Let nothing redirect the launch URLs.")


_STATUS = {
    400: (
        "host_refused",
        "Does ALLOWED_HOSTS name the host, and does the proxy pass on the Host header as it came?",
    ),
    401: ("sign_in_required", "Let the launch URLs pass without a password in front of the site."),
    403: ("forbidden", "Something in front of the launch view refuses: a firewall, a middleware."),
    404: ("not_found", "Include lti_provider.urls, and let the proxy pass on the path as it came."),
    405: ("forbidden", "Let POST requests through to the launch URLs."),
    413: ("forbidden", "Let the proxy take forms of 64 KiB."),
    200: ("not_launched", "Something else than the launch view answers this address."),
}


def _explain_status(answer: Answer) -> Finding:
    text = f"{urlsplit(answer.url).path} answers {answer.status}, with a page that is not ours."
    default = ("server_error", "Read the logs of the proxy and of the site.")
    name, hint = _STATUS.get(answer.status, default)
    return error(name, text, hint)

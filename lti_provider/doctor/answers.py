"""What an answer of the front door says: ours, a proxy's, a cache's, or somebody else's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.shortcuts import resolve_url

from lti_provider.doctor.browser import Answer
from lti_provider.doctor.deployment import compare_clocks
from lti_provider.doctor.finding import Finding, error, warning
from lti_provider.exceptions import LaunchRefused

NO_CACHE = "Let it pass on everything under the launch URLs; their answers are marked no-store."

_CODE = re.compile(r"<code>([a-z_]+)</code>")


def find_frame_ancestors(policy: str) -> list[str] | None:
    """The sources of a policy's frame-ancestors, None if it has none."""
    for directive in policy.split(";"):
        name, *sources = directive.split() or [""]
        if name.lower() == "frame-ancestors":
            return sources
    return None


def examine_date(answer: Answer) -> Iterator[Finding]:
    """Compare the clock of whoever answered to this machine's."""
    if (seconds := read_date(answer.headers)) is not None:
        yield from compare_clocks("site_clock", f"that of {answer.url}", seconds)


def read_date(headers: Message) -> float | None:
    """When an answer was made (RFC 9110 §6.6.1), in seconds since 1970; None if it does not say."""
    try:
        return parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return None


def examine_caching(answer: Answer, *, ours: bool = True) -> Iterator[Finding]:
    """Look for caches, and for what keeps ``our`` answers out of them."""
    told = [
        f"{name}: {value}"
        for name in ("X-Cache", "X-Cache-Status", "CF-Cache-Status", "X-Proxy-Cache")
        if "HIT" in (value := answer.headers.get(name, "")).upper()
    ]
    if told:
        text = f"A cache answered in place of the site ({told[0]})."
        yield error("cached", text, NO_CACHE)
    elif ours and "no-store" not in answer.headers.get("Cache-Control", ""):
        text = "The answer to a launch comes without Cache-Control: no-store."
        hint = "Let the proxy leave the site's headers alone: a cache could keep the answer."
        yield warning("headers_stripped", text, hint)


def find_refusal_code(answer: Answer) -> str:
    """The code that our page shows, or that goes back to the LMS."""
    sent_back = parse_qs(urlsplit(answer.location).query).get("lti_errorlog", [""])[0]
    shown = [code for code in _CODE.findall(answer.text) if code in LaunchRefused.by_code()]
    return sent_back or (shown[-1] if shown else "")


def explain_address(address: str, seen_as: str, consequence: str) -> Finding | None:
    """Why the site takes an address of its own for a different one; None if it does not."""
    asked, seen = urlsplit(address), urlsplit(seen_as)
    text = f"The site takes {address} for {seen_as}: {consequence}."
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
    return None


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


def explain_redirect(answer: Answer) -> Finding:
    """Why a redirect is not one of ours."""
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


def explain_status(answer: Answer) -> Finding:
    """Why a page is not one of ours."""
    text = f"{urlsplit(answer.url).path} answers {answer.status}, with a page that is not ours."
    default = ("server_error", "Read the logs of the proxy and of the site.")
    name, hint = _STATUS.get(answer.status, default)
    return error(name, text, hint)

"""Examines the site's front door: proxies, redirects, caches, cookies, and both key sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from lti_provider import frames
from lti_provider.doctor.browser import Browser
from lti_provider.doctor.finding import Finding, Stopped, error, warning
from lti_provider.doctor.front_door import FrontDoor
from lti_provider.doctor.key_sets import examine_lms_keys, examine_own_key_set
from lti_provider.doctor.launch import LaunchExamination
from lti_provider.doctor.lti11 import Lti11Examination
from lti_provider.doctor.lti13 import Lti13Examination
from lti_provider.egress import EgressError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def examine_door(door: FrontDoor, sessions: list[str]) -> Iterator[Finding]:
    """Launch in a frame and in a window, by each dialect that the consumer speaks.

    The keys of the sessions are added to ``sessions``.
    """
    parts = urlsplit(door.url)
    if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
        yield warning(
            "plain_http",
            f"{door.url} is not an https address: browsers keep no cookies in frames there.",
            "Serve the site over https.",
        )
    try:
        yield from _say_once(_examine_launches(door, sessions))
        yield from examine_own_key_set(door)
        yield from examine_lms_keys()
    except Stopped as stopped:
        yield stopped.finding
    except EgressError as problem:
        yield _explain_silence(door, problem)


def _examine_launches(door: FrontDoor, sessions: list[str]) -> Iterator[Finding]:
    for dialect in _choose_dialects(door):
        for framed in (True, False):
            browser = Browser(framed=framed, tls=door.tls, timeout=door.timeout)
            try:
                yield from dialect(door, browser).examine()
            finally:
                name = frames.get_session_cookie(framed=framed)
                sessions += [kept.value for kept in browser.jar.values() if kept.name == name]


def _choose_dialects(door: FrontDoor) -> Iterator[type[LaunchExamination]]:
    if door.consumer.speaks_lti11:
        yield Lti11Examination
    if door.platform is not None:
        yield Lti13Examination


def _say_once(findings: Iterable[Finding]) -> Iterator[Finding]:
    # Several launches go through one door.
    said = set()
    for finding in findings:
        if finding not in said:
            said.add(finding)
            yield finding


def _explain_silence(door: FrontDoor, problem: EgressError) -> Finding:
    if problem.code == "certificate":
        text = f"The certificate of {door.url} is not accepted: {problem.detail}."
        hint = "Renew it or send the whole chain; --ca-file names a private authority."
        return error("certificate", text, hint)
    text = f"{door.url} does not answer: {problem.detail}."
    return error("unreachable", text, "Is the address right, and the server running?")

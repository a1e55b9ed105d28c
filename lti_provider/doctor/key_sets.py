"""Examines the keys of both sides: this site's from outside, and those of LMSs from here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import urlsplit

from django.urls import reverse

from lti_provider.doctor.answers import explain_redirect, explain_status, read_date
from lti_provider.doctor.browser import Answer, Browser
from lti_provider.doctor.deployment import build_keys_missing, compare_clocks
from lti_provider.doctor.finding import Finding, error, fine, note
from lti_provider.doctor.front_door import FrontDoor
from lti_provider.egress import EgressError, HttpAnswer
from lti_provider.lti13.key_set import read_keys, request_key_set
from lti_provider.models import LtiKey, LtiRegistration
from lti_provider.models.public_keys import parse_key_set
from lti_provider.models.registration import describe_key_set_problem
from lti_provider.origins import get_host

_REGISTRATIONS_ASKED = 20


def examine_own_key_set(door: FrontDoor) -> Iterator[Finding]:
    """Fetch this site's key set as LMSs do, and compare it to the database."""
    browser = Browser(framed=False, tls=door.tls, timeout=door.timeout)
    answer = browser.get(door.base + reverse("lti_provider:jwks"))
    found = _read_kids(answer)
    if found is None:
        text = f"{answer.url} does not answer with a key set: LMSs believe nothing that is signed."
        cause = explain_redirect(answer) if answer.location else explain_status(answer)
        yield error("key_set", text, cause.hint)
        return
    known = set(LtiKey.objects.published().values_list("kid", flat=True))
    if found and found == known:
        yield fine("key_set", f"{answer.url} has the keys of this site.")
        return
    text = f"{answer.url} has {_list(found)}; this database has {_list(known)}."
    hint = (
        "Either a cache keeps the key set longer than its Cache-Control says, or the site at this "
        "address uses another database than this command."
    )
    yield error("key_set_differs", text, hint)


def _read_kids(answer: Answer) -> set[str] | None:
    if answer.status != 200:
        return None
    try:
        return {str(key["kid"]) for key in json.loads(answer.text)["keys"]}
    except (ValueError, TypeError, KeyError):
        return None


def _list(kids: set[str]) -> str:
    return ", ".join(sorted(kids)) or "no key"


def examine_lms_keys() -> Iterator[Finding]:
    """Ask the LMSs of active registrations for their keys, as launches do; nothing is kept."""
    active = LtiRegistration.objects.filter(is_active=True).exclude(jwks_uri="").order_by("pk")
    registrations = list(active[: _REGISTRATIONS_ASKED + 1])
    if len(registrations) > _REGISTRATIONS_ASKED:
        text = f"Only the first {_REGISTRATIONS_ASKED} LMSs are asked for their keys."
        yield note("many_registrations", text)
    for registration in registrations[:_REGISTRATIONS_ASKED]:
        yield from _examine_lms(registration)


def _examine_lms(registration: LtiRegistration) -> Iterator[Finding]:
    try:
        answer = request_key_set(registration)
        yield from _examine_lms_clock(registration, answer)
        keys = parse_key_set(read_keys(answer))
    except EgressError as failed:
        host = urlsplit(registration.jwks_uri).hostname or ""
        problem = describe_key_set_problem(failed.code, host)
        yield build_keys_missing(registration, "Asked now", problem)
        return
    if keys.problem:
        text = f"{registration}: none of its keys can be used: {keys.problem}"
        yield error("lms_keys", text, "Its launches are refused: tell the LMS's administrator.")
    else:
        yield fine("lms_keys", f"{registration}: its key set has {keys.names or 'one key'}.")


def _examine_lms_clock(registration: LtiRegistration, answer: HttpAnswer) -> Iterator[Finding]:
    seconds = read_date(answer.headers)
    if seconds is not None:
        leeway = registration.clock_leeway
        whose = f"that of {get_host(registration.jwks_uri)}"
        yield from compare_clocks("lms_clock", whose, seconds, tolerated=leeway)

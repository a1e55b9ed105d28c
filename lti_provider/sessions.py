"""Whose request it is: what a session remembers of its launches, and where it comes from."""

from __future__ import annotations

import re
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY, login
from django.http import HttpRequest

from lti_provider.conf import conf
from lti_provider.models import LtiLaunch
from lti_provider.serving import SIGN_IN_KEY

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

#: The parameter of a launched page's URL that names its launch among those of the session.
LAUNCH_PARAMETER = "lti_launch"

_KEY = "lti_provider"
_CONSUMER = "lti_provider_consumer"
_MADE_BY_LAUNCH = "lti_provider_made"
_PK = re.compile(r"[0-9]{1,18}")
_SIMULTANEOUS = timedelta(minutes=1)


def sign_in(
    request: HttpRequest, user: AbstractBaseUser, launch: LtiLaunch, *, framed: bool
) -> None:
    """Sign in ``user`` in a session that holds nothing of anybody else.

    ``login()`` keeps the data of an anonymous session, which anyone may have planted. The
    person's own session goes on, so that other tabs keep their launches, and without another
    ``login()``, so that their forms keep their CSRF tokens. In a frame it goes on only if it is
    of the same consumer's launches, which is who may frame it.
    """
    own = request.user.pk == user.pk
    if not own or (framed and request.session.get(_CONSUMER) != str(launch.lti_consumer_id)):
        request.session.flush()
        # login() would store a session that names nobody at once, and the response again. One that
        # names the person is stored with the response only.
        request.session[SESSION_KEY] = user._meta.pk.value_to_string(user)
        login(request, cast("Any", user))
        request.session[_MADE_BY_LAUNCH] = request.session[BACKEND_SESSION_KEY]
        request.session[SIGN_IN_KEY] = [launch.lti_consumer_id, launch.session_epoch]
    remember(request, launch)


def is_made_by_launch(request: HttpRequest) -> bool:
    """Whether a launch made the session of ``request.user``, so that nobody signed in here."""
    # If the same person signs in later, the session keeps what it holds and names that backend.
    backend = request.session.get(_MADE_BY_LAUNCH)
    return backend is not None and backend == request.session.get(BACKEND_SESSION_KEY)


def remember(request: HttpRequest, launch: LtiLaunch) -> None:
    """Add a launch to the session, the newest last; the oldest ones go."""
    remembered = [*_remembered(request), [launch.pk, unquote(urlsplit(launch.target).path)]]
    request.session[_KEY] = remembered[-conf.session_launches :]
    request.session[_CONSUMER] = str(launch.lti_consumer_id)


def may_be_framed_by(request: HttpRequest, consumer: str) -> bool:
    """Whether a response shows nobody's session, or one of the consumer's launches.

    A session that was not read is not read for this either: its response shows nothing of it.
    """
    session = getattr(request, "session", None)
    if session is None or not session.accessed or SESSION_KEY not in session:
        return True
    return bool(session.get(_CONSUMER) == consumer)


def url_of(launch: LtiLaunch) -> str:
    """The launch's page, with the parameter that names the launch."""
    parts = urlsplit(launch.target)
    named = f"{LAUNCH_PARAMETER}={launch.pk}"
    query = f"{parts.query}&{named}" if parts.query else named
    return urlunsplit(parts._replace(query=query))


def has_launches(request: HttpRequest) -> bool:
    """Whether a launch made this session."""
    return bool(_remembered(request))


def current_launch(request: HttpRequest) -> LtiLaunch | None:
    """The launch that a request belongs to, in one read.

    The one that the URL names; without a name the one with the longest launched path that contains
    this path; else the latest. A name that this session does not know is nobody's launch.
    """
    named = request.GET.get(LAUNCH_PARAMETER)
    pk = _current_pk(request) if named is None else _named_pk(request, named)
    if pk is None:
        return None
    launch = LtiLaunch.objects.with_all().filter(pk=pk).first()
    if launch is None or not _is_in_force(request, launch):
        return None
    if all(pk != known for known, _path in _remembered(request)):
        if not _is_simultaneous(request, launch):
            return None
        remember(request, launch)
    return launch


def _is_in_force(request: HttpRequest, launch: LtiLaunch) -> bool:
    # All of it came with the launch's one read.
    if launch.lti_user is None or launch.is_over:
        return False
    user = launch.lti_user.user
    signed_in = request.session.get(SESSION_KEY) == user._meta.pk.value_to_string(user)
    return signed_in and getattr(user, "is_active", True)


def _is_simultaneous(request: HttpRequest, launch: LtiLaunch) -> bool:
    # Frames of one page enter at once. Each gets a session, or writes to the one that all have,
    # and what was written last stays.
    remembered = [pk for pk, _path in _remembered(request)]
    if launch.entered_at is None or len(remembered) >= conf.session_launches:
        return False
    known = LtiLaunch.objects.filter(pk__in=remembered, lti_consumer=launch.lti_consumer_id)
    nearby = (launch.entered_at - _SIMULTANEOUS, launch.entered_at + _SIMULTANEOUS)
    return known.filter(entered_at__range=nearby).exists()


def _named_pk(request: HttpRequest, named: str) -> int | None:
    return int(named) if _PK.fullmatch(named) and has_launches(request) else None


def _current_pk(request: HttpRequest) -> int | None:
    remembered = _remembered(request)
    containing = [
        (len(path), order, pk)
        for order, (pk, path) in enumerate(remembered)
        if request.path == path or request.path.startswith(path.rstrip("/") + "/")
    ]
    if containing:
        return max(containing)[2]
    return remembered[-1][0] if remembered else None


def _remembered(request: HttpRequest) -> list[tuple[int, str]]:
    session = getattr(request, "session", None)
    return [(pk, path) for pk, path in session.get(_KEY, ())] if session is not None else []


def address_of(request: HttpRequest) -> str | None:
    """The client's address as the server saw it, for the history; None if it is no IP address."""
    try:
        return str(ip_address(request.META.get("REMOTE_ADDR", "")))
    except ValueError:
        return None

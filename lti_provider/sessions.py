"""Sessions that launches made: sign in, remember launches, find the launch of a request."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import astuple, dataclass, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self, TypeGuard, cast
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    login,
)
from django.db import models
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare

from lti_provider.conf import conf
from lti_provider.models import LtiLaunch, LtiUser
from lti_provider.models.user import is_staff
from lti_provider.origins import add_query, contains_path

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

#: The parameter of a launched page's URL that names its launch among those of the session.
LAUNCH_PARAMETER = "lti_launch"

_KEY = "lti_provider"
_CONSUMER = "lti_provider_consumer"
_SIGN_IN = "lti_provider_sign_in"
_PK = re.compile(r"[0-9]{1,18}")
# Django's own; ours is a date, other than what sites set for a sign-in.
_EXPIRY = "_session_expiry"
_SIMULTANEOUS = timedelta(minutes=1)

# Django asks a backend for the account of a session without saying of which session.
_request: ContextVar[HttpRequest | None] = ContextVar("lti_provider_request", default=None)


@contextmanager
def serve(request: HttpRequest) -> Iterator[None]:
    """Let ``find_session`` find the request's session meanwhile."""
    token = _request.set(request)
    try:
        yield
    finally:
        _request.reset(token)


def is_streamed(response: HttpResponseBase) -> TypeGuard[StreamingHttpResponse]:
    """Whether the site's code goes on while the response is sent."""
    # A file asks for no account, and servers have ways of their own to send it.
    return response.streaming and getattr(response, "file_to_stream", None) is None


def keep_serving(request: HttpRequest, response: StreamingHttpResponse) -> None:
    """Let ``find_session`` find the request's session while its response streams."""
    content: Any = response.streaming_content
    stream = _stream_async if response.is_async else _stream
    response.streaming_content = cast("Any", stream(request, content))


def _stream(request: HttpRequest, content: Iterable[bytes]) -> Iterator[bytes]:
    chunks = iter(content)
    while True:
        with serve(request):
            chunk = next(chunks, None)
        if chunk is None:
            return
        yield chunk


async def _stream_async(
    request: HttpRequest, content: AsyncIterable[bytes]
) -> AsyncIterator[bytes]:
    chunks = aiter(content)
    while True:
        with serve(request):
            chunk = await anext(chunks, None)
        if chunk is None:
            return
        yield chunk


def find_session(user_id: Any) -> Any:
    """The session of the request that is being served, if it signs in ``user_id``; else None."""
    session = getattr(_request.get(), "session", None)
    if session is None or SESSION_KEY not in session:
        return None
    pk: Any = get_user_model()._meta.pk
    return session if pk.to_python(session[SESSION_KEY]) == user_id else None


@dataclass(frozen=True)
class SignIn:
    """What a session that a launch made stands on: a person of a consumer, as of that launch.

    ``ends_at`` is in seconds since 1970; a later launch in the same session puts it off.
    """

    backend: str
    lti_user: int
    session_epoch: int
    ends_at: int = 0

    @classmethod
    def read(cls, session: Any) -> Self | None:
        """The sign-in of a session; None if its person signed in by other means, also since."""
        kept = session.get(_SIGN_IN)
        if not _has_shape(kept, (str, int, int, int)):
            return None
        # If the same person signs in later, the session keeps what it holds and names that backend.
        return cls(*kept) if kept[0] == session.get(BACKEND_SESSION_KEY) else None

    @property
    def is_over(self) -> bool:
        """Whether ``LTI_PROVIDER_SESSION_HOURS`` have passed since the last launch."""
        return time.time() >= self.ends_at

    def renew(self, session: Any) -> None:
        """Let a session stand on this for ``LTI_PROVIDER_SESSION_HOURS`` from now on."""
        hours = timedelta(hours=conf.session_hours)
        ends_at = int(time.time() + hours.total_seconds())
        session[_SIGN_IN] = list(astuple(replace(self, ends_at=ends_at)))
        # Most stores drop it then, with all that the site kept in it; signed cookies do not. Where
        # sessions end after a shorter time without activity, that stays so.
        session.set_expiry(hours if ends_at < time.time() + session.get_session_cookie_age() else 0)

    def filter(self, people: models.QuerySet[LtiUser]) -> models.QuerySet[LtiUser]:
        """The person, unless the connection or the consumer's sessions have ended since."""
        return people.filter(pk=self.lti_user, lti_consumer__session_epoch=self.session_epoch)


def sign_in(
    request: HttpRequest, user: AbstractBaseUser, launch: LtiLaunch, *, framed: bool
) -> None:
    """Sign in ``user`` in a session that holds nothing of anybody else.

    ``login()`` keeps the data of an anonymous session, which anyone may have planted. The
    person's own session goes on, so that other tabs keep their launches, and without another
    ``login()``, so that their forms keep their CSRF tokens. In a frame it goes on only if it is
    of the same consumer's launches, which is who may frame it.
    """
    # A second attempt still has the account of a session that has ended.
    own = SESSION_KEY in request.session and request.user.pk == user.pk
    if not own or (framed and request.session.get(_CONSUMER) != str(launch.lti_consumer_id)):
        request.session.flush()
        # login() would store a session that names nobody at once, and the response again. One that
        # names the person is stored with the response only.
        request.session[SESSION_KEY] = user._meta.pk.value_to_string(user)
        login(request, cast("Any", user))
        backend = request.session[BACKEND_SESSION_KEY]
        SignIn(backend, _get_lti_user_pk(launch), launch.session_epoch).renew(request.session)
    elif (made_by := SignIn.read(request.session)) is not None:
        made_by.renew(request.session)
    remember_launch(request, launch)


def on_user_logged_in(request: HttpRequest | None = None, **_signal: Any) -> None:
    """Give the session of a launch the site's own length once its person signs in here."""
    session: Any = getattr(request, "session", None)
    # login() keeps what a session of the same person holds.
    if session is None or _SIGN_IN not in session or SignIn.read(session) is not None:
        return
    del session[_SIGN_IN]
    if isinstance(session.get(_EXPIRY), str):
        session.set_expiry(None)


def end_with_browser(request: HttpRequest, response: HttpResponseBase) -> None:
    """Take the date off the cookie of a session that a launch made."""
    cookie = response.cookies.get(settings.SESSION_COOKIE_NAME)
    if cookie is not None and is_launch_session(request):
        cookie["max-age"] = cookie["expires"] = ""


def has_traces(session: Any) -> bool:
    """Whether a session holds anything of launches, readable or not."""
    return any(key in session for key in (_KEY, _CONSUMER, _SIGN_IN))


def _has_shape(kept: Any, types: tuple[type, ...]) -> bool:
    # Site code and other versions write to sessions too.
    return (
        isinstance(kept, list | tuple)
        and len(kept) == len(types)
        and all(map(isinstance, kept, types))
    )


def is_launch_session(request: HttpRequest) -> bool:
    """Whether a launch made the session of ``request.user``, so that nobody signed in here."""
    return SignIn.read(request.session) is not None


def is_persons_own(request: HttpRequest) -> bool:
    """Whether somebody signed in without a launch; False of a session that was not read."""
    session = getattr(request, "session", None)
    if session is None or not session.accessed or SESSION_KEY not in session:
        return False
    return SignIn.read(session) is None


def remember_launch(request: HttpRequest, launch: LtiLaunch) -> None:
    """Add a launch to the session, the newest last; the oldest ones go."""
    path = unquote(urlsplit(launch.target).path)
    remembered = [*_get_remembered(request), (launch.pk, path, _get_lti_user_pk(launch))]
    request.session[_KEY] = remembered[-conf.session_launches :]
    request.session[_CONSUMER] = str(launch.lti_consumer_id)


def _get_lti_user_pk(launch: LtiLaunch) -> int:
    # Whoever enters has one, or got one just now.
    return cast("LtiUser", launch.lti_user).pk


def may_be_framed_by(request: HttpRequest, response: HttpResponseBase, consumer: str) -> bool:
    """Whether a response shows nobody's session, or one of the consumer's launches.

    A session that was not read is not read for this either: its response shows nothing of it. What
    streams may still read it.
    """
    session = getattr(request, "session", None)
    if session is None or not (session.accessed or is_streamed(response)):
        return True
    if SESSION_KEY not in session:
        return True
    return bool(session.get(_CONSUMER) == consumer)


def get_page_url(launch: LtiLaunch) -> str:
    """The URL of the launched page, with the parameter that names the launch."""
    return add_query(launch.target, f"{LAUNCH_PARAMETER}={launch.pk}")


def has_launches(request: HttpRequest) -> bool:
    """Whether a launch made this session."""
    return bool(_get_remembered(request))


def find_current_launch(request: HttpRequest) -> LtiLaunch | None:
    """The launch that a request belongs to, in one read.

    The one that the URL names; without a name the one with the longest launched path that contains
    this path; else the latest. A name that this session does not know is nobody's launch.
    """
    named = request.GET.get(LAUNCH_PARAMETER)
    pk = _find_current_pk(request) if named is None else _parse_named_pk(request, named)
    if pk is None:
        return None
    launch = LtiLaunch.objects.with_all().filter(pk=pk).first()
    if launch is None or not _is_in_force(request, launch):
        return None
    if all(pk != known for known, _path, _person in _get_remembered(request)):
        if not _is_simultaneous(request, launch):
            return None
        remember_launch(request, launch)
    return launch


def _is_in_force(request: HttpRequest, launch: LtiLaunch) -> bool:
    made_by = SignIn.read(request.session)
    if made_by is not None and made_by.is_over:
        return False
    # All of it came with the launch's one read.
    person = launch.lti_user
    # A connection that was ended and made anew is a different one.
    if person is None or launch.is_over or person.pk not in _get_people(request):
        return False
    user = person.user
    signed_in = request.session.get(SESSION_KEY) == user._meta.pk.value_to_string(user)
    may_sign_in = launch.lti_consumer.allow_staff or not is_staff(user)
    may_go_on = may_sign_in and getattr(user, "is_active", True)
    return signed_in and may_go_on and _knows_password(request.session, user)


def _knows_password(session: Any, user: Any) -> bool:
    # As in django.contrib.auth.get_user(), which a page may not ask: a new password ends sessions.
    # Not every user model has passwords.
    kept, has_password = session.get(HASH_SESSION_KEY, ""), hasattr(user, "get_session_auth_hash")
    known = (
        (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
        if has_password
        else (kept,)
    )
    return any(constant_time_compare(kept, each) for each in known)


def _get_people(request: HttpRequest) -> set[int]:
    return {person for _pk, _path, person in _get_remembered(request)}


def _is_simultaneous(request: HttpRequest, launch: LtiLaunch) -> bool:
    # Frames of one page enter at once. Each gets a session, or writes to the one that all have,
    # and what was written last stays.
    remembered = [pk for pk, _path, _person in _get_remembered(request)]
    if launch.entered_at is None or len(remembered) >= conf.session_launches:
        return False
    known = LtiLaunch.objects.filter(pk__in=remembered, lti_consumer=launch.lti_consumer_id)
    nearby = (launch.entered_at - _SIMULTANEOUS, launch.entered_at + _SIMULTANEOUS)
    return known.filter(entered_at__range=nearby).exists()


def _parse_named_pk(request: HttpRequest, named: str) -> int | None:
    return int(named) if _PK.fullmatch(named) and has_launches(request) else None


def _find_current_pk(request: HttpRequest) -> int | None:
    remembered = _get_remembered(request)
    containing = [
        (len(path), order, pk)
        for order, (pk, path, _person) in enumerate(remembered)
        if contains_path(path, request.path)
    ]
    if containing:
        return max(containing)[2]
    return remembered[-1][0] if remembered else None


def _get_remembered(request: HttpRequest) -> list[tuple[int, str, int]]:
    # Launch, path and LtiUser.
    session = getattr(request, "session", None)
    kept = session.get(_KEY) if session is not None else None
    if not isinstance(kept, list | tuple):
        return []
    return [cast("Any", tuple(each)) for each in kept if _has_shape(each, (int, str, int))]


def get_client_address(request: HttpRequest) -> str | None:
    """The client's IP address as the server saw it, for the history; None if it has none."""
    try:
        return str(ip_address(request.META.get("REMOTE_ADDR", "")))
    except ValueError:
        return None

"""Frames: where a request is shown, which cookies its browser keeps there, who may frame it.

The marker cookie is the probe (does this browser keep our cookies in this frame?) and the switch
(every cookie of this frame's responses has to be partitioned). Only a framed jar has it. A browser
that ignores ``Partitioned`` has one jar for frames and windows. There a frame would replace the
session of a window, which is Lax and not even sent from it, so its own session's cookie has a name
of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from functools import cache, wraps
from http.cookies import Morsel
from typing import TYPE_CHECKING, Any, Self

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core import signing
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch

from lti_provider.models import LtiConsumer, LtiLaunch

if TYPE_CHECKING:
    StrMorsel = Morsel[str]
else:
    StrMorsel = Morsel

MARKER_COOKIE = "__Host-lti_frame"
# Only what a window shows brings it: it is Lax.
WINDOW_COOKIE = "__Host-lti_window"
# Those of ``binding``, which are Lax too.
BOUND_TOP_LEVEL = "lti_enter"
LOGIN_TOP_LEVEL = "lti_login_"
LOGIN_FRAMED = "lti_frame_login_"
#: How the names of all of them begin.
BINDING_COOKIES = (BOUND_TOP_LEVEL, LOGIN_TOP_LEVEL, LOGIN_FRAMED)
_SALT = "lti_provider.frames"
_READ = "_lti_frame_marker"
_FRAME = "_lti_frame"
# Seconds for which a marker speaks for its consumer.
_MARKER_LIFETIME = 300
_REFUSED = "_lti_refuses_framing"
_FRAMES = frozenset({"iframe", "frame", "embed", "object"})
_OWN_SITE = frozenset({"same-site", "same-origin"})


def may_be_framed(request: HttpRequest) -> bool:
    """Whether a navigation may be shown in a frame: browsers say so only to secure origins."""
    return _get_destination(request, "iframe") in _FRAMES


def may_be_top_level(request: HttpRequest) -> bool:
    """Whether a navigation may fill a window."""
    return _get_destination(request, "document") == "document"


def is_framed(request: HttpRequest) -> bool:
    """Whether a request is a navigation of a frame beyond doubt."""
    return _get_destination(request, "") in _FRAMES


def _get_destination(request: HttpRequest, unsaid: str) -> str:
    # ``request.headers`` would read all the others too.
    return str(request.META.get("HTTP_SEC_FETCH_DEST", unsaid))


@dataclass(frozen=True)
class FrameMarker:
    """The marker cookie: whose launch a frame shows, and which origins may frame its pages.

    To an LMS of our own site, such as ``lms.school.example`` and ``tool.school.example``, frame and
    tab are one: all cookies come to both, and so they have one session.
    """

    consumer: str
    said_origins: tuple[str, ...]
    is_own_site: bool
    origins: tuple[str, ...]
    issued_at: int = field(default_factory=lambda: int(time.time()), compare=False)

    @classmethod
    def from_launch(cls, launch: LtiLaunch, *, is_own_site: bool) -> Self:
        """The marker of a launch's frame."""
        consumer = str(launch.lti_consumer_id)
        return cls(consumer, launch.said_origins, is_own_site, launch.frame_origins)

    @classmethod
    def of_login(cls) -> Self:
        """The marker of a frame whose login set a cookie that came back, before any launch."""
        return cls("", (), False, ())

    @property
    def is_of_login(self) -> bool:
        """Whether nobody is known yet whose launch the frame shows."""
        return not self.consumer

    @classmethod
    def read(cls, request: HttpRequest) -> Self | None:
        """The marker that came with a request, if we signed it."""
        known = vars(request)
        if _READ not in known:
            known[_READ] = cls._unsign(request.COOKIES.get(MARKER_COOKIE, ""))
        marker: Self | None = known[_READ]
        return marker

    @classmethod
    def _unsign(cls, value: str) -> Self | None:
        if not value:
            return None
        try:
            consumer, said, is_own_site, issued_at, *origins = signing.loads(value, salt=_SALT)
        except (signing.BadSignature, TypeError, ValueError):
            return None
        return cls(consumer, tuple(said), is_own_site, tuple(origins), issued_at)

    @property
    def is_stale(self) -> bool:
        """Whether the consumer may have lost origins since."""
        return time.time() - self.issued_at > _MARKER_LIFETIME

    def renew(self) -> Self:
        """The marker with the origins that the consumer has now, in one read."""
        active = LtiConsumer.objects.filter(pk=self.consumer, is_active=True)
        consumer = active.only("frame_origins").first()
        origins = consumer.get_frame_origins(*self.said_origins) if consumer is not None else ()
        return type(self)(self.consumer, self.said_origins, self.is_own_site, origins)

    def set_cookie(self, request: HttpRequest, response: HttpResponseBase) -> None:
        """Set the marker's cookie, unless the browser has it already."""
        known = self.read(request)
        if self == known and not known.is_stale:
            return
        said = [self.consumer, self.said_origins, self.is_own_site]
        content = [*said, self.issued_at, *self.origins]
        value = signing.dumps(content, salt=_SALT, compress=True)
        response.set_cookie(MARKER_COOKIE, value, secure=True, httponly=True, samesite="None")
        partition_cookies(response, [MARKER_COOKIE])


def is_known(request: HttpRequest, consumer: LtiConsumer) -> bool:
    """Whether a launch's frame keeps our cookies: it brought this consumer's marker.

    If the LMS was of a different site then, which session is whose has to be found out anew.
    """
    marker = find_frame(request) if is_framed(request) else None
    if marker is None or marker.consumer != str(consumer.pk):
        return False
    return marker.is_own_site == _is_of_own_site(request)


def is_apart(request: HttpRequest) -> bool:
    """Whether a frame that keeps our cookies is of a different site, with a session of its own."""
    frame = find_frame(request) if is_framed(request) else None
    return frame is not None and not frame.is_own_site and not _is_of_own_site(request)


def _is_of_own_site(request: HttpRequest) -> bool:
    return request.META.get("HTTP_SEC_FETCH_SITE") in _OWN_SITE


def mark_frame(request: HttpRequest, response: HttpResponseBase, launch: LtiLaunch) -> None:
    """Set the launch's marker in this frame, and end the session of a different consumer there.

    Otherwise this consumer could frame the pages of that session.
    """
    before = FrameMarker.read(request)
    now = FrameMarker.from_launch(launch, is_own_site=_is_of_own_site(request))
    # In a frame of our own site it is the window's session too: then ``enter`` asks.
    if before and before.consumer != now.consumer and not before.is_own_site:
        # SessionMiddleware deletes the cookie of a session that is empty. If only the response
        # deleted it, SESSION_SAVE_EVERY_REQUEST would bring it back.
        request.session = type(request.session)()
    now.set_cookie(request, response)


def find_way_back(request: HttpRequest) -> str | None:
    """The LMS of a frame, which the frame still knows when its session has ended."""
    marker = FrameMarker.read(request)
    return marker.origins[0] if marker and marker.origins else None


def get_session_cookie(*, framed: bool) -> str:
    """The name of the session's cookie, in a window as the site set it."""
    name = str(settings.SESSION_COOKIE_NAME)
    # What a prefix, such as "__Host-", promises of the site's cookie holds for the frame's too.
    return f"{name}_lti_frame" if framed else name


def find_frame(request: HttpRequest) -> FrameMarker | None:
    """The marker of the frame that a request comes from; None if it comes from a window.

    Before a launch has set one, the cookie that its login set in this frame stands for it.

    A navigation says which of them it is. What a page's scripts and images ask for does not, nor do
    old browsers. That comes from a window if it brings a cookie that is not sent from a frame.
    """
    known = vars(request)
    if _FRAME not in known:
        known[_FRAME] = _find_frame(request)
    frame: FrameMarker | None = known[_FRAME]
    return frame


def _find_frame(request: HttpRequest) -> FrameMarker | None:
    marker = FrameMarker.read(request)
    if marker is not None:
        return marker if _comes_from_frame(request, marker) else None
    return FrameMarker.of_login() if _is_of_login(request) else None


def _is_of_login(request: HttpRequest) -> bool:
    # It says as much as a marker does: this frame's browser keeps our cookies.
    if not is_framed(request) or _is_of_own_site(request):
        return False
    return any(name.startswith(LOGIN_FRAMED) for name in request.COOKIES)


def _comes_from_frame(request: HttpRequest, marker: FrameMarker) -> bool:
    destination = _get_destination(request, "")
    if destination == "document":
        return False
    return marker.is_own_site or destination in _FRAMES or not _brings_cookie_of_window(request)


def _brings_cookie_of_window(request: HttpRequest) -> bool:
    names = [WINDOW_COOKIE, BOUND_TOP_LEVEL]
    names += [name for name in request.COOKIES if name.startswith(LOGIN_TOP_LEVEL)]
    if str(settings.SESSION_COOKIE_SAMESITE).lower() in ("lax", "strict"):
        names.append(get_session_cookie(framed=False))
    return any(map(request.COOKIES.get, names))


def accept_session_cookie(request: HttpRequest) -> None:
    """Give a frame its own session under the name that Django and the site know.

    The session's cookie of the other, window or frame, is not seen: neither in ``COOKIES`` nor in
    the header, by which caches tell pages apart.
    """
    own, framed = get_session_cookie(framed=False), get_session_cookie(framed=True)
    header = str(request.META.get("HTTP_COOKIE", ""))
    is_accepted = _FRAME in vars(request)  # It passes twice.
    signs = (MARKER_COOKIE, LOGIN_FRAMED, framed)
    if is_accepted or not any(name in header for name in signs):
        return
    frame = find_frame(request)
    if frame is None or frame.is_own_site:
        _take_cookie(request, framed)
    else:
        _take_cookie(request, own)
        _take_cookie(request, framed, own)


def _take_cookie(request: HttpRequest, name: str, known_as: str | None = None) -> None:
    value = request.COOKIES.pop(name, None)
    if value is None:
        return
    pairs = [
        (pair.partition("=")[0].strip(), pair) for pair in request.META["HTTP_COOKIE"].split(";")
    ]
    kept = [pair for named, pair in pairs if named != name]
    if known_as is not None:
        request.COOKIES[known_as] = value
        kept += [pair.replace(name, known_as, 1) for named, pair in pairs if named == name]
    request.META["HTTP_COOKIE"] = ";".join(kept)


def rename_session_cookie(response: HttpResponseBase) -> None:
    """Let a response set, or delete, the frame's session and not the window's."""
    own, framed = get_session_cookie(framed=False), get_session_cookie(framed=True)
    plain = response.cookies.pop(own, None)
    if plain is not None:
        response.cookies[framed] = plain.value
        response.cookies[framed].update(plain)


def remember_window(request: HttpRequest, response: HttpResponseBase) -> None:
    """Tell the requests of a window's page from those of a frame that shares its cookies."""
    marker = FrameMarker.read(request)
    if marker is None or marker.is_own_site or WINDOW_COOKIE in request.COOKIES:
        return
    if _get_destination(request, "") == "document":
        response.set_cookie(WINDOW_COOKIE, "1", secure=True, httponly=True, samesite="Lax")


def is_of_other_frame(request: HttpRequest, launch: LtiLaunch) -> bool:
    """Whether the only session here is a window's, by the marker of a different LMS of this site.

    So it is in browsers that keep one jar of cookies for windows and all frames.
    """
    frame = find_frame(request)
    if frame is None or not frame.is_own_site:
        return False
    return frame.consumer != str(launch.lti_consumer_id)


def keep_frame_marked(request: HttpRequest, response: HttpResponseBase, launch: LtiLaunch) -> None:
    """Set the marker of a launch that is entered.

    Our own pages lead here too, so what the launch's request said of the LMS's site stays.
    """
    known = FrameMarker.read(request)
    is_own_site = known is not None and known.is_own_site
    FrameMarker.from_launch(launch, is_own_site=is_own_site).set_cookie(request, response)


class PartitionedMorsel(StrMorsel):
    """A cookie with the attribute that Django and ``http.cookies`` cannot write (CHIPS)."""

    def OutputString(self, attrs: Container[str] | None = None) -> str:  # noqa: N802
        text = super().OutputString(attrs)
        return text if text.endswith("; Partitioned") else f"{text}; Partitioned"


def partition_cookies(response: HttpResponseBase, names: Iterable[str] | None = None) -> None:
    """Make cookies of ``response``, deletions too, belong to the frame they are set in.

    ``SameSite=None; Secure; Partitioned`` on the cookies named, or on all of them.
    """
    for name in list(response.cookies) if names is None else names:
        morsel = PartitionedMorsel()
        plain = response.cookies[name]
        morsel.set(name, plain.value, plain.coded_value)
        morsel.update(plain)
        morsel["samesite"] = "None"
        morsel["secure"] = True
        # SimpleCookie.__setitem__ would turn it back into a plain one.
        dict.__setitem__(response.cookies, name, morsel)


def forbid_framing(response: HttpResponseBase) -> None:
    """Let nobody frame a response, whatever the site allows."""
    response.headers["X-Frame-Options"] = "DENY"


def record_framing_refusals(request: HttpRequest) -> None:
    """Wrap the request's view, so that ``refuses_framing`` knows what the view itself said.

    In the finished response, a view's own refusal looks like what middleware adds to every page.
    """
    plain: Any = request.__class__
    request.__class__ = _get_recording_class(plain)


class _RecordingRequest(HttpRequest):
    @property
    def resolver_match(self) -> ResolverMatch | None:
        match: ResolverMatch | None = vars(self).get("resolver_match")
        return match

    # Between the innermost middleware and the view there is nothing else that a middleware can
    # reach: when Django calls ``process_view``, it has taken the view out of the match.
    @resolver_match.setter
    def resolver_match(self, match: ResolverMatch | None) -> None:
        vars(self)["resolver_match"] = match and _wrap_view(match)


def _wrap_view(match: ResolverMatch) -> ResolverMatch:
    match.func = _record_framing_refusals(match.func)
    return match


@cache
def _get_recording_class(request_class: type[HttpRequest]) -> type[HttpRequest]:
    if issubclass(request_class, _RecordingRequest):  # It passes twice.
        return request_class
    return type(request_class.__name__, (_RecordingRequest, request_class), {})


def _record_framing_refusals(view: Callable[..., Any]) -> Callable[..., Any]:

    @wraps(view)
    def sync_view(*args: Any, **kwargs: Any) -> Any:
        return _record_framing_refusal(view(*args, **kwargs))

    @wraps(view)
    async def async_view(*args: Any, **kwargs: Any) -> Any:
        return _record_framing_refusal(await view(*args, **kwargs))

    return async_view if iscoroutinefunction(view) else sync_view


def _record_framing_refusal(response: Any) -> Any:
    if isinstance(response, HttpResponseBase) and _lets_nobody_frame(response):
        setattr(response, _REFUSED, True)
    return response


def _lets_nobody_frame(response: HttpResponseBase) -> bool:
    if response.headers.get("X-Frame-Options", "").upper() == "DENY":
        return True
    # Django's csp_override leaves a policy that its middleware writes later.
    sources = (getattr(response, "_csp_config", None) or {}).get("frame-ancestors", ())
    header = response.headers.get("Content-Security-Policy", "")
    named = [word for policy in header.split(",") for word in _find_frame_ancestors(policy)]
    return "'none'" in sources or any(
        set(directive.lower().split()[1:]) <= {"'none'"} for directive in named
    )


def refuses_framing(response: HttpResponseBase) -> bool:
    """Whether the view that made a response lets nobody frame it."""
    return getattr(response, _REFUSED, False)


def allow_framing(response: HttpResponseBase, origins: Iterable[str]) -> None:
    """Let our own pages and ``origins`` frame a response, and nobody else.

    Only ``frame-ancestors`` of the finished Content-Security-Policy changes; other directives and
    policies stay. X-Frame-Options goes: it cannot name an origin.
    """
    ancestors = " ".join(("frame-ancestors", "'self'", *origins))
    header = response.headers.get("Content-Security-Policy", "")
    policies = [policy.strip() for policy in header.split(",") if policy.strip()]
    if not any(map(_find_frame_ancestors, policies)):
        policies.append(ancestors)
    edited = [_replace_frame_ancestors(policy, ancestors) for policy in policies]
    response.headers["Content-Security-Policy"] = ", ".join(edited)
    if response.has_header("X-Frame-Options"):
        del response.headers["X-Frame-Options"]


def _replace_frame_ancestors(policy: str, ancestors: str) -> str:
    named = _find_frame_ancestors(policy)
    return ";".join(
        directive.replace(directive.strip(), ancestors) if directive in named else directive
        for directive in policy.split(";")
    )


def _find_frame_ancestors(policy: str) -> list[str]:
    return [
        directive
        for directive in policy.split(";")
        if directive.split()[:1] and directive.split()[0].lower() == "frame-ancestors"
    ]

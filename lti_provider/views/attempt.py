"""Attempts to sign in: what a failed one leaves is taken back, and the database may fail once.

The second attempt is the last; then a page says that the site is not available.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar, cast

from django.contrib.sessions.backends.base import UpdateError
from django.db import (
    DatabaseError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from lti_provider.exceptions import SiteUnavailable
from lti_provider.pages import render_page
from lti_provider.signals import is_from_site
from lti_provider.views.decorated import DecoratedView
from lti_provider.views.refusal import refuse

logger = logging.getLogger("lti_provider")

#: What a browser or a proxy waits before it asks again.
RETRY_AFTER = 5
LONGEST_PAUSE = 0.1

_OUTAGES = (OperationalError, InterfaceError, InternalError, UpdateError)
# PostgreSQL: serialization_failure, deadlock_detected.
_SQLSTATES = frozenset({"40001", "40P01"})
# MariaDB and MySQL: record changed since last read, lock wait timeout, deadlock.
_NUMBERS = frozenset({1020, 1205, 1213})
# What PostgreSQL calls a ProgrammingError. MariaDB and MySQL: unknown column, no such table.
_NUMBERS_OF_MISTAKES = frozenset({1054, 1146})
_TEXTS_OF_MISTAKES = ("no such table", "no such column", "has no column named")

Method = TypeVar("Method", bound=Callable[..., HttpResponseBase | None])


def answer_outages(method: Method) -> Method:
    """Let a view's method begin again once where that may help, and answer 503 where it does not.

    What it did to the database has to be one transaction or worth nothing without the rest.
    """

    @wraps(method)
    def answer(
        view: DecoratedView, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase | None:
        attempt = partial(method, view, request, *args, **kwargs)
        before = _Before.from_request(request)
        try:
            return attempt()
        except (Error, UpdateError) as error:
            before.restore(request)
            if is_from_site(error) or not _may_pass(error):
                return _give_up(view, request, error)
        # Those that were in each other's way would be so again.
        time.sleep(random.uniform(0, LONGEST_PAUSE))  # noqa: S311
        try:
            return attempt()
        except (Error, UpdateError) as error:
            before.restore(request)
            return _give_up(view, request, error)

    return cast("Method", answer)


@contextmanager
def undo_if_it_fails(request: HttpRequest) -> Iterator[None]:
    """Sign nobody in if this raises after all: not every session is in the database."""
    before = _Before.from_request(request)
    try:
        yield
    except Exception:
        before.restore(request)
        raise


@dataclass(frozen=True)
class _Before:
    """What an attempt to sign in changes of a request, as it was before it."""

    known: dict[str, Callable[[], Any]]
    queued: tuple[Any, ...]

    @classmethod
    def from_request(cls, request: HttpRequest) -> _Before:
        """Remember it."""
        session, user = (vars(request).get(name) for name in ("session", "user"))
        known: dict[str, Callable[[], Any]] = {"user": lambda: user}
        if session is not None and session.modified:
            known["session"] = partial(_copy_session, _copy_session(session))
        elif session is not None:
            session_class: Any = type(session)
            known["session"] = partial(session_class, session.session_key)
        return cls(known, tuple(getattr(_get_messages(request), "_queued_messages", ())))

    def restore(self, request: HttpRequest) -> None:
        """Let the response set and store nothing of the attempt."""
        vars(request).update({name: make() for name, make in self.known.items()})
        if (messages := _get_messages(request)) is not None:
            messages._queued_messages = [*self.queued]
        # Signing in asks for a new cookie, and this answer sets none.
        request.META.pop("CSRF_COOKIE_NEEDS_UPDATE", None)


def _copy_session(session: Any) -> Any:
    # Not what a backend holds besides, such as its cache.
    copied = copy(session)
    copied._session_cache = deepcopy(session._session)
    return copied


def _get_messages(request: HttpRequest) -> Any:
    # Where django.contrib.messages keeps what the response will store.
    return vars(request).get("_messages")


def _may_pass(error: Exception) -> bool:
    """Whether a second attempt may succeed: a different process was faster, or in the way."""
    if isinstance(error, IntegrityError | UpdateError):
        # A row that an older snapshot does not show, or a session that has just ended.
        return True
    state = getattr(error.__cause__, "sqlstate", getattr(error.__cause__, "pgcode", None))
    return state in _SQLSTATES or _has_number(error, _NUMBERS) or "database is locked" in str(error)


def _is_outage(error: Exception) -> bool:
    """Whether the database failed, not a statement that the site sent it."""
    if _has_number(error, _NUMBERS_OF_MISTAKES):
        return False
    if any(text in str(error) for text in _TEXTS_OF_MISTAKES):
        return False
    # Drivers raise the plain class for what has no better one.
    return isinstance(error, _OUTAGES) or type(error) is DatabaseError


def _has_number(error: Exception, numbers: frozenset[int]) -> bool:
    return bool(error.args) and error.args[0] in numbers


def _give_up(view: DecoratedView, request: HttpRequest, error: Exception) -> HttpResponse:
    if is_from_site(error) or not _is_outage(error):
        raise error
    name = type(error).__name__
    logger.error(
        "database_failed error=%s",
        name,
        exc_info=True,
        extra={"event": "database_failed", "error": name},
    )
    refusal = view.add_known_details(SiteUnavailable())
    return refuse(request, refusal, partial(_render_page, request, refusal))


def _render_page(request: HttpRequest, refusal: SiteUnavailable) -> HttpResponse:
    again = request.get_full_path() if request.method == "GET" else None
    back = refusal.message.presentation.return_url if refusal.message is not None else None
    known = {"text": refusal.public_text, "code": refusal.code, "again": again, "back": back}
    response = render_page("unavailable", known, status=refusal.status)
    response.headers["Retry-After"] = str(RETRY_AFTER)
    return response

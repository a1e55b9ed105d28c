"""Answers for requests whose database fails: a second attempt, then a page that says so."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
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
from lti_provider.views.attempt import Before
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

Method = TypeVar("Method", bound=Callable[..., HttpResponseBase])


def answer_outages(method: Method) -> Method:
    """Let a view's method begin again once where that may help, and answer 503 where it does not.

    What it did to the database has to be one transaction or worth nothing without the rest.
    """

    @wraps(method)
    def answer(
        view: DecoratedView, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        attempt = partial(method, view, request, *args, **kwargs)
        before = Before.from_request(request)
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

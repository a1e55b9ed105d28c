"""The request that is being served, for a backend that Django asks without it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest

#: What a session knows of its sign-in: the consumer's primary key and ``session_epoch``.
SIGN_IN_KEY = "lti_provider_sign_in"

_served: ContextVar[HttpRequest | None] = ContextVar("lti_provider_request", default=None)


@contextmanager
def serve(request: HttpRequest) -> Iterator[None]:
    """Let ``session_that_signs_in`` find the request's session meanwhile."""
    token = _served.set(request)
    try:
        yield
    finally:
        _served.reset(token)


def session_that_signs_in(user_id: Any, pk: Any) -> Any:
    """The session that is being served, if ``user_id`` is whom it signs in; else None.

    ``pk`` is the user model's primary key field.
    """
    session = getattr(_served.get(), "session", None)
    if session is None or SESSION_KEY not in session:
        return None
    return session if pk.to_python(session[SESSION_KEY]) == user_id else None

"""What an attempt to sign in leaves on a request, and how it is taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.http import HttpRequest

from lti_provider.exceptions import LaunchRefused


@contextmanager
def undo_if_refused(request: HttpRequest) -> Iterator[None]:
    """Sign nobody in if the launch is refused after all: not every session is in the database."""
    before = Before.from_request(request)
    try:
        yield
    except LaunchRefused:
        before.restore(request)
        raise


@dataclass(frozen=True)
class Before:
    """What an attempt to sign in changes of a request, as it was before it."""

    known: dict[str, Callable[[], Any]]
    queued: tuple[Any, ...]

    @classmethod
    def from_request(cls, request: HttpRequest) -> Before:
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

"""DecoratedView: a class-based view whose decorators are applied once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from django.db import connections, transaction
from django.http.response import HttpResponseBase
from django.views import View

from lti_provider.exceptions import LaunchRefused

V = TypeVar("V", bound=Callable[..., Any])
R = TypeVar("R", bound=LaunchRefused)
Decorators = tuple[Callable[..., Any], ...]


def non_atomic_requests(view: V) -> V:
    """Keep ``ATOMIC_REQUESTS`` away, whichever database has it."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


class DecoratedView(View):
    """``as_view()`` applies ``decorators``, the first one outermost.

    ``method_decorator`` would apply them anew at every request, and a subclass with a ``dispatch``
    of its own would lose what they tell middleware.
    """

    decorators: ClassVar[Decorators] = ()

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponseBase]:
        """The view with its decorators."""
        view = super().as_view(**initkwargs)
        for decorate in reversed(cls.decorators):
            view = decorate(view)
        return view

    def add_known_details(self, refusal: R) -> R:
        """Add what is known of the launch to its refusal, for the answer and the log."""
        return refusal

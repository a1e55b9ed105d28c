"""DecoratedView: a class-based view whose decorators are applied once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.http.response import HttpResponseBase
from django.views import View

Decorators = tuple[Callable[..., Any], ...]


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

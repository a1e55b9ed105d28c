"""Lists of a million rows: pages without counting them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    AnyPaginator = Paginator[Any]
else:
    AnyPaginator = Paginator


class BoundedPaginator(AnyPaginator):
    """Counts up to ``limit`` rows and shows no more: filters and search find the rest."""

    limit = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, or ``limit``."""
        rows: Any = self.object_list
        counted: int = rows[: self.limit].count()
        return counted

    @property
    def is_full(self) -> bool:
        """Whether there may be more than are counted."""
        return self.count >= self.limit

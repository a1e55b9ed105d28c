"""The database that writes go to: reads from it, and transactions that tell how they ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import models, router, transaction

from lti_provider.signals import mark_as_from_site

M_co = TypeVar("M_co", bound=models.Model, covariant=True)


class PrimaryQuerySet(models.QuerySet[M_co]):
    """Reads where a router of the site's sends writes.

    A launch is entered moments after it was posted, and a grade is leased by whoever writes first:
    a replica that lags would know neither. As ``base_manager_name`` it also serves relations and
    ``refresh_from_db()``.
    """

    @property
    def db(self) -> str:
        """The database of this query, whether it reads or writes."""
        query: Any = self
        return query._db or router.db_for_write(self.model, **query._hints)


@contextmanager
def commit(using: str) -> Iterator[None]:
    """``transaction.atomic()`` that marks what a site's ``on_commit()`` callbacks raise."""
    committed: list[bool] = []
    try:
        with transaction.atomic(using=using):
            # The first of the callbacks.
            transaction.on_commit(lambda: committed.append(True), using=using)
            yield
    except Exception as error:
        if committed:
            mark_as_from_site(error)
        raise

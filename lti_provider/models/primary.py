"""Reads from the database that writes go to."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db import models, router

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

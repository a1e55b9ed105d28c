"""Exact comparison of identifiers on every database, and relations by it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

DIGEST_LENGTH = 64

if TYPE_CHECKING:
    AnyForeignObject = ForeignObject[Any, Any]
    AnyDescriptor = ForwardManyToOneDescriptor[Any]
else:
    AnyForeignObject, AnyDescriptor = ForeignObject, ForwardManyToOneDescriptor


def digest(*identifiers: str) -> str:
    """SHA-256 in lower-case hex of identifiers that hold no NUL.

    MariaDB's usual collations ignore case and trailing blanks; digests are compared instead.
    """
    return hashlib.sha256("\0".join(identifiers).encode()).hexdigest()


class _PerhapsMissing(AnyDescriptor):
    def get_object(self, instance: models.Model) -> Any:
        try:
            return super().get_object(instance)
        except ObjectDoesNotExist:
            return None

    def __set__(self, instance: models.Model, value: models.Model | None) -> None:
        # Django would set the columns that join to None, and other relations own them too.
        if value is None:
            self.field.set_cached_value(instance, None)
        else:
            super().__set__(instance, value)


class DigestJoin(AnyForeignObject):
    """A relation to a row that may not be there, or not any more: None then, never an error.

    It has no column of its own: assigning None leaves the row's columns as they are, and nothing
    of it is in what ``dumpdata`` writes.
    """

    forward_related_accessor_class = _PerhapsMissing

    def __init__(self, to: Any, on_delete: Any = models.DO_NOTHING, **kwargs: Any) -> None:
        # Blank: that there is no row is not an error.
        fixed = {"null": True, "blank": True, "editable": False, "serialize": False}
        super().__init__(to, on_delete, **{**kwargs, **fixed})

"""DigestJoin: a relation by digests, without a foreign key's column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ObjectDoesNotExist
from django.db import models
from django.db.models.fields.related import ForeignObject
from django.db.models.fields.related_descriptors import ForwardManyToOneDescriptor

if TYPE_CHECKING:
    AnyForeignObject = ForeignObject[Any, Any]
    AnyDescriptor = ForwardManyToOneDescriptor[Any]
else:
    AnyForeignObject, AnyDescriptor = ForeignObject, ForwardManyToOneDescriptor


class _PerhapsMissing(AnyDescriptor):
    def get_object(self, instance: models.Model) -> Any:
        try:
            return super().get_object(instance)
        except ObjectDoesNotExist:
            return None


class DigestJoin(AnyForeignObject):
    """A relation to a row that may not be there, or not any more: None then, never an error.

    It has no column of its own, so nothing of it is in what ``dumpdata`` writes.
    """

    forward_related_accessor_class = _PerhapsMissing

    def __init__(self, to: Any, on_delete: Any = models.DO_NOTHING, **kwargs: Any) -> None:
        # Blank: where there is no row, validation would set the columns that join to None.
        fixed = {"null": True, "blank": True, "editable": False, "serialize": False}
        super().__init__(to, on_delete, **{**kwargs, **fixed})

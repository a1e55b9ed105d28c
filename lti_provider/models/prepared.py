"""Statements about one row that are compiled once.

Building and compiling a statement costs Django several times what a database needs to run it, and
those of a launch differ from each other in their values only.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from django.db import connections, models, router, transaction
from django.db.models import signals

#: Databases that tell an INSERT's key in the words of the SQL that all of them understand.
_RETURNING = frozenset({"mysql", "postgresql", "sqlite"})

M = TypeVar("M", bound=models.Model)


def first(
    queryset: models.QuerySet[M], field: str, value: str | int, related: tuple[str, ...] = ()
) -> M | None:
    """``queryset.select_related(*related).filter(**{field: value}).first()`` of a unique field.

    ``related`` names each relation, owners before what they own. Only a queryset without
    conditions of its own is prepared.
    """
    if queryset.query.where or queryset.query.is_sliced:
        return queryset.select_related(*related).filter(**{field: value}).first()
    return cast("M | None", _prepare(queryset.model, field, related, queryset.db).first(value))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The columns of a row that make one instance, and where that instance belongs."""

    path: str
    owner: str
    relation: Any
    model: type[models.Model]
    names: list[str]
    columns: slice
    pk: int


@dataclass(frozen=True, kw_only=True)
class _PreparedRead:
    using: str
    sql: str
    parts: list[_Part]
    converted: list[tuple[int, Any]]

    def first(self, value: str | int) -> models.Model | None:
        connection = connections[self.using]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, (value,))
            row = cursor.fetchone()
        if row is None:
            return None
        values = list(row)
        for index, column in self.converted:
            for convert in _converters(column, connection):
                values[index] = convert(values[index], column, connection)
        return self._build(values)

    def _build(self, values: list[Any]) -> models.Model | None:
        instances: dict[str, models.Model | None] = {}
        for part in self.parts:
            instance = None
            if values[part.pk] is not None:
                instance = part.model.from_db(self.using, part.names, values[part.columns])
            if part.path and (owner := instances[part.owner]) is not None:
                part.relation.set_cached_value(owner, instance)
            instances[part.path] = instance
        return instances[""]


@cache
def _prepare(
    model: type[models.Model], field: str, related: tuple[str, ...], using: str
) -> _PreparedRead:
    parts: dict[str, _Part] = {}
    lookups: list[str] = []
    for path in ("", *related):
        part = _part(model, path, parts, len(lookups))
        parts[path] = part
        prefix = f"{path}__" if path else ""
        lookups += [f"{prefix}{name}" for name in part.names]
    # The value only stands for others; it is one for columns of text and of numbers.
    rows = model._base_manager.using(using).filter(**{field: "0"}).order_by().values_list(*lookups)
    compiler = rows.query.get_compiler(using)
    sql, (_value,) = compiler.as_sql()
    columns = [column for column, _sql, _alias in compiler.select]
    return _PreparedRead(
        using=using,
        sql=sql,
        parts=list(parts.values()),
        converted=[
            (index, column)
            for index, column in enumerate(columns)
            if _converters(column, connections[using])
        ],
    )


def _part(model: type[models.Model], path: str, parts: dict[str, _Part], start: int) -> _Part:
    owner, _separator, name = path.rpartition("__")
    relation: Any = parts[owner].model._meta.get_field(name) if path else None
    part_model = relation.related_model if path else model
    meta = part_model._meta
    return _Part(
        path=path,
        owner=owner,
        relation=relation,
        model=part_model,
        names=[f.attname for f in meta.concrete_fields],
        columns=slice(start, start + len(meta.concrete_fields)),
        pk=start + meta.concrete_fields.index(meta.pk),
    )


def _converters(column: Any, connection: Any) -> list[Any]:
    return [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]


def savepoint(using: str) -> AbstractContextManager[None]:
    """What one statement needs that may fail without harm to a transaction around it."""
    # A single statement is a transaction of its own, unless it is part of one already.
    alone = connections[using].get_autocommit()
    return nullcontext() if alone else transaction.atomic(using=using)


def insert(instance: models.Model, using: str) -> None:
    """``instance.save(force_insert=True, using=using)``, where the database makes the key."""
    model, connection = type(instance), connections[using]
    features = connection.features
    if connection.vendor not in _RETURNING or not features.can_return_columns_from_insert:
        instance.save(force_insert=True, using=using)
        return
    told: dict[str, Any] = {"raw": False, "using": using, "update_fields": None}
    signals.pre_save.send(model, instance=instance, **told)
    fields, statement = _prepare_insert(model, using)
    values = [
        field.get_db_prep_save(field.pre_save(instance, True), connection) for field in fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        ((instance.pk,),) = cursor.fetchall()
    instance._state.adding, instance._state.db = False, using
    signals.post_save.send(model, instance=instance, created=True, **told)


@cache
def _prepare_insert(model: type[models.Model], using: str) -> tuple[list[Any], str]:
    meta, quote = model._meta, connections[using].ops.quote_name
    fields: list[Any] = [field for field in meta.local_concrete_fields if field is not meta.pk]
    columns = ", ".join(quote(field.column) for field in fields)
    marks = ", ".join("%s" for _field in fields)
    key = quote(cast("Any", meta.pk).column)
    return (
        fields,
        f"INSERT INTO {quote(meta.db_table)} ({columns}) VALUES ({marks}) RETURNING {key}",  # noqa: S608
    )


def fill(instance: models.Model, name: str, value: object, emptied: tuple[str, ...] = ()) -> bool:
    """Write ``value`` to a field that is NULL in the database; False if it no longer is.

    Fields ``emptied`` become NULL with it.
    """
    meta: Any = instance._meta
    field, key = meta.get_field(name), meta.pk
    connection = connections[router.db_for_write(type(instance), instance=instance)]
    quote = connection.ops.quote_name
    column = quote(field.column)
    nulls = "".join(f", {quote(meta.get_field(other).column)} = NULL" for other in emptied)
    values = (
        field.get_db_prep_save(value, connection),
        key.get_db_prep_save(instance.pk, connection),
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {quote(meta.db_table)} SET {column} = %s{nulls} "  # noqa: S608
            f"WHERE {quote(key.column)} = %s AND {column} IS NULL",
            values,
        )
        filled = bool(cursor.rowcount == 1)
    if filled:
        for changed, content in ((name, value), *((other, None) for other in emptied)):
            setattr(instance, changed, content)
    return filled

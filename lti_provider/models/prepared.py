"""One row and its related rows, by a statement that Django compiles once.

Building and compiling a query with ``select_related`` costs Django several times what a database
needs to run it. With plain querysets in place of the two reads of a launch, by key and by handle, a
returning person's launch takes 3.3 instead of 1.9 times what a signed sign-in takes at least on
SQLite, 2.5 instead of 1.8 times on PostgreSQL (``benchmarks/launch.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast

from django.db import connections, models

M = TypeVar("M", bound=models.Model)


def find_one(
    queryset: models.QuerySet[M], field: str, value: str, related: tuple[str, ...]
) -> M | None:
    """``queryset.select_related(*related).filter(**{field: value}).first()`` of a unique field.

    ``related`` names each relation, owners before what they own. Only a queryset without
    conditions of its own is prepared.
    """
    if queryset.query.where or queryset.query.is_sliced:
        return queryset.select_related(*related).filter(**{field: value}).first()
    statement = _compile(queryset.model, field, related, queryset.db)
    with connections[queryset.db].cursor() as cursor:
        cursor.execute(statement.sql, (value,))
        row = cursor.fetchone()
    return None if row is None else cast("M", statement.build(list(row), queryset.db))


@dataclass(frozen=True, kw_only=True)
class _Statement:
    """Its tables are the paths of relations and their models, in the order of its columns."""

    sql: str
    tables: tuple[tuple[str, type[models.Model]], ...]
    converted: list[tuple[int, Any]]

    def build(self, values: list[Any], using: str) -> models.Model | None:
        connection = connections[using]
        for index, column in self.converted:
            for convert in _list_converters(column, connection):
                values[index] = convert(values[index], column, connection)
        found: dict[str, models.Model | None] = {}
        start = 0
        for path, model in self.tables:
            names = _list_columns(model)
            columns = values[start : start + len(names)]
            start += len(names)
            exists = columns[names.index(cast("Any", model._meta.pk).attname)] is not None
            found[path] = model.from_db(using, names, columns) if exists else None
            owner, _separator, name = path.rpartition("__")
            if path and (instance := found[owner]) is not None:
                relation: Any = instance._meta.get_field(name)
                relation.set_cached_value(instance, found[path])
        return found[""]


@cache
def _compile(
    model: type[models.Model], field: str, related: tuple[str, ...], using: str
) -> _Statement:
    tables = {"": model}
    for path in related:
        owner, _separator, name = path.rpartition("__")
        tables[path] = cast("Any", tables[owner]._meta.get_field(name)).related_model
    lookups = [
        f"{path}__{name}".removeprefix("__")
        for path, table in tables.items()
        for name in _list_columns(table)
    ]
    # The value only stands for others.
    rows = model._base_manager.using(using).filter(**{field: "0"}).order_by().values_list(*lookups)
    compiler = rows.query.get_compiler(using)
    sql, _values = compiler.as_sql()
    columns = enumerate(column for column, _sql, _alias in compiler.select)
    converted = [
        (index, column) for index, column in columns if _list_converters(column, connections[using])
    ]
    return _Statement(sql=sql, tables=tuple(tables.items()), converted=converted)


def _list_columns(model: type[models.Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]


def _list_converters(column: Any, connection: Any) -> list[Any]:
    return [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]

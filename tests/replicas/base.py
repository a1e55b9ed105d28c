"""A replica that has the site's own rows at once and those of this app too late.

It reads over the primary's connection, so that it sees what a test's transaction holds. Whatever
would write fails, as on a real replica, and so does whatever reads a table of this app: what a
launch needs was written a moment ago, and a replica that lags does not have it.
"""

from typing import Any

from django.db import NotSupportedError, connections
from django.db.utils import load_backend

from tests.settings import DATABASES

_Primary: Any = load_backend(DATABASES["default"]["ENGINE"]).DatabaseWrapper


def check(sql: str) -> None:
    if not sql.lstrip(" (").upper().startswith("SELECT") or "FOR UPDATE" in sql:
        raise NotSupportedError(f"This would write to a replica: {sql}")
    if "lti_provider_" in sql:
        raise NotSupportedError(f"A replica may not have this yet: {sql}")


class ReplicaCursor:
    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cursor, name)

    def __iter__(self) -> Any:
        return iter(self.cursor)

    def __enter__(self) -> "ReplicaCursor":
        return self

    def __exit__(self, *_error: Any) -> None:
        self.cursor.close()

    def execute(self, sql: str, params: Any = None) -> Any:
        check(sql)
        return self.cursor.execute(sql, params)

    def executemany(self, sql: str, params: Any) -> Any:
        check(sql)
        return self.cursor.executemany(sql, params)


class DatabaseWrapper(_Primary):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.autocommit = True

    def ensure_connection(self) -> None:
        connections["primary"].ensure_connection()

    def _cursor(self, name: str | None = None) -> Any:
        return ReplicaCursor(connections["primary"]._cursor(name))

    def set_autocommit(self, autocommit: bool, *_args: Any, **_kwargs: Any) -> None:
        # Around a test there is a transaction in each database.
        self.autocommit = autocommit

    def check_constraints(self, table_names: Any = None) -> None:
        pass

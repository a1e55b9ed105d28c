"""The router of Django's docs ("Multiple databases") for a primary and its replicas."""

from typing import Any


class PrimaryReplicaRouter:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "primary"

    def allow_relation(self, obj1: Any, obj2: Any, **hints: Any) -> bool | None:
        db_set = {"primary", "replica"}
        return True if {obj1._state.db, obj2._state.db} <= db_set else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return True

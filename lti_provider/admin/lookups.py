"""Which lookups the URL of a changelist may have."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

# What Django's own filters put behind the name of a field.
_LOOKUPS = ("exact", "id__exact", "isnull", "isempty", "gte", "lt")


class FilteredAdmin:
    """Allows the lookups that a changelist's filters make, and no others.

    Django allows every field: whoever may view a changelist could guess a field that no page
    shows, letter by letter.
    """

    def lookup_allowed(self: Any, lookup: str, value: str, request: HttpRequest) -> bool:
        return any(lookup in _get_lookups(spec) for spec in self.get_list_filter(request))


def _get_lookups(spec: Any) -> set[str]:
    if name := getattr(spec, "parameter_name", None):
        return {name}
    field = spec if isinstance(spec, str) else spec[0]
    return {f"{field}__{lookup}" for lookup in _LOOKUPS}

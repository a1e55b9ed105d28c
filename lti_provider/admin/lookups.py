"""What the address of a list may ask for."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

# What Django's own filters put behind the name of a field.
_ASKED = ("exact", "id__exact", "isnull", "isempty", "gte", "lt")


class FilteredAdmin:
    """Lets a list's address ask for what the list's filters ask for, and nothing else.

    Django lets it ask for every field: whoever may look at a list could guess a field that no page
    shows, letter by letter.
    """

    def lookup_allowed(self: Any, lookup: str, value: str, request: HttpRequest) -> bool:
        """Whether one of ``list_filter`` makes this lookup."""
        return any(lookup in _lookups_of(spec) for spec in self.get_list_filter(request))


def _lookups_of(spec: Any) -> set[str]:
    if name := getattr(spec, "parameter_name", None):
        return {name}
    field = spec if isinstance(spec, str) else spec[0]
    return {f"{field}__{asked}" for asked in _ASKED}

"""A transaction whose errors tell whether it was committed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from lti_provider.signals import mark_as_from_site


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

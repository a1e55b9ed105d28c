"""Encrypt all stored secrets with the first of LTI_PROVIDER_ENCRYPTION_KEYS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.db import models
from django.views.decorators.debug import sensitive_variables

from lti_provider.conf import conf
from lti_provider.models import LtiConsumer, LtiKey
from lti_provider.models.secret import SecretField, decrypt_all, encrypt

_FIELDS: dict[type[models.Model], tuple[str, ...]] = {
    LtiConsumer: ("consumer_secret", "previous_secret"),
    LtiKey: ("private_key",),
}


class Command(BaseCommand):
    """Run it after a key was added in front, and before an old one is removed."""

    help = (
        "Encrypts every stored secret with the first of LTI_PROVIDER_ENCRYPTION_KEYS, plain ones "
        "too. Exit status 1 if there are secrets that none of the keys decrypts; they are kept."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not conf.encryption_keys:
            raise CommandError("LTI_PROVIDER_ENCRYPTION_KEYS is not set.")
        done, lost = 0, []
        for row, field in _list_secrets():
            outcome = _reencrypt(row, field)
            done += outcome is True
            if outcome is None:
                lost.append(f"{row} (number {row.pk}, {field})")
        self.stdout.write(f"Encrypted {done} secrets.")
        if lost:
            raise CommandError(f"No key decrypts the secrets of: {', '.join(lost)}.")


def _list_secrets() -> Iterator[tuple[models.Model, str]]:
    for model, fields in _FIELDS.items():
        for row in model._base_manager.order_by("pk").iterator():
            yield from ((row, field) for field in fields)


@sensitive_variables()
def _reencrypt(row: models.Model, field: str) -> bool | None:
    stored: str = cast("SecretField", row._meta.get_field(field)).value_from_object(row)
    (text,) = decrypt_all(stored)
    if not text:
        return None if text is None else False
    # Only what was read is replaced: a rotation meanwhile wins.
    same = type(row)._base_manager.filter(pk=row.pk, **{field: stored})
    return bool(same.update(**{field: encrypt(text)}))

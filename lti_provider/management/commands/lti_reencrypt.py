"""Encrypt all stored secrets with the first of LTI_PROVIDER_ENCRYPTION_KEYS."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.views.decorators.debug import sensitive_variables

from lti_provider.conf import conf
from lti_provider.models import LtiConsumer
from lti_provider.models.secret import decrypt_all, encrypt

_FIELDS = ("consumer_secret", "previous_secret")


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
        for consumer in LtiConsumer.objects.order_by("pk").iterator():
            for field, stored in zip(_FIELDS, consumer.stored_secrets, strict=True):
                outcome = _reencrypt(consumer.pk, field, stored)
                done += outcome is True
                if outcome is None:
                    lost.append(f"{consumer} (number {consumer.pk}, {field})")
        self.stdout.write(f"Encrypted {done} secrets.")
        if lost:
            raise CommandError(f"No key decrypts the secrets of: {', '.join(lost)}.")


@sensitive_variables()
def _reencrypt(pk: int, field: str, stored: str) -> bool | None:
    (text,) = decrypt_all(stored)
    if not text:
        return None if text is None else False
    # Only what was read is replaced: a rotation meanwhile wins.
    same = LtiConsumer.objects.filter(pk=pk, **{field: stored})
    return bool(same.update(**{field: encrypt(text)}))

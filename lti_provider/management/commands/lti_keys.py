"""This site's own keys: list, rotate, retire, and the public half to copy."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.utils import timezone

from lti_provider.lti13 import keys
from lti_provider.management.consumer import NOT_FOUND
from lti_provider.models import LtiKey
from lti_provider.models.key import PUBLISHED_AFTER

Row = dict[str, Any]

_LISTED = ("number", "kid", "state", "signs_from", "published_until")


class Command(BaseCommand):
    """Exit status: 0 done, 1 refused, 2 wrong use, 3 there is no such key."""

    help = (
        "Lists, rotates and retires the keys that this site signs with, and writes the public one. "
        "KEY is a kid or a number. Private keys are never written. Exit status: 0 done, 1 refused, "
        "2 wrong use, 3 no such key."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)

        def add_action(name: str, text: str) -> ArgumentParser:
            added: ArgumentParser = actions.add_parser(name, help=text)
            added.add_argument("--format", choices=("text", "json"), default="text")
            return added

        add_action("list", "list keys: number, kid, state, signs from, published until")
        add_action("rotate", "publish a new key now, which signs a day later")
        retire = add_action("retire", "take a key out of the key set now, such as one that leaked")
        retire.add_argument("key", help="the key's kid or number")
        pem = add_action("pem", "write a public key for an LMS that takes no key set URL")
        pem.add_argument("key", nargs="?", help="its kid or number; by default the one that signs")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _list(self, **options: Any) -> None:
        rows = _describe_keys()
        if options["format"] == "json":
            self._write_json(rows)
        for row in rows if options["format"] == "text" else ():
            self.stdout.write("\t".join(_format_value(row[name]) for name in _LISTED))

    def _rotate(self, **options: Any) -> None:
        self._write_key(keys.rotate_key(), **options)

    def _retire(self, *, key: str, **options: Any) -> None:
        found = _find_key(key)
        if found.retired_at is not None:
            raise CommandError(f"{found} was retired at {found.retired_at:%Y-%m-%d %H:%M %Z}.")
        successor = keys.retire_key(found)
        self._write_key(found, **options)
        if successor is not None and options["format"] == "text":
            self.stdout.write(f"{successor} signs from {_format_value(successor.signs_from)}.")

    def _pem(self, *, key: str | None, **options: Any) -> None:
        found = keys.get_signing_key() if key is None else _find_key(key)
        pem, jwk = keys.get_public_pem(found), keys.get_public_jwk(found)
        if options["format"] == "json":
            self._write_json({"kid": found.kid, "pem": pem, "public_jwk": jwk})
        else:
            self.stdout.write(pem)

    def _write_key(self, key: LtiKey, **options: Any) -> None:
        (row,) = (row for row in _describe_keys() if row["kid"] == key.kid)
        if options["format"] == "json":
            self._write_json(row)
            return
        for name in _LISTED:
            self.stdout.write(f"{name}: {_format_value(row[name])}")

    def _write_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))


def _describe_keys() -> list[Row]:
    signing = LtiKey.objects.signing().first()
    published = {key.pk for key in LtiKey.objects.published()}
    return [
        {
            "number": key.number,
            "kid": key.kid,
            "state": _describe_state(key, signing, key.pk in published),
            "published_from": key.published_from,
            "signs_from": key.signs_from,
            "published_until": _get_end(key),
            "public_jwk": keys.get_public_jwk(key),
        }
        for key in LtiKey.objects.with_superseded_at().order_by("number")
    ]


def _describe_state(key: LtiKey, signing: LtiKey | None, is_published: bool) -> str:
    if key.retired_at is not None:
        return "retired"
    if not is_published:
        return "expired"
    if not key.is_readable:
        return "unreadable"
    if key == signing:
        return "signs"
    return "waits" if key.signs_from > timezone.now() else "published"


def _get_end(key: LtiKey) -> datetime | None:
    if key.retired_at is not None or key.superseded_at is None:
        return key.retired_at
    return key.superseded_at + PUBLISHED_AFTER


def _find_key(text: str) -> LtiKey:
    by_number = {str(key.number): key for key in LtiKey.objects.all()}
    by_kid = {key.kid: key for key in by_number.values()}
    found = by_kid.get(text) or by_number.get(text)
    if found is None:
        raise CommandError(
            f"There is no key with the kid or number “{text}”. "
            "Type one that “manage.py lti_keys list” shows.",
            returncode=NOT_FOUND,
        )
    return found


def _format_value(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else "" if value is None else str(value)

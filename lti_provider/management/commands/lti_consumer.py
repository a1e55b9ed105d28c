"""LTI consumers for scripts: add, register, list, show, rotate, deactivate, import and more."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import IO, Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, router, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.debug import sensitive_variables

from lti_provider.exceptions import SecretUnreadable
from lti_provider.management.consumer import find_consumer
from lti_provider.models import LtiConsumer, LtiDeployment, LtiInstallation, LtiRegistration
from lti_provider.models.credentials import NOT_SPOKEN
from lti_provider.models.secret import decrypt
from lti_provider.registering import RegisterForm

Row = dict[str, Any]

_SECRETS = ("consumer_secret", "previous_secret", "previous_secret_until")
_STAMPS = ("created_at", "secret_used_at", "previous_secret_used_at", "previous_secret_until")
_INSTALLATIONS = "installations"
_REGISTRATIONS = "registrations"
_DEPLOYMENTS = "deployments"
# Of a registration, what export and import carry.
_REGISTERED = (
    *("issuer", "client_id", "authorization_endpoint", "token_endpoint", "token_audience"),
    *("jwks_uri", "jwks", "new_deployments", "service_networks", "clock_leeway", "is_active"),
)
# What people write for a switch; the rest is Django's to refuse.
_SWITCHES = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_LISTED = ("number", "consumer_name", "consumer_key", "is_active", "secret_used_at")


def get_portable_fields() -> list[str]:
    """Names of the fields that export and import carry, secrets aside."""
    names = [
        field.name
        for field in LtiConsumer._meta.concrete_fields
        if field.editable and not field.primary_key and field.name not in _SECRETS
    ]
    return sorted(names, key=lambda name: name != "consumer_name")


class Command(BaseCommand):
    """Exit status: 0 done, 1 refused, 2 wrong use, 3 there is no such consumer."""

    help = (
        "Adds, registers, lists, shows, rotates, deactivates, activates, imports and exports LTI "
        "consumers. "
        "CONSUMER is a key, a number or a name. Secrets are written with --secrets only, and read "
        "from standard input only. Exit status: 0 done, 1 refused, 2 wrong use, 3 no such consumer."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)

        def add_action(
            name: str, text: str, *, consumer: bool = True, secrets: bool = False
        ) -> ArgumentParser:
            added: ArgumentParser = actions.add_parser(name, help=text)
            added.add_argument("--format", choices=("text", "json"), default="text")
            if consumer:
                added.add_argument("consumer", help="the LTI consumer's key, number or name")
            if secrets:
                added.add_argument("--secrets", action="store_true", help="write secrets too")
            return added

        text = "add a consumer; its secret is generated"
        add = add_action("add", text, consumer=False, secrets=True)
        add.add_argument("name")
        _add_secret_input(add)
        add.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="FIELD=VALUE",
            help=f"a further field: {', '.join(get_portable_fields())}",
        )
        text = (
            "enter what the LMS shows of LTI 1.3; the product of the consumer tells its addresses"
        )
        registered = add_action("register", text)
        for name, field in RegisterForm.base_fields.items():
            option, about = f"--{name.replace('_', '-')}", _describe_field(field)
            if name == "joins":
                registered.add_argument(option, action="store_true", help=about)
            else:
                registered.add_argument(option, default="", metavar="TEXT", help=about)
        listed = add_action("list", "list consumers", consumer=False)
        listed.add_argument("--active", action="store_true", help="active ones only")
        add_action("show", "show one consumer", secrets=True)
        text = "take a new secret, accept the old one for a while"
        rotate = add_action("rotate", text, secrets=True)
        _add_secret_input(rotate)
        overlap = rotate.add_mutually_exclusive_group()
        overlap.add_argument("--hours", type=float, default=7 * 24, help="overlap, default 168")
        overlap.add_argument("--until", type=_parse_moment, help="end of the overlap, in ISO 8601")
        rotate.add_argument(
            "--force", action="store_true", help="even if that ends an overlap that is going on"
        )
        add_action("deactivate", "refuse launches, end sessions")
        add_action("activate", "admit launches again")
        exported = actions.add_parser("export", help="write all consumers as JSON")
        exported.add_argument("--secrets", action="store_true", help="write secrets too")
        imported = actions.add_parser("import", help="add what export wrote, all or none")
        imported.add_argument("file", nargs="?", default="-", help="a file; by default - for stdin")
        imported.add_argument("--update", action="store_true", help="change those whose key exists")
        imported.add_argument("--dry-run", action="store_true", help="only say what would be done")

    @sensitive_variables()
    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _add(self, *, name: str, **options: Any) -> None:
        row: Row = {"consumer_name": name}
        known = get_portable_fields()
        for pair in options["set"]:
            field, equals, value = pair.partition("=")
            if not equals:
                raise CommandError(f"--set {pair}: write FIELD=VALUE.")
            row[field] = value
        consumer = LtiConsumer()
        if options["secret_stdin"]:
            row["consumer_secret"] = _read_secret()
            known.append("consumer_secret")
        if errors := _set_fields(consumer, row, known):
            raise CommandError("\n".join(errors))
        consumer.save(force_insert=True)
        self._write_consumer(consumer, **options)

    def _register(self, *, consumer: str, **options: Any) -> None:
        found = find_consumer(consumer)
        form = RegisterForm(found)
        if unasked := [each for each in options if options[each] and _is_unasked(each, form)]:
            raise CommandError(
                f"{', '.join(unasked)}: this is not asked for product “{found.product}” of {found}."
            )
        given = {form.add_prefix(name): options[name] for name in form.fields}
        form = RegisterForm(found, given)
        if not form.is_valid():
            raise CommandError("\n".join(_list_form_errors(form)))
        form.save(None)
        self._write_consumer(found, **options)

    def _list(self, *, active: bool, **options: Any) -> None:
        consumers = LtiConsumer.objects.order_by("pk")
        if active:
            consumers = consumers.filter(is_active=True)
        rows = [_describe_consumer(consumer) for consumer in consumers]
        if options["format"] == "json":
            self._write_json(rows)
        for row in rows if options["format"] == "text" else ():
            self.stdout.write("\t".join(_format_value(row[name]) for name in _LISTED))

    def _show(self, *, consumer: str, **options: Any) -> None:
        self._write_consumer(find_consumer(consumer), **options)

    @sensitive_variables()
    def _rotate(self, *, consumer: str, **options: Any) -> None:
        found = find_consumer(consumer)
        if not found.speaks_lti11:
            raise CommandError(f"{found}: {NOT_SPOKEN} Enter both in the admin first.")
        if found.accepts_previous_secret and not options["force"]:
            raise CommandError(
                f"The previous secret of {found} is accepted until "
                f"{found.previous_secret_until:%Y-%m-%d %H:%M %Z} and would end at once: "
                "say --force if no LMS needs it any more."
            )
        secret = _read_secret() if options["secret_stdin"] else ""
        until = options["until"] or timezone.now() + timedelta(hours=options["hours"])
        found.rotate_secret(until, secret)
        self._write_consumer(found, **options)

    def _deactivate(self, *, consumer: str, **options: Any) -> None:
        found = find_consumer(consumer)
        found.set_active(False)
        self._write_consumer(found, **options)

    def _activate(self, *, consumer: str, **options: Any) -> None:
        found = find_consumer(consumer)
        found.set_active(True)
        self._write_consumer(found, **options)

    def _export(self, *, secrets: bool, **options: Any) -> None:
        self._write_json(
            [_export_consumer(each, secrets) for each in LtiConsumer.objects.order_by("pk")]
        )

    def _import(self, *, file: str, update: bool, dry_run: bool, **options: Any) -> None:
        rows = _read_file(file)
        errors: list[str] = []
        done: list[str] = []
        alias = router.db_for_write(LtiConsumer)
        with transaction.atomic(using=alias):
            for number, row in enumerate(rows, start=1):
                verb, found = _import_consumer(row, update)
                errors += [f"Entry {number}: {error}" for error in found]
                done.append(f"{'Would have ' if dry_run else ''}{verb} {row.get('consumer_name')}")
            if errors or dry_run:
                transaction.set_rollback(True, using=alias)
        if errors:
            raise CommandError("\n".join([*errors, "Nothing was imported."]))
        self.stdout.write("\n".join([*done, f"{len(done)} in all."]))

    def _write_consumer(
        self, consumer: LtiConsumer, *, secrets: bool = False, **options: Any
    ) -> None:
        row = _describe_consumer(consumer)
        if secrets:
            row |= _read_secrets(consumer)
        if options["format"] == "json":
            self._write_json(row)
            return
        row[_INSTALLATIONS] = ", ".join(map(str, consumer.installations.all()))
        row[_REGISTRATIONS] = "; ".join(map(_summarize_registration, row[_REGISTRATIONS]))
        for name, value in row.items():
            self.stdout.write(f"{name}: {_format_value(value)}")
        if not consumer.speaks_lti11 and not row[_REGISTRATIONS]:
            self.stdout.write(str(NOT_SPOKEN))

    def _write_json(self, value: Any) -> None:
        self.stdout.write(json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2))


def _add_secret_input(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--secret-stdin",
        action="store_true",
        help="read the secret that the LMS has made from standard input, to the letter",
    )


def _parse_moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError(text)
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


@sensitive_variables()
def _read_secret() -> str:
    # One line end is the terminal's or the script's; everything else is the secret's own.
    secret = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not secret:
        raise CommandError("There is no secret on standard input.")
    try:
        LtiConsumer._meta.get_field("consumer_secret").run_validators(secret)
    except ValidationError as error:
        raise CommandError("\n".join(error.messages)) from None
    return secret


def _describe_consumer(consumer: LtiConsumer) -> Row:
    names = (*get_portable_fields(), *_STAMPS)
    fields = {name: getattr(consumer, name) for name in names}
    installations = [
        {
            "guid": each.guid,
            "first_seen_at": each.first_seen_at,
            "last_seen_at": each.last_seen_at,
            "accepted_by": each.accepted_by and each.accepted_by.get_username(),
        }
        for each in consumer.installations.select_related("accepted_by")
    ]
    registrations = [
        {"number": each.pk, **_export_registration(each, consumer)}
        for each in LtiRegistration.objects.of_consumer(consumer)
    ]
    return {
        "number": consumer.pk,
        **fields,
        _INSTALLATIONS: installations,
        _REGISTRATIONS: registrations,
    }


def _export_registration(registration: LtiRegistration, consumer: LtiConsumer) -> Row:
    deployments = registration.deployments.filter(lti_consumer=consumer).order_by("pk")
    names = ("deployment_id", "instance_guid", "is_active", "first_seen_at", "last_seen_at")
    return {
        **{name: getattr(registration, name) for name in _REGISTERED},
        # Whether new deployments are to be this consumer's.
        "is_own": registration.lti_consumer_id == consumer.pk,
        _DEPLOYMENTS: [{name: getattr(each, name) for name in names} for each in deployments],
    }


def _summarize_registration(row: Row) -> str:
    ids = ", ".join(each["deployment_id"] for each in row[_DEPLOYMENTS])
    return f"{row['issuer']} ({row['client_id']}), deployments: {ids or 'none'}"


def _describe_field(field: Any) -> str:
    return str(field.label or "").replace("%", "%%")


def _is_unasked(name: str, form: RegisterForm) -> bool:
    return name in RegisterForm.base_fields and name not in form.fields


def _list_form_errors(form: RegisterForm) -> list[str]:
    return [
        f"--{name.replace('_', '-')}: {message}" if name in form.fields else str(message)
        for name, messages in form.errors.items()
        for message in messages
    ]


def _export_consumer(consumer: LtiConsumer, secrets: bool) -> Row:
    row = {name: getattr(consumer, name) for name in get_portable_fields()}
    row[_INSTALLATIONS] = [each.guid for each in consumer.installations.all()]
    row[_REGISTRATIONS] = [
        _export_registration(each, consumer)
        for each in LtiRegistration.objects.of_consumer(consumer)
    ]
    return row | _read_secrets(consumer) if secrets else row


@sensitive_variables()
def _read_secrets(consumer: LtiConsumer) -> Row:
    try:
        present, previous = (decrypt(stored) for stored in consumer.stored_secrets)
    except SecretUnreadable as error:
        raise CommandError(f"{consumer}: {error.hint}") from None
    until = consumer.previous_secret_until
    return dict(zip(_SECRETS, (present, previous, until), strict=True))


def _format_value(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else "" if value is None else str(value)


def _read_file(name: str) -> list[Row]:
    if name == "-":
        return _read_rows(sys.stdin)
    try:
        # Some editors begin files with a byte order mark.
        with open(name, encoding="utf-8-sig") as file:
            return _read_rows(file)
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}") from None


def _read_rows(file: IO[str]) -> list[Row]:
    try:
        rows = json.load(file)
    except ValueError as error:
        raise CommandError(f"This is not JSON: {error}") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CommandError("This is not a list of consumers, as export writes it.")
    return rows


@sensitive_variables()
def _import_consumer(row: Row, update: bool) -> tuple[str, list[str]]:
    known = _find_known(row)
    if known is not None and not update:
        named = f"the key {known.consumer_key}" if known.speaks_lti11 else "this name and no key"
        return "", [f"there is a consumer with {named}; say --update to change it."]
    consumer = known or LtiConsumer()
    # Blank keys and secrets are generated, or stay as they are; null is no key.
    given = {
        name: value
        for name, value in row.items()
        if not (
            (name == "consumer_key" and value == "") or (name in _SECRETS and value in ("", None))
        )
    }
    registrations = given.pop(_REGISTRATIONS, [])
    guids, errors = _read_installations(given)
    errors += _set_fields(consumer, given)
    if not errors:
        consumer.save()
        _set_installations(consumer, guids)
        errors += _import_registrations(consumer, registrations)
    return "added" if known is None else "changed", errors


def _find_known(row: Row) -> LtiConsumer | None:
    key = row.get("consumer_key", "")
    if key is None:
        # Where there is no key, the name has to do.
        name = row.get("consumer_name")
        found = LtiConsumer.objects.filter(consumer_key=None).order_by("pk")
        return next((each for each in found if each.consumer_name == name), None)
    return LtiConsumer.objects.with_key(key) if isinstance(key, str) else None


def _read_installations(row: Row) -> tuple[list[str] | None, list[str]]:
    """Take the guids out of a row, None if it names none; return them and the errors."""
    first, given = row.get("instance_guid"), row.pop(_INSTALLATIONS, None)
    if given is None:
        return (None if first is None else [first] if first else []), []
    field = LtiInstallation._meta.get_field("guid")
    if not isinstance(given, list) or not all(isinstance(guid, str) for guid in given):
        return None, [f"{_INSTALLATIONS}: this is not a list of guids."]
    try:
        for guid in given:
            field.run_validators(guid)
    except ValidationError as error:
        return None, [f"{_INSTALLATIONS}: {message}" for message in error.messages]
    return ([first, *given] if first else given), []


def _import_registrations(consumer: LtiConsumer, rows: Any) -> list[str]:
    """Add registrations and deployments that are not known yet; return the errors."""
    errors: list[str] = []
    try:
        for row in rows:
            _import_registration(consumer, row)
    except (AttributeError, KeyError, TypeError, ValueError):
        errors.append(f"{_REGISTRATIONS}: this is not what export writes.")
    except ValidationError as error:
        errors += [f"{_REGISTRATIONS}: {message}" for message in error.messages]
    return errors


def _import_registration(consumer: LtiConsumer, row: Row) -> None:
    # That related rows exist is not asked: a replica may not have them yet.
    known = LtiRegistration.objects.with_client(str(row["issuer"]), str(row["client_id"]))
    registration = known or LtiRegistration(
        **{name: row[name] for name in _REGISTERED if name in row},
        lti_consumer=consumer if row.get("is_own") else None,
    )
    if known is None:
        registration.full_clean(exclude={"issuer_digest", "registration_digest", "lti_consumer"})
        registration.save()
    for said in row.get(_DEPLOYMENTS, ()):
        deployment_id = str(said["deployment_id"])
        found = LtiDeployment.objects.with_id(registration.pk, deployment_id)
        if found is not None and found.lti_consumer_id == consumer.pk:
            continue
        deployment = LtiDeployment(
            registration=registration,
            deployment_id=deployment_id,
            lti_consumer=consumer,
            instance_guid=said.get("instance_guid", ""),
            is_active=said.get("is_active", True),
        )
        deployment.full_clean(exclude={"deployment_digest", "registration", "lti_consumer"})
        deployment.save()


def _set_installations(consumer: LtiConsumer, guids: list[str] | None) -> None:
    if guids is None:
        return
    for guid in guids:
        consumer.accept_installation(guid)
    for installation in consumer.installations.all():
        if installation.guid not in guids:
            installation.delete()


@sensitive_variables()
def _set_fields(consumer: LtiConsumer, row: Row, known: Iterable[str] | None = None) -> list[str]:
    """Set fields from texts or JSON values; return the errors."""
    names = [*get_portable_fields(), *_SECRETS] if known is None else [*known]
    errors = [
        f"there is no field {name}; known are {', '.join(names)}."
        for name in row
        if name not in names
    ]
    for name in names:
        try:
            if name in row:
                setattr(consumer, name, _parse_value(consumer, name, row[name]))
        except ValidationError as error:
            errors += [f"{name}: {message}" for message in error.messages]
    if not consumer.consumer_key and "consumer_secret" not in row:
        consumer.consumer_secret = ""
    return errors or _find_errors(consumer, row)


def _find_errors(consumer: LtiConsumer, row: Row) -> list[str]:
    # What is stored already is no input, and may be encrypted with a key that was lost.
    kept = {"consumer_secret", "previous_secret"} - row.keys()
    try:
        consumer.full_clean(exclude={"consumer_key_digest", *kept})
    except ValidationError as error:
        found = error.message_dict.items()
        return [f"{name}: {message}" for name, messages in found for message in messages]
    return []


def _parse_value(consumer: LtiConsumer, name: str, value: Any) -> Any:
    field: Any = LtiConsumer._meta.get_field(name)
    if value in ("", None) and field.null:
        return None
    if isinstance(field, models.CharField | models.TextField) and not isinstance(value, str):
        raise ValidationError("this is not text.")
    if isinstance(field, models.BooleanField):
        value = _SWITCHES.get(str(value).strip().lower(), value)
    return field.clean(value, consumer) if name in _SECRETS else field.to_python(value)

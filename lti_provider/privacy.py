"""Everything that is stored about one person, to hand out or to erase."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models, router, transaction
from django.db.models.functions import Coalesce, Now

from lti_provider.models.connection import LtiConnectionEvent
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.digest import digest
from lti_provider.models.installation import LtiInstallation
from lti_provider.models.launch import LtiLaunch, LtiLaunchQuerySet
from lti_provider.models.result import LtiResult, anonymized_digest
from lti_provider.models.user import LtiUser, is_made_by_launch

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who somebody is in one LMS; ``lti_user_id`` is blank for a guest."""

    consumer: LtiConsumer
    lti_user_id: str
    lti_user_digest: str

    @classmethod
    def from_lti_user(cls, lti_user: LtiUser) -> Self:
        return cls(
            consumer=lti_user.lti_consumer,
            lti_user_id=lti_user.lti_user_id,
            lti_user_digest=lti_user.lti_user_digest,
        )


@dataclass(frozen=True, kw_only=True)
class DataSubject:
    """A person, as an account of this site or as somebody of one LMS.

    An account's former identities are not among ``identities``: a connection that was undone may
    have been somebody else's. Nor is a connected account the ``account`` of who is asked for by an
    LMS's id: it is the site's own and may have other LMSs. ``made_accounts`` are those that
    launches made and the site gave neither password nor rights, also from before the person
    connected a different one.
    """

    identities: tuple[Identity, ...]
    lti_users: tuple[LtiUser, ...]
    account: AbstractBaseUser | None
    made_accounts: tuple[AbstractBaseUser, ...]
    _find_again: Callable[[], DataSubject] = field(repr=False, compare=False)

    @classmethod
    def from_account(cls, account: AbstractBaseUser) -> Self:
        """The person behind an account, in all LMSs that it is used from."""
        found = LtiUser.objects.filter(user=cast("Any", account)).order_by("pk")
        lti_users = tuple(found.select_related("lti_consumer", "user"))
        identities = tuple(Identity.from_lti_user(each) for each in lti_users)
        return cls(
            identities=identities,
            lti_users=lti_users,
            account=account,
            made_accounts=_find_made_accounts(identities, account),
            _find_again=partial(cls.from_account, account),
        )

    @classmethod
    def from_lti_user(cls, lti_user: LtiUser) -> Self:
        """The person of one LMS, with the account if launches made it."""
        return cls._from_identity(Identity.from_lti_user(lti_user))

    @classmethod
    def from_lms(cls, consumer: LtiConsumer, lti_user_id: str) -> Self:
        """The person whom an LMS knows by ``lti_user_id``, also if only the log has heard of it."""
        return cls._from_identity(
            Identity(
                consumer=consumer, lti_user_id=lti_user_id, lti_user_digest=digest(lti_user_id)
            )
        )

    @classmethod
    def _from_identity(cls, identity: Identity) -> Self:
        known = LtiUser.objects.select_related("lti_consumer", "user").filter(
            lti_consumer=identity.consumer, lti_user_digest=identity.lti_user_digest
        )
        lti_users = tuple(known)
        account = next((each.user for each in lti_users if not each.is_connected), None)
        return cls(
            identities=(identity,),
            lti_users=lti_users,
            account=account,
            made_accounts=_find_made_accounts((identity,), account),
            _find_again=partial(cls._from_identity, identity),
        )

    def export(self) -> dict[str, Rows]:
        """Everything stored, by kind, as Django's JSON encoder takes it."""
        return {source.name: source.export(self) for source in SOURCES}

    def erase(self, *, keep_account: bool = False) -> dict[str, int]:
        """Erase everything; count the rows by kind.

        An account that launches made is deleted, with what hangs on it in the site's own tables.
        With ``keep_account``, or where those tables forbid it, it is deactivated and loses name and
        e-mail. A person's own account stays as it is, disconnected. Nonces stay: no launch that was
        accepted can be replayed.
        """
        with transaction.atomic(using=router.db_for_write(LtiUser)):
            # Somebody may have launched or connected an account since this person was found.
            person = self._find_again()
            return {source.name: source.erase(person, keep_account) for source in SOURCES}


def _find_made_accounts(
    identities: tuple[Identity, ...], account: AbstractBaseUser | None
) -> tuple[AbstractBaseUser, ...]:
    left = (event.former_user for event in _find_events(identities))
    accounts = {each.pk: each for each in (account, *left) if each is not None}
    return tuple(each for each in accounts.values() if is_made_by_launch(each))


class PersonalDataSource(ABC):
    """One kind of things that are stored about people.

    Whatever stores something about a person gets a class here and a place in SOURCES.
    """

    name: ClassVar[str]
    model: ClassVar[type[models.Model] | None] = None

    @abstractmethod
    def export(self, person: DataSubject) -> Rows:
        """What is stored, a dictionary a row."""

    @abstractmethod
    def erase(self, person: DataSubject, keep_account: bool) -> int:
        """Erase it and count the rows; called in a transaction, in the order of SOURCES."""


class Launches(PersonalDataSource):
    """Launches that named the person, refused ones too."""

    name = "launches"
    model = LtiLaunch

    def export(self, person: DataSubject) -> Rows:
        return [
            {
                "lti_consumer": launch.lti_consumer.consumer_name,
                "received_at": launch.received_at,
                "entered_at": launch.entered_at,
                "target": launch.target,
                "launch_url": launch.launch_url,
                # Others it may name in vain.
                "verified": bool(launch.stored_message),
                "message": launch.message.to_json(),
                "foreign_origin": launch.foreign_origin,
                "refusal": launch.refusal_code,
                "signed_text": launch.signed_text,
            }
            for launch in self._find(person)
        ]

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        refused = self._find(person).refused().delete()[0]
        # These rows stay: the nonce in them refuses a replay.
        emptied = self._find(person).update(
            user_digest="",
            link_digest="",
            handle_digest=None,
            stored_message={},
            stored_identity=None,
            target="",
            launch_url="",
            foreign_origin="",
            # Nobody can claim it any more, who has read it already either.
            entered_at=Coalesce("entered_at", Now()),
        )
        return refused + emptied

    def _find(self, person: DataSubject) -> LtiLaunchQuerySet:
        whose = models.Q(pk__in=[])
        for each in person.identities:
            whose |= models.Q(lti_consumer=each.consumer, user_digest=each.lti_user_digest)
        return LtiLaunch.objects.filter(whose).select_related("lti_consumer").order_by("pk")


class Results(PersonalDataSource):
    """Grades. One that the LMS does not have yet is sent without the person, and then purged."""

    name = "results"
    model = LtiResult

    def export(self, person: DataSubject) -> Rows:
        return [
            {
                "lti_consumer": result.lti_consumer.consumer_name,
                "resource_link": result.resource_link and result.resource_link.resource_link_id,
                "remote_id": result.remote_id,
                "score_given": result.score_given,
                "score_maximum": result.score_maximum,
                "work": result.data,
                "state": result.state,
                "submitted_at": result.submitted_at,
                "delivered_at": result.delivered_at,
            }
            for result in self._find(person)
        ]

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        found = list(self._find(person).values_list("pk", flat=True))
        for pk in LtiResult.objects.pending().filter(pk__in=found).values_list("pk", flat=True):
            LtiResult.objects.filter(pk=pk).update(user_digest=anonymized_digest())
        self._find(person).delete()
        return len(found)

    def _find(self, person: DataSubject) -> models.QuerySet[LtiResult]:
        whose = models.Q(pk__in=[])
        for each in person.identities:
            whose |= models.Q(lti_consumer=each.consumer, user_digest=each.lti_user_digest)
        results = LtiResult.objects.filter(whose).order_by("pk")
        return results.select_related("lti_consumer", "resource_link")


class LtiUsers(PersonalDataSource):
    """Who the person is in each LMS. Erasing ends the sessions of connected accounts."""

    name = "lti_users"
    model = LtiUser

    def export(self, person: DataSubject) -> Rows:
        return [
            {
                "lti_consumer": each.lti_consumer.consumer_name,
                "lti_user_id": each.lti_user_id,
                "account": str(each.user_id),
                "is_test_user": each.is_test_user,
                "created_at": each.created_at,
                "connected_at": each.connected_at,
            }
            for each in person.lti_users
        ]

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        for each in person.lti_users:
            if each.is_connected:
                each.disconnect(LtiConnectionEvent.How.BY_ADMINISTRATOR, None, None)
            else:
                each.delete()
        return len(person.lti_users)


class ConnectionEvents(PersonalDataSource):
    """The history of connections."""

    name = "connection_events"
    model = LtiConnectionEvent

    def export(self, person: DataSubject) -> Rows:
        return [
            {
                "lti_consumer": event.lti_consumer.consumer_name,
                "lti_user_id": event.lti_user_id,
                "kind": event.kind,
                "how": event.how,
                "account": str(event.user_id),
                "address": event.address,
                "happened_at": event.happened_at,
            }
            for event in self._find(person)
        ]

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        found = self._find(person)
        named = {event.pk for event in _find_events(person.identities)}
        # What ended the sessions of a connection stays, without whose it was.
        ends = {event.pk for event in found if event.kind == LtiConnectionEvent.Kind.DISCONNECTED}
        LtiConnectionEvent.objects.filter(pk__in=ends).update(lti_user_id="", address=None)
        # By a connection that was undone, the person of the LMS finds the account from before it.
        others = {event.pk for event in found if event.former_user_id and event.pk not in named}
        LtiConnectionEvent.objects.filter(pk__in=others).update(address=None)
        LtiConnectionEvent.objects.filter(
            pk__in={event.pk for event in found} - ends - others
        ).delete()
        return len(found)

    def _find(self, person: DataSubject) -> list[LtiConnectionEvent]:
        found = {event.pk: event for event in _find_events(person.identities)}
        if person.account is not None:
            own = LtiConnectionEvent.objects.filter(user=cast("Any", person.account))
            found |= {event.pk: event for event in own.select_related("lti_consumer")}
        return [found[pk] for pk in sorted(found)]


def _find_events(identities: tuple[Identity, ...]) -> list[LtiConnectionEvent]:
    named = {(each.consumer.pk, each.lti_user_id) for each in identities if each.lti_user_id}
    events = LtiConnectionEvent.objects.filter(
        lti_user_id__in=[lti_user_id for _pk, lti_user_id in named]
    )
    # Some databases compare without regard to case and blanks.
    return [
        event
        for event in events.select_related("lti_consumer", "former_user")
        if (event.lti_consumer_id, event.lti_user_id) in named
    ]


class Installations(PersonalDataSource):
    """Which installations the account, an administrator's, accepted. They stay accepted."""

    name = "installations"
    model = LtiInstallation

    def export(self, person: DataSubject) -> Rows:
        return [
            {"lti_consumer": each.lti_consumer.consumer_name, "guid": each.guid}
            for each in self._find(person).select_related("lti_consumer")
        ]

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        return self._find(person).update(accepted_by=None)

    def _find(self, person: DataSubject) -> models.QuerySet[LtiInstallation]:
        if person.account is None:
            return LtiInstallation.objects.none()
        return LtiInstallation.objects.filter(accepted_by=cast("Any", person.account))


class AdminLog(PersonalDataSource):
    """What the admin's history calls an LTI user by its id in the LMS."""

    name = "admin_log"

    def export(self, person: DataSubject) -> Rows:
        found = self._find(person)
        return [] if found is None else list(found.values("action_time", "object_repr"))

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        found = self._find(person)
        return 0 if found is None else found.update(object_repr="")

    def _find(self, person: DataSubject) -> models.QuerySet[Any] | None:
        if not apps.is_installed("django.contrib.admin"):
            return None
        from django.contrib.admin.models import LogEntry

        names = [each.lti_user_id[:200] for each in person.identities if each.lti_user_id]
        return LogEntry.objects.filter(
            content_type__app_label=LtiUser._meta.app_label,
            content_type__model=LtiUser._meta.model_name,
            object_repr__in=names,
        )


class Accounts(PersonalDataSource):
    """The account that was asked for, and those that launches made."""

    name = "accounts"

    def export(self, person: DataSubject) -> Rows:
        made = {each.pk: each for each in person.made_accounts}
        known = made if person.account is None else {person.account.pk: person.account} | made
        return [
            {"pk": str(pk), "made_by_launch": pk in made, **_get_data(account)}
            for pk, account in known.items()
        ]

    def erase(self, person: DataSubject, keep_account: bool) -> int:
        for account in person.made_accounts:
            if keep_account or not _delete_account(account):
                _blank_account(account)
        return len(person.made_accounts)


def _get_data(account: Any) -> dict[str, Any]:
    names = [account.USERNAME_FIELD, *_find_personal_fields(account), "date_joined", "last_login"]
    return {name: getattr(account, name) for name in names if hasattr(account, name)}


def _delete_account(account: AbstractBaseUser) -> bool:
    try:
        with transaction.atomic(using=router.db_for_write(type(account), instance=account)):
            account.delete()
    except (models.ProtectedError, models.RestrictedError):
        return False
    return True


def _blank_account(account: Any) -> None:
    names = _find_personal_fields(account)
    for name in names:
        unique = account._meta.get_field(name).unique
        setattr(account, name, f"lti-{secrets.token_hex(12)}@lti.invalid" if unique else "")
    account.is_active = False
    # Ends its sessions also where the user model has no such field.
    account.set_unusable_password()
    account.save()


def _find_personal_fields(account: Any) -> list[str]:
    """What launches store on accounts: names and e-mail, where the user model has them."""
    found = []
    for name in ("first_name", "last_name", account.get_email_field_name()):
        try:
            account._meta.get_field(name)
        except FieldDoesNotExist:
            continue
        if name != account.USERNAME_FIELD:
            found.append(name)
    return found


#: In the order of erasure: connections end before their history is emptied, the account goes last.
SOURCES: tuple[PersonalDataSource, ...] = (
    Launches(),
    Results(),
    LtiUsers(),
    ConnectionEvents(),
    Installations(),
    AdminLog(),
    Accounts(),
)

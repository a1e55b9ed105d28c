"""LtiBackend: from a verified launch to a Django user."""

from __future__ import annotations

import secrets
import unicodedata
from typing import TYPE_CHECKING, Any, cast

from django.contrib.auth import get_backends, get_user_model
from django.contrib.auth.backends import BaseBackend
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured, ValidationError
from django.db import IntegrityError, models, router, transaction
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider import sessions
from lti_provider.exceptions import (
    AccountMismatch,
    AlreadyConnected,
    EmailMissing,
    StaffAccount,
    UserAccountRequired,
    UserInactive,
)
from lti_provider.message import PersonalData
from lti_provider.models import LtiConnectionEvent, LtiConsumer, LtiLaunch, LtiUser
from lti_provider.models.user import is_staff

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


def get_lti_backend() -> LtiBackend:
    """The site's LtiBackend. Raises ImproperlyConfigured if it has none."""
    for backend in get_backends():
        if isinstance(backend, LtiBackend):
            return backend
    raise ImproperlyConfigured("Add 'lti_provider.backends.LtiBackend' to AUTHENTICATION_BACKENDS.")


class LtiBackend(BaseBackend):
    """Finds or makes the account of a launch.

    Override ``create_user`` for a user model that needs more than a username, ``update_user`` to
    keep other data of a launch, ``find_account`` and ``may_connect`` for your own rules about
    which account may be connected. None may grant permissions: an LMS is not your site's admin.
    """

    # Django's authenticate() marks only credentials, for whatever it calls.
    @sensitive_variables()
    def authenticate(  # type: ignore[override]
        self, request: HttpRequest | None, launch: LtiLaunch | None = None, **credentials: Any
    ) -> AbstractBaseUser | None:
        """The account of a launch, made if it is the person's first.

        Raises UserInactive, StaffAccount, and UserAccountRequired if the person has to connect an
        account first.
        """
        if launch is None:
            return None
        if launch.needs_account:
            raise UserAccountRequired
        if launch.lti_user is None:
            launch.lti_user = self._create_lti_user(launch)
        user: AbstractBaseUser = launch.lti_user.user
        if not getattr(user, "is_active", True):
            raise UserInactive
        _check_staff(user, launch)
        if not launch.lti_user.is_connected:
            self.update_user(user, launch)
        if launch.lti_user.is_test_user and not launch.message.is_test_user:
            # A person after all, who must not be deleted like a guest.
            launch.lti_user.is_test_user = False
            launch.lti_user.save(update_fields=["is_test_user"])
        return user

    def get_user(self, user_id: Any) -> Any:
        """The account of a session, None once what the session stands on has ended.

        That is the person's connection, the consumer's being active all the time since, and, for
        staff, its *Staff accounts*; ``LTI_PROVIDER_SESSION_HOURS`` end it too. The session ends for
        good; the account's other sessions go on. Where no launch signed in, or no request is being
        served, every connection of the account has to stand. Your own code may sign in an account
        that no launch ever did.
        """
        users = _get_accounts(get_user_model()).filter(pk=user_id)
        session = sessions.find_session(user_id)
        sign_in = sessions.SignIn.read(session) if session is not None else None
        if sign_in is not None and sign_in.is_over:
            session.flush()
            return None
        if session is None or sessions.has_traces(session) or _is_known_to_launches(user_id):
            allows_staff: Any = _build_allows_staff(sign_in)
        else:
            allows_staff = models.Value(True)
        user = users.annotate(lti_allows_staff=allows_staff).first()
        if user is not None and _may_go_on(user, user.lti_allows_staff):
            return user
        if session is not None:
            session.flush()
        return None

    def find_account(self, launch: LtiLaunch) -> AbstractBaseUser | None:
        """The account that the launch's e-mail address belongs to: the only active one with it.

        Addresses are equal if they are so after NFKC and case folding; accounts that launches made
        do not count. Nobody is connected or shown an account because of this: ``may_connect``
        compares it to the one that signed in.
        """
        model = get_user_model()
        name = model.get_email_field_name()
        sent = _normalize_email(launch.message.person.email)
        if not sent or not _has_field(model, name):
            return None
        # Letters beyond ASCII are compared here: no two databases fold them alike.
        spellings = models.Q(**{f"{name}__iexact": sent}) | models.Q(**{f"{name}__regex": "[^ -~]"})
        users = (
            _get_accounts(model).annotate(lti_made=_build_made_by_launch("pk")).filter(spellings)
        )
        found = [
            user
            for user in users
            if _normalize_email(getattr(user, name)) == sent
            and getattr(user, "is_active", True)
            and (user.has_usable_password() or not user.lti_made)
        ]
        return found[0] if len(found) == 1 else None

    def may_connect(self, user: Any, launch: LtiLaunch) -> None:
        """Raise a ConnectionRefused if ``user``, who is signed in, may not be connected.

        Asked when the confirmation is shown and again when it is given.
        """
        if not getattr(user, "is_active", True):
            raise AccountMismatch(UserInactive.hint).with_details(
                public_text=_("This account is deactivated. Sign in with another one.")
            )
        _check_staff(user, launch)
        connected = LtiUser.objects.filter(lti_consumer=launch.lti_consumer, user=user)
        if connected.exclude(lti_user_digest=launch.user_digest).exists():
            raise AlreadyConnected
        if launch.lti_consumer.account_match == LtiConsumer.AccountMatch.ANY:
            return
        if not launch.message.person.email:
            raise EmailMissing
        account = self.find_account(launch)
        if account is None or account.pk != user.pk:
            raise AccountMismatch

    def create_user(self, launch: LtiLaunch) -> AbstractBaseUser:
        """Make the anonymous account of a person's first launch: no name, no password, no rights.

        A user model whose e-mail cannot be blank twice gets a random one under ``lti.invalid``,
        where nothing is ever delivered. Called inside a transaction. Raises ImproperlyConfigured
        if the user model has no text field to put a random name in.
        """
        user = self._build_user()
        # What update_user would store goes along, which saves an update.
        known = [
            _set_if_changed(user, name, text)
            for name, text in _get_personal_data(user, launch).items()
        ]
        if any(known):
            try:
                with transaction.atomic(using=router.db_for_write(type(user))):
                    user.save(force_insert=True)
            except IntegrityError:
                # A different account has this unique e-mail; update_user stores the rest.
                user = self._build_user()
            else:
                return user
        user.save(force_insert=True)
        return user

    def _build_user(self) -> AbstractBaseUser:
        model: Any = get_user_model()
        names = {model.USERNAME_FIELD, *_find_unique_email(model)}
        user: AbstractBaseUser = model(**{name: self._generate_name(model, name) for name in names})
        user.set_unusable_password()
        return user

    def update_user(self, user: AbstractBaseUser, launch: LtiLaunch) -> None:
        """Store the personal data that the consumer's policy allows, where it changed.

        Called at every launch, on accounts that launches made.
        """
        _store_personal_data(user, _get_personal_data(user, launch))

    def _create_lti_user(self, launch: LtiLaunch) -> LtiUser:
        lti_user = LtiUser(
            lti_consumer=launch.lti_consumer,
            lti_user_id=launch.message.person.user_id,
            lti_user_digest=launch.user_digest,
            is_test_user=launch.message.is_test_user,
        )
        alias = router.db_for_write(LtiUser)
        try:
            with transaction.atomic(using=alias):
                lti_user.user = cast("Any", self.create_user(launch))
                lti_user.save(force_insert=True, using=alias)
        except IntegrityError:
            # A simultaneous first launch of the same person was faster; else it is a real error.
            known = LtiUser.objects.select_related("user").filter(
                lti_consumer=launch.lti_consumer, lti_user_digest=launch.user_digest
            )
            if (faster := known.first()) is None:
                raise
            return faster
        return lti_user

    def _generate_name(self, model: Any, field_name: str) -> str:
        field = model._meta.get_field(field_name)
        name = f"lti-{secrets.token_hex(12)}"
        if isinstance(field, models.EmailField):
            return f"{name}@lti.invalid"
        if isinstance(field, models.CharField | models.TextField):
            return name[: field.max_length]
        raise ImproperlyConfigured(
            f"{model.__name__}.{field_name} is not a text field: subclass LtiBackend "
            "with create_user(launch) and name the subclass in AUTHENTICATION_BACKENDS."
        )


def _get_accounts(model: Any) -> models.QuerySet[Any]:
    # A replica may not have the account of a launch of this moment.
    accounts: models.QuerySet[Any] = model._default_manager.using(router.db_for_write(model))
    return accounts


def _build_allows_staff(sign_in: sessions.SignIn | None) -> models.Subquery:
    """*Staff accounts* of the consumer that a session stands on, NULL if it stands no more."""
    people: models.QuerySet[LtiUser] = LtiUser.objects.filter(user=models.OuterRef("pk"))
    if sign_in is not None:
        people = sign_in.filter(people)
    allows = models.Case(
        models.When(lti_consumer__is_active=True, then="lti_consumer__allow_staff")
    )
    strictest = people.order_by("lti_consumer__is_active", "lti_consumer__allow_staff")
    return models.Subquery(strictest.values(allows=allows)[:1])


def _is_known_to_launches(user_id: Any) -> bool:
    events = models.Q(user=user_id) | models.Q(former_user=user_id)
    return (
        LtiUser.objects.filter(user=user_id).exists()
        or LtiConnectionEvent.objects.filter(events).exists()
    )


def _may_go_on(user: Any, allows_staff: bool | None) -> bool:
    if allows_staff is None or not getattr(user, "is_active", True):
        return False
    return allows_staff or not is_staff(user)


def _check_staff(user: AbstractBaseUser, launch: LtiLaunch) -> None:
    if is_staff(user) and not launch.lti_consumer.allow_staff:
        raise StaffAccount


def _normalize_email(address: str | None) -> str:
    # Folding may undo the normal form, as in U+0345.
    folded = unicodedata.normalize("NFKC", address or "").casefold()
    return unicodedata.normalize("NFKC", folded)


def _has_field(model: type[models.Model], name: str) -> bool:
    return any(field.name == name for field in model._meta.get_fields())


def _build_made_by_launch(user: str) -> models.Q:
    anonymous = LtiUser.objects.filter(user=models.OuterRef(user), connected_at__isnull=True)
    left = LtiConnectionEvent.objects.filter(former_user=models.OuterRef(user))
    return models.Q(models.Exists(anonymous)) | models.Q(models.Exists(left))


def _find_unique_email(model: Any) -> list[str]:
    name = model.get_email_field_name()
    try:
        field = model._meta.get_field(name)
    except FieldDoesNotExist:
        return []
    return [name] if field.unique and not field.null else []


def _get_personal_data(user: AbstractBaseUser, launch: LtiLaunch) -> dict[str, str]:
    kept = launch.lti_consumer.personal_data_kept
    sent: dict[str, str] = {}
    if kept is not PersonalData.NONE:
        sent |= {
            "first_name": launch.message.person.given_name,
            "last_name": launch.message.person.family_name,
        }
    if kept is PersonalData.NAME_EMAIL:
        sent[user.get_email_field_name()] = launch.message.person.email
    return sent


def _store_personal_data(user: AbstractBaseUser, sent: dict[str, str]) -> None:
    changed = [name for name, text in sent.items() if _set_if_changed(user, name, text)]
    if not changed:
        return
    try:
        with transaction.atomic(using=router.db_for_write(type(user), instance=user)):
            user.save(update_fields=changed)
    except IntegrityError:
        # A different account has this unique e-mail: the person is launched without it.
        user.refresh_from_db(fields=changed)
        if len(changed) > 1:
            for name in changed:
                _store_personal_data(user, {name: sent[name]})


def _set_if_changed(user: AbstractBaseUser, name: str, text: str) -> bool:
    try:
        field = user._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    if not text or not isinstance(field, models.CharField):
        return False
    if name == get_user_model().USERNAME_FIELD:
        return False
    # A name may be cut; a cut address would be a different one.
    whole = isinstance(field, models.EmailField)
    try:
        value = field.clean(text if whole else text[: field.max_length], user)
    except ValidationError:
        return False
    if getattr(user, name) == value:
        return False
    setattr(user, name, value)
    return True

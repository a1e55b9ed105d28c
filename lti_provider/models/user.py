"""LtiUser: a person of an LMS and the account of this site."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, cast

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import AlreadyConnected
from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models.connection import LtiConnectionEvent
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.digest import DIGEST_LENGTH
from lti_provider.models.primary import PrimaryQuerySet, commit
from lti_provider.signals import is_from_site, user_disconnected

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser


class LtiUserQuerySet(PrimaryQuerySet["LtiUser"]):
    def connect(
        self,
        consumer: LtiConsumer,
        lti_user_id: str,
        lti_user_digest: str,
        user: AbstractBaseUser,
        address: str | None,
    ) -> tuple[LtiUser, bool]:
        """Connect a person of a consumer to an account; ``address`` goes to the history.

        Returns the connection and whether it is new. Raises AlreadyConnected if the person or the
        account has a different connection there.
        """
        person = {"lti_consumer": consumer, "lti_user_digest": lti_user_digest}
        try:
            with commit(self.db):
                lti_user = self.select_for_update().filter(**person).first()
                if lti_user is None:
                    lti_user = LtiUser(lti_user_id=lti_user_id, **person)
                lti_user.connect_to(user, address)
        except (IntegrityError, AlreadyConnected) as error:
            if is_from_site(error):
                raise
            # A second click is not a conflict.
            same = self.filter(user=cast("Any", user), connected_at__isnull=False, **person).first()
            if same is None:
                raise AlreadyConnected from None
            return same, False
        return lti_user, True

    def guests(self, before: datetime) -> Self:
        """Guests and test users whose account nobody has signed in to since ``before``."""
        found = self.filter(models.Q(lti_user_id="") | models.Q(is_test_user=True))
        return found.filter(connected_at=None).unused_since(before)

    def unused_since(self, before: datetime) -> Self:
        """Those to whose account nobody has signed in since, or that was connected before."""
        found = self.filter(created_at__lt=before)
        connected = models.Q(connected_at__lt=before)
        # A user model may lack it.
        if getattr(get_user_model(), "last_login", None) is None:
            return found.filter(connected | models.Q(connected_at=None))
        unused = models.Q(user__last_login=None) | models.Q(user__last_login__lt=before)
        return found.filter(connected | models.Q(unused, connected_at=None))

    def purge_guest(self, pk: int, before: datetime) -> bool:
        """Delete the account of a guest or test user with all that hangs on it, and its grades.

        Unless somebody needs it: kept are accounts that the site gave a password or rights, and
        those that its own tables protect.
        """
        try:
            with transaction.atomic(using=self.db):
                guest = self.guests(before).select_related("user").filter(pk=pk).first()
                if guest is None or not guest.is_temporary or not is_made_by_launch(guest.user):
                    return False
                if guest.is_test_user:
                    # Without whose they are, they would be a person's.
                    guest.lti_results.all().delete()
                guest.user.delete()
        except (models.ProtectedError, models.RestrictedError):
            return False
        return True


def is_staff(user: Any) -> bool:
    """Whether the account may enter the admin, or do anything."""
    return any(getattr(user, name, False) for name in ("is_staff", "is_superuser"))


def is_made_by_launch(user: Any) -> bool:
    """Whether a launch made the account, and the site gave it neither password nor rights."""
    if user.has_usable_password() or is_staff(user):
        return False
    rights = (getattr(user, name, None) for name in ("groups", "user_permissions"))
    if any(granted is not None and granted.exists() for granted in rights):
        return False
    connections = set(LtiUser.objects.filter(user=user).values_list("connected_at", flat=True))
    left = LtiConnectionEvent.objects.filter(former_user=user)
    return connections == {None} or (not connections and left.exists())


class LtiUser(models.Model):
    """One person of one consumer and the account that launches sign in.

    A blank ``lti_user_id`` is a guest: a launch that named nobody. ``is_test_user``: all launches
    said that this is not a person, but a teacher's preview as a student.
    """

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.PROTECT,
        related_name="lti_users",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    lti_user_id = models.CharField(
        _("LTI user id"), max_length=IDENTIFIER_LENGTH, blank=True, editable=False
    )
    lti_user_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="lti_users",
        verbose_name=_("user"),
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    is_test_user = models.BooleanField(
        _("test user"),
        default=False,
        editable=False,
        help_text=_("A teacher's preview as a student: not in results, deleted like a guest."),
    )
    connected_at = models.DateTimeField(
        _("connected at"),
        null=True,
        editable=False,
        help_text=_("When the person connected their account; blank for an anonymous account."),
    )

    objects = LtiUserQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("LTI user")
        verbose_name_plural = _("LTI users")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "lti_user_digest"), name="lti_user_of_consumer"
            ),
            models.UniqueConstraint(
                fields=("lti_consumer", "user"), name="lti_account_of_consumer"
            ),
        )

    def __str__(self) -> str:
        return self.lti_user_id or str(_("guest"))

    @property
    def is_temporary(self) -> bool:
        """Whether it is a guest or a test user; some databases take blanks for an empty id."""
        return not self.lti_user_id or self.is_test_user

    @property
    def is_connected(self) -> bool:
        """Whether the account is the person's own, not one that a launch made."""
        return self.connected_at is not None

    def connect_to(self, user: AbstractBaseUser, address: str | None) -> None:
        """Connect ``user`` in place of the anonymous account, if any. Raises AlreadyConnected."""
        if self.is_connected:
            raise AlreadyConnected
        former = self.user_id if self.user_id != user.pk else None
        self.user = cast("Any", user)
        self.connected_at = timezone.now()
        self.save()
        self.record_event(
            LtiConnectionEvent.Kind.CONNECTED,
            LtiConnectionEvent.How.CONFIRMED,
            user,
            address,
            former_user_id=former,
        )

    def disconnect(
        self, how: LtiConnectionEvent.How, done_by: AbstractBaseUser | None, address: str | None
    ) -> None:
        """End the connection; the next launch starts anew. Its sessions end at once."""
        with commit(router.db_for_write(type(self), instance=self)):
            self.record_event(LtiConnectionEvent.Kind.DISCONNECTED, how, done_by, address)
            self.delete()
        user_disconnected.send(sender=type(self), lti_user=self, done_by=done_by)

    def record_event(
        self,
        kind: LtiConnectionEvent.Kind,
        how: LtiConnectionEvent.How,
        done_by: AbstractBaseUser | None,
        address: str | None,
        **details: Any,
    ) -> None:
        """Add an LtiConnectionEvent of this connection to the history."""
        LtiConnectionEvent.objects.create(
            lti_consumer=self.lti_consumer,
            lti_user_id=self.lti_user_id,
            user=self.user,
            kind=kind,
            how=how,
            done_by=cast("Any", done_by),
            address=address,
            **details,
        )

"""LtiContext and LtiResourceLink: where in an LMS a launch came from."""

from __future__ import annotations

from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext_lazy as _

from lti_provider.message import IDENTIFIER_LENGTH, LaunchMessage
from lti_provider.models.consumer import LtiConsumer
from lti_provider.models.digest import DIGEST_LENGTH, digest
from lti_provider.models.primary import PrimaryQuerySet

TITLE_LENGTH = 255


class LtiContext(models.Model):
    """A course of one consumer."""

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.CASCADE,
        related_name="lti_contexts",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    context_id = models.CharField(_("context id"), max_length=IDENTIFIER_LENGTH)
    context_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    title = models.CharField(_("title"), max_length=TITLE_LENGTH, blank=True)
    label = models.CharField(_("label"), max_length=TITLE_LENGTH, blank=True)

    objects = PrimaryQuerySet["LtiContext"].as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("LTI context")
        verbose_name_plural = _("LTI contexts")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "context_digest"), name="lti_context_of_consumer"
            ),
        )

    def __str__(self) -> str:
        return self.title or self.label or self.context_id


def digest_link(message: LaunchMessage) -> str:
    """The digest of a placement: of course and link, since a copied course may repeat link ids."""
    return digest(message.context.id, message.resource_link.id)


class LtiResourceLinkQuerySet(PrimaryQuerySet["LtiResourceLink"]):
    def sync_from_launch(
        self, consumer: LtiConsumer, message: LaunchMessage, known: LtiResourceLink | None
    ) -> LtiResourceLink:
        """The link of a launch, with its course, brought up to date; ``known`` saves a read."""
        link = known or self._create(consumer, message)
        _update_titles(link, title=message.resource_link.title)
        if link.lti_context is not None:
            said = message.context
            _update_titles(link.lti_context, title=said.title, label=said.label)
        return link

    def _create(self, consumer: LtiConsumer, message: LaunchMessage) -> LtiResourceLink:
        context = None
        said = message.context
        if said.id:
            context, _created = LtiContext.objects.get_or_create(
                lti_consumer=consumer,
                context_digest=digest(said.id),
                defaults={
                    "context_id": said.id,
                    "title": said.title[:TITLE_LENGTH],
                    "label": said.label[:TITLE_LENGTH],
                },
            )
        link = LtiResourceLink(
            lti_consumer=consumer,
            lti_context=context,
            resource_link_id=message.resource_link.id,
            resource_link_digest=digest_link(message),
            title=message.resource_link.title[:TITLE_LENGTH],
        )
        try:
            with transaction.atomic(using=self.db):
                link.save(using=self.db)
        except IntegrityError:
            known = self.select_related("lti_context").filter(
                lti_consumer=consumer, resource_link_digest=link.resource_link_digest
            )
            # An older snapshot does not show it.
            if (faster := known.first()) is None:
                raise
            return faster
        return link


class LtiResourceLink(models.Model):
    """A placement of an activity in a course."""

    lti_consumer = models.ForeignKey(
        LtiConsumer,
        on_delete=models.CASCADE,
        related_name="lti_resource_links",
        db_index=False,
        verbose_name=_("LTI consumer"),
    )
    lti_context = models.ForeignKey(
        LtiContext,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="lti_resource_links",
        verbose_name=_("LTI context"),
    )
    resource_link_id = models.CharField(_("resource link id"), max_length=IDENTIFIER_LENGTH)
    resource_link_digest = models.CharField(max_length=DIGEST_LENGTH, editable=False)
    title = models.CharField(_("title"), max_length=TITLE_LENGTH, blank=True)

    objects = LtiResourceLinkQuerySet.as_manager()

    class Meta:
        base_manager_name = "objects"
        verbose_name = _("LTI resource link")
        verbose_name_plural = _("LTI resource links")
        constraints = (
            models.UniqueConstraint(
                fields=("lti_consumer", "resource_link_digest"), name="lti_link_of_consumer"
            ),
        )

    def __str__(self) -> str:
        return self.title or self.resource_link_id


def _update_titles(place: LtiContext | LtiResourceLink, **sent: str) -> None:
    # An LMS that leaves a title out has not renamed anything.
    changed = {
        name: text[:TITLE_LENGTH]
        for name, text in sent.items()
        if text and getattr(place, name) != text[:TITLE_LENGTH]
    }
    for name, text in changed.items():
        setattr(place, name, text)
    if changed:
        place.save(update_fields=list(changed))

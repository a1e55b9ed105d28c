"""What administrators read of senders that nobody knows, and a button that forgets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from lti_provider.models import LtiConsumer, LtiUnknownSender

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

_FORGET_URL = "admin:lti_provider_lticonsumer_forget_senders"
_CHANGELIST_URL = "admin:lti_provider_lticonsumer_changelist"
_CONSUMERS_COMPARED = 1000
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class SenderLine:
    """One unknown sender, and which consumer's key it nearly is."""

    sender: LtiUnknownSender
    resemblance: str


class UnknownSenders:
    """Unknown senders on the pages of consumers, for whoever may look at these."""

    def __init__(self, model_admin: ModelAdmin[LtiConsumer]) -> None:
        self.admin = model_admin

    def get_urls(self) -> list[URLPattern]:
        """The URL of the button, for the ModelAdmin to add to its own."""
        view = self.admin.admin_site.admin_view(self.forget_view)
        return [path("unknown-senders/forget/", view, name=_FORGET_URL.removeprefix("admin:"))]

    def get_context(self, request: HttpRequest) -> dict[str, Any]:
        """What the template shows: a few senders, likely mistakes first, the others folded away."""
        lines = sorted(self._list_lines(request), key=lambda line: not line.resemblance)
        return {
            "first_senders": lines[:_SHOWN],
            "other_senders": lines[_SHOWN:],
            "forget_senders_url": (
                reverse(_FORGET_URL) if self.admin.has_delete_permission(request) else ""
            ),
        }

    @method_decorator(require_POST)
    def forget_view(self, request: HttpRequest) -> HttpResponse:
        """Delete all of them."""
        if not self.admin.has_delete_permission(request):
            raise PermissionDenied
        LtiUnknownSender.objects.all().delete()
        messages.success(request, gettext("The unknown senders were forgotten."))
        return HttpResponseRedirect(reverse(_CHANGELIST_URL))

    def _list_lines(self, request: HttpRequest) -> list[SenderLine]:
        senders = list(LtiUnknownSender.objects.newest())
        if not senders:
            return []
        # Not those of other people, where a site lets administrators see their own only.
        consumers = self.admin.get_queryset(request).exclude(consumer_key=None).order_by("pk")
        pairs = consumers.values_list("consumer_key", "consumer_name")[:_CONSUMERS_COMPARED]
        keys = {key: name for key, name in pairs if key}
        alike = {_simplify(key): key for key in keys}
        return [
            SenderLine(sender=sender, resemblance=_describe_resemblance(sender, alike, keys))
            for sender in senders
            # A launch that was refused while its key was being added.
            if sender.is_cut or sender.text not in keys
        ]


def _simplify(key: str) -> str:
    return key.strip().casefold()


def _describe_resemblance(
    sender: LtiUnknownSender, alike: dict[str, str], keys: dict[str, str]
) -> str:
    text, key = sender.text, alike.get(_simplify(sender.text))
    if key is None or sender.is_cut:
        return ""
    if text.rstrip() == key:
        sentence = gettext("It is the key of “%(name)s” with a blank at its end.")
    elif text.lstrip() == key:
        sentence = gettext("It is the key of “%(name)s” with a blank at its beginning.")
    elif text.casefold() == key.casefold():
        sentence = gettext("It is the key of “%(name)s” in different upper and lower case.")
    else:
        sentence = gettext(
            "It differs from the key of “%(name)s” only in blanks at the beginning or end, or in "
            "upper and lower case."
        )
    return sentence % {"name": keys[key]}

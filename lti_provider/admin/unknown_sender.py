"""What administrators read of senders that nobody knows, and a button that forgets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.views.decorators.http import require_POST

from lti_provider.models import LtiConsumer, LtiRegistration, LtiUnknownSender
from lti_provider.models.unknown_sender import SenderKind

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

_FORGET_URL = "admin:lti_provider_lticonsumer_forget_senders"
_CHANGELIST_URL = "admin:lti_provider_lticonsumer_changelist"
_COMPARED = 1000
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class SenderLine:
    """One unknown sender, what is said of it, and what that is known it nearly is."""

    sender: LtiUnknownSender
    sentence: str
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
        kinds = {sender.kind for sender in senders}
        known = {kind: self._find_known(request, kind) for kind in kinds}
        alike = {kind: {_simplify(text): text for text in texts} for kind, texts in known.items()}
        return [
            SenderLine(
                sender=sender,
                sentence=_describe(sender),
                resemblance=_describe_resemblance(sender, alike[sender.kind], known[sender.kind]),
            )
            for sender in senders
            # A launch that was refused while what it named was being added.
            if sender.is_cut or sender.text not in known[sender.kind]
        ]

    def _find_known(self, request: HttpRequest, kind: str) -> dict[str, str]:
        """What this person may know of what senders of a kind are compared to, with whose it is."""
        # Not those of other people, where a site lets administrators see their own only.
        if kind == SenderKind.KEY:
            rows: Any = self.admin.get_queryset(request).exclude(consumer_key=None)
            fields = ("consumer_key", "consumer_name")
        else:
            rows = self._list_registrations(request)
            fields = _FIELDS[kind]
        pairs = rows.order_by("pk").values_list(*fields)[:_COMPARED]
        return {text: str(name) for text, name in pairs if text}

    def _list_registrations(self, request: HttpRequest) -> Any:
        site = self.admin.admin_site
        if site.is_registered(LtiRegistration):
            registrations = site.get_model_admin(LtiRegistration)
            if registrations.has_view_permission(request):
                return registrations.get_queryset(request)
        return LtiRegistration.objects.none()


_FIELDS: dict[str, tuple[str, str]] = {
    SenderKind.ISSUER: ("issuer", "client_id"),
    SenderKind.CLIENT: ("client_id", "issuer"),
}


def _simplify(text: str) -> str:
    return text.strip().rstrip("/").casefold().removeprefix("http://").removeprefix("https://")


def _describe(sender: LtiUnknownSender) -> str:
    said = {
        "count": sender.count,
        "what": format_html('<bdi class="lti-value">{}</bdi>', sender.visible_text),
        "ago": timesince(sender.last_seen_at),
    }
    if sender.kind == SenderKind.ISSUER:
        text = ngettext(
            "%(count)s launch came from issuer “%(what)s”, which no registration has (last "
            "%(ago)s ago).",
            "%(count)s launches came from issuer “%(what)s”, which no registration has (last "
            "%(ago)s ago).",
            sender.count,
        )
    elif sender.kind == SenderKind.CLIENT:
        text = ngettext(
            "%(count)s launch came with client id “%(what)s”, which no registration of its issuer "
            "has (last %(ago)s ago).",
            "%(count)s launches came with client id “%(what)s”, which no registration of their "
            "issuer has (last %(ago)s ago).",
            sender.count,
        )
    else:
        text = ngettext(
            "%(count)s launch came with key “%(what)s”, which no consumer has (last %(ago)s ago).",
            "%(count)s launches came with key “%(what)s”, which no consumer has (last %(ago)s "
            "ago).",
            sender.count,
        )
    # The texts are this app's own, and what a stranger sent is escaped in them.
    return mark_safe(text % said)  # noqa: S308


def _describe_resemblance(
    sender: LtiUnknownSender, alike: dict[str, str], known: dict[str, str]
) -> str:
    text, meant = sender.text, alike.get(_simplify(sender.text))
    if meant is None or sender.is_cut:
        return ""
    if sender.kind == SenderKind.KEY:
        whose = gettext("the key of “%(name)s”") % {"name": known[meant]}
    else:
        whose = gettext("“%(name)s” of a registration") % {"name": meant}
    return _describe_difference(text, meant) % {"whose": whose}


def _describe_difference(text: str, meant: str) -> str:
    if text.rstrip() == meant:
        return gettext("It is %(whose)s with a blank at its end.")
    if text.lstrip() == meant:
        return gettext("It is %(whose)s with a blank at its beginning.")
    if text == f"{meant}/":
        return gettext("It is %(whose)s with a slash at its end.")
    if f"{text}/" == meant:
        return gettext("It is %(whose)s without the slash at its end.")
    if text.casefold() == meant.casefold():
        return gettext("It is %(whose)s in different upper and lower case.")
    return gettext(
        "It differs from %(whose)s only in blanks at the beginning or end, in a slash at the end, "
        "in http or https, or in upper and lower case."
    )

"""People, connections and placements that launches brought: to look up, not to edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth import get_permission_codename, get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from lti_provider.admin.lookups import FilteredAdmin
from lti_provider.admin.paginator import BoundedPaginator
from lti_provider.models import LtiConnectionEvent, LtiResourceLink, LtiUser
from lti_provider.privacy import DataSubject
from lti_provider.sessions import get_client_address

if TYPE_CHECKING:
    UserModelAdmin = admin.ModelAdmin[LtiUser]
    LinkModelAdmin = admin.ModelAdmin[LtiResourceLink]
    EventModelAdmin = admin.ModelAdmin[LtiConnectionEvent]
else:
    UserModelAdmin = LinkModelAdmin = EventModelAdmin = admin.ModelAdmin


_DISCONNECT_URL = "admin:lti_provider_ltiuser_disconnect"


@admin.register(LtiUser)
class LtiUserAdmin(FilteredAdmin, UserModelAdmin):
    """The people of each LMS and their accounts. Deleted ones launch anew."""

    list_display = ("__str__", "lti_consumer", "user", "is_test_user", "created_at", "connected_at")
    list_filter = ("lti_consumer", ("connected_at", admin.EmptyFieldListFilter))
    list_select_related = ("lti_consumer", "user")
    search_fields = ("=lti_user_id",)
    readonly_fields = (
        "lti_consumer",
        "lti_user_id",
        "user",
        "is_test_user",
        "created_at",
        "connected_at",
    )
    paginator = BoundedPaginator
    show_full_result_count = False
    actions = ("disconnect", "export", "erase")

    @admin.action(
        description=_("Disconnect the accounts of the selected LTI users"), permissions=["change"]
    )
    def disconnect(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> None:
        """End connections; anonymous accounts are left as they are."""
        connected = list(queryset.filter(connected_at__isnull=False).select_related("lti_consumer"))
        for lti_user in connected:
            self._disconnect(request, lti_user)
        text = ngettext(
            "%(count)d account was disconnected; its sessions from the LMS ended.",
            "%(count)d accounts were disconnected; their sessions from the LMS ended.",
            len(connected),
        )
        messages.success(request, text % {"count": len(connected)})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        lti_user = self.get_object(request, object_id)
        connected = lti_user is not None and lti_user.is_connected
        if connected and self.has_change_permission(request, lti_user):
            url = reverse(_DISCONNECT_URL, args=[object_id])
            extra_context = {**(extra_context or {}), "disconnect_url": url}
        return super().change_view(request, object_id, form_url, extra_context)

    def get_urls(self) -> list[URLPattern]:
        disconnect = path(
            "<int:pk>/disconnect/",
            self.admin_site.admin_view(require_POST(self.disconnect_view)),
            name=_DISCONNECT_URL.removeprefix("admin:"),
        )
        return [disconnect, *super().get_urls()]

    def disconnect_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """End one connection."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        self.disconnect(request, self.get_queryset(request).filter(pk=pk))
        return HttpResponseRedirect(reverse("admin:lti_provider_ltiuser_changelist"))

    @admin.action(
        description=_("Export all that is stored about the selected LTI users"),
        permissions=["change"],
    )
    def export(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> HttpResponse:
        """Download a JSON file with an entry for each person."""
        exported = [DataSubject.from_lti_user(each).export() for each in _select_accounts(queryset)]
        response = JsonResponse(exported, safe=False, json_dumps_params={"indent": 2})
        response.headers["Content-Disposition"] = 'attachment; filename="lti-users.json"'
        response.headers["Cache-Control"] = "no-store"
        return response

    @admin.action(
        description=_("Erase all that is stored about the selected LTI users"),
        permissions=["erase"],
    )
    def erase(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> HttpResponse | None:
        """Erase people after a confirmation, with the accounts that launches made."""
        people = [DataSubject.from_lti_user(each) for each in _select_accounts(queryset)]
        if "confirm" not in request.POST:
            return self._render_erase_page(request, people)
        for person in people:
            person.erase(keep_account="keep_account" in request.POST)
        text = ngettext(
            "%(count)d person was erased.", "%(count)d people were erased.", len(people)
        )
        messages.success(request, text % {"count": len(people)})
        return None

    def _render_erase_page(self, request: HttpRequest, people: list[DataSubject]) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Erase all that is stored about LTI users"),
            "opts": self.opts,
            "people": people,
            "accounts": sum(len(person.made_accounts) for person in people),
            "action_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "lti_provider/admin/erase.html", context)

    def has_erase_permission(self, request: HttpRequest) -> bool:
        """Whether the administrator may delete both LTI users and accounts."""
        model = get_user_model()._meta
        name = f"{model.app_label}.{get_permission_codename('delete', model)}"
        return self.has_delete_permission(request) and request.user.has_perm(name)

    def delete_model(self, request: HttpRequest, obj: LtiUser) -> None:
        # Disconnecting ends the sessions and is written to the history.
        if obj.is_connected:
            self._disconnect(request, obj)
        else:
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> None:
        for lti_user in queryset.select_related("lti_consumer"):
            self.delete_model(request, lti_user)

    def _disconnect(self, request: HttpRequest, lti_user: LtiUser) -> None:
        administrator: Any = request.user
        lti_user.disconnect(
            LtiConnectionEvent.How.BY_ADMINISTRATOR, administrator, get_client_address(request)
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


def _select_accounts(queryset: QuerySet[LtiUser]) -> QuerySet[LtiUser]:
    return queryset.select_related("lti_consumer", "user")


@admin.register(LtiConnectionEvent)
class LtiConnectionEventAdmin(FilteredAdmin, EventModelAdmin):
    """Who connected or disconnected which account, when, from where and how."""

    list_display = ("happened_at", "kind", "how", "user", "lti_consumer", "lti_user_id", "done_by")
    list_filter = ("kind", "how", "lti_consumer")
    list_select_related = ("lti_consumer", "user", "done_by")
    search_fields = ("=lti_user_id", "=address")
    ordering = ("-pk",)
    paginator = BoundedPaginator
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: LtiConnectionEvent | None = None
    ) -> bool:
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: LtiConnectionEvent | None = None
    ) -> bool:
        # It is deleted with the account, not by itself.
        match = request.resolver_match
        if match is None or str(match.url_name).startswith("lti_provider_lticonnectionevent_"):
            return False
        return super().has_delete_permission(request, obj)


@admin.register(LtiResourceLink)
class LtiResourceLinkAdmin(FilteredAdmin, LinkModelAdmin):
    """Where in an LMS this site's activities are placed."""

    list_display = ("__str__", "lti_context", "lti_consumer", "resource_link_id")
    list_filter = ("lti_consumer",)
    list_select_related = ("lti_consumer", "lti_context")
    search_fields = ("title", "=resource_link_id", "lti_context__title")
    paginator = BoundedPaginator
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: LtiResourceLink | None = None
    ) -> bool:
        return False

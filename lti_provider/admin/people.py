"""Who and what launches brought: to look up, not to edit."""

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
from lti_provider.models import LtiLinkEvent, LtiResourceLink, LtiUser, Person
from lti_provider.sessions import address_of

if TYPE_CHECKING:
    UserModelAdmin = admin.ModelAdmin[LtiUser]
    LinkModelAdmin = admin.ModelAdmin[LtiResourceLink]
    EventModelAdmin = admin.ModelAdmin[LtiLinkEvent]
else:
    UserModelAdmin = LinkModelAdmin = EventModelAdmin = admin.ModelAdmin


_UNLINK_URL = "admin:lti_provider_ltiuser_unlink"


@admin.register(LtiUser)
class LtiUserAdmin(FilteredAdmin, UserModelAdmin):
    """Which account a person of an LMS has here. Without it, the next launch makes a new one."""

    list_display = ("__str__", "lti_consumer", "user", "created_at", "linked_at")
    list_filter = ("lti_consumer", ("linked_at", admin.EmptyFieldListFilter))
    list_select_related = ("lti_consumer", "user")
    search_fields = ("=lti_user_id",)
    readonly_fields = ("lti_consumer", "lti_user_id", "user", "created_at", "linked_at")
    paginator = BoundedPaginator
    show_full_result_count = False
    actions = ("unlink", "export", "erase")

    @admin.action(
        description=_("Unlink the accounts of the selected LTI users"), permissions=["change"]
    )
    def unlink(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> None:
        """End links; anonymous accounts are left as they are."""
        linked = list(queryset.filter(linked_at__isnull=False).select_related("lti_consumer"))
        for lti_user in linked:
            self._unlink(request, lti_user)
        text = ngettext(
            "%(count)d account was unlinked; its sessions from there ended.",
            "%(count)d accounts were unlinked; their sessions from there ended.",
            len(linked),
        )
        messages.success(request, text % {"count": len(linked)})

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Offer to end a link."""
        lti_user = self.get_object(request, object_id)
        linked = lti_user is not None and lti_user.is_linked
        if linked and self.has_change_permission(request, lti_user):
            url = reverse(_UNLINK_URL, args=[object_id])
            extra_context = {**(extra_context or {}), "unlink_url": url}
        return super().change_view(request, object_id, form_url, extra_context)

    def get_urls(self) -> list[URLPattern]:
        """Add the answer to the offer."""
        unlink = path(
            "<int:pk>/unlink/",
            self.admin_site.admin_view(require_POST(self.unlink_view)),
            name=_UNLINK_URL.removeprefix("admin:"),
        )
        return [unlink, *super().get_urls()]

    def unlink_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """End one link."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        self.unlink(request, self.get_queryset(request).filter(pk=pk))
        return HttpResponseRedirect(reverse("admin:lti_provider_ltiuser_changelist"))

    @admin.action(
        description=_("Export all that is stored about the selected LTI users"),
        permissions=["change"],
    )
    def export(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> HttpResponse:
        """A JSON file, a person an entry."""
        exported = [Person.of_lti_user(each).export() for each in _with_account(queryset)]
        response = JsonResponse(exported, safe=False, json_dumps_params={"indent": 2})
        response.headers["Content-Disposition"] = 'attachment; filename="lti-users.json"'
        response.headers["Cache-Control"] = "no-store"
        return response

    @admin.action(
        description=_("Erase all that is stored about the selected LTI users"),
        permissions=["erase"],
    )
    def erase(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> HttpResponse | None:
        """Ask first; accounts that launches made go too."""
        people = [Person.of_lti_user(each) for each in _with_account(queryset)]
        if "confirm" not in request.POST:
            return self._ask_to_erase(request, people)
        for person in people:
            person.erase(keep_account="keep_account" in request.POST)
        text = ngettext(
            "%(count)d person was erased.", "%(count)d people were erased.", len(people)
        )
        messages.success(request, text % {"count": len(people)})
        return None

    def _ask_to_erase(self, request: HttpRequest, people: list[Person]) -> HttpResponse:
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
        """Whoever may delete LTI users and accounts."""
        model = get_user_model()._meta
        name = f"{model.app_label}.{get_permission_codename('delete', model)}"
        return self.has_delete_permission(request) and request.user.has_perm(name)

    def delete_model(self, request: HttpRequest, obj: LtiUser) -> None:
        """A linked one is unlinked, so that its sessions end and the history tells."""
        if obj.is_linked:
            self._unlink(request, obj)
        else:
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[LtiUser]) -> None:
        """As ``delete_model``, for each."""
        for lti_user in queryset.select_related("lti_consumer"):
            self.delete_model(request, lti_user)

    def _unlink(self, request: HttpRequest, lti_user: LtiUser) -> None:
        administrator: Any = request.user
        lti_user.unlink(LtiLinkEvent.How.BY_ADMINISTRATOR, administrator, address_of(request))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Launches add them."""
        return False


def _with_account(queryset: QuerySet[LtiUser]) -> QuerySet[LtiUser]:
    return queryset.select_related("lti_consumer", "user")


@admin.register(LtiLinkEvent)
class LtiLinkEventAdmin(FilteredAdmin, EventModelAdmin):
    """Who linked or unlinked which account, when, from where and how."""

    list_display = ("happened_at", "kind", "how", "user", "lti_consumer", "lti_user_id", "done_by")
    list_filter = ("kind", "how", "lti_consumer")
    list_select_related = ("lti_consumer", "user", "done_by")
    search_fields = ("=lti_user_id", "=address")
    ordering = ("-pk",)
    paginator = BoundedPaginator
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Links add them."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: LtiLinkEvent | None = None) -> bool:
        """A history is not edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LtiLinkEvent | None = None) -> bool:
        """It goes with the account, not by itself."""
        match = request.resolver_match
        if match is None or str(match.url_name).startswith("lti_provider_ltilinkevent_"):
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
        """Launches add them."""
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: LtiResourceLink | None = None
    ) -> bool:
        """The LMS says what they are called."""
        return False

"""Grades: what was submitted, how far it got, and what to do when it is stuck."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import FloatField, QuerySet
from django.db.models.functions import Cast
from django.http import HttpRequest
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from lti_provider.admin.lookups import FilteredAdmin
from lti_provider.admin.paginator import BoundedPaginator
from lti_provider.models import LtiResult, LtiServiceBreaker
from lti_provider.models.attempt import REASONS
from lti_provider.models.score import format_number

if TYPE_CHECKING:
    ResultModelAdmin = admin.ModelAdmin[LtiResult]
    BreakerModelAdmin = admin.ModelAdmin[LtiServiceBreaker]
else:
    ResultModelAdmin = BreakerModelAdmin = admin.ModelAdmin

_NOTHING = "-"
# As floats: SQLite would divide whole numbers without a remainder.
_SHARE = Cast("score_given", FloatField()) / Cast("score_maximum", FloatField())


class UndeliveredFilter(admin.SimpleListFilter):
    """What the LMSs do not have yet, failed grades too."""

    title = _("undelivered")
    parameter_name = "undelivered"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.undelivered() if self.value() == "yes" else queryset


class AnswerFilter(admin.SimpleListFilter):
    """Why a grade is not delivered; Django's own filter would read all grades for its choices."""

    title = _("last answer")
    parameter_name = "last_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(code, code) for code in sorted(REASONS)]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        code = self.value()
        return queryset.filter(last_code=code) if code else queryset


@admin.register(LtiResult)
class LtiResultAdmin(FilteredAdmin, ResultModelAdmin):
    """Read only, with actions: the site submits grades, the LMS has the gradebook."""

    list_display = (
        "person",
        "place",
        "lti_consumer",
        "grade",
        "state",
        "last_answer",
        "attempts",
        "next_attempt_at",
        "submitted_at",
    )
    list_filter = (UndeliveredFilter, "state", "lti_consumer", "submitted_at", AnswerFilter)
    list_select_related = ("lti_consumer", "lti_user", "resource_link__lti_context")
    search_fields = ("=lti_user__lti_user_id", "resource_link__title", "=service_host")
    ordering = ("-pk",)
    paginator = BoundedPaginator
    show_full_result_count = False
    actions = ("resend", "give_up", "delete_grades")
    fieldsets = (
        (None, {"fields": ("person", "place", "lti_consumer", "grade", "submitted_at")}),
        (
            _("Delivery"),
            {
                "fields": (
                    "state",
                    "last_answer",
                    "attempts",
                    "last_attempt_at",
                    "next_attempt_at",
                    "delivered_at",
                )
            },
        ),
        (_("Details"), {"fields": ("service", "service_url", "remote_id", "accepts", "data")}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LtiResult | None = None) -> bool:
        # No field is edited; the actions need this permission.
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: LtiResult | None = None) -> bool:
        # A deleted row would be a lost grade.
        return False

    @admin.display(description=_("person"))
    def person(self, result: LtiResult) -> str:
        """The LMS's id of the person; the account may be gone."""
        return str(result.lti_user) if result.lti_user else gettext("deleted account")

    @admin.display(description=_("activity"))
    def place(self, result: LtiResult) -> str:
        """Course and activity."""
        parts = (result.context, result.resource_link)
        return " / ".join(str(part) for part in parts if part) or _NOTHING

    @admin.display(description=_("score"), ordering=_SHARE)
    def grade(self, result: LtiResult) -> str:
        """The newest score that was submitted, or its deletion."""
        if not result.is_submitted:
            return _NOTHING
        if result.score_given is None or result.score_maximum is None:
            return gettext("deletion")
        return gettext("%(given)s of %(maximum)s") % {
            "given": format_number(result.score_given),
            "maximum": format_number(result.score_maximum),
        }

    @admin.display(description=_("last answer"), ordering="last_code")
    def last_answer(self, result: LtiResult) -> str:
        """Why the last attempt did not deliver the grade; blank if it did."""
        return str(result.reason) or _NOTHING

    @admin.action(description=_("Resend the selected grades"), permissions=["change"])
    def resend(self, request: HttpRequest, queryset: Any) -> None:
        """Send grades again, with all attempts anew."""
        self._report_count(request, queryset.resend())

    @admin.action(description=_("Give up sending the selected grades"), permissions=["change"])
    def give_up(self, request: HttpRequest, queryset: Any) -> None:
        """Stop sending grades that wait."""
        self._report_count(request, queryset.give_up())

    @admin.action(description=_("Delete the selected grades in the LMS"), permissions=["change"])
    def delete_grades(self, request: HttpRequest, queryset: Any) -> None:
        """Delete the scores in the LMS's gradebook."""
        self._report_count(request, queryset.submitted().delete_scores())

    def _report_count(self, request: HttpRequest, count: int) -> None:
        text = ngettext("%(count)d grade was changed.", "%(count)d grades were changed.", count)
        level = messages.SUCCESS if count else messages.WARNING
        self.message_user(request, text % {"count": count}, level)


@admin.register(LtiServiceBreaker)
class LtiServiceBreakerAdmin(FilteredAdmin, BreakerModelAdmin):
    """Hosts that do not answer; a paused one gets no grades until its pause is over."""

    list_display = (
        "host",
        "lti_consumer",
        "failures",
        "failing_since",
        "paused_until",
        "last_answer",
    )
    list_select_related = ("lti_consumer",)
    actions = ("try_now",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: LtiServiceBreaker | None = None
    ) -> bool:
        # No field is edited; the action needs this permission.
        return obj is None and super().has_change_permission(request, obj)

    def has_delete_permission(
        self, request: HttpRequest, obj: LtiServiceBreaker | None = None
    ) -> bool:
        # The host's limits would be forgotten with it.
        return False

    @admin.display(description=_("last problem"), ordering="last_code")
    def last_answer(self, breaker: LtiServiceBreaker) -> str:
        """Why attempts fail at present."""
        return str(breaker.reason) or _NOTHING

    @admin.action(description=_("Try the selected hosts now"), permissions=["change"])
    def try_now(self, request: HttpRequest, queryset: QuerySet[LtiServiceBreaker]) -> None:
        """End the pause of hosts."""
        count = queryset.update(paused_until=None)
        text = ngettext("%(count)d host will be tried.", "%(count)d hosts will be tried.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)

"""LTI 1.3 registrations and deployments: to look up, correct, add and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from lti_provider.admin.lookups import FilteredAdmin
from lti_provider.admin.paginator import BoundedPaginator
from lti_provider.admin.waiting import WaitingDeployments
from lti_provider.models import LtiDeployment, LtiLaunch, LtiRegistration

if TYPE_CHECKING:
    RegistrationModelAdmin = admin.ModelAdmin[LtiRegistration]
    DeploymentModelAdmin = admin.ModelAdmin[LtiDeployment]
    RegistrationModelForm = forms.ModelForm[LtiRegistration]
else:
    RegistrationModelAdmin = DeploymentModelAdmin = admin.ModelAdmin
    RegistrationModelForm = forms.ModelForm

_DEPLOYMENTS = "admin:lti_provider_ltideployment_changelist"
_NOTHING = "-"


class StateFilter(admin.SimpleListFilter):
    """Waiting, in use, or refused."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("waiting", _("Waits")), ("used", _("In use")), ("inactive", _("Not active"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        found: dict[str, dict[str, Any]] = {
            "waiting": {"lti_consumer": None, "is_active": True},
            "used": {"lti_consumer__isnull": False, "is_active": True},
            "inactive": {"is_active": False},
        }
        return queryset.filter(**found.get(self.value() or "", {}))


class LtiRegistrationForm(RegistrationModelForm):
    """The form of a registration."""

    class Meta:
        widgets = {
            **{
                name: forms.TextInput({"class": "vLargeTextField", "spellcheck": "false"})
                for name in (
                    *("issuer", "client_id", "authorization_endpoint", "token_endpoint"),
                    *("token_audience", "jwks_uri"),
                )
            },
            "jwks": forms.Textarea({"rows": 3, "class": "vLargeTextField", "spellcheck": "false"}),
            "service_networks": forms.Textarea({"rows": 3, "class": "vLargeTextField"}),
        }


@admin.register(LtiRegistration)
class LtiRegistrationAdmin(FilteredAdmin, RegistrationModelAdmin):
    """How LMSs know this site, one entry for each issuer and client id."""

    form = LtiRegistrationForm
    list_display = ("issuer", "client_id", "lti_consumer", "deployment_list", "is_active")
    list_display_links = ("issuer", "client_id")
    list_filter = ("is_active", "new_deployments")
    list_select_related = ("lti_consumer",)
    search_fields = ("issuer", "client_id")
    autocomplete_fields = ("lti_consumer",)
    readonly_fields = ("deployment_list", "keys")
    fieldsets = (
        (None, {"fields": ("issuer", "client_id", "is_active")}),
        (
            _("Addresses of the LMS"),
            {
                "fields": (
                    "authorization_endpoint",
                    "token_endpoint",
                    "token_audience",
                    "jwks_uri",
                    "jwks",
                    "keys",
                )
            },
        ),
        (
            _("Deployments"),
            {"fields": ("deployment_list", "new_deployments", "lti_consumer")},
        ),
        (_("Limits"), {"fields": ("clock_leeway", "service_networks")}),
    )

    class Media:
        css = {"all": ("lti_provider/admin.css",)}

    def get_fieldsets(self, request: HttpRequest, obj: LtiRegistration | None = None) -> Any:
        hidden = {"deployment_list", "keys"} if obj is None else set()
        return [
            (name, {**options, "fields": [f for f in options["fields"] if f not in hidden]})
            for name, options in super().get_fieldsets(request, obj)
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[LtiRegistration]:
        counted = Count("deployments")
        return super().get_queryset(request).annotate(deployment_count=counted)

    @admin.display(description=_("deployments"))
    def deployment_list(self, registration: LtiRegistration) -> SafeString:
        """How many there are, as a link to them."""
        url = reverse(_DEPLOYMENTS) + f"?registration__id__exact={registration.pk}"
        count = getattr(registration, "deployment_count", 0)
        return format_html('<a href="{}">{}</a>', url, count)

    @admin.display(description=_("state of the key set"))
    def keys(self, registration: LtiRegistration) -> str:
        """When the LMS's keys were fetched, and why the last attempt failed."""
        if not registration.jwks_uri:
            return gettext("Entered above; nothing is fetched.")
        if registration.jwks_error:
            text = gettext("The last attempt failed. %(problem)s")
            return text % {"problem": registration.key_set_problem}
        return gettext("Fetched.") if registration.jwks_fetched_at else gettext("Not fetched yet.")

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Launches may be a million, and nobody deletes one of them otherwise.
        sentences = [_describe_deletion(registration) for registration in objs]
        counts = {self.opts.verbose_name_plural: len(objs)}
        site = self.admin_site
        may_delete = not site.is_registered(LtiDeployment) or site.get_model_admin(
            LtiDeployment
        ).has_delete_permission(request)
        needed = set() if may_delete else {LtiDeployment._meta.verbose_name}
        return sentences, counts, needed, []


def _describe_deletion(registration: LtiRegistration) -> str:
    launches = LtiLaunch.objects.filter(registration=registration).count()
    deployments = registration.deployments.count()
    return " ".join(
        (
            ngettext(
                "%(registration)s has %(count)d deployment, whose launches are refused then.",
                "%(registration)s has %(count)d deployments, whose launches are refused then.",
                deployments,
            )
            % {"registration": registration, "count": deployments},
            ngettext(
                "%(count)d launch goes from the log.",
                "%(count)d launches go from the log.",
                launches,
            )
            % {"count": launches},
            gettext(
                "People, accounts and grades stay. To keep the log too, deactivate the "
                "registration instead."
            ),
        )
    )


@admin.register(LtiDeployment)
class LtiDeploymentAdmin(FilteredAdmin, DeploymentModelAdmin):
    """Where this site is in LMSs that speak LTI 1.3. Those that wait are decided upon here."""

    list_display = (
        "deployment_id",
        "issuer",
        "place",
        "lms",
        "instance_guid",
        "first_seen_at",
        "last_seen_at",
    )
    list_filter = (StateFilter, "lti_consumer", "registration")
    list_select_related = ("registration", "lti_consumer")
    search_fields = ("deployment_id", "instance_guid", "installation_name", "registration__issuer")
    autocomplete_fields = ("registration", "lti_consumer")
    paginator = BoundedPaginator
    show_full_result_count = False
    _seen = (
        "product",
        "installation_name",
        "instance_guid",
        "first_seen_at",
        "last_seen_at",
    )
    readonly_fields = ("state", *_seen)
    change_form_template = "admin/lti_provider/ltideployment/change_form.html"

    class Media:
        css = {"all": ("lti_provider/admin.css",)}

    def get_fieldsets(self, request: HttpRequest, obj: LtiDeployment | None = None) -> Any:
        identity = ("registration", "deployment_id")
        if obj is None:
            return [(None, {"fields": (*identity, "lti_consumer")})]
        chosen = ("state",) if obj.is_waiting else ("lti_consumer", "is_active")
        return [
            (None, {"fields": (*identity, *chosen)}),
            (_("What the LMS said of it"), {"fields": self._seen}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: LtiDeployment | None = None) -> Any:
        # A different id is a different place: add that one.
        fixed = () if obj is None else ("registration", "deployment_id")
        return (*super().get_readonly_fields(request, obj), *fixed)

    def get_form(
        self,
        request: HttpRequest,
        obj: LtiDeployment | None = None,
        change: bool = False,
        **kwargs: Any,
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        # Without one it would wait, and nothing was seen of it that could be decided upon.
        if "lti_consumer" in form.base_fields and obj is None:
            form.base_fields["lti_consumer"].required = True
        return form

    def get_queryset(self, request: HttpRequest) -> QuerySet[LtiDeployment]:
        return super().get_queryset(request).select_related("registration", "lti_consumer")

    @admin.display(description=_("issuer"), ordering="registration__issuer")
    def issuer(self, deployment: LtiDeployment) -> str:
        """The issuer of its registration."""
        return deployment.registration.issuer

    @admin.display(description=_("LTI consumer"), ordering="lti_consumer__consumer_name")
    def place(self, deployment: LtiDeployment) -> str:
        """The consumer, and what keeps its launches out."""
        name = str(deployment.lti_consumer or "")
        if deployment.is_active and name:
            return name
        return f"{name} ({self.state(deployment)})" if name else self.state(deployment)

    @admin.display(description=_("LMS"), ordering="installation_name")
    def lms(self, deployment: LtiDeployment) -> str:
        """How the LMS calls itself, and its product."""
        said = (deployment.installation_name, deployment.product)
        return ", ".join(text for text in said if text) or _NOTHING

    @admin.display(description=_("state"))
    def state(self, deployment: LtiDeployment) -> str:
        """Waiting, in use, or not active."""
        if not deployment.is_active:
            return gettext("Not active")
        return gettext("Waits") if deployment.is_waiting else gettext("In use")

    def get_urls(self) -> list[URLPattern]:
        return [*WaitingDeployments(self).get_urls(), *super().get_urls()]

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        deployment = self.get_object(request, object_id)
        offers = WaitingDeployments(self).get_offers(request, deployment)
        return super().change_view(
            request, object_id, form_url, {**offers, **(extra_context or {})}
        )

"""Deployments that nobody knows: what administrators see of them, and what they decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import router, transaction
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from lti_provider.models import LtiConsumer, LtiDeployment
from lti_provider.products import find_product

if TYPE_CHECKING:
    from django.contrib.admin import AdminSite, ModelAdmin

_CHANGE_URL = "admin:lti_provider_ltideployment_change"
_LIST_URL = "admin:lti_provider_ltideployment_changelist"
_BELONGS_URL = "admin:lti_provider_ltideployment_belongs"
_CONSUMER_URL = "admin:lti_provider_ltideployment_consumer"
_REFUSE_URL = "admin:lti_provider_ltideployment_refuse"
_SHOWN = 3
_COUNTED = 100
_NAME_LENGTH = 255


class WaitingDeployments:
    """The three decisions about a deployment that waits, as views of its ModelAdmin."""

    def __init__(self, model_admin: ModelAdmin[LtiDeployment]) -> None:
        self.admin = model_admin

    def get_urls(self) -> list[URLPattern]:
        """Their URLs, for the ModelAdmin to add to its own."""
        decisions = (
            ("belongs", _BELONGS_URL, self.belongs_view),
            ("consumer", _CONSUMER_URL, self.consumer_view),
            ("refuse", _REFUSE_URL, self.refuse_view),
        )
        return [
            path(
                f"<int:pk>/{decision}/",
                self.admin.admin_site.admin_view(require_POST(view)),
                name=name.removeprefix("admin:"),
            )
            for decision, name, view in decisions
        ]

    def get_offers(self, request: HttpRequest, deployment: LtiDeployment | None) -> dict[str, Any]:
        """What the page of a deployment offers to whoever may decide about it."""
        if deployment is None or not deployment.is_waiting or not self._may_decide(request):
            return {}
        consumers = _get_consumer_admin(self.admin.admin_site)
        fitting = _find_fitting(request, consumers, deployment)
        choice = _ChoiceForm(fitting, auto_id="lti-%s") if fitting is not None else None
        may_add = consumers is not None and consumers.has_add_permission(request)
        args = [deployment.pk]
        return {
            "waits": True,
            # There is nothing else to decide.
            "show_save": False,
            "show_save_and_continue": False,
            "show_save_and_add_another": False,
            "choice": choice if fitting is not None and fitting.exists() else None,
            "belongs_url": reverse(_BELONGS_URL, args=args),
            "consumer_url": reverse(_CONSUMER_URL, args=args) if may_add else "",
            "refuse_url": reverse(_REFUSE_URL, args=args),
        }

    def belongs_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Let it belong to the consumer that was chosen."""
        deployment = self._get_waiting(request, pk)
        consumers = _get_consumer_admin(self.admin.admin_site)
        fitting = _find_fitting(request, consumers, deployment)
        form = _ChoiceForm(fitting, request.POST) if fitting is not None else None
        if form is None or not form.is_valid():
            messages.error(request, gettext("Choose the LTI consumer that it belongs to."))
            return HttpResponseRedirect(reverse(_CHANGE_URL, args=[pk]))
        return self._assign(request, deployment, lambda: form.cleaned_data["consumer"])

    def consumer_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Make a consumer for it, with what the LMS said of itself."""
        deployment = self._get_waiting(request, pk)
        consumers = _get_consumer_admin(self.admin.admin_site)
        if consumers is None or not consumers.has_add_permission(request):
            raise PermissionDenied
        return self._assign(request, deployment, lambda: _make_consumer(deployment))

    def refuse_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Refuse it: its launches go on being refused, and it is not asked for again."""
        deployment = self._get_waiting(request, pk)
        if deployment.refuse():
            text = gettext("Refused the deployment.")
            self.admin.log_change(request, deployment, text)
            messages.success(request, text)
        return HttpResponseRedirect(reverse(_LIST_URL))

    def _assign(
        self,
        request: HttpRequest,
        deployment: LtiDeployment,
        get_consumer: Callable[[], LtiConsumer],
    ) -> HttpResponse:
        administrator: Any = request.user
        try:
            with transaction.atomic(using=router.db_for_write(LtiConsumer)):
                consumer = get_consumer()
                deployment.assign(consumer, administrator)
        except ValidationError as error:
            messages.error(request, error.messages[0])
            return HttpResponseRedirect(reverse(_CHANGE_URL, args=[deployment.pk]))
        text = gettext("Deployment “%(id)s” belongs to “%(name)s” from now on.")
        text %= {"id": deployment, "name": consumer}
        self.admin.log_change(request, deployment, text)
        consumers: Any = _get_consumer_admin(self.admin.admin_site)
        consumers.log_change(request, consumer, text)
        messages.success(request, text)
        url = reverse("admin:lti_provider_lticonsumer_setup", args=[consumer.pk])
        return HttpResponseRedirect(url)

    def _get_waiting(self, request: HttpRequest, pk: int) -> LtiDeployment:
        deployment = self.admin.get_object(request, str(pk))
        if deployment is None or not self._may_decide(request):
            raise PermissionDenied
        return deployment

    def _may_decide(self, request: HttpRequest) -> bool:
        return self.admin.has_change_permission(request)


class _ChoiceForm(forms.Form):
    consumer: forms.ModelChoiceField[LtiConsumer] = forms.ModelChoiceField(
        LtiConsumer.objects.none(), label=_("LTI consumer")
    )

    def __init__(self, consumers: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["consumer"]
        field.queryset = consumers


def get_waiting(
    request: HttpRequest, site: AdminSite, consumer: LtiConsumer | None = None
) -> dict[str, Any]:
    """What pages of consumers show of the deployments that wait; ``consumer`` is whose page it is.

    Empty for who may not look at deployments.
    """
    if not site.is_registered(LtiDeployment):
        return {}
    deployments = site.get_model_admin(LtiDeployment)
    if not deployments.has_view_permission(request):
        return {}
    queryset: Any = deployments.get_queryset(request)
    # In one read, since mostly there are none.
    waiting = list(queryset.waiting()[:_COUNTED])
    theirs = consumer if deployments.has_change_permission(request) else None
    return {
        "waiting_count": len(waiting),
        "waiting": [
            (each, reverse(_CHANGE_URL, args=[each.pk]), _get_belongs_url(each, theirs))
            for each in waiting[:_SHOWN]
        ],
        "waiting_url": f"{reverse(_LIST_URL)}?state=waiting",
    }


def _get_belongs_url(deployment: LtiDeployment, consumer: LtiConsumer | None) -> str:
    fits = consumer is not None and consumer.accepts_issuer(deployment.registration.issuer)
    return reverse(_BELONGS_URL, args=[deployment.pk]) if fits else ""


def _get_consumer_admin(site: AdminSite) -> ModelAdmin[LtiConsumer] | None:
    return site.get_model_admin(LtiConsumer) if site.is_registered(LtiConsumer) else None


def _find_fitting(
    request: HttpRequest, consumers: ModelAdmin[LtiConsumer] | None, deployment: LtiDeployment
) -> Any:
    if consumers is None or not consumers.has_change_permission(request):
        return None
    issuer = deployment.registration.issuer
    return consumers.get_queryset(request).filter(Q(issuer="") | Q(issuer=issuer))


def _make_consumer(deployment: LtiDeployment) -> LtiConsumer:
    known = find_product(deployment.product)
    name = deployment.installation_name or deployment.instance_guid
    return LtiConsumer.objects.create(
        consumer_name=(name or deployment.registration.issuer)[:_NAME_LENGTH],
        product=known.code if known else "",
        consumer_key=None,
        consumer_secret="",
    )

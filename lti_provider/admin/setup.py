"""The set-up page of a consumer: what to enter in the LMS, how it is doing, and a launch to try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import get_language, gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider.admin.unknown_sender import UnknownSenders
from lti_provider.conf import conf
from lti_provider.lti11.trial_launch import ROLES, TRY_IT, TrialLaunch
from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.models.credentials import NOT_SPOKEN
from lti_provider.pages import render_page
from lti_provider.products import PRODUCTS, LmsProduct
from lti_provider.status import RecentLaunches, StatusLine, get_status_lines

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.utils.safestring import SafeString

REVEAL_URL = "admin:lti_provider_lticonsumer_secret"
_SETUP_URL = "admin:lti_provider_lticonsumer_setup"
_TRY_URL = "admin:lti_provider_lticonsumer_try"
_LAUNCH_URL = "admin:lti_provider_ltilaunch_change"
_ROLE_BY_NAME = {role.name: role for role in ROLES}
_ROLE_CHOICES = [
    ("Learner", _("Learner")),
    ("Instructor", _("Teacher")),
    ("TeachingAssistant", _("Teaching assistant")),
    ("Administrator", _("Administrator of the course")),
]


def get_setup_url(consumer: LtiConsumer) -> str:
    """The URL of a consumer's set-up page."""
    return reverse(_SETUP_URL, args=[consumer.pk])


class TryForm(forms.Form):
    """The role and the page of a trial launch."""

    role = forms.ChoiceField(label=_("Role"), choices=_ROLE_CHOICES)
    target = forms.CharField(
        label=_("Page"),
        required=False,
        max_length=2000,
        help_text=_("A path such as /courses/algebra/; blank for the default target."),
        widget=forms.TextInput({"class": "vTextField"}),
    )

    @property
    def url(self) -> str:
        """The path of the launch URL."""
        target = self.cleaned_data["target"].strip().removeprefix("/")
        if not target:
            return reverse("lti_provider:launch")
        return reverse("lti_provider:launch_target", args=[target])


class ConsumerSetup:
    """The set-up page of a consumer and its trial launch, as views of a ModelAdmin."""

    def __init__(self, model_admin: ModelAdmin[LtiConsumer]) -> None:
        self.admin = model_admin

    def get_urls(self) -> list[URLPattern]:
        """Both URLs, for the ModelAdmin to add to its own."""
        pages = (("setup", _SETUP_URL, self.setup_view), ("try", _TRY_URL, self.try_view))
        return [
            path(
                f"<path:object_id>/{page}/",
                self.admin.admin_site.admin_view(view),
                name=name.removeprefix("admin:"),
            )
            for page, name, view in pages
        ]

    def setup_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the page to whoever may look at the consumer."""
        consumer = self._get_consumer(request, object_id)
        if not self.admin.has_view_permission(request, consumer):
            raise PermissionDenied
        form = TryForm(initial={"target": consumer.get_first_target()})
        return self._render_setup(request, consumer, form)

    @sensitive_variables()
    def try_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer a POST with a trial launch, if the user may change the consumer; log it."""
        consumer = self._get_consumer(request, object_id)
        if not self.admin.has_change_permission(request, consumer):
            raise PermissionDenied
        if request.method != "POST" or not consumer.speaks_lti11:
            return HttpResponseRedirect(get_setup_url(consumer))
        form = TryForm(request.POST)
        if not form.is_valid():
            return self._render_setup(request, consumer, form)
        role = _ROLE_BY_NAME[form.cleaned_data["role"]]
        url = request.build_absolute_uri(form.url)
        text = gettext("Launched %(url)s as %(role)s to try it.")
        self.admin.log_change(request, consumer, text % {"url": url, "role": role.name})
        trial_launch = TrialLaunch(
            consumer=consumer,
            role=role,
            title=TRY_IT,
            return_url=request.build_absolute_uri(get_setup_url(consumer)),
            locale=get_language() or "",
        )
        context = {"url": url, "pairs": trial_launch.sign(url)}
        response = render_page("try_launch", context, script="submit", frame_ancestors=())
        # Without a referrer the Origin is "null", which is nobody's: a check of the LMS's passes.
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    def _get_consumer(self, request: HttpRequest, object_id: str) -> LtiConsumer:
        consumer = self.admin.get_object(request, unquote(object_id))
        if consumer is None:
            raise PermissionDenied
        return consumer

    def _render_setup(
        self, request: HttpRequest, consumer: LtiConsumer, form: TryForm
    ) -> HttpResponse:
        changeable = self.admin.has_change_permission(request, consumer)
        recent = RecentLaunches.for_consumer(consumer)
        context = {
            **self.admin.admin_site.each_context(request),
            "title": gettext("Set up the LMS"),
            "opts": self.admin.opts,
            "original": consumer,
            "changeable": changeable,
            "has_target": conf.default_target is not None,
            "needs_email": _needs_email(consumer),
            "not_spoken": None if consumer.speaks_lti11 else NOT_SPOKEN,
            "status": [(line, _get_log_url(line)) for line in get_status_lines(recent)],
            "form": form,
            **UnknownSenders(self.admin).get_context(request),
            **_get_addresses(request, recent),
        }
        return TemplateResponse(request, "lti_provider/admin/setup.html", context)


def _get_addresses(request: HttpRequest, recent: RecentLaunches) -> dict[str, Any]:
    consumer = recent.consumer
    try:
        launch_url = request.build_absolute_uri(reverse("lti_provider:launch"))
    except NoReverseMatch:
        return {"launch_url": None}
    if not consumer.speaks_lti11:
        return {"launch_url": launch_url}
    values = {
        "launch_url": launch_url,
        "cartridge_url": request.build_absolute_uri(reverse("lti_provider:cartridge")),
        "key": consumer.signing_key,
        "name": conf.cartridge.get("title") or request.get_host(),
    }
    return {
        "launch_url": launch_url,
        "cartridge_url": values["cartridge_url"],
        "seen_origin": f"{request.scheme}://{request.get_host()}",
        "reveal_url": reverse(REVEAL_URL, args=[consumer.pk]),
        "try_url": reverse(_TRY_URL, args=[consumer.pk]),
        "products": [(product, _format_steps(product, values)) for product in PRODUCTS],
        "likely": _find_likely_product(recent.accepted),
    }


def _format_steps(product: LmsProduct, values: dict[str, str]) -> list[SafeString]:
    shown = {
        name: format_html('<code class="lti-value">{}</code>', value)
        for name, value in values.items()
    }
    shown["name"] = format_html("{}", values["name"])
    masked = '<code class="lti-value" data-lti-secret>{}</code>'
    shown["secret"] = format_html(masked, "••••••••")
    passport = '<code class="lti-value">"lti_tool:{}:<span data-lti-secret>{}</span>"</code>'
    shown["passport"] = format_html(passport, values["key"], "••••••••")
    return [format_html(str(step), **shown) for step in product.steps]


def _find_likely_product(launch: LtiLaunch | None) -> str:
    sent = launch.message.installation.product if launch else ""
    family = "".join(sent.lower().split())
    return next((known.code for known in PRODUCTS if known.family == family), "")


def _needs_email(consumer: LtiConsumer) -> bool:
    keeps = consumer.personal_data == LtiConsumer.PersonalDataPolicy.NAME_EMAIL
    matches = consumer.account_match == LtiConsumer.AccountMatch.EMAIL
    return keeps or (consumer.require_user_account and matches)


def _get_log_url(line: StatusLine) -> str:
    return "" if line.launch is None else reverse(_LAUNCH_URL, args=[line.launch.pk])

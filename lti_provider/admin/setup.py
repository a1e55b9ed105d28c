"""The set-up page of a consumer: what to enter in the LMS, how it is doing, and a launch to try."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote as unquote_pk
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import (
    NoReverseMatch,
    Resolver404,
    URLPattern,
    get_script_prefix,
    path,
    resolve,
    reverse,
)
from django.utils.html import format_html
from django.utils.translation import get_language, gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables

from lti_provider import protocols
from lti_provider.admin.unknown_sender import UnknownSenders
from lti_provider.admin.waiting import get_waiting
from lti_provider.conf import conf
from lti_provider.exceptions import LaunchRefused
from lti_provider.models import LtiConsumer, LtiDeployment, LtiLaunch, LtiRegistration
from lti_provider.origins import is_under
from lti_provider.products import PRODUCTS, find_product
from lti_provider.registering import RegisterForm
from lti_provider.status import RecentLaunches, StatusLine, get_status_lines
from lti_provider.trial import ROLES, TRY_IT, TrialLaunch
from lti_provider.views.launch import LaunchView

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin
    from django.utils.functional import _StrPromise
    from django.utils.safestring import SafeString

REVEAL_URL = "admin:lti_provider_lticonsumer_secret"
_SETUP_URL = "admin:lti_provider_lticonsumer_setup"
_REGISTER_URL = "admin:lti_provider_lticonsumer_register"
_TRY_URL = "admin:lti_provider_lticonsumer_try"
_LAUNCH_URL = "admin:lti_provider_ltilaunch_change"
_LISTED = 20
_PATH_LENGTH = 2000
_PAGES_LISTED = 20
_LAUNCHES_READ = 50
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


@dataclass(frozen=True, kw_only=True)
class RegisteredLms:
    """A registration of a consumer, and the consumer's deployments in it."""

    registration: LtiRegistration
    deployments: list[LtiDeployment]

    @property
    def summary(self) -> str:
        """Which deployments there are, in a few words."""
        if not self.deployments:
            return gettext("no deployment yet")
        ids = ", ".join(map(str, self.deployments))
        return ngettext("deployment %(ids)s", "deployments %(ids)s", len(self.deployments)) % {
            "ids": ids
        }


def list_registrations(
    consumer: LtiConsumer, known: Iterable[LtiRegistration] | None = None
) -> list[RegisteredLms]:
    """The first registrations of a consumer, each with its first deployments, in two reads.

    ``known`` are the registrations, if they were read already.
    """
    found = list(
        LtiRegistration.objects.of_consumer(consumer)[:_LISTED] if known is None else known
    )
    own = LtiDeployment.objects.filter(lti_consumer=consumer, registration__in=found)
    deployments = list(own.order_by("pk")[:_LISTED])
    return [
        RegisteredLms(
            registration=registration,
            deployments=[each for each in deployments if each.registration_id == registration.pk],
        )
        for registration in found
    ]


class TryForm(forms.Form):
    """The role and the page of a trial launch."""

    role = forms.ChoiceField(label=_("Role"), choices=_ROLE_CHOICES)
    target = forms.CharField(
        label=_("Page"),
        required=False,
        max_length=2000,
        help_text=_("A path such as /courses/algebra/; blank for the default target."),
        # The page above it is what is tried.
        widget=forms.HiddenInput(),
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
        """The URLs, for the ModelAdmin to add to its own."""
        pages = (
            ("setup", _SETUP_URL, self.setup_view),
            ("register", _REGISTER_URL, self.register_view),
            ("try", _TRY_URL, self.try_view),
        )
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
        return self._render_setup(request, consumer)

    def register_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Store what the LMS shows of LTI 1.3, if the user may; note it in the history."""
        consumer = self._get_consumer(request, object_id)
        if not self._may_register(request, consumer):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseRedirect(get_setup_url(consumer))
        form = RegisterForm(consumer, request.POST)
        if form.is_valid():
            try:
                registration, deployment = form.save(request.user)
            except ValidationError as error:
                form.add_error(None, error)
            else:
                self._log_registration(request, consumer, registration, deployment)
                return HttpResponseRedirect(get_setup_url(consumer))
        return self._render_setup(request, consumer, register_form=form)

    def _log_registration(
        self,
        request: HttpRequest,
        consumer: LtiConsumer,
        registration: LtiRegistration,
        deployment: LtiDeployment | None,
    ) -> None:
        text = gettext("Registered %(registration)s, deployment “%(deployment)s”.") % {
            "registration": registration,
            "deployment": deployment or "",
        }
        self.admin.log_change(request, consumer, text)
        for model, row in ((LtiRegistration, registration), (LtiDeployment, deployment)):
            if row is not None:
                row_admin: Any = self.admin.admin_site.get_model_admin(model)
                row_admin.log_change(request, row, text)
        messages.success(request, text)

    def _may_register(self, request: HttpRequest, consumer: LtiConsumer) -> bool:
        site = self.admin.admin_site
        return self.admin.has_change_permission(request, consumer) and all(
            site.is_registered(model) and site.get_model_admin(model).has_add_permission(request)
            for model in (LtiRegistration, LtiDeployment)
        )

    @sensitive_variables()
    def try_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a trial launch and show its address, if the user may change the consumer; log it."""
        consumer = self._get_consumer(request, object_id)
        if not self.admin.has_change_permission(request, consumer):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseRedirect(get_setup_url(consumer))
        form = TryForm(request.POST)
        if not form.is_valid():
            return self._render_setup(request, consumer, try_form=form)
        url = request.build_absolute_uri(form.url)
        role = _ROLE_BY_NAME[form.cleaned_data["role"]]
        trial = TrialLaunch(consumer=consumer, role=role, title=TRY_IT, locale=get_language() or "")
        try:
            launch = LaunchView.accept_trial(request, trial.verify(url))
        except LaunchRefused as refusal:
            return self._render_setup(request, consumer, try_form=form, trial_refusal=refusal)
        text = gettext("Made a launch of %(url)s as %(role)s to try.")
        self.admin.log_change(request, consumer, text % {"url": url, "role": role.name})
        address = request.build_absolute_uri(reverse("lti_provider:try", args=[launch.handle]))
        return self._render_setup(request, consumer, try_form=form, trial_url=address)

    def _get_consumer(self, request: HttpRequest, object_id: str) -> LtiConsumer:
        consumer = self.admin.get_object(request, unquote_pk(object_id))
        if consumer is None:
            raise PermissionDenied
        return consumer

    def _render_setup(
        self,
        request: HttpRequest,
        consumer: LtiConsumer,
        *,
        register_form: RegisterForm | None = None,
        try_form: TryForm | None = None,
        **more: Any,
    ) -> HttpResponse:
        recent = RecentLaunches.for_consumer(consumer)
        page = ChosenPage.from_request(request, consumer)
        may_register = self._may_register(request, consumer)
        registrations = list_registrations(consumer, recent.registrations)
        context = {
            **self.admin.admin_site.each_context(request),
            "title": gettext("Set up the LMS"),
            "opts": self.admin.opts,
            "original": consumer,
            "changeable": self.admin.has_change_permission(request, consumer),
            "page": page,
            "needs_email": _needs_email(consumer),
            "lti11": consumer.speaks_lti11,
            "lti13": bool(registrations) or not consumer.speaks_lti11,
            "registrations": registrations,
            "may_change_registrations": self._may_view_registrations(request),
            "register_url": reverse(_REGISTER_URL, args=[consumer.pk]) if may_register else "",
            "register_form": register_form or RegisterForm(consumer),
            "status": [(line, _get_log_url(line)) for line in get_status_lines(recent)],
            "form": try_form or TryForm(initial={"target": page.path}),
            **get_waiting(request, self.admin.admin_site, consumer),
            **UnknownSenders(self.admin).get_context(request),
            **_get_addresses(request, recent, page),
            **more,
        }
        return TemplateResponse(request, "lti_provider/admin/setup.html", context)

    def _may_view_registrations(self, request: HttpRequest) -> bool:
        site = self.admin.admin_site
        return site.is_registered(LtiRegistration) and site.get_model_admin(
            LtiRegistration
        ).has_view_permission(request)


@dataclass(frozen=True, kw_only=True)
class ChosenPage:
    """The page of this site that everything on the set-up page is about.

    ``path`` is blank for the default target; ``problem`` says why what was typed is not launched.
    ``known`` are pages to choose from.
    """

    path: str
    typed: str
    problem: str
    known: list[str]

    @classmethod
    def from_request(cls, request: HttpRequest, consumer: LtiConsumer) -> Self:
        """The page that the address asks for, else the first one that can be launched."""
        known = _list_pages(consumer)
        first = "" if conf.default_target is not None and not consumer.launch_target_list else None
        start = first if first is not None else next(iter(known), "")
        given = request.POST.get("target", request.GET.get("page"))
        if given is None:
            return cls(path=start, typed=start, problem="", known=known)
        typed = given.strip()[:_PATH_LENGTH]
        path = f"/{typed.lstrip('/')}" if typed else ""
        problem = _describe_problem(path, consumer)
        return cls(path=start if problem else path, typed=typed, problem=problem, known=known)

    @property
    def leads_nowhere(self) -> bool:
        """Whether there is nothing to launch yet."""
        return not self.path and conf.default_target is None

    def build_url(self, name: str) -> str:
        """The path of a view of this app: of its ``…_target`` pattern if there is a path."""
        if not self.path:
            return reverse(f"lti_provider:{name}")
        return reverse(f"lti_provider:{name}_target", args=[self.path.removeprefix("/")])


def _describe_problem(path: str, consumer: LtiConsumer) -> str:
    if not path:
        return ""
    if not is_under(path, conf.launchable_paths):
        return gettext("It is not under LTI_PROVIDER_LAUNCHABLE_PATHS.")
    if consumer.launch_target_list and not is_under(path, consumer.launch_target_list):
        return gettext("It is not under the launch targets of this LTI consumer.")
    return "" if _is_page(path) else gettext("This site has no such page.")


def _is_page(path: str) -> bool:
    try:
        resolve(path)
    except Resolver404:
        return False
    return True


def _list_pages(consumer: LtiConsumer) -> list[str]:
    newest = LtiLaunch.objects.accepted().filter(lti_consumer=consumer).order_by("-pk")
    launched = newest.values_list("target", flat=True)[:_LAUNCHES_READ]
    paths = (urlsplit(target).path for target in launched)
    prefix = get_script_prefix()
    found = (f"/{unquote(path).removeprefix(prefix)}" for path in paths)
    candidates = (*consumer.launch_target_list, *conf.launchable_paths, *found)
    known = dict.fromkeys(path for path in candidates if not _describe_problem(path, consumer))
    return list(known)[:_PAGES_LISTED]


def _get_addresses(
    request: HttpRequest, recent: RecentLaunches, page: ChosenPage
) -> dict[str, Any]:
    consumer = recent.consumer
    try:
        launch_url = request.build_absolute_uri(page.build_url("launch"))
    except NoReverseMatch:
        return {"launch_url": None}
    shared = {"launch_url": launch_url, "name": conf.cartridge.get("title") or request.get_host()}
    return {
        "launch_url": launch_url,
        "try_url": reverse(_TRY_URL, args=[consumer.pk]),
        "seen_origin": f"{request.scheme}://{request.get_host()}",
        "likely": consumer.product or _find_likely_product(recent.accepted),
        **_get_lti13_addresses(request, shared),
        **(_get_lti11_addresses(request, consumer, shared, page) if consumer.speaks_lti11 else {}),
    }


def _get_lti13_addresses(request: HttpRequest, shared: dict[str, str]) -> dict[str, Any]:
    values = {
        **shared,
        "login_url": request.build_absolute_uri(reverse("lti_provider:login")),
        "redirect_uri": request.build_absolute_uri(reverse("lti_provider:launch")),
        "jwks_url": request.build_absolute_uri(reverse("lti_provider:jwks")),
    }
    steps = [(each, _fill(each.registration_steps, values)) for each in PRODUCTS]
    return {
        **values,
        "public_key": getattr(protocols, "get_public_pem", str)(),
        "registration_steps": steps,
    }


def _get_lti11_addresses(
    request: HttpRequest, consumer: LtiConsumer, shared: dict[str, str], page: ChosenPage
) -> dict[str, Any]:
    values = {
        **shared,
        "cartridge_url": request.build_absolute_uri(page.build_url("cartridge")),
        "key": consumer.signing_key,
    }
    return {
        "cartridge_url": values["cartridge_url"],
        "reveal_url": reverse(REVEAL_URL, args=[consumer.pk]),
        "products": [(product, _fill(product.steps, values)) for product in PRODUCTS],
    }


def _fill(steps: tuple[_StrPromise, ...], values: dict[str, str]) -> list[SafeString]:
    shown = {
        name: format_html('<code class="lti-value">{}</code>', value)
        for name, value in values.items()
    }
    shown["name"] = format_html("{}", values["name"])
    masked = '<code class="lti-value" data-lti-secret>{}</code>'
    shown["secret"] = format_html(masked, "••••••••")
    passport = '<code class="lti-value">"lti_tool:{}:<span data-lti-secret>{}</span>"</code>'
    shown["passport"] = format_html(passport, values.get("key", ""), "••••••••")
    return [format_html(str(step), **shown) for step in steps]


def _find_likely_product(launch: LtiLaunch | None) -> str:
    known = find_product(launch.message.installation.product) if launch else None
    return known.code if known else ""


def _needs_email(consumer: LtiConsumer) -> bool:
    keeps = consumer.personal_data == LtiConsumer.PersonalDataPolicy.NAME_EMAIL
    matches = consumer.account_match == LtiConsumer.AccountMatch.EMAIL
    return keeps or (consumer.require_user_account and matches)


def _get_log_url(line: StatusLine) -> str:
    return "" if line.launch is None else reverse(_LAUNCH_URL, args=[line.launch.pk])

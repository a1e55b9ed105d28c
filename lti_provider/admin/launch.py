"""The launch log: who came, who was refused, and what to do about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from lti_provider.admin.lookups import FilteredAdmin
from lti_provider.admin.paginator import BoundedPaginator
from lti_provider.exceptions import LaunchRefused, OtherInstallation, UnknownFrameOrigin
from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.origins import normalize_origin

if TYPE_CHECKING:
    LaunchModelAdmin = admin.ModelAdmin[LtiLaunch]
else:
    LaunchModelAdmin = admin.ModelAdmin

_NOTHING = "-"
# The filters for which an index has the refusals.
_NARROWING = {"lti_consumer__id__exact", "registration__id__exact"}
_DEPLOYMENT = "/deployment_id"
_ACCEPT_URL = "admin:lti_provider_ltilaunch_accept"
_FRAME_URL = "admin:lti_provider_ltilaunch_frame"


# Of launches before which there was a login; the others have what their signature covers.
_OF_LOGIN = ("registration", "deployment")
_OF_TOKEN = ("checks", "token_text")
_OF_FORM = ("signed_with", "signature_text")


class OutcomeFilter(admin.SimpleListFilter):
    """Accepted, refused, or refused for one reason."""

    title = _("outcome")
    parameter_name = "outcome"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        codes = [(code, code) for code in sorted(LaunchRefused.by_code())]
        return [("accepted", _("Accepted")), ("refused", _("Refused")), *codes]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        value = self.value()
        if value == "accepted":
            return queryset.filter(refusal_code="")
        if not value:
            return queryset
        found = queryset.refused() if value == "refused" else queryset.filter(refusal_code=value)
        if _NARROWING & request.GET.keys():
            return found
        # Refusals are found in the index by consumer, not by reading what was accepted; some were
        # refused before the consumer was known.
        consumers = list(LtiConsumer.objects.values_list("pk", flat=True))
        return found.filter(Q(lti_consumer__in=consumers) | Q(lti_consumer=None))


@admin.register(LtiLaunch)
class LtiLaunchAdmin(FilteredAdmin, LaunchModelAdmin):
    """The launch log, read only: the newest refusals, and launches until they are purged."""

    list_display = ("received_at", "outcome", "lms", "person", "place")
    list_filter = (OutcomeFilter, "lti_consumer", "registration")
    list_select_related = (
        "lti_consumer",
        "registration",
        "lti_user",
        "resource_link__lti_context",
    )
    ordering = ("-pk",)
    paginator = BoundedPaginator
    show_full_result_count = False
    fieldsets = (
        (None, {"fields": ("received_at", "entered_at", "lti_consumer", *_OF_LOGIN, "outcome")}),
        (_("What happened"), {"fields": ("what_happened", "what_to_do")}),
        (_("What the LMS sent"), {"fields": ("person", "roles_sent", "place", "installation")}),
        (
            _("Details"),
            {
                "fields": (
                    "target",
                    "signed_with",
                    "launch_url",
                    "clock_difference",
                    "foreign_origin",
                    "signature_text",
                    *_OF_TOKEN,
                )
            },
        ),
    )
    change_form_template = "admin/lti_provider/ltilaunch/change_form.html"

    class Media:
        css = {"all": ("lti_provider/admin.css",)}

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: LtiLaunch | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LtiLaunch | None = None) -> bool:
        # ``lti_purge`` deletes them, except nonces that a replay could still use.
        return False

    def get_fieldsets(self, request: HttpRequest, obj: LtiLaunch | None = None) -> Any:
        fieldsets: Any = super().get_fieldsets(request, obj)
        hidden = _OF_FORM if obj is not None and obj.had_login else (*_OF_LOGIN, *_OF_TOKEN)
        shown: list[Any] = []
        for name, options in fieldsets:
            fields = [field for field in options["fields"] if field not in hidden]
            shown.append((name, {**options, "fields": fields}))
        return shown

    @admin.display(description=_("LTI consumer"))
    def lms(self, launch: LtiLaunch) -> str:
        """The consumer, or the registration if the consumer was not known yet."""
        return str(launch.registration if launch.lti_consumer_id is None else launch.lti_consumer)

    @admin.display(description=_("deployment"))
    def deployment(self, launch: LtiLaunch) -> str:
        """The deployment that a refused launch named, whether or not it was verified."""
        claims = _read_claims(launch)
        named = (value for name, value in claims.items() if name.endswith(_DEPLOYMENT))
        return next(map(str, named), _NOTHING)

    @admin.display(description=_("what was checked"))
    def checks(self, launch: LtiLaunch) -> SafeString | str:
        """The checks that a refused launch passed, in their order, and the one that it failed."""
        lines = launch.signed_text.partition("\n\n")[0].splitlines()
        return format_html_join("", "{}<br>", ((line,) for line in lines)) or _NOTHING

    @admin.display(description=_("header and claims of the token"))
    def token_text(self, launch: LtiLaunch) -> SafeString | str:
        """What the token of a refused launch said; personal data is masked."""
        return _show_code(launch.signed_text.partition("\n\n")[2])

    @admin.display(description=_("outcome"))
    def outcome(self, launch: LtiLaunch) -> str:
        """Accepted, or the code of the refusal."""
        if launch.refusal_code:
            return launch.refusal_code
        return gettext("opened") if launch.entered_at else gettext("accepted, not opened yet")

    @admin.display(description=_("person"))
    def person(self, launch: LtiLaunch) -> str:
        """The LMS's id of the person."""
        return launch.message.person.user_id or _NOTHING

    @admin.display(description=_("activity"))
    def place(self, launch: LtiLaunch) -> str:
        """Course and activity, as the LMS calls them."""
        context, link = launch.message.context, launch.message.resource_link
        course, activity = context.title or context.label, link.title or link.id
        return " / ".join(part for part in (course, activity) if part) or _NOTHING

    @admin.display(description=_("roles"))
    def roles_sent(self, launch: LtiLaunch) -> str:
        """All roles, whatever their namespace."""
        return ", ".join(sorted(map(str, launch.message.roles))) or _NOTHING

    @admin.display(description=_("installation"))
    def installation(self, launch: LtiLaunch) -> str:
        """The installation's guid, as the LMS sent it."""
        return launch.message.installation.guid or _NOTHING

    @admin.display(description=_("what happened"))
    def what_happened(self, launch: LtiLaunch) -> Any:
        """The public text of the refusal, as the learner saw it, or the outcome."""
        refusal = LaunchRefused.by_code().get(launch.refusal_code)
        return refusal.public_text if refusal else self.outcome(launch)

    @admin.display(description=_("likely cause and what to do"))
    def what_to_do(self, launch: LtiLaunch) -> str:
        """The hint of the refusal, for the administrator."""
        return launch.refusal_hint or _NOTHING

    @admin.display(description=_("what the signature should cover"))
    def signature_text(self, launch: LtiLaunch) -> SafeString | str:
        """What the signature should cover; personal data is masked."""
        return _show_code(launch.signed_text)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        launch = self.get_object(request, object_id)
        if launch is not None and self._find_consumer(request, launch) is not None:
            extra_context = {**(extra_context or {}), **self._build_offers(launch)}
        return super().change_view(request, object_id, form_url, extra_context)

    def _build_offers(self, launch: LtiLaunch) -> dict[str, Any]:
        if launch.refusal_code == UnknownFrameOrigin.code:
            url = reverse(_FRAME_URL, args=[launch.pk])
            return {"frame_url": url, "frame_origin": _get_named_origin(launch)}
        if launch.refusal_code != OtherInstallation.code:
            return {}
        seen = launch.message.installation.guid
        new = {"consumer_name": f"{launch.lti_consumer} ({seen})", "instance_guid": seen}
        return {
            "seen_installation": seen,
            "accept_url": reverse(_ACCEPT_URL, args=[launch.pk]),
            "add_url": f"{reverse('admin:lti_provider_lticonsumer_add')}?{urlencode(new)}",
        }

    def get_urls(self) -> list[URLPattern]:
        accept = path(
            "<int:pk>/accept/",
            self.admin_site.admin_view(require_POST(self.accept_view)),
            name=_ACCEPT_URL.removeprefix("admin:"),
        )
        frame = path(
            "<int:pk>/frame/",
            self.admin_site.admin_view(require_POST(self.frame_view)),
            name=_FRAME_URL.removeprefix("admin:"),
        )
        return [accept, frame, *super().get_urls()]

    def accept_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Accept the installation that a refused launch named, beside the others."""
        launch, consumer = self._get_refused(request, pk, OtherInstallation.code)
        guid = launch.message.installation.guid
        administrator: Any = request.user
        consumer.accept_installation(guid, administrator)
        text = gettext("Accepted installation “%(guid)s”.") % {"guid": guid}
        self.log_change(request, cast("Any", consumer), text)
        messages.success(request, text)
        return HttpResponseRedirect(
            reverse("admin:lti_provider_lticonsumer_change", args=[consumer.pk])
        )

    def frame_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Add the origin that a refused launch named, else a typed one, to the frame origins."""
        launch, consumer = self._get_refused(request, pk, UnknownFrameOrigin.code)
        try:
            origin = _get_named_origin(launch) or normalize_origin(request.POST.get("origin", ""))
            _add_frame_origin(consumer, origin)
        except ValidationError as error:
            messages.error(request, error.messages[0])
            return HttpResponseRedirect(reverse("admin:lti_provider_ltilaunch_change", args=[pk]))
        text = gettext("%(origin)s may now show launched pages of “%(name)s” in a frame.") % {
            "origin": origin,
            "name": consumer,
        }
        self.log_change(request, consumer, text)  # type: ignore[arg-type]
        messages.success(request, text)
        return HttpResponseRedirect(
            reverse("admin:lti_provider_lticonsumer_change", args=[consumer.pk])
        )

    def _get_refused(
        self, request: HttpRequest, pk: int, code: str
    ) -> tuple[LtiLaunch, LtiConsumer]:
        launch = self.get_object(request, str(pk))
        if (
            launch is None
            or launch.refusal_code != code
            or not self.has_view_permission(request, launch)
            or (consumer := self._find_consumer(request, launch)) is None
        ):
            raise PermissionDenied
        return launch, consumer

    def _find_consumer(self, request: HttpRequest, launch: LtiLaunch) -> LtiConsumer | None:
        """The launch's consumer, if the site's admin lets this person change it."""
        if not self.admin_site.is_registered(LtiConsumer):
            return None
        consumers = self.admin_site.get_model_admin(LtiConsumer)
        consumer = consumers.get_object(request, str(launch.lti_consumer_id))
        if consumer is None or not consumers.has_change_permission(request, consumer):
            return None
        return consumer


def _show_code(text: str) -> SafeString | str:
    return format_html('<code class="lti-code">{}</code>', text) if text else _NOTHING


def _read_claims(launch: LtiLaunch) -> dict[str, Any]:
    try:
        said = json.loads(launch.signed_text.partition("\n\n")[2])
    except ValueError:
        # Nothing was read of it, or it was too long to be kept.
        return {}
    claims: dict[str, Any] = said["claims"]
    return claims


def _add_frame_origin(consumer: LtiConsumer, origin: str) -> None:
    field: Any = LtiConsumer._meta.get_field("frame_origins")
    text = "\n".join(dict.fromkeys((*consumer.frame_origin_list, origin)))
    # The form's field knows the limit, the model's the rest.
    consumer.frame_origins = field.clean(field.formfield().clean(text), consumer)
    consumer.save(update_fields=["frame_origins"])


def _get_named_origin(launch: LtiLaunch) -> str:
    try:
        return normalize_origin(launch.foreign_origin)
    except ValidationError:
        return ""

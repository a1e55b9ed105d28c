"""LTI consumers: add one, copy its values into the LMS, keep its secret secret."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import copy
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR
from django.contrib.admin.utils import NestedObjects, unquote
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import PermissionDenied
from django.db import router
from django.db.models import Count, OuterRef, QuerySet, Subquery, TextChoices
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.timezone import localtime
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from lti_provider.admin.lookups import FilteredAdmin
from lti_provider.admin.setup import REVEAL_URL, ConsumerSetup, get_setup_url, list_registrations
from lti_provider.admin.unknown_sender import UnknownSenders
from lti_provider.admin.waiting import get_waiting
from lti_provider.exceptions import SecretUnreadable
from lti_provider.models import LtiConsumer, LtiInstallation, LtiLaunch, LtiResult, LtiUser
from lti_provider.models.credentials import NOT_SPOKEN, generate_key, generate_secret
from lti_provider.models.secret import SECRET_LENGTH, decrypt_all, validate_secret
from lti_provider.products import PRODUCTS
from lti_provider.trial_cleanup import find_trial_people, is_of_trial, remove_trials

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    ConsumerModelForm = forms.ModelForm[LtiConsumer]
    ConsumerModelAdmin = admin.ModelAdmin[LtiConsumer]
    InstallationTabularInline = admin.TabularInline[LtiInstallation, LtiConsumer]
else:
    ConsumerModelForm, ConsumerModelAdmin = forms.ModelForm, admin.ModelAdmin
    InstallationTabularInline = admin.TabularInline

_ROTATE_URL = "admin:lti_provider_lticonsumer_rotate"
_OVERLAP = timedelta(days=7)
# What the page of a refused launch fills in for a second consumer.
_FROM_ADDRESS = {"consumer_name", "instance_guid"}
# What needs no escaping anywhere (RFC 3986 §2.3).
_PLAIN_KEY = re.compile(r"[A-Za-z0-9._~-]*")
_COPY = {"data-lti-copy": _("Copy"), "data-lti-copied": _("Copied")}


class CopyableInput(forms.TextInput):
    """A line with a button that copies it."""

    def __init__(self) -> None:
        super().__init__({"class": "vTextField", "spellcheck": "false", **_COPY})


class SecretInput(forms.PasswordInput):
    """A masked input; ``reveal_url`` tells where a stored secret can be asked for."""

    template_name = "lti_provider/admin/secret_input.html"
    reveal_url = ""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return {**super().get_context(name, value, attrs), "reveal_url": self.reveal_url}


class Dialect(TextChoices):
    """How an LMS is to launch."""

    LTI13 = "1.3", _("LTI 1.3, also called LTI Advantage")
    LTI11 = "1.1", _("LTI 1.1, with a key and a secret")


def _list_products() -> list[tuple[str, Any]]:
    return [("", _("Another one")), *((each.code, each.name) for each in PRODUCTS)]


class LtiConsumerForm(ConsumerModelForm):
    """The form of a consumer: takes keys and secrets to the letter, shows no stored secret."""

    product = forms.ChoiceField(
        label=capfirst(LtiConsumer._meta.get_field("product").verbose_name),
        help_text=LtiConsumer._meta.get_field("product").help_text,
        choices=_list_products,
        required=False,
    )
    dialect = forms.ChoiceField(
        label=_("Launches by"),
        choices=Dialect,
        initial=Dialect.LTI13,
        widget=forms.RadioSelect(),
        help_text=_("Take LTI 1.3 if the LMS offers it. The other one can be set up later."),
    )
    launch_url = forms.CharField(
        label=_("Launch URL"),
        required=False,
        disabled=True,
        widget=CopyableInput(),
        help_text=_(
            "Add the path of a page to launch it directly, such as …/launch/courses/algebra/."
        ),
    )
    consumer_key = forms.CharField(
        initial=generate_key,
        required=False,
        empty_value=None,
        label=capfirst(LtiConsumer._meta.get_field("consumer_key").verbose_name),
        help_text=LtiConsumer._meta.get_field("consumer_key").help_text,
        max_length=255,
        strip=False,
        widget=CopyableInput(),
    )
    consumer_secret = forms.CharField(
        initial=generate_secret,
        required=False,
        label=capfirst(LtiConsumer._meta.get_field("consumer_secret").verbose_name),
        help_text=LtiConsumer._meta.get_field("consumer_secret").help_text,
        max_length=SECRET_LENGTH,
        strip=False,
        validators=[validate_secret],
        widget=SecretInput(
            render_value=True,
            attrs={"class": "vTextField", "autocomplete": "new-password", **_COPY},
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            return
        self.fields.pop("dialect", None)
        if "consumer_secret" not in self.fields:
            return
        self._stored_secret = self.instance.stored_secret
        field = self.fields["consumer_secret"]
        field.initial = None
        if not self._stored_secret:
            return
        field.help_text = _("Leave blank to keep the present one. Without a key it is removed.")
        widget: Any = field.widget
        widget.render_value = False
        widget.reveal_url = reverse(REVEAL_URL, args=[self.instance.pk])

    class Meta:
        widgets = {
            "frame_origins": forms.Textarea({"rows": 3, "class": "vLargeTextField"}),
            "launch_targets": forms.Textarea({"rows": 3, "class": "vLargeTextField"}),
        }

    class Media:
        js = ("lti_provider/admin.js",)
        css = {"all": ("lti_provider/admin.css",)}

    @cached_property
    def changed_data(self) -> list[str]:
        # A secret that was only shown or left blank did not change.
        typed = self.data.get(self.add_prefix("consumer_secret"), "")
        same = not self.instance._state.adding and typed in ("", *decrypt_all(self._stored_secret))
        return [name for name in super().changed_data if not (same and name == "consumer_secret")]

    def clean_consumer_secret(self) -> str:
        # A blank keeps what is stored, whether or not it can be decrypted, beside a key.
        is_key_blank = self.data.get(self.add_prefix("consumer_key")) == ""
        kept = "" if is_key_blank or self.instance._state.adding else self.instance.stored_secret
        return self.cleaned_data["consumer_secret"] or kept

    def clean(self) -> dict[str, Any] | None:
        given = super().clean()
        if self.cleaned_data.get("dialect") == Dialect.LTI13:
            # The form had a key and a secret ready for the other choice.
            self.cleaned_data |= {"consumer_key": None, "consumer_secret": ""}
        return given

    def _get_validation_exclusions(self) -> set[str]:
        # A stored secret is not input: if its key is lost, other changes are still possible.
        kept = set() if self.data.get(self.add_prefix("consumer_secret")) else {"consumer_secret"}
        return {*super()._get_validation_exclusions(), *kept}  # type: ignore[misc]


class RotateSecretForm(forms.Form):
    """Until when the present secret is accepted, and the new secret if the LMS has made it."""

    until = forms.SplitDateTimeField(
        label=_("Accept the present secret until"),
        initial=lambda: localtime(timezone.now() + _OVERLAP).replace(second=0, microsecond=0),
        widget=AdminSplitDateTime(),
        help_text=_("Time to change it in the LMS. A moment that has passed ends it at once."),
    )
    secret = forms.CharField(
        label=_("New secret"),
        required=False,
        strip=False,
        max_length=SECRET_LENGTH,
        validators=[validate_secret],
        widget=forms.PasswordInput({"class": "vTextField", "autocomplete": "new-password"}),
        help_text=_("Leave blank to have one made."),
    )


class InstallationInline(InstallationTabularInline):
    """The installations that a consumer accepts: add and delete."""

    model = LtiInstallation
    extra = 0
    fields = ("guid", "first_seen_at", "last_seen_at", "accepted_by")
    readonly_fields = ("first_seen_at", "last_seen_at", "accepted_by")

    def has_view_permission(self, request: HttpRequest, obj: LtiConsumer | None = None) -> bool:
        return self._consumer_admin.has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: LtiConsumer | None = None) -> bool:
        return self._consumer_admin.has_change_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: LtiConsumer | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: LtiConsumer | None = None) -> bool:
        return self._consumer_admin.has_change_permission(request, obj)

    @property
    def _consumer_admin(self) -> admin.ModelAdmin[LtiConsumer]:
        return self.admin_site.get_model_admin(LtiConsumer)


@admin.register(LtiConsumer)
class LtiConsumerAdmin(FilteredAdmin, ConsumerModelAdmin):
    """One entry for each external LMS."""

    form = LtiConsumerForm
    list_display = (
        "consumer_name",
        "consumer_key",
        "is_active",
        "require_user_account",
        "undelivered_grades",
    )
    list_filter = ("is_active", "require_user_account")
    readonly_fields = ("undelivered_grades", "secrets", "registrations")
    actions = ("deactivate",)
    search_fields = ("consumer_name", "consumer_key", "installations__guid")
    fieldsets = (
        (None, {"fields": ("consumer_name", "product", "is_active")}),
        (_("LTI 1.3"), {"fields": ("registrations",)}),
        (
            _("LTI 1.1: to copy into the LMS"),
            {"fields": ("launch_url", "consumer_key", "consumer_secret", "secrets", "expires_at")},
        ),
        (
            _("People"),
            {
                "fields": (
                    "require_user_account",
                    "account_match",
                    "allow_staff",
                    "personal_data",
                )
            },
        ),
        (_("Installation"), {"fields": ("instance_guid", "guid_policy")}),
        (
            _("Limits"),
            {
                "fields": (
                    "launch_targets",
                    "frame_origins",
                    "origin_check",
                    "minimum_signature_method",
                    "timestamp_window",
                )
            },
        ),
        (
            _("Services"),
            {"fields": ("undelivered_grades", "service_hosts", "service_networks")},
        ),
    )

    def get_fieldsets(self, request: HttpRequest, obj: LtiConsumer | None = None) -> Any:
        if obj is None:
            return _arrange_new(request)
        fieldsets = super().get_fieldsets(request, obj)
        # It is typed before the first launch; then the list of installations has it.
        hidden = {"instance_guid"}
        # Without the right to change, neither the secret nor what goes with it is shown.
        if not self.has_change_permission(request, obj):
            hidden |= {"consumer_secret", "launch_url"}
        return [
            (
                name,
                {
                    **options,
                    "fields": [field for field in options["fields"] if field not in hidden],
                },
            )
            for name, options in fieldsets
        ]

    def get_inlines(self, request: HttpRequest, obj: LtiConsumer | None) -> Any:
        return [] if obj is None else [InstallationInline]

    @method_decorator((sensitive_variables(), sensitive_post_parameters("consumer_secret")))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(request, *args, **kwargs)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        # Whoever wrote the link that was followed must not choose secrets or rights.
        asked = super().get_changeform_initial_data(request)
        given = {name: asked[name] for name in _FROM_ADDRESS & asked.keys()}
        # The second consumer of an LMS that has launched with a key.
        return given | ({"dialect": Dialect.LTI11} if "instance_guid" in given else {})

    def get_form(
        self,
        request: HttpRequest,
        obj: LtiConsumer | None = None,
        change: bool = False,
        **kwargs: Any,
    ) -> Any:
        form: Any = super().get_form(request, obj, change, **kwargs)
        form.base_fields["launch_url"] = copy(form.base_fields["launch_url"])
        form.base_fields["launch_url"].initial = _build_launch_url(request)
        return form

    def save_model(self, request: HttpRequest, obj: LtiConsumer, form: Any, change: bool) -> None:
        if "consumer_secret" in form.changed_data:
            obj.secret_used_at = None
            # Grades that the old one signed are sent at once when the LMS has this one.
            obj.rotations += change
        super().save_model(request, obj, form, change)
        if not change:
            obj.installations.update(accepted_by=cast("Any", request.user))
        key = obj.consumer_key or ""
        if key and "consumer_key" in form.changed_data and not _PLAIN_KEY.fullmatch(key):
            messages.warning(
                request,
                gettext(
                    "The consumer key has characters that LMSs have to escape. Open edX and some "
                    "others escape them twice, and their launches are refused: if this is one of "
                    "them, take a key of letters from A to Z, digits, “-” and “_”."
                ),
            )
        if any(text and text != text.strip() for text in (key, *_decrypt_secret(obj))):
            messages.warning(
                request,
                gettext(
                    "Consumer key or secret begins or ends with a blank. It was kept, since an "
                    "LMS may have such a one; if it was pasted by accident, correct it."
                ),
            )

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        if not issubclass(formset.model, LtiInstallation):
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)
        for installation in formset.deleted_objects:
            installation.delete()
        # Some of them may be accepted already.
        for installation in formset.new_objects:
            form.instance.accept_installation(installation.guid, request.user)

    def response_add(
        self, request: HttpRequest, obj: LtiConsumer, post_url_continue: Any = None
    ) -> HttpResponse:
        leads_on = {"_addanother", "_continue", "_saveasnew", IS_POPUP_VAR}.isdisjoint(request.POST)
        if not leads_on or not self.has_view_permission(request, obj):
            return super().response_add(request, obj, post_url_continue)
        text = gettext("“%(name)s” was added. Now set up the LMS with these values.")
        messages.success(request, text % {"name": obj})
        return HttpResponseRedirect(get_setup_url(obj))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Consumers that learners depend on are not deleted.
        sentences = [sentence for consumer in objs for sentence in _describe_dependents(consumer)]
        if sentences:
            return [], {}, set(), sentences
        found, counts, perms, protected = super().get_deleted_objects(objs, request)
        # The log is deleted with its consumer, not by itself.
        perms.discard(LtiLaunch._meta.verbose_name)
        return found, counts, perms, [] if _is_protected_by_trials_only(objs) else protected

    def delete_model(self, request: HttpRequest, obj: LtiConsumer) -> None:
        remove_trials(obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[LtiConsumer]) -> None:
        for consumer in queryset:
            remove_trials(consumer)
        super().delete_queryset(request, queryset)

    def get_queryset(self, request: HttpRequest) -> QuerySet[LtiConsumer]:
        # One read for what ``undelivered_grades`` shows of all rows.
        undelivered = LtiResult.objects.undelivered().filter(lti_consumer=OuterRef("pk"))
        count = undelivered.order_by().values("lti_consumer").annotate(count=Count("pk"))
        return super().get_queryset(request).annotate(undelivered=Subquery(count.values("count")))

    @admin.display(description=_("undelivered grades"))
    def undelivered_grades(self, consumer: LtiConsumer) -> SafeString | str:
        """How many grades wait or failed, as a link to them."""
        count = getattr(consumer, "undelivered", None)
        if not count:
            return "0" if consumer.pk else "-"
        query = f"?lti_consumer__id__exact={consumer.pk}&undelivered=yes"
        url = reverse("admin:lti_provider_ltiresult_changelist") + query
        return format_html('<a href="{}">{}</a>', url, count)

    @admin.display(description=_("registrations"))
    def registrations(self, consumer: LtiConsumer) -> SafeString:
        """The registrations and deployments of the LMS, and where to set them up."""
        lines = [
            format_html(
                '<a href="{}">{}</a>: {}',
                reverse("admin:lti_provider_ltiregistration_change", args=[each.registration.pk]),
                each.registration,
                each.summary,
            )
            for each in list_registrations(consumer)
        ]
        url = get_setup_url(consumer)
        lines.append(format_html('<a href="{}">{}</a>', url, gettext("Set up by LTI 1.3")))
        return format_html_join("", "{}<br>", ((line,) for line in lines))

    def get_urls(self) -> list[URLPattern]:
        setup = ConsumerSetup(self)
        reveal = path(
            "<path:object_id>/secret/",
            self.admin_site.admin_view(self.secret_view),
            name=REVEAL_URL.removeprefix("admin:"),
        )
        rotate = path(
            "<path:object_id>/rotate/",
            self.admin_site.admin_view(self.rotate_view),
            name=_ROTATE_URL.removeprefix("admin:"),
        )
        senders = UnknownSenders(self)
        own = (reveal, rotate, *setup.get_urls(), *senders.get_urls())
        return [*own, *super().get_urls()]

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        is_popup = IS_POPUP_VAR in request.GET or not self.has_view_permission(request)
        told = {} if is_popup else UnknownSenders(self).get_context(request)
        told |= {} if is_popup else get_waiting(request, self.admin_site)
        return super().changelist_view(request, {**told, **(extra_context or {})})

    @admin.display(description=_("secrets in force"))
    def secrets(self, consumer: LtiConsumer) -> SafeString:
        """Which secrets are accepted until when, when each was last used, and how to rotate."""
        if not consumer.speaks_lti11:
            return format_html("{}", NOT_SPOKEN)
        url = reverse(_ROTATE_URL, args=[consumer.pk])
        link = format_html(
            '<a class="button lti-rotate" href="{}">{}</a>', url, gettext("Rotate secret")
        )
        return format_html_join(
            "", "{}<br>", ((line,) for line in (*_describe_secrets(consumer), link))
        )

    @admin.action(
        description=_("Deactivate the selected LTI consumers and end their sessions"),
        permissions=["change"],
    )
    def deactivate(self, request: HttpRequest, queryset: QuerySet[LtiConsumer]) -> None:
        """Refuse launches, and end the sessions that came from them."""
        for consumer in queryset:
            consumer.set_active(False)
            self.log_change(request, consumer, gettext("Deactivated."))
        messages.success(request, gettext("Deactivated. Sessions end at their next request."))

    @method_decorator((never_cache, sensitive_variables(), sensitive_post_parameters("secret")))
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take a new secret and accept the old one for a while; note both in the history."""
        consumer = self.get_object(request, unquote(object_id))
        if consumer is None or not self.has_change_permission(request, consumer):
            raise PermissionDenied
        if not consumer.speaks_lti11:
            messages.error(request, NOT_SPOKEN)
            return HttpResponseRedirect(_get_change_url(consumer))
        if request.method == "POST" and "end" in request.POST:
            consumer.end_previous_secret()
            return self._finish_rotation(request, consumer, gettext("Ended the previous secret."))
        form = RotateSecretForm(request.POST if request.method == "POST" else None)
        if form.is_valid():
            until = form.cleaned_data["until"]
            consumer.rotate_secret(until, form.cleaned_data["secret"])
            text = gettext(
                "Rotated the consumer secret; the previous one is accepted until %(at)s."
            )
            return self._finish_rotation(request, consumer, text % {"at": _format_moment(until)})
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Rotate secret"),
            "opts": self.opts,
            "original": consumer,
            "form": form,
            "media": self.media + form.media,
            "lines": _describe_secrets(consumer),
        }
        return TemplateResponse(request, "lti_provider/admin/rotate.html", context)

    def _finish_rotation(
        self, request: HttpRequest, consumer: LtiConsumer, text: str
    ) -> HttpResponse:
        self.log_change(request, consumer, text)
        messages.success(request, text)
        return HttpResponseRedirect(_get_change_url(consumer))

    @method_decorator((never_cache, sensitive_variables()))
    def secret_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show a secret to whoever may change it, by POST, and note that in the history."""
        consumer = self.get_object(request, unquote(object_id))
        if consumer is None or not self.has_change_permission(request, consumer):
            raise PermissionDenied
        problem = _describe_missing_secret(consumer)
        revealed = request.method == "POST" and problem is None
        if revealed:
            self.log_change(request, consumer, gettext("Showed the consumer secret."))
            if request.accepts("application/json") and not request.accepts("text/html"):
                return JsonResponse({"secret": consumer.consumer_secret})
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Consumer secret"),
            "opts": self.opts,
            "original": consumer,
            "secret": consumer.consumer_secret if revealed else None,
            "problem": problem,
        }
        return TemplateResponse(request, "lti_provider/admin/secret.html", context)


def _arrange_new(request: HttpRequest) -> list[Any]:
    # Only what is needed; there is nothing to show of a consumer that does not exist yet.
    closed = {"classes": ("collapse",)}
    is_guid_given = "instance_guid" in request.GET
    return [
        (None, {"fields": ("consumer_name", "product", "dialect", "personal_data")}),
        (
            _("Key and secret of LTI 1.1"),
            {
                **closed,
                "fields": ("consumer_key", "consumer_secret", "expires_at"),
                "description": _("Made already. Change them if the LMS has its own."),
            },
        ),
        (
            _("People"),
            {**closed, "fields": ("require_user_account", "account_match", "allow_staff")},
        ),
        (
            _("Installation"),
            {**({} if is_guid_given else closed), "fields": ("instance_guid", "guid_policy")},
        ),
        (
            _("Limits"),
            {
                **closed,
                "fields": (
                    "is_active",
                    "launch_targets",
                    "frame_origins",
                    "origin_check",
                    "minimum_signature_method",
                    "timestamp_window",
                ),
            },
        ),
        (_("Services"), {**closed, "fields": ("service_hosts", "service_networks")}),
    ]


def _describe_dependents(consumer: LtiConsumer) -> Iterator[str]:
    people = LtiUser.objects.filter(lti_consumer=consumer)
    if users := people.exclude(pk__in=find_trial_people(consumer)).count():
        yield ngettext(
            "“%(name)s” has %(count)d LTI user. Deactivate it instead: launches are refused "
            "then, and accounts stay.",
            "“%(name)s” has %(count)d LTI users. Deactivate it instead: launches are refused "
            "then, and accounts stay.",
            users,
        ) % {"name": consumer, "count": users}
    if results := LtiResult.objects.filter(lti_consumer=consumer).count():
        yield ngettext(
            "“%(name)s” has %(count)d grade.",
            "“%(name)s” has %(count)d grades.",
            results,
        ) % {"name": consumer, "count": results}


def _is_protected_by_trials_only(consumers: Any) -> bool:
    # The people of trial launches go with their consumer.
    collector = NestedObjects(using=router.db_for_write(LtiConsumer), origin=consumers)
    collector.collect(consumers)
    return all(is_of_trial(held) for held in collector.protected)


def _get_change_url(consumer: LtiConsumer) -> str:
    return reverse("admin:lti_provider_lticonsumer_change", args=[consumer.pk])


def _describe_missing_secret(consumer: LtiConsumer) -> str | _StrPromise | None:
    if not consumer.speaks_lti11:
        return NOT_SPOKEN
    return SecretUnreadable.hint if consumer.is_secret_unreadable else None


def _decrypt_secret(consumer: LtiConsumer) -> list[str | None]:
    return decrypt_all(consumer.stored_secret)


def _describe_secrets(consumer: LtiConsumer) -> list[str]:
    lines = [
        gettext("Present secret: %(use)s") % {"use": _describe_last_use(consumer.secret_used_at)}
    ]
    if consumer.is_secret_unreadable:
        lines.append(str(SecretUnreadable.hint))
    if consumer.accepts_previous_secret:
        text = gettext("Previous secret: accepted until %(at)s, %(use)s")
        use = _describe_last_use(consumer.previous_secret_used_at)
        lines.append(text % {"at": _format_moment(consumer.previous_secret_until), "use": use})
    if consumer.is_expired:
        lines.append(gettext("Neither is accepted: the credentials have expired."))
    return lines


def _describe_last_use(at: datetime | None) -> str:
    return (
        gettext("last used %(at)s") % {"at": _format_moment(at)} if at else gettext("not used yet")
    )


def _format_moment(moment: datetime | None) -> str:
    return date_format(localtime(moment), "DATETIME_FORMAT")


def _build_launch_url(request: HttpRequest) -> str:
    try:
        return request.build_absolute_uri(reverse("lti_provider:launch"))
    except NoReverseMatch:
        return gettext("Add include('lti_provider.urls') to the site's URLs first.")

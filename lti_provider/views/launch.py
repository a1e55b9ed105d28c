"""LaunchView: the LMS's signed POST."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import get_script_prefix, reverse
from django.utils.cache import patch_vary_headers
from django.utils.encoding import escape_uri_path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from lti_provider import frames, oauth
from lti_provider.cartridge import MEDIA_TYPE, Cartridge, Option
from lti_provider.conf import conf
from lti_provider.exceptions import (
    LaunchRefused,
    OtherInstallation,
    TargetNotLaunchable,
    UnexpectedOrigin,
    UserAccountRequired,
)
from lti_provider.message import LaunchMessage, Pairs
from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.pages import render_page
from lti_provider.reports import LaunchReporterFilter
from lti_provider.views.decorated import DecoratedView
from lti_provider.views.refusal import SeeOther, refuse

_ORIGIN_LENGTH = 255
# Browsers and proxies cut or refuse longer ones, after the handle is used up.
_TARGET_LENGTH = 4000


class LaunchView(DecoratedView):
    """Verifies a launch (LTI 1.1 §3) and hands it on to ``enter``; never touches the session.

    Subclass it and override ``get_success_url`` to send launches where your site wants them;
    ``self.consumer``, ``self.message`` and ``self.query`` (the launch URL's own pairs) are verified
    by then. Raise a ``LaunchRefused`` to refuse.
    """

    http_method_names = ["get", "head", "post"]
    decorators = (
        csrf_exempt,
        login_not_required,
        never_cache,
        sensitive_variables(),
        transaction.non_atomic_requests,
    )

    consumer: LtiConsumer
    message: LaunchMessage
    query: Pairs

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        request.exception_reporter_filter = LaunchReporterFilter()

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The tool configuration for an LMS; to a browser, what this address is for."""
        url = request.build_absolute_uri(request.path)
        if _asks_for_a_page(request):
            response = render_page("launch_url", {"url": url})
        else:
            response = self.render_cartridge(url)
        patch_vary_headers(response, ["Accept"])
        return response

    def get_cartridge(self) -> Cartridge:
        """What the tool configuration of this launch URL says: ``LTI_PROVIDER_CARTRIDGE``.

        ``self.kwargs`` has the target; ``dataclasses.replace`` changes some fields.
        """
        return Cartridge(**conf.cartridge)

    def render_cartridge(self, url: str) -> HttpResponse:
        """The tool configuration that makes an LMS launch ``url``."""
        cartridge = self.get_cartridge()
        placements = {name: _placed(options) for name, options in cartridge.placements.items()}
        xml = replace(cartridge, placements=placements).to_xml(url)
        return HttpResponse(xml, content_type=MEDIA_TYPE)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Verify, keep, and go on to ``enter``."""
        try:
            verified = oauth.verify(request)
            self.consumer, self.query = verified.consumer, verified.form.query
            self.message = LaunchMessage(verified.pairs)
        except LaunchRefused as refusal:
            return refuse(request, refusal)
        try:
            launch, handle = self._accept(verified)
        except LaunchRefused as refusal:
            known = {"consumer": self.consumer, "form": verified.form, "message": self.message}
            return refuse(request, refusal.about(**known))
        return self._to_enter(launch, handle)

    def get_success_url(self) -> str:
        """Where this launch goes: a path of this site.

        By default ``launch/`` goes to ``LTI_PROVIDER_DEFAULT_TARGET`` and ``launch/<target>`` to
        that path, with the launch URL's own query. Raises TargetNotLaunchable.
        """
        target = self.kwargs.get("target")
        if target is not None:
            url = self._launchable(target)
        elif conf.default_target is not None:
            url = resolve_url(conf.default_target)
        else:
            raise TargetNotLaunchable(
                _("Set LTI_PROVIDER_DEFAULT_TARGET, or give the LMS a launch URL with a path.")
            )
        passed_on = [pair for pair in self.query if not pair[0].startswith(("custom_", "ext_"))]
        return _with_query(url, urlencode(passed_on)) if passed_on else url

    def _launchable(self, target: str) -> str:
        if not _is_under(f"/{target}", conf.launchable_paths):
            raise TargetNotLaunchable(
                format_lazy(
                    _("/{path} is not under LTI_PROVIDER_LAUNCHABLE_PATHS."),
                    path=escape_uri_path(target)[:500],
                )
            )
        return escape_uri_path(get_script_prefix() + target)

    def _accept(self, verified: oauth.VerifiedRequest) -> tuple[LtiLaunch, str]:
        message = LaunchMessage.parse(verified.pairs)
        if not self.consumer.admits_installation(message.instance_guid):
            raise OtherInstallation(
                format_lazy(
                    _(
                        "The launch came from installation “{seen}”, this consumer belongs to "
                        "“{known}”. Accept the new one, or add a second consumer for it."
                    ),
                    seen=message.instance_guid,
                    known=self.consumer.instance_guid,
                )
            )
        foreign_origin = self._foreign_origin(message)
        if self.consumer.require_user_account and not message.user_id:
            raise UserAccountRequired(_("The LMS sent no user_id, so no account can be linked."))
        accepted = LtiLaunch.objects.accept(
            self.consumer,
            message,
            nonce=verified.nonce,
            timestamp=verified.timestamp,
            target=self._checked_target(),
            signed_with=verified.signed_with,
            launch_url=self.request.build_absolute_uri(),
            foreign_origin=foreign_origin,
        )
        self.consumer.note_secret_use(verified.signed_with)
        return accepted

    def _foreign_origin(self, message: LaunchMessage) -> str:
        origin = str(self.request.META.get("HTTP_ORIGIN", ""))[:_ORIGIN_LENGTH].replace("\0", "")
        if not self.consumer.origins_of(message):
            # If this is refused in a frame, the launch log offers it.
            return origin
        if not self.consumer.is_foreign_origin(origin, message):
            return ""
        if self.consumer.origin_check == LtiConsumer.OriginCheck.ENFORCE:
            raise UnexpectedOrigin(
                format_lazy(
                    _("The launch was posted from {seen}; the LMS's origins are {own}."),
                    seen=origin,
                    own=", ".join(self.consumer.origins_of(message)),
                )
            )
        return origin

    def _checked_target(self) -> str:
        url = self.get_success_url()
        if len(url) > _TARGET_LENGTH or not url_has_allowed_host_and_scheme(
            url, allowed_hosts={self.request.get_host()}, require_https=self.request.is_secure()
        ):
            raise TargetNotLaunchable(
                _("The launch's target is not a page of this site, or its URL is too long.")
            )
        narrowed = self.consumer.launch_target_list
        path = "/" + unquote(urlsplit(url).path).removeprefix(get_script_prefix())
        if narrowed and not _is_under(path, narrowed):
            raise TargetNotLaunchable(
                _("The launch's target is not under the consumer's own launch targets.")
            )
        return url

    def _to_enter(self, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        path = reverse("lti_provider:enter", args=[handle])
        response = SeeOther(path)
        frames.bind(self.request, response, handle, path)
        if frames.may_be_framed(self.request):
            frames.take_over(self.request, response, launch)
        return response


class CartridgeView(LaunchView):
    """The tool configuration of ``launch/`` and ``launch/<target>``, at a URL of its own."""

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer it to anybody, unless the target may not be launched."""
        target = self.kwargs.get("target")
        if target is None:
            path = reverse("lti_provider:launch")
        elif _is_under(f"/{target}", conf.launchable_paths):
            path = reverse("lti_provider:launch_target", args=[target])
        else:
            raise Http404(f"/{target} is not under LTI_PROVIDER_LAUNCHABLE_PATHS.")
        return self.render_cartridge(request.build_absolute_uri(path))


def _asks_for_a_page(request: HttpRequest) -> bool:
    # "*/*" is what programs send, Moodle's curl among them; browsers name HTML.
    asked = {(kind.main_type, kind.sub_type) for kind in request.accepted_types}
    return not asked.isdisjoint({("text", "html"), ("application", "xhtml+xml")})


def _placed(options: Mapping[str, Option]) -> dict[str, Option]:
    placed = dict(options)
    if (target := placed.pop("target", None)) is not None:
        path = str(target).removeprefix("/")
        placed["url"] = reverse("lti_provider:launch_target", args=[path])
    return placed


def _with_query(url: str, query: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=f"{parts.query}&{query}" if parts.query else query))


def _is_under(path: str, prefixes: Iterable[str]) -> bool:
    # A browser would fold dot segments, doubled slashes and backslashes of a redirect.
    segments = path.removeprefix("/").split("/")
    plain = not {".", ".."} & set(segments) and "" not in segments[:-1] and "\\" not in path
    return plain and any(
        path == prefix or path.startswith(prefix.rstrip("/") + "/") for prefix in prefixes
    )

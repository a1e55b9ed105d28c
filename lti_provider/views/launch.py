"""LaunchView: the LMS's signed POST."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from django.contrib.auth.decorators import login_not_required
from django.db import IntegrityError, router
from django.http import HttpRequest, HttpResponse
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

from lti_provider import frames, lti11
from lti_provider.conf import conf
from lti_provider.error_reports import LaunchReporterFilter
from lti_provider.exceptions import (
    LaunchRefused,
    OtherInstallation,
    ReplayedLaunch,
    TargetNotLaunchable,
    UnexpectedOrigin,
    UserAccountRequired,
)
from lti_provider.lti11.cartridge import Cartridge
from lti_provider.lti11.trial_launch import is_trial_launch
from lti_provider.message import LaunchMessage, Pairs, is_lti_name
from lti_provider.models import LtiConsumer, LtiInstallation, LtiLaunch
from lti_provider.models.commit import commit
from lti_provider.origins import add_query, is_under
from lti_provider.pages import render_page
from lti_provider.signals import is_from_site
from lti_provider.views.cartridge import get_site_cartridge, render_cartridge
from lti_provider.views.decorated import DecoratedView, R, non_atomic_requests
from lti_provider.views.outage import answer_outages
from lti_provider.views.refusal import SeeOther, refuse
from lti_provider.views.target import is_launchable

_ORIGIN_LENGTH = 255
# Browsers and proxies cut or refuse longer ones, after the handle is used up.
_TARGET_LENGTH = 4000


class LaunchView(DecoratedView):
    """Verifies a launch (LTI 1.1 §3) and hands it on to ``enter``; never touches the session.

    Subclass it and override ``get_success_url`` to send launches where your site wants them;
    ``self.consumer``, ``self.message`` and ``self.query`` (the pairs of the URL's query) are
    verified by then; OAuth does not tie a pair to the query, so decide by the path or a custom
    parameter. Raise a ``LaunchRefused`` to refuse.
    """

    http_method_names = ["get", "head", "post"]
    decorators = (
        csrf_exempt,
        login_not_required,
        never_cache,
        sensitive_variables(),
        non_atomic_requests,
    )

    consumer: LtiConsumer
    message: LaunchMessage
    query: Pairs
    verified: lti11.VerifiedRequest | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        request.exception_reporter_filter = LaunchReporterFilter()

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """The tool configuration for an LMS; to a browser, what this address is for."""
        url = request.build_absolute_uri(request.path)
        if _asks_for_a_page(request):
            response = render_page("launch_url", {"url": url})
        else:
            response = render_cartridge(self.get_cartridge(), url)
        patch_vary_headers(response, ["Accept"])
        return response

    def get_cartridge(self) -> Cartridge:
        """What the tool configuration of this launch URL says: ``LTI_PROVIDER_CARTRIDGE``.

        ``self.kwargs`` has the target; ``dataclasses.replace`` changes some fields.
        """
        return get_site_cartridge()

    @answer_outages
    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Verify the launch, store it, and redirect to ``enter``."""
        try:
            verified = lti11.verify(request)
            self.consumer, self.query = verified.consumer, verified.form.query
            self.message, self.verified = LaunchMessage(verified.pairs), verified
            launch, handle = self._accept(verified)
        except LaunchRefused as refusal:
            return refuse(request, self.add_known_details(refusal))
        return self._redirect_to_enter(launch, handle)

    def add_known_details(self, refusal: R) -> R:
        if self.verified is not None:
            known = {"consumer": self.consumer, "form": self.verified.form}
            signed_with = self.verified.signed_with
            refusal.with_details(**known, message=self.message, signed_with=signed_with)
        return refusal

    def get_success_url(self) -> str:
        """Where this launch goes: a path of this site.

        By default ``launch/`` goes to ``LTI_PROVIDER_DEFAULT_TARGET`` and ``launch/<target>`` to
        that path, with the URL's query less the names that LTI knows. Raises TargetNotLaunchable.
        """
        target = self.kwargs.get("target")
        if target is not None:
            url = self._get_launchable_path(target)
        elif conf.default_target is not None:
            url = resolve_url(conf.default_target)
        else:
            raise TargetNotLaunchable(
                _("Set LTI_PROVIDER_DEFAULT_TARGET, or give the LMS a launch URL with a path.")
            )
        passed_on = [pair for pair in self.query if not is_lti_name(pair[0])]
        return add_query(url, urlencode(passed_on)) if passed_on else url

    def _get_launchable_path(self, target: str) -> str:
        if not is_launchable(target):
            raise TargetNotLaunchable(
                format_lazy(
                    _("/{path} is not under LTI_PROVIDER_LAUNCHABLE_PATHS."),
                    path=escape_uri_path(target)[:500],
                )
            )
        return escape_uri_path(get_script_prefix() + target)

    def _accept(self, verified: lti11.VerifiedRequest) -> tuple[LtiLaunch, str]:
        message = LaunchMessage.parse(verified.pairs)
        installation = self._find_installation(message)
        foreign_origin = self._find_foreign_origin(message)
        if self.consumer.require_user_account and not message.user_id:
            raise UserAccountRequired(_("The LMS sent no user_id, so no account can be connected."))
        target = self._get_target()
        # What is refused in it teaches nothing, and a form that is sent again after a failure must
        # not find its nonce used up.
        try:
            with commit(router.db_for_write(LtiLaunch)):
                self._learn_installation(message)
                # Before the launch, which locks the consumer on MariaDB.
                if not is_trial_launch(self.consumer, message):
                    self._record_use(verified, installation)
                accepted = LtiLaunch.objects.accept(
                    self.consumer,
                    message,
                    nonce=verified.nonce,
                    timestamp=verified.timestamp,
                    target=target,
                    signed_with=verified.signed_with,
                    launch_url=self.request.build_absolute_uri(),
                    foreign_origin=foreign_origin,
                )
        except IntegrityError as error:
            used = LtiLaunch.objects.is_nonce_used(self.consumer, verified.nonce)
            if used and not is_from_site(error):
                raise ReplayedLaunch from None
            raise
        return accepted

    def _record_use(
        self, verified: lti11.VerifiedRequest, installation: LtiInstallation | None
    ) -> None:
        self.consumer.record_secret_use(verified.signed_with)
        if installation is not None:
            installation.record_seen()

    def _find_installation(self, message: LaunchMessage) -> LtiInstallation | None:
        consumer, guid = self.consumer, message.instance_guid
        is_first = guid == consumer.instance_guid
        if not is_first and consumer.guid_policy == LtiConsumer.GuidPolicy.RECORD:
            return None
        installation = consumer.find_installation(guid)
        if installation is None and not is_first and not consumer.learns_installation(guid):
            raise self._build_other_installation(message)
        return installation

    def _learn_installation(self, message: LaunchMessage) -> None:
        if not self.consumer.learns_installation(message.instance_guid):
            return
        # Written before the launch, so that simultaneous first launches wait here.
        learned = self.consumer.learn_installation(message.instance_guid)
        if not learned and self.consumer.guid_policy == LtiConsumer.GuidPolicy.PIN:
            raise self._build_other_installation(message)

    def _build_other_installation(self, message: LaunchMessage) -> OtherInstallation:
        return OtherInstallation(
            format_lazy(
                _(
                    "The launch came from installation “{seen}”; this consumer accepts “{known}”. "
                    "If it is the same LMS, accept this one too: a Moodle sends what “Default "
                    "organisation ID” says in each of its tools. If not, add a second consumer."
                ),
                seen=message.instance_guid,
                known=", ".join(map(str, self.consumer.installations.all())),
            )
        )

    def _find_foreign_origin(self, message: LaunchMessage) -> str:
        origin = str(self.request.META.get("HTTP_ORIGIN", ""))[:_ORIGIN_LENGTH].replace("\0", "")
        if not self.consumer.get_frame_origins(message.return_origin):
            # If this is refused in a frame, the launch log offers it.
            return origin
        if not self.consumer.is_foreign_origin(origin, message):
            return ""
        if self.consumer.origin_check == LtiConsumer.OriginCheck.ENFORCE:
            raise UnexpectedOrigin(
                format_lazy(
                    _("The launch was posted from {seen}; the LMS's origins are {own}."),
                    seen=origin,
                    own=", ".join(self.consumer.get_frame_origins(message.return_origin)),
                )
            )
        return origin

    def _get_target(self) -> str:
        url = self.get_success_url()
        if len(url) > _TARGET_LENGTH or not url_has_allowed_host_and_scheme(
            url, allowed_hosts={self.request.get_host()}, require_https=self.request.is_secure()
        ):
            raise TargetNotLaunchable(
                _("The launch's target is not a page of this site, or its URL is too long.")
            )
        narrowed = self.consumer.launch_target_list
        path = "/" + unquote(urlsplit(url).path).removeprefix(get_script_prefix())
        if narrowed and not is_under(path, narrowed):
            raise TargetNotLaunchable(
                _("The launch's target is not under the consumer's own launch targets.")
            )
        return url

    def _redirect_to_enter(self, launch: LtiLaunch, handle: str) -> HttpResponseBase:
        path = reverse("lti_provider:enter", args=[handle])
        response = SeeOther(path)
        frames.bind_handle(self.request, response, handle, path)
        if frames.may_be_framed(self.request):
            frames.mark_frame(self.request, response, launch)
        return response


def _asks_for_a_page(request: HttpRequest) -> bool:
    # "*/*" is what programs send, Moodle's curl among them; browsers name HTML.
    asked = {(kind.main_type, kind.sub_type) for kind in request.accepted_types}
    return not asked.isdisjoint({("text", "html"), ("application", "xhtml+xml")})

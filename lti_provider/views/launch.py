"""LaunchView: the LMS's signed POST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import unquote, urlencode, urlsplit

from django.contrib.auth.decorators import login_not_required
from django.db import IntegrityError, router
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import Resolver404, ResolverMatch, get_script_prefix, resolve, reverse
from django.utils.encoding import escape_uri_path
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.debug import sensitive_variables

from lti_provider import binding, frames, protocols
from lti_provider.conf import conf
from lti_provider.error_reports import LaunchReporterFilter
from lti_provider.exceptions import (
    ConsumerInactive,
    LaunchRefused,
    OtherBrowser,
    OtherInstallation,
    OtherIssuer,
    ReplayedLaunch,
    TargetNotLaunchable,
    UnexpectedOrigin,
    UserAccountRequired,
)
from lti_provider.message import LaunchMessage
from lti_provider.models import (
    LtiConsumer,
    LtiDeployment,
    LtiInstallation,
    LtiLaunch,
    VerifiedLaunch,
)
from lti_provider.models.primary import commit
from lti_provider.origins import add_query, get_host, is_under
from lti_provider.signals import is_from_site
from lti_provider.views.attempt import answer_outages, undo_if_it_fails
from lti_provider.views.cartridge import LaunchUrlView
from lti_provider.views.decorated import R, non_atomic_requests
from lti_provider.views.enter import enter, log_launch, may_enter_at_once
from lti_provider.views.refusal import SeeOther, refuse

# On a request whose launch was verified, and whose view is the one of its launch URL.
_VERIFIED = "_lti_verified"
_ORIGIN_LENGTH = 255
# Browsers and proxies cut or refuse longer ones, after the handle is used up.
_TARGET_LENGTH = 4000


class LaunchView(LaunchUrlView):
    """Verifies a launch, and signs its person in or hands it on to ``enter``.

    Subclass it and override ``get_success_url`` to send launches where your site wants them,
    ``launch_valid`` and ``launch_refused`` to answer in your own way;
    ``self.consumer``, ``self.message`` and ``self.query`` (the pairs of the URL's query that LTI
    does not know) are verified by then; OAuth does not tie a pair to the query, so decide by the
    path or a custom parameter. Raise a ``LaunchRefused`` to refuse.

    A launch that begins with a login is posted to ``launch/``, and once it is verified the view of
    its launch URL is called, with that URL's arguments and all decorators around it.
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
    query: tuple[tuple[str, str], ...]
    verified: VerifiedLaunch | None = None
    entered: LtiLaunch | None = None
    match: ResolverMatch | None = None

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        request.exception_reporter_filter = LaunchReporterFilter()

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Verify the launch; accept it, or let the view of its launch URL do so."""
        response = self._launch(request)
        if response is None:
            match = cast("ResolverMatch", self.match)
            vars(request)[_VERIFIED] = [self.verified]
            response = match.func(request, *match.args, **match.kwargs)
        return response

    @answer_outages
    def _launch(self, request: HttpRequest) -> HttpResponseBase | None:
        # A second attempt begins anew.
        vars(self).update(verified=None, entered=None)
        try:
            verified = self.verified = _take_verified(request) or protocols.verify(request)
            if verified.target_url and _VERIFIED not in vars(request):
                self.match = self._find_match(verified)
                return None
            response = self.accept(verified)
        except LaunchRefused as refusal:
            return self.launch_refused(self.add_known_details(refusal))
        if self.entered is not None:
            log_launch(self.entered)
        return response

    def _find_match(self, verified: VerifiedLaunch) -> ResolverMatch:
        # All launches that begin with a login are posted to one address; what was signed says
        # which launch URL was meant, and that is an address to resolve, never to redirect to.
        match = self._resolve(verified.target_url)
        view_class = getattr(match.func, "view_class", None) if match else None
        if match is None or view_class is None or not issubclass(view_class, LaunchView):
            raise TargetNotLaunchable(
                format_lazy(
                    _("“{url}” is not a launch URL of this site, {site}."),
                    url=verified.target_url[:500],
                    site=f"{self.request.scheme}://{self.request.get_host()}",
                )
            )
        return match

    def _resolve(self, url: str) -> ResolverMatch | None:
        allowed = {self.request.get_host()}
        parts = urlsplit(url)
        if parts.scheme != self.request.scheme or not url_has_allowed_host_and_scheme(url, allowed):
            return None
        path = "/" + unquote(parts.path).removeprefix(get_script_prefix())
        try:
            return resolve(path, getattr(self.request, "urlconf", None))
        except Resolver404:
            return None

    def accept(self, verified: VerifiedLaunch) -> HttpResponseBase:
        """Ask what refuses a verified launch, and only then write. Raises LaunchRefused."""
        self.verified = verified
        self.consumer, self.message = verified.consumer, verified.message
        self.query = verified.query
        self._check_browser(verified)
        self._check_account()
        self._check_deployment(verified)
        installation = self._find_installation()
        foreign_origin = self._find_foreign_origin(verified)
        target = self._get_target()
        with self._accept_once(verified):
            self._learn(verified, installation)
            launch = LtiLaunch.objects.accept(
                verified,
                target=target,
                launch_url=verified.target_url or self.request.build_absolute_uri(),
                foreign_origin=foreign_origin,
            )
            return self.launch_valid(launch)

    @classmethod
    def accept_trial(cls, request: HttpRequest, verified: VerifiedLaunch) -> LtiLaunch:
        """Store a trial launch that nobody posted, as the view of its launch URL would accept it.

        Asked is what concerns this site: the consumer, and where the launch leads. Nothing is
        learned, and ``launch_valid`` is not called, since ``request`` is the administrator's.
        Raises LaunchRefused.
        """
        finder = cls()
        finder.setup(request)
        match = finder._find_match(verified)
        route: Any = match.func
        view: LaunchView = route.view_class(**route.view_initkwargs)
        view.setup(request, *match.args, **match.kwargs)
        view.consumer, view.message, view.query = verified.consumer, verified.message, ()
        if not verified.consumer.is_active:
            raise ConsumerInactive
        return LtiLaunch.objects.accept(
            verified, target=view._get_target(), launch_url=verified.target_url
        )

    def launch_valid(self, launch: LtiLaunch) -> HttpResponseBase:
        """Answer an accepted launch: the page itself, or ``enter``, which finds a session.

        A frame that brings our marker of the same consumer, or the cookie of its own login, keeps
        our cookies, so it is signed in at once. Called in the transaction that stores the launch:
        what is refused here was never launched. An override refuses before it calls this one.
        Raises LaunchRefused.
        """
        if self._shows_that_cookies_are_kept(launch):
            known = cast("LtiLaunch", LtiLaunch.objects.with_handle(launch.handle))
            # Read already.
            known.registration = launch.registration
            if may_enter_at_once(self.request, known):
                self.entered = known
                response = enter(self.request, known, framed=True)
                binding.unbind_login(self.request, response, launch.handle)
                return response
        return self._redirect_to_enter(launch)

    def launch_refused(self, refusal: LaunchRefused) -> HttpResponseBase:
        """Answer a refused launch: back to the LMS with a message, or a page that says why."""
        return refuse(self.request, refusal)

    def add_known_details(self, refusal: R) -> R:
        if self.verified is not None:
            refusal.with_details(
                consumer=self.verified.consumer,
                registration=self.verified.registration,
                message=self.verified.message,
                evidence=self.verified.evidence,
            )
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
        return add_query(url, urlencode(self.query)) if self.query else url

    def _get_launchable_path(self, target: str) -> str:
        if not is_under(f"/{target}", conf.launchable_paths):
            raise TargetNotLaunchable(
                format_lazy(
                    _("/{path} is not under LTI_PROVIDER_LAUNCHABLE_PATHS."),
                    path=escape_uri_path(target)[:500],
                )
            )
        return escape_uri_path(get_script_prefix() + target)

    def _check_browser(self, verified: VerifiedLaunch) -> None:
        # Otherwise anybody could post a launch of their own in a frame of this browser.
        is_framed_login = verified.handle and frames.is_framed(self.request)
        if is_framed_login and not self._is_bound_in_frame(verified.handle):
            raise OtherBrowser.in_frame()

    def _shows_that_cookies_are_kept(self, launch: LtiLaunch) -> bool:
        if launch.had_login:
            return frames.is_apart(self.request) and self._is_bound_in_frame(launch.handle)
        return frames.is_known(self.request, self.consumer)

    def _check_account(self) -> None:
        if self.consumer.require_user_account and not self.message.person.user_id:
            raise UserAccountRequired(_("The LMS sent no user_id, so no account can be connected."))

    def _check_deployment(self, verified: VerifiedLaunch) -> None:
        deployment, consumer = verified.deployment, self.consumer
        if deployment is None:
            return
        is_pinned = (
            deployment.lti_consumer_id is not None
            and consumer.guid_policy == LtiConsumer.GuidPolicy.PIN
        )
        if is_pinned and not deployment.accepts_installation(self.message.installation.guid):
            raise self._build_other_installation()

    def _find_installation(self) -> LtiInstallation | None:
        consumer, guid = self.consumer, self.message.installation.guid
        is_first = guid == consumer.instance_guid
        if not is_first and consumer.guid_policy == LtiConsumer.GuidPolicy.RECORD:
            return None
        installation = consumer.find_installation(guid)
        if installation is None and not is_first and not consumer.learns_installation(guid):
            raise self._build_other_installation()
        return installation

    @contextmanager
    def _accept_once(self, verified: VerifiedLaunch) -> Iterator[None]:
        # What is refused in it teaches nothing, and a form that is sent again after a failure must
        # not find its nonce used up.
        try:
            with undo_if_it_fails(self.request), commit(router.db_for_write(LtiLaunch)):
                yield
        except IntegrityError as error:
            if LtiLaunch.objects.is_used(verified) and not is_from_site(error):
                raise ReplayedLaunch from None
            raise

    def _learn(self, verified: VerifiedLaunch, installation: LtiInstallation | None) -> None:
        # Written before the launch, which locks the consumer on MariaDB: simultaneous launches
        # wait here, and not for each other.
        consumer, guid = self.consumer, self.message.installation.guid
        if consumer.learns_installation(guid):
            learned = consumer.learn_installation(guid)
            if not learned and consumer.guid_policy == LtiConsumer.GuidPolicy.PIN:
                raise self._build_other_installation()
        if verified.deployment is not None:
            self._learn_deployment(verified.deployment)
        if self.message.grade_service is not None:
            consumer.learn_service_host(get_host(self.message.grade_service.url))
        if verified.is_trial:
            return
        if verified.signed_with is not None:
            consumer.record_secret_use(verified.signed_with)
        if installation is not None:
            installation.record_seen()

    def _learn_deployment(self, deployment: LtiDeployment) -> None:
        consumer, guid = self.consumer, self.message.installation.guid
        if not consumer.learn_issuer(deployment.registration.issuer):
            raise self._build_other_issuer(deployment)
        if deployment.lti_consumer_id is None and not deployment.join(consumer, guid):
            raise OtherInstallation(_("An administrator decided about this deployment meanwhile."))
        learned = deployment.learn_installation(guid)
        if not learned and consumer.guid_policy == LtiConsumer.GuidPolicy.PIN:
            raise self._build_other_installation()
        deployment.record_seen()

    def _build_other_issuer(self, deployment: LtiDeployment) -> OtherIssuer:
        return OtherIssuer(
            format_lazy(
                _(
                    "The launch came from issuer {seen}; this consumer has launched as {known}. "
                    "A different issuer is a different LMS: give its deployments a second consumer."
                ),
                seen=deployment.registration.issuer,
                known=self.consumer.issuer,
            )
        )

    def _build_other_installation(self) -> OtherInstallation:
        deployment = self.verified.deployment if self.verified is not None else None
        return self._describe_other_installation().with_details(deployment=deployment)

    def _describe_other_installation(self) -> OtherInstallation:
        return OtherInstallation(
            format_lazy(
                _(
                    "The launch came from installation “{seen}”; this consumer accepts “{known}”. "
                    "If it is the same LMS, accept this one too: a Moodle sends what “Default "
                    "organisation ID” says in each of its tools. If not, add a second consumer."
                ),
                seen=self.message.installation.guid,
                known=", ".join(map(str, self.consumer.installations.all())),
            )
        )

    def _find_foreign_origin(self, verified: VerifiedLaunch) -> str:
        origin = str(self.request.META.get("HTTP_ORIGIN", ""))[:_ORIGIN_LENGTH].replace("\0", "")
        own = self._get_frame_origins(verified)
        if not own:
            # If this is refused in a frame, the launch log offers it.
            return origin
        if not self.consumer.is_foreign_origin(origin, own):
            return ""
        if self.consumer.origin_check == LtiConsumer.OriginCheck.ENFORCE:
            raise UnexpectedOrigin(
                format_lazy(
                    _("The launch was posted from {seen}; the LMS's origins are {own}."),
                    seen=origin,
                    own=", ".join(own),
                )
            )
        return origin

    def _get_frame_origins(self, verified: VerifiedLaunch) -> tuple[str, ...]:
        registration = verified.registration
        endpoint = registration.authorization_origin if registration is not None else None
        return self.consumer.get_frame_origins(self.message.return_origin, endpoint)

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

    def _redirect_to_enter(self, launch: LtiLaunch) -> HttpResponseBase:
        path = reverse("lti_provider:enter", args=[launch.handle])
        response = SeeOther(path)
        # After a login, only the login's own cookie binds: anybody may have posted this launch.
        if not launch.had_login:
            binding.bind_handle(self.request, response, launch.handle, path)
        is_bound = not launch.had_login or self._is_bound_in_frame(launch.handle)
        if is_bound and frames.may_be_framed(self.request):
            frames.mark_frame(self.request, response, launch)
        return response

    def _is_bound_in_frame(self, handle: str) -> bool:
        return binding.has_login_of_frame(self.request, handle)


def _take_verified(request: HttpRequest) -> VerifiedLaunch | None:
    # Once: an attempt that fails may leave its consumer changed in memory.
    handed: list[VerifiedLaunch] = vars(request).get(_VERIFIED, [])
    return handed.pop() if handed else None

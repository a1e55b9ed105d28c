"""Verify a launch of LTI 1.3 (Security Framework 1.0 §5.1.3, LTI 1.3 §5.3).

Nothing is written here, and only a key set is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_variables
from joserfc.jwk import RSAKey

from lti_provider.exceptions import (
    ConsumerInactive,
    DeploymentInactive,
    InvalidClaim,
    LaunchRefused,
    LmsRefusedLogin,
    MalformedRequest,
    MissingDeployment,
    MissingPerson,
    MissingResourceLink,
    MissingRoles,
    MissingTarget,
    OtherDeployment,
    OtherIssuer,
    OtherRedirectUri,
    OtherTarget,
    RegistrationInactive,
    StateExpired,
    UnknownDeployment,
    UnknownRegistration,
    UnsupportedMessageType,
    UnsupportedVersion,
)
from lti_provider.form import Pairs, parse_query
from lti_provider.lti13 import token_checks
from lti_provider.lti13.claims import (
    DEEP_LINKING,
    DEPLOYMENT_ID,
    IDENTITY,
    LAUNCH,
    MESSAGE_TYPE,
    RESOURCE_LINK,
    ROLES,
    SELECTION,
    TARGET_LINK_URI,
    VERSION,
    check_claims,
    is_identifier,
    is_selection,
    read_message,
)
from lti_provider.lti13.deep_linking import build_empty_response
from lti_provider.lti13.diagnosis import Evidence
from lti_provider.lti13.id_token import (
    IdToken,
    check_header,
    check_signature,
    read_id_token,
    show,
)
from lti_provider.lti13.key_set import find_key
from lti_provider.lti13.state import LIFETIME, LoginState
from lti_provider.message import IDENTIFIER_LENGTH, LaunchMessage
from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration, VerifiedLaunch
from lti_provider.origins import is_http_url
from lti_provider.trial import is_trial_launch

#: The name that every launch of LTI 1.3 has in its form, verified or not.
PROOF = "id_token"
#: What a form has that answers a login; where the platform refused, there is no token.
ANSWER = frozenset({PROOF, "state"})

_VERSION = "1.3.0"
_SIGN_IN = frozenset({"login_required", "interaction_required"})
# Names of a login, which do not go on to the page.
_LOGIN_NAMES = frozenset({PROOF, "iss", "login_hint", "target_link_uri"})


class _Answer:
    """What answers a login. Each check may read what the ones before it have found."""

    token: IdToken
    registration: LtiRegistration
    deployment: LtiDeployment | None = None
    key: RSAKey
    issued_at: float
    message: LaunchMessage
    consumer: LtiConsumer
    query: Pairs

    def __init__(self, state: LoginState, text: str) -> None:
        self.state = state
        self.text = text
        self.passed: list[str] = []

    @property
    def claims(self) -> Mapping[str, Any]:
        return self.token.claims

    def build_evidence(self) -> Evidence:
        names = [name for name, _check in _CHECKS]
        token: IdToken | None = vars(self).get("token")
        if token is None:
            return Evidence(failed=names[0])
        target = token.claims.get(TARGET_LINK_URI)
        return Evidence(
            target_link_uri=target if isinstance(target, str) else "",
            header=token.header,
            claims=token.claims,
            passed=tuple(self.passed),
            failed="".join(names[len(self.passed) : len(self.passed) + 1]),
        )

    def find_details(self) -> dict[str, Any]:
        """What is known when it is refused."""
        consumer = self.deployment.lti_consumer if self.deployment is not None else None
        return {
            "consumer": vars(self).get("consumer", consumer),
            "registration": vars(self).get("registration") or _find_registration(self.state),
            "message": vars(self).get("message"),
            "evidence": self.build_evidence(),
        }


@sensitive_variables()
def verify(request: HttpRequest, body: Pairs) -> VerifiedLaunch:
    """Check the token that was posted with the state of its login. Raises LaunchRefused.

    Of the form only ``id_token`` and ``state`` are read, and where there is no token, the error
    that the platform answered with.
    """
    if request.path != (path := unquote(reverse("lti_provider:launch"))):
        raise OtherRedirectUri(
            format_lazy(
                _(
                    "LTI 1.3 launches are posted to {path}, not to {found}: correct the redirect "
                    "URI in the LMS."
                ),
                path=path,
                found=show(request.path),
            )
        )
    sent = dict(body)
    state = LoginState.read(sent.get("state", ""))
    if state.is_expired:
        registration = _find_registration(state)
        raise StateExpired().with_details(registration=registration, evidence=Evidence())
    if PROOF not in sent and "error" in sent:
        raise _build_login_refused(sent, state)
    answer = _Answer(state, sent.get(PROOF, ""))
    try:
        for name, check in _CHECKS:
            check(answer)
            answer.passed.append(name)
    except LaunchRefused as refusal:
        raise refusal.with_details(**answer.find_details()) from None
    return _build_verified(answer)


def _find_registration(state: LoginState) -> LtiRegistration | None:
    return LtiRegistration.objects.filter(pk=state.registration_pk).first()


def _build_login_refused(sent: Mapping[str, str], state: LoginState) -> LmsRefusedLogin:
    error = sent["error"]
    refusal = LmsRefusedLogin(
        format_lazy(
            _("The LMS answered the login with the error {error}: {description}"),
            error=show(error),
            description=show(sent.get("error_description", "")),
        )
    )
    if error in _SIGN_IN:
        refusal.public_text = _("Sign in to your LMS and open the activity again.")
    return refusal.with_details(registration=_find_registration(state), evidence=Evidence())


def _read_token(answer: _Answer) -> None:
    answer.token = read_id_token(answer.text)


def _check_registration(answer: _Answer) -> None:
    # One read finds the deployment that the token names, with registration and consumer. Until the
    # signature holds, this is only a lookup.
    pk, named = answer.state.registration_pk, answer.claims.get(DEPLOYMENT_ID)
    if is_identifier(named):
        answer.deployment = LtiDeployment.objects.with_id(pk, named)
    if answer.deployment is not None:
        answer.registration = answer.deployment.registration
    elif (registration := _find_registration(answer.state)) is not None:
        answer.registration = registration
    else:
        raise UnknownRegistration
    if not answer.registration.is_active:
        raise RegistrationInactive


def _check_header(answer: _Answer) -> None:
    check_header(answer.token)


def _find_key(answer: _Answer) -> None:
    answer.key = find_key(answer.registration, answer.token.kid)


def _check_signature(answer: _Answer) -> None:
    check_signature(answer.token, answer.key)


def _check_issuer(answer: _Answer) -> None:
    token_checks.check_issuer(answer.claims, answer.registration)


def _check_audience(answer: _Answer) -> None:
    token_checks.check_audience(answer.claims, answer.registration)


def _check_times(answer: _Answer) -> None:
    answer.issued_at = token_checks.check_times(answer.claims, answer.registration, answer.state)


def _check_nonce(answer: _Answer) -> None:
    token_checks.check_nonce(answer.claims, answer.state)
    # From here on it is the LMS that speaks, to this login.
    answer.message = read_message(answer.claims)


def _check_version(answer: _Answer) -> None:
    if (found := answer.claims.get(VERSION)) != _VERSION:
        raise UnsupportedVersion(
            format_lazy(
                _("The token's version is {found}; only 1.3.0 is answered."), found=show(found)
            )
        )


def _check_message_type(answer: _Answer) -> None:
    if (found := answer.claims.get(MESSAGE_TYPE)) not in (LAUNCH, SELECTION):
        raise UnsupportedMessageType(
            format_lazy(
                _("The token's message_type is {found}; only {launch} is answered."),
                found=show(found),
                launch=LAUNCH,
            )
        )


def _check_claims(answer: _Answer) -> None:
    check_claims(answer.claims)


def _check_deployment(answer: _Answer) -> None:
    named = answer.claims.get(DEPLOYMENT_ID)
    if not named:
        raise MissingDeployment
    if not answer.state.names_deployment(named):
        raise OtherDeployment(
            format_lazy(
                _("The login was for a different deployment than the token's, {found}."),
                found=show(named),
            )
        )
    if answer.deployment is not None and not answer.deployment.is_active:
        raise DeploymentInactive(
            format_lazy(_("The deployment {found} is not active."), found=show(named))
        )


def _check_consumer(answer: _Answer) -> None:
    answer.consumer = _find_consumer(answer)
    if not answer.consumer.accepts_issuer(answer.registration.issuer):
        raise OtherIssuer(
            format_lazy(
                _(
                    "“{consumer}” is the LMS of issuer {known}, the deployment's registration has "
                    "{found}: assign the deployment to the consumer of its own LMS."
                ),
                consumer=answer.consumer.consumer_name,
                known=answer.consumer.issuer,
                found=answer.registration.issuer,
            )
        )
    if not answer.consumer.is_active:
        raise ConsumerInactive


def _find_consumer(answer: _Answer) -> LtiConsumer:
    known = answer.deployment
    if known is not None and known.lti_consumer is not None:
        return known.lti_consumer
    # A deployment that waits already is described anew, by what this launch says.
    said = _build_deployment(answer)
    answer.deployment = known or said
    consumer = _find_joined_consumer(answer)
    if consumer is None:
        raise UnknownDeployment(
            format_lazy(
                _("Deployment {found} of {issuer} has no LTI consumer: choose one for it."),
                found=show(said.deployment_id),
                issuer=answer.registration.issuer,
            )
        ).with_details(deployment=said)
    return consumer


def _build_deployment(answer: _Answer) -> LtiDeployment:
    installation = answer.message.installation
    return LtiDeployment(
        registration=answer.registration,
        deployment_id=answer.claims[DEPLOYMENT_ID],
        instance_guid=installation.guid,
        installation_name=installation.name[:IDENTIFIER_LENGTH],
        product=installation.product[:IDENTIFIER_LENGTH],
    )


def _find_joined_consumer(answer: _Answer) -> LtiConsumer | None:
    # An administrator said that all deployments join, but an installation that the consumer does
    # not accept is a different LMS.
    consumer, guid = answer.registration.joined_consumer, answer.message.installation.guid
    if consumer is None or not guid:
        return consumer
    return consumer if _accepts_installation(consumer, guid) else None


def _accepts_installation(consumer: LtiConsumer, guid: str) -> bool:
    is_known = guid == consumer.instance_guid or consumer.find_installation(guid) is not None
    return is_known or consumer.learns_installation(guid)


def _check_roles(answer: _Answer) -> None:
    if answer.claims.get(ROLES) is None:
        raise MissingRoles


def _check_subject(answer: _Answer) -> None:
    if is_selection(answer.claims):
        raise _build_selection_refused(answer)
    link = answer.claims.get(RESOURCE_LINK) or {}
    if not link.get("id"):
        raise MissingResourceLink(
            _(
                "The token has no resource_link with an id, which LTI requires. Open the tool from "
                "an activity in a course."
            )
        )


def _build_selection_refused(answer: _Answer) -> LaunchRefused:
    settings = answer.claims.get(DEEP_LINKING) or {}
    for name in ("deep_link_return_url", "accept_types"):
        if settings.get(name) is None:
            return InvalidClaim(
                format_lazy(
                    _("deep_linking_settings has no {name}, which LTI requires."), name=name
                )
            )
    refusal = UnsupportedMessageType(
        _(
            "The LMS asked for content to choose from, which this site does not have. Switch Deep "
            "Linking off for the tool in the LMS."
        )
    )
    refusal.public_text = _(
        "This site has no content to choose from. Enter the launch URL of an activity instead."
    )
    return refusal.with_details(reply=build_empty_response(answer.claims, answer.registration))


def _check_target(answer: _Answer) -> None:
    target = answer.claims.get(TARGET_LINK_URI)
    if not target:
        raise MissingTarget
    if not is_http_url(target):
        raise InvalidClaim(
            format_lazy(
                _("target_link_uri is {found}, which is not a launch URL."), found=show(target)
            )
        )
    if not answer.state.is_about(target):
        raise OtherTarget(
            format_lazy(
                _("The login was for a different launch URL than the token's, {found}."),
                found=show(target),
            )
        )


def _read_query(answer: _Answer) -> None:
    try:
        pairs = parse_query(urlsplit(answer.claims[TARGET_LINK_URI]).query)
    except MalformedRequest as refusal:
        raise InvalidClaim(
            format_lazy(
                _("The query of target_link_uri cannot be read: {reason}"), reason=refusal.hint
            )
        ) from None
    answer.query = tuple(
        (name, value)
        for name, value in pairs
        if name not in _LOGIN_NAMES and not name.startswith("lti_")
    )


def _check_person(answer: _Answer) -> None:
    # Without any of these it is a guest (LTI 1.3 §5.3.6.1).
    said = [name for name in IDENTITY if answer.claims.get(name)]
    if said and not answer.claims.get("sub"):
        raise MissingPerson(
            format_lazy(
                _("The token has {names}, but no sub, which says who it is."), names=", ".join(said)
            )
        )


#: In this order (Security Framework 1.0 §5.1.3); the launch log has their names.
_CHECKS: tuple[tuple[str, Callable[[_Answer], None]], ...] = (
    ("token", _read_token),
    ("registration", _check_registration),
    ("header", _check_header),
    ("key", _find_key),
    ("signature", _check_signature),
    ("issuer", _check_issuer),
    ("audience", _check_audience),
    ("times", _check_times),
    ("nonce", _check_nonce),
    ("version", _check_version),
    ("message type", _check_message_type),
    ("claims", _check_claims),
    ("deployment", _check_deployment),
    ("consumer", _check_consumer),
    ("roles", _check_roles),
    ("resource link", _check_subject),
    ("target", _check_target),
    ("query", _read_query),
    ("person", _check_person),
)


def _build_verified(answer: _Answer) -> VerifiedLaunch:
    return VerifiedLaunch(
        consumer=answer.consumer,
        message=answer.message,
        nonce=answer.state.nonce,
        nonce_expires_at=_get_nonce_expiry(answer.state),
        query=answer.query,
        clock_difference=token_checks.get_clock_difference(answer.issued_at),
        signed_with=None,
        is_trial=is_trial_launch(answer.consumer, answer.message),
        evidence=answer.build_evidence(),
        registration=answer.registration,
        deployment=answer.deployment,
        target_url=answer.claims[TARGET_LINK_URI],
        handle=answer.state.handle,
    )


def _get_nonce_expiry(state: LoginState) -> datetime:
    # A second more than the state, whose age has fractions; naive where the site's times are.
    return datetime.fromtimestamp(state.issued_at + LIFETIME + 1, timezone.now().tzinfo)

"""The unsigned login that begins a launch (Security Framework 1.0 §5.1.1): nothing is stored.

Anybody can send one with any values. All that it can do is to send the browser to the authorization
endpoint of a registration of this site.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import (
    LaunchRefused,
    MalformedRequest,
    MissingClientId,
    RegistrationInactive,
    UnknownClient,
    UnknownIssuer,
)
from lti_provider.form import Pairs, read_form, read_query
from lti_provider.lti13.diagnosis import Evidence
from lti_provider.lti13.state import LoginState
from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models import LtiRegistration
from lti_provider.origins import add_query

#: The name that every login has in its form.
HINT = "login_hint"

_REQUIRED = ("iss", HINT, "target_link_uri")
_IDENTIFIERS = ("iss", "client_id", "lti_deployment_id")
_HINTS = (HINT, "lti_message_hint")
_KNOWN = frozenset({*_REQUIRED, *_IDENTIFIERS, *_HINTS})
# As they stand in an address. Platforms put tokens into their hints.
_HINTS_LENGTH = 8 * 1024
# Django does not redirect to more than 16 kB, and this is not all of an address.
_LENGTH = 12 * 1024
_LISTED = 5


@dataclass(frozen=True, kw_only=True, repr=False)
class Login:
    """A login of a registration; ``fields`` are what it said, to be sent again as it is."""

    registration: LtiRegistration
    fields: Pairs
    target_link_uri: str
    deployment_id: str | None

    @property
    def evidence(self) -> Evidence:
        """What is left of it if it is refused later."""
        return Evidence(
            issuer=self.registration.issuer,
            client_id=self.registration.client_id,
            target_link_uri=self.target_link_uri,
        )

    def begin(self) -> LoginState:
        """A new state for this login."""
        return LoginState.issue(self.registration.pk, self.target_link_uri, self.deployment_id)

    def continues(self, state: LoginState) -> bool:
        """Whether a state was issued for this same login."""
        begun = state.registration_pk == self.registration.pk and state.is_about(
            self.target_link_uri
        )
        return begun and state.names_deployment(self.deployment_id or "")

    def get_authorization_url(self, state: LoginState, redirect_uri: str) -> str:
        """Where the platform answers the login (Security Framework 1.0 §5.1.1.2).

        ``redirect_uri`` is absolute, and one that the platform has on file.
        """
        said = dict(self.fields)
        asked = {
            "scope": "openid",
            "response_type": "id_token",
            "response_mode": "form_post",
            "prompt": "none",
            "client_id": self.registration.client_id,
            "redirect_uri": redirect_uri,
            "state": state.sign(),
            "nonce": state.nonce,
            **{name: said[name] for name in _HINTS if name in said},
        }
        return add_query(self.registration.authorization_endpoint, urlencode(asked))


def read_login(request: HttpRequest, registration_pk: int | None = None) -> Login:
    """The login that a GET or POST asks for, in one read. Raises LaunchRefused.

    ``registration_pk`` is the registration of the address, where a platform sends no client id.
    """
    pairs = read_form(request) if request.method == "POST" else read_query(request)
    said = _check(tuple(pair for pair in pairs if pair[0] in _KNOWN))
    evidence = Evidence(
        issuer=said["iss"],
        client_id=said.get("client_id", ""),
        target_link_uri=said["target_link_uri"],
    )
    registration = _find_registration(evidence, registration_pk)
    if not registration.is_active:
        raise RegistrationInactive().with_details(registration=registration, evidence=evidence)
    return Login(
        registration=registration,
        fields=tuple(said.items()),
        target_link_uri=said["target_link_uri"],
        deployment_id=said.get("lti_deployment_id") or None,
    )


def _check(pairs: Pairs) -> dict[str, str]:
    said = dict(pairs)
    if len(said) < len(pairs):
        raise MalformedRequest(_("A parameter is twice in the login."))
    for name in _REQUIRED:
        if not said.get(name):
            raise MalformedRequest(format_lazy(_("The login has no {name}."), name=name))
    for name in _IDENTIFIERS:
        if len(said.get(name, "")) > IDENTIFIER_LENGTH:
            raise _build_too_long(name, IDENTIFIER_LENGTH)
    hints = {name: said[name] for name in _HINTS if name in said}
    if len(urlencode(hints)) > _HINTS_LENGTH:
        raise _build_too_long(" + ".join(hints), _HINTS_LENGTH)
    if len(urlencode(said)) > _LENGTH:
        raise _build_too_long("target_link_uri", _LENGTH)
    return said


def _build_too_long(name: str, limit: int) -> MalformedRequest:
    text = _("The login's {name} is longer than {limit} characters.")
    return MalformedRequest(format_lazy(text, name=name, limit=limit))


def _find_registration(evidence: Evidence, pk: int | None) -> LtiRegistration:
    if pk is not None:
        return _find_numbered(evidence, pk)
    if not evidence.client_id:
        return _find_only(evidence)
    found = LtiRegistration.objects.with_client(evidence.issuer, evidence.client_id)
    return found or _refuse_client(evidence)


def _find_numbered(evidence: Evidence, pk: int) -> LtiRegistration:
    registration = LtiRegistration.objects.filter(pk=pk).first()
    if registration is None:
        text = _("No registration has the number {number}: copy the login URL again.")
        raise UnknownIssuer(format_lazy(text, number=pk)).with_details(evidence=evidence)
    if evidence.issuer != registration.issuer:
        text = _("The LMS sent issuer {issuer}; this login URL is for {known}.")
        refusal: LaunchRefused = UnknownIssuer(
            format_lazy(text, issuer=evidence.issuer, known=registration.issuer)
        )
    elif evidence.client_id not in ("", registration.client_id):
        text = _("The LMS sent client {client}; this login URL is for {known}.")
        refusal = UnknownClient(
            format_lazy(text, client=evidence.client_id, known=registration.client_id)
        )
    else:
        return registration
    raise refusal.with_details(registration=registration, evidence=evidence)


def _find_only(evidence: Evidence) -> LtiRegistration:
    found = list(LtiRegistration.objects.of_issuer(evidence.issuer)[:2])
    if not found:
        raise UnknownIssuer().with_details(evidence=evidence)
    if len(found) > 1:
        raise MissingClientId().with_details(evidence=evidence)
    return found[0]


def _refuse_client(evidence: Evidence) -> LtiRegistration:
    known = LtiRegistration.objects.of_issuer(evidence.issuer).values_list("client_id", flat=True)
    ids = list(known[:_LISTED])
    if not ids:
        raise UnknownIssuer().with_details(evidence=evidence)
    raise UnknownClient(
        format_lazy(
            _("Issuer {issuer} is known, client {client} is not; known: {known}."),
            issuer=evidence.issuer,
            client=evidence.client_id,
            known=", ".join(ids),
        )
    ).with_details(evidence=evidence)

"""The unsigned login that begins a launch (Security Framework 1.0 §5.1.1): nothing is stored.

Anybody can send one with any values. All that it can do is to send the browser to the authorization
endpoint of a registration of this site.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    UnknownRegistration,
)
from lti_provider.form import Pairs, read_form, read_query
from lti_provider.lti13.diagnosis import Evidence
from lti_provider.lti13.state import LoginState
from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models import LtiRegistration
from lti_provider.origins import add_query

#: The name that every login has in its form.
HINT = "login_hint"
#: Names of a login that together nothing else has: other protocols have hints too.
LOGIN = frozenset({HINT, "target_link_uri"})

# Ours: what a repeated login brings back.
_STATE = "lti_login"
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
    """A login of a registration.

    ``fields`` are what it said, as far as it counts, to be sent again as it is. ``is_repeated``: it
    came with the state that the first answer to it sent along; else the state is new.
    """

    registration: LtiRegistration
    fields: Pairs
    state: LoginState
    is_repeated: bool = False

    @property
    def handle(self) -> str:
        """The handle of the launch that this login becomes."""
        return self.state.handle

    @property
    def repeated_fields(self) -> Pairs:
        """What the browser has to send to repeat this login with its state."""
        return (*self.fields, (_STATE, self.state.sign()))

    def begin_anew(self) -> Login:
        """The same login with a state that nobody has seen."""
        return replace(self, state=_issue_state(self.registration, self.fields), is_repeated=False)

    def resume(self, text: str) -> Login:
        """The same login with the state ``text``, if that was issued for it; else as it is."""
        try:
            state = LoginState.read(text)
        except LaunchRefused:
            return self
        if state.is_expired:
            return self
        same = replace(self.state, random_id=state.random_id, issued_at=state.issued_at)
        return replace(self, state=state, is_repeated=True) if state == same else self

    def get_authorization_url(self, redirect_uri: str) -> str:
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
            "state": self.state.sign(),
            "nonce": self.state.nonce,
            **{name: said[name] for name in _HINTS if name in said},
        }
        return add_query(self.registration.authorization_endpoint, urlencode(asked))


def read_login(request: HttpRequest, registration_pk: int | None = None) -> Login:
    """The login that a GET or POST asks for, in one read. Raises LaunchRefused.

    ``registration_pk`` is the registration of the address, where a platform sends no client id.
    """
    pairs = read_form(request) if request.method == "POST" else read_query(request)
    fields = tuple(pair for pair in pairs if pair[0] in _KNOWN)
    said = _check(fields)
    evidence = Evidence(
        issuer=said["iss"],
        client_id=said.get("client_id", ""),
        target_link_uri=said["target_link_uri"],
    )
    registration = _find_registration(evidence, registration_pk)
    if not registration.is_active:
        raise RegistrationInactive().with_details(registration=registration, evidence=evidence)
    login = Login(
        registration=registration, fields=fields, state=_issue_state(registration, fields)
    )
    returned = [value for name, value in pairs if name == _STATE]
    return login.resume(returned[0]) if len(returned) == 1 else login


def _issue_state(registration: LtiRegistration, fields: Pairs) -> LoginState:
    said = dict(fields)
    deployment_id = said.get("lti_deployment_id") or None
    return LoginState.issue(registration.pk, said["target_link_uri"], deployment_id)


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
        raise UnknownRegistration(format_lazy(text, number=pk)).with_details(evidence=evidence)
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

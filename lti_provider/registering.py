"""RegisterForm: takes what an LMS shows of LTI 1.3, for the set-up page and for scripts."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import router, transaction
from django.utils.translation import gettext_lazy as _

from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models import LtiConsumer, LtiDeployment, LtiRegistration
from lti_provider.models.registration import describe_other_issuer
from lti_provider.origins import is_http_url
from lti_provider.products import LmsProduct, get_product

_ADDRESSES = (
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "token_audience",
    "jwks_uri",
    "jwks",
)
_OPTIONAL = ("token_audience", "jwks")
_ID_LENGTH = 200
# What stands for the LMS's own in the examples.
_EXAMPLE = {"site": "https://lms.example.edu", "tool_id": "17", "client_id": "10000000000017"}


def _build_address(name: str) -> Any:
    column: Any = LtiRegistration._meta.get_field(name)
    field = column.formfield(required=False)
    field.widget.attrs |= {"class": "vTextField", "spellcheck": "false"}
    return field


class RegisterForm(forms.Form):
    """Client id and deployment id, and what leads to the addresses of the LMS.

    The product of the consumer decides what is asked: of a known one the addresses are derived
    unless they are typed. A registration that is known already stays as it is.
    """

    site = forms.CharField(
        label=_("Address of the LMS"),
        max_length=500,
        help_text=_("As its front page has it, such as https://lms.example.edu."),
    )
    tool_id = forms.CharField(max_length=_ID_LENGTH)
    client_id = forms.CharField(label=_("Client id"), max_length=IDENTIFIER_LENGTH)
    deployment_id = forms.CharField(
        label=_("Deployment id"),
        max_length=IDENTIFIER_LENGTH,
        required=False,
        help_text=_("If it is not known yet, leave it blank: the first launch brings it."),
    )
    joins = forms.BooleanField(
        label=_("Further deployments belong to this LTI consumer too"),
        required=False,
        help_text=_(
            "Without it they wait for an administrator. Only for an LMS whose client id no "
            "different LMS has."
        ),
    )
    issuer = _build_address("issuer")
    authorization_endpoint = _build_address("authorization_endpoint")
    token_endpoint = _build_address("token_endpoint")
    token_audience = _build_address("token_audience")
    jwks_uri = _build_address("jwks_uri")
    jwks = _build_address("jwks")

    prefix = "register"
    deployment: LtiDeployment | None

    def __init__(self, consumer: LtiConsumer, data: Any = None) -> None:
        super().__init__(data)
        self.consumer = consumer
        self.product: LmsProduct | None = get_product(consumer.product)
        self._ask_only_what_is_needed()
        for name in ("site", "tool_id", "client_id", "deployment_id"):
            if name in self.fields:
                self.fields[name].widget.attrs |= {"class": "vTextField", "spellcheck": "false"}

    def _ask_only_what_is_needed(self) -> None:
        known = self.product.endpoints if self.product else None
        if known is None or not known.needs_site:
            del self.fields["site"]
        if known is None or not known.id_name:
            del self.fields["tool_id"]
        else:
            self.fields["tool_id"].label = known.id_name
        if known is not None and known.is_shared:
            del self.fields["joins"]
        examples = known.fill(**_EXAMPLE) if known else {}
        for name, example in examples.items():
            self.fields[name].widget.attrs["placeholder"] = example

    @property
    def asked(self) -> list[forms.BoundField]:
        """What every LMS of the product has to be asked for."""
        return [self[name] for name in self.fields if name not in _ADDRESSES]

    @property
    def addresses(self) -> list[forms.BoundField]:
        """What is derived, where the product is known."""
        return [self[name] for name in _ADDRESSES]

    @property
    def are_addresses_open(self) -> bool:
        """Whether they have to be typed, or something is wrong with what was."""
        return self.product is None or any(field.errors for field in self.addresses)

    def clean_site(self) -> str:
        site: str = self.cleaned_data["site"].strip().rstrip("/")
        if not is_http_url(site):
            raise ValidationError(_("Enter an address such as https://lms.example.edu."))
        return site

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        if self.errors:
            return given
        self._derive(given)
        for name in _ADDRESSES:
            if not given.get(name) and name not in (*_OPTIONAL, "token_endpoint", "jwks_uri"):
                self.add_error(name, _("Enter it as the LMS shows it."))
        if not self.errors:
            self._build(given)
        return given

    def _derive(self, given: dict[str, Any]) -> None:
        if self.product is None:
            return
        derived = self.product.endpoints.fill(
            site=given.get("site", ""),
            tool_id=given.get("tool_id", "").strip(),
            client_id=given["client_id"],
        )
        if given["jwks"]:
            derived["jwks_uri"] = ""
        given.update({name: given[name] or value for name, value in derived.items()})

    def _build(self, given: dict[str, Any]) -> None:
        known = LtiRegistration.objects.with_client(given["issuer"], given["client_id"])
        self.registration = known or self._build_registration(given)
        try:
            if known is None:
                # That the consumer exists is not asked: a replica may not have it yet.
                known_already = ["registration_digest", "issuer_digest", "lti_consumer"]
                self.registration.full_clean(exclude=known_already)
            elif not given["deployment_id"]:
                text = _("This client id is registered already: enter the deployment id.")
                raise ValidationError({"deployment_id": text})
            if not self.consumer.accepts_issuer(given["issuer"]):
                raise ValidationError({"issuer": describe_other_issuer(self.consumer)})
            self._check_deployment(given["deployment_id"])
        except ValidationError as error:
            self._add_errors(error)

    def _build_registration(self, given: dict[str, Any]) -> LtiRegistration:
        policy = LtiRegistration.NewDeployments
        return LtiRegistration(
            **{name: given[name] for name in ("client_id", *_ADDRESSES)},
            new_deployments=policy.JOIN if given.get("joins") else policy.APPROVE,
            lti_consumer=self.consumer,
        )

    def _check_deployment(self, deployment_id: str) -> None:
        self.deployment = None
        if not deployment_id:
            return
        registration = self.registration
        if not registration._state.adding:
            self.deployment = LtiDeployment.objects.with_id(registration.pk, deployment_id)
        if self.deployment is not None and not self.deployment.is_waiting:
            text = _("This deployment is known already.")
            raise ValidationError({"deployment_id": text}, code="unique")

    def _add_errors(self, error: ValidationError) -> None:
        found = error.error_dict if hasattr(error, "error_dict") else {"__all__": [error]}
        for name, errors in found.items():
            self.add_error(name if name in self.fields else None, list(errors))

    def save(self, by: Any) -> tuple[LtiRegistration, LtiDeployment | None]:
        """Store the registration, unless it is known, and the deployment, if one was named.

        Raises ValidationError if somebody decided about a waiting deployment meanwhile.
        """
        with transaction.atomic(using=router.db_for_write(LtiRegistration)):
            if self.registration._state.adding:
                self.registration.save()
            if self.deployment is not None:
                self.deployment.assign(self.consumer, by)
            elif self.cleaned_data["deployment_id"]:
                self.deployment = LtiDeployment.objects.create(
                    registration=self.registration,
                    deployment_id=self.cleaned_data["deployment_id"],
                    lti_consumer=self.consumer,
                )
        return self.registration, self.deployment

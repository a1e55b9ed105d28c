"""LMS products: what an administrator has to do there, in the words of the product.

The only source of these texts: the admin's set-up page and the learner's pages show them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Issuer and endpoints of LTI 1.3 of a product.

    ``{site}`` stands for the address of the LMS, ``{id}`` for the number that it gives the tool
    there, which it calls ``id_name``, and ``{client_id}`` for the client id. ``is_shared``: one
    client id serves all installations, so that only a deployment tells them apart.
    """

    issuer: str
    authorization: str
    access: str
    keys: str
    audience: str = ""
    id_name: _StrPromise | str = ""
    is_shared: bool = False

    @property
    def needs_site(self) -> bool:
        """Whether they follow from the address of the LMS."""
        return "{site}" in self.authorization

    def fill(self, *, site: str, tool_id: str, client_id: str) -> dict[str, str]:
        """The fields of a registration with an LMS at ``site``."""
        patterns = {
            "issuer": self.issuer,
            "authorization_endpoint": self.authorization,
            "token_endpoint": self.access,
            "token_audience": self.audience,
            "jwks_uri": self.keys,
        }
        known = {"site": site.rstrip("/"), "id": tool_id, "client_id": client_id}
        return {name: pattern.format(**known) for name, pattern in patterns.items()}


@dataclass(frozen=True, kw_only=True)
class LmsProduct:
    """One make of LMS.

    ``endpoints`` are those of LTI 1.3, and ``registration_steps`` say how to register this site
    there; they hold ``{login_url}``, ``{redirect_uri}``, ``{launch_url}``, ``{jwks_url}`` and
    ``{name}``. ``steps`` are those of LTI 1.1 and hold ``{launch_url}``, ``{key}``, ``{secret}``,
    ``{cartridge_url}``, ``{name}`` and ``{passport}``, Open edX's line of id, key and secret.
    ``email`` tells the privacy setting that lets e-mail addresses through; ``family`` is the
    product family code that its launches name, in lower case without blanks.
    """

    code: str
    name: str
    family: str
    endpoints: Endpoints
    registration_steps: tuple[_StrPromise, ...]
    steps: tuple[_StrPromise, ...]
    email: _StrPromise
    registration_good_to_know: _StrPromise | str = ""
    good_to_know: _StrPromise | str = ""


PRODUCTS = (
    LmsProduct(
        code="canvas",
        name="Canvas",
        family="canvas",
        endpoints=Endpoints(
            issuer="https://canvas.instructure.com",
            authorization="https://sso.canvaslms.com/api/lti/authorize_redirect",
            access="https://sso.canvaslms.com/login/oauth2/token",
            keys="https://sso.canvaslms.com/api/lti/security/jwks",
        ),
        registration_steps=(
            _("As the account's administrator, open Developer Keys → + Developer Key → LTI Key."),
            _(
                "Enter the title “{name}”, the redirect URI {redirect_uri}, the target link URI "
                "{launch_url}, the OpenID Connect initiation URL {login_url} and, as JWK method "
                "“Public JWK URL”, {jwks_url}. Choose the placements and the privacy level, save, "
                "and set the key to “On”."
            ),
            _("The long number in the column “Details” is the client id: enter it below."),
            _(
                "In the account or course, open Settings → Apps → View App Configurations → + App, "
                "choose “By Client ID” and enter it. The menu of the app shows the deployment id."
            ),
        ),
        registration_good_to_know=_(
            "All hosted schools have the same issuer. A Canvas that a school runs itself may have "
            "its own: compare it with the one that its administrator tells you."
        ),
        steps=(
            _("Open Settings → Apps → View App Configurations → + App, of the account or course."),
            _(
                "Choose Configuration Type “By URL” and enter the name “{name}”, the consumer "
                "key {key}, the shared secret {secret} and the config URL {cartridge_url}. Or "
                "choose “Manual Entry” with the launch URL {launch_url}."
            ),
            _("In a module or an assignment, add the activity as an “External Tool”."),
        ),
        email=_("In Canvas: the app's privacy level “Email only” or “Public”."),
        good_to_know=_("By URL, the privacy level is the one that the cartridge names."),
    ),
    LmsProduct(
        code="moodle",
        name="Moodle",
        family="moodle",
        endpoints=Endpoints(
            issuer="{site}",
            authorization="{site}/mod/lti/auth.php",
            access="{site}/mod/lti/token.php",
            keys="{site}/mod/lti/certs.php",
        ),
        registration_steps=(
            _(
                "Open Site administration → Plugins → Activity modules → External tool → Manage "
                "tools, and choose “configure a tool manually”."
            ),
            _(
                "Enter the tool name “{name}”, the tool URL {launch_url}, the LTI version "
                "“LTI 1.3”, the public key type “Keyset URL” with {jwks_url}, the initiate login "
                "URL {login_url} and the redirection URI {redirect_uri}."
            ),
            _(
                "Set “Tool configuration usage” to “Show in activity chooser and as a "
                "preconfigured tool”. Choose under Services and Privacy what is wanted. Save."
            ),
            _(
                "Among the tools, “View configuration details” shows the client id and the "
                "deployment id: enter them below."
            ),
        ),
        registration_good_to_know=_(
            "Each tool in Moodle is a deployment with a client id. The address of the LMS is the "
            "platform ID that Moodle shows, without a slash at its end."
        ),
        steps=(
            _(
                "Open Site administration → Plugins → Activity modules → External tool → Manage "
                "tools, and choose “configure a tool manually”."
            ),
            _(
                "Enter the tool name “{name}”, the tool URL {launch_url}, the LTI version "
                "“LTI 1.0/1.1”, the consumer key {key} and the shared secret {secret}."
            ),
            _(
                "Set “Tool configuration usage” to “Show in activity chooser and as a "
                "preconfigured tool”. As it is at first, teachers never see the tool."
            ),
            _(
                "“Default launch container” decides on frame or new window. Under Privacy, “Share "
                "launcher's name with tool” and “Share launcher's email with tool” are “Never” at "
                "first, and “Accept grades from the tool” is “Delegate to teacher”: choose "
                "“Always” for what is wanted. Save."
            ),
            _(
                "In a course, choose “Add an activity or resource”, and there the tool by its own "
                "name, “{name}”. In Moodle 4.2 and older, choose “External tool”, and the tool as "
                "“Preconfigured tool”."
            ),
        ),
        email=_("In Moodle: the tool's privacy setting “Share launcher's email with tool”."),
        good_to_know=_(
            "A Moodle names itself as “Default organisation ID” of each tool says: choose the same "
            "in all of them, or accept both names under “Accepted installations”."
        ),
    ),
    LmsProduct(
        code="blackboard",
        name="Blackboard Learn",
        family="blackboardlearn",
        endpoints=Endpoints(
            issuer="https://blackboard.com",
            authorization="https://developer.blackboard.com/api/v1/gateway/oidcauth",
            access="https://developer.blackboard.com/api/v1/gateway/oauth2/jwttoken",
            keys=(
                "https://developer.blackboard.com/api/v1/management/applications/{client_id}/"
                "jwks.json"
            ),
            is_shared=True,
        ),
        registration_steps=(
            _(
                "Once for all schools: at developer.blackboard.com, register an application that "
                "supports LTI 1.3, with the login initiation URL {login_url}, the tool redirect "
                "URL {redirect_uri}, the tool JWKS URL {jwks_url} and the signing algorithm RS256. "
                "Its application id is the client id."
            ),
            _(
                "In Blackboard, open Administrator → Integrations → LTI Tool Providers → Register "
                "LTI 1.3/Advantage Tool and enter the client id. Choose the user fields to send, "
                "and approve the tool."
            ),
            _("The tool's page there shows the deployment id: enter it below."),
            _("Add a placement with the target link URI {launch_url}."),
        ),
        registration_good_to_know=_(
            "The deployment id alone tells which school launches. An LTI 1.1 tool provider of the "
            "same host is replaced."
        ),
        steps=(
            _("Open Administrator → LTI Tool Providers → Register LTI 1.1 Provider (or Domain)."),
            _(
                "Enter the launch URL {launch_url} (of a domain its host only), the tool provider "
                "key {key} and the tool provider secret {secret}."
            ),
            _("Choose role, and name and e-mail address if they are wanted, as user data to send."),
            _("In a course, add a placement of the tool, or a web link that is a tool provider."),
        ),
        email=_("In Blackboard: “User fields to send: Email address” of the provider."),
    ),
    LmsProduct(
        code="brightspace",
        name="Brightspace",
        family="desire2learn",
        endpoints=Endpoints(
            issuer="{site}",
            authorization="{site}/d2l/lti/authenticate",
            access="https://auth.brightspace.com/core/connect/token",
            audience="https://api.brightspace.com/auth/token",
            keys="{site}/d2l/.well-known/jwks",
        ),
        registration_steps=(
            _("Open Admin Tools → Manage Extensibility → LTI Advantage → Register Tool."),
            _(
                "Enter the name “{name}”, the redirect URL {redirect_uri}, the OpenID Connect "
                "login URL {login_url}, the target link URI {launch_url} and the keyset URL "
                "{jwks_url}. Choose the extensions that are wanted, and register."
            ),
            _("Brightspace shows the client id: enter it below."),
            _(
                "Choose View Deployments → New Deployment, the tool and the user information to "
                "send. Brightspace shows the deployment id. In the deployment, add a link with the "
                "URL {launch_url}."
            ),
        ),
        steps=(
            _("Open Admin Tools → External Learning Tools → New remote plugin, or legacy LTI."),
            _(
                "Enter the name “{name}”, the launch point {launch_url}, the key {key} and the "
                "secret {secret}."
            ),
            _(
                "Under Security Settings, send the user id, and name and e-mail address if they "
                "are wanted; then make the tool available to the courses."
            ),
        ),
        email=_("In Brightspace: the tool's security setting “Send user email to tool”."),
    ),
    LmsProduct(
        code="sakai",
        name="Sakai",
        family="sakai",
        endpoints=Endpoints(
            issuer="{site}",
            authorization="{site}/imsoidc/lti13/oidc_auth",
            access="{site}/imsblis/lti13/token/{id}",
            keys="{site}/imsblis/lti13/keyset/{id}",
            id_name=_("Tool number, at the end of the token URL"),
        ),
        registration_steps=(
            _("As an administrator, open External Tools, or LTI Tools, and add an LTI 1.3 tool."),
            _(
                "Enter the title “{name}”, the launch URL {launch_url}, the keyset URL {jwks_url}, "
                "the OpenID Connect initialization endpoint {login_url} and the redirect endpoint "
                "{redirect_uri}. Choose “Send names”, “Send e-mail” and the services as wanted."
            ),
            _(
                "After saving, the tool's page shows the client id, the deployment id and the "
                "token URL: enter them below."
            ),
        ),
        registration_good_to_know=_(
            "In newer ones the key set URL has no number at its end: compare it with the one that "
            "Sakai shows."
        ),
        steps=(
            _("Open Site Info → External Tool, or add an external tool in Lessons."),
            _(
                "Enter the title “{name}”, the launch URL {launch_url}, the key {key} and the "
                "secret {secret}."
            ),
            _("Choose “Send names”, “Send e-mail” and “Allow return of grades” as wanted."),
        ),
        email=_("In Sakai: the tool's setting “Send email addresses to external tool”."),
    ),
    LmsProduct(
        code="open_edx",
        name="Open edX",
        family="openedx",
        endpoints=Endpoints(
            issuer="{site}",
            authorization="{site}/api/lti_consumer/v1/launch/",
            access="{site}/api/lti_consumer/v1/token/{id}",
            keys="{site}/api/lti_consumer/v1/public_keysets/{id}",
            id_name=_("Configuration id, at the end of the keyset URL"),
        ),
        registration_steps=(
            _("In a unit in Studio, add an LTI Consumer block with the LTI version “LTI 1.3”."),
            _(
                "Enter the tool launch URL {launch_url}, the tool initiate login URL {login_url}, "
                "the registered redirect URI {redirect_uri} and, as public key mode “Keyset URL”, "
                "{jwks_url}. Save and publish."
            ),
            _(
                "The block shows the client id, the deployment id and the keyset URL: enter them "
                "below."
            ),
            _(
                "Enter the origin of Open edX, such as https://learn.example.edu, under “Frame "
                "origins” of the LTI consumer: Open edX sends no return URL, so its frames are "
                "refused until then."
            ),
        ),
        registration_good_to_know=_(
            "Each block has a client id, unless the blocks share a configuration: register each."
        ),
        steps=(
            _("Open Studio → Settings → Advanced Settings → LTI Passports (lti_passports)."),
            _("Add the line {passport}, quotes included."),
            _(
                "On this site, enter the origin of Open edX, such as https://learn.example.edu, "
                "under “Frame origins” of the LTI consumer: Open edX sends no return URL, so its "
                "frames are refused until then."
            ),
            _(
                "In a unit, add an LTI Consumer block with the LTI ID lti_tool and the LTI URL "
                "{launch_url}; “Scored” for grades."
            ),
        ),
        email=_("In Open edX: “Request user's email” of the LTI Consumer block."),
        good_to_know=_(
            "If a launch is refused with unknown_frame_origin, its page in the launch log offers "
            "to add the origin."
        ),
    ),
)

_PRODUCT_BY_CODE = {product.code: product for product in PRODUCTS}


def get_product(code: str) -> LmsProduct | None:
    """The product with this code; None for one that is not known here."""
    return _PRODUCT_BY_CODE.get(code)


def find_product(family: str) -> LmsProduct | None:
    """The product that a launch names by its family code."""
    wanted = "".join(family.lower().split())
    return next((known for known in PRODUCTS if known.family == wanted), None)


def is_shared_issuer(issuer: str) -> bool:
    """Whether one client id of this issuer serves all of its installations."""
    return any(each.endpoints.is_shared and each.endpoints.issuer == issuer for each in PRODUCTS)


_OTHER_EMAIL = _(
    "The tool's privacy setting in the LMS has to share the e-mail address "
    "(Open edX: “Request user's email”)."
)


def get_email_setting(family: str) -> _StrPromise:
    """Which setting makes an LMS send e-mail addresses, by its product family code."""
    known = find_product(family)
    return known.email if known else _OTHER_EMAIL

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
class LmsProduct:
    """One make of LMS.

    ``steps`` hold ``{launch_url}``, ``{key}``, ``{secret}``, ``{cartridge_url}``, ``{name}`` and
    ``{passport}``, Open edX's line of id, key and secret.
    ``email`` tells the privacy setting that lets e-mail addresses through; ``family`` is the
    product family code that its launches name, in lower case without blanks.
    """

    code: str
    name: str
    family: str
    steps: tuple[_StrPromise, ...]
    email: _StrPromise
    good_to_know: _StrPromise | str = ""


PRODUCTS = (
    LmsProduct(
        code="canvas",
        name="Canvas",
        family="canvas",
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

_OTHER_EMAIL = _(
    "The tool's privacy setting in the LMS has to share the e-mail address "
    "(Open edX: “Request user's email”)."
)


def get_email_setting(family: str) -> _StrPromise:
    """Which setting makes an LMS send e-mail addresses, by its product family code."""
    wanted = "".join(family.lower().split())
    return next((known.email for known in PRODUCTS if known.family == wanted), _OTHER_EMAIL)

"""The parameters of a launch (LTI 1.1 §3), and what they say in nouns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import (
    InvalidParameter,
    MissingResourceLink,
    UnsupportedMessageType,
    UnsupportedVersion,
)
from lti_provider.form import Pairs
from lti_provider.message import (
    IDENTIFIER_LENGTH,
    Context,
    GradeService,
    Installation,
    LaunchMessage,
    Person,
    Presentation,
    ResourceLink,
    Role,
    complete_names,
    is_unfilled,
    may_return_to,
)
from lti_provider.models import LtiResult
from lti_provider.origins import is_http_url
from lti_provider.roles import parse_role

# All of LTI 1; that of LTI 1.1 and 1.2 is still LTI-1p0, but some LMSs name their own.
_VERSIONS = frozenset({"LTI-1p0", "LTI-1p1", "LTI-1p2"})
_IDENTIFIERS = ("user_id", "context_id", "resource_link_id", "tool_consumer_instance_guid")
_CORE_NAMES = frozenset({"user_id", "user_image", "roles", "role_scope_mentor"})
_CORE_PREFIXES = (
    "lti_",
    "resource_link_",
    "context_",
    "lis_",
    "launch_presentation_",
    "tool_consumer_",
    "content_item_",
)
_PERSONAL_NAMES = frozenset({"user_image", "custom_canvas_user_login_id"})
# Which LMS it is, and what it can do with a grade; other extensions may hold anything about a
# person.
_EXTENSIONS = re.compile(r"ext_(lms|outcome_\w+)")
_PIXELS = re.compile(r"[0-9]{1,5}")

_EMPTY_LINK = _(
    "The LMS sent resource_link_id, but empty, as D2L did in 2014: LTI requires it, and without it "
    "activities could not be told apart. Open the tool from an activity in a course; if it stays "
    "empty, update the LMS."
)


def is_core_name(name: str) -> bool:
    """Whether LTI itself defines this parameter name (LTI 1.1 §3)."""
    return name in _CORE_NAMES or name.startswith(_CORE_PREFIXES)


def is_lti_name(name: str) -> bool:
    """Whether LTI, OAuth or an extension of LTI knows this parameter name, in whatever case."""
    lowered = name.lower()
    return is_core_name(lowered) or lowered.startswith(("oauth_", "custom_", "ext_"))


def is_personal_name(name: str) -> bool:
    """Whether this parameter may be personal: what LTI does not define may hold anything."""
    if name in _PERSONAL_NAMES or name.startswith("lis_person_"):
        return True
    return not (is_core_name(name) or name.startswith(("custom_", "oauth_")))


def is_selection(sent: Mapping[str, str]) -> bool:
    """Whether a teacher is to select content (LTI Deep Linking 1.0), which is not a launch."""
    return sent.get("lti_message_type") == "ContentItemSelectionRequest"


def check_launch(pairs: Pairs) -> None:
    """Check that this is a launch, and that it can be kept exactly (LTI 1.1 §3).

    Raises UnsupportedMessageType, UnsupportedVersion, MissingResourceLink, InvalidParameter.
    """
    _check_unambiguous(pairs)
    sent = dict(pairs)
    _check_type(sent)
    for name in _IDENTIFIERS:
        if len(sent.get(name, "")) > IDENTIFIER_LENGTH:
            raise InvalidParameter(
                format_lazy(
                    _("{name} is longer than {length} characters."),
                    name=name,
                    length=IDENTIFIER_LENGTH,
                )
            )


def _check_unambiguous(pairs: Pairs) -> None:
    counts = Counter(name for name, value in set(pairs))
    for name, count in counts.items():
        if count > 1 and is_lti_name(name):
            raise InvalidParameter(format_lazy(_("{name} came with two values."), name=name[:100]))


def _check_type(sent: Mapping[str, str]) -> None:
    if is_selection(sent):
        refusal = UnsupportedMessageType(
            _(
                "The LMS asked for content to choose from, which this site does not have. "
                "Switch that off for the tool in the LMS; in Moodle it is “Supports Deep "
                "Linking (Content-Item Message)”."
            )
        )
        refusal.public_text = _(
            "This site has no content to choose from. Enter the launch URL of an activity instead."
        )
        raise refusal
    if (found := sent.get("lti_message_type", "")) != "basic-lti-launch-request":
        raise UnsupportedMessageType(
            format_lazy(
                _("lti_message_type is “{found}”; only basic-lti-launch-request is answered."),
                found=found[:100],
            )
        )
    if (found := sent.get("lti_version", "")) not in _VERSIONS:
        raise UnsupportedVersion(
            format_lazy(
                _("lti_version is “{found}”; only LTI 1.0 to 1.2 (LTI-1p0) is answered."),
                found=found[:100],
            )
        )
    if not sent.get("resource_link_id"):
        raise MissingResourceLink(_EMPTY_LINK if "resource_link_id" in sent else "")


def read_message(pairs: Pairs) -> LaunchMessage:
    """What the parameters say; whatever is missing or cannot be read is blank."""
    # Of two equal names the first one counts.
    sent = _Sent(reversed(pairs))
    return LaunchMessage(
        person=_read_person(sent),
        roles=_parse_roles(sent["roles"]),
        context=Context(
            id=sent["context_id"],
            title=sent["context_title"],
            label=sent["context_label"],
            types=tuple(each.strip() for each in sent["context_type"].split(",") if each.strip()),
            offering_sis_id=sent["lis_course_offering_sourcedid"],
            section_sis_id=sent["lis_course_section_sourcedid"],
        ),
        resource_link=ResourceLink(
            id=sent["resource_link_id"],
            title=sent["resource_link_title"],
            description=sent["resource_link_description"],
        ),
        installation=Installation(
            guid=sent["tool_consumer_instance_guid"],
            name=sent["tool_consumer_instance_name"],
            product=sent["tool_consumer_info_product_family_code"],
            version=sent["tool_consumer_info_version"],
            url=sent["tool_consumer_instance_url"],
            contact_email=sent["tool_consumer_instance_contact_email"],
        ),
        presentation=Presentation(
            locale=sent["launch_presentation_locale"],
            return_url=_read_return_url(sent),
            document_target=sent["launch_presentation_document_target"],
            width=_parse_pixels(sent["launch_presentation_width"]),
            height=_parse_pixels(sent["launch_presentation_height"]),
        ),
        custom={
            name.removeprefix("custom_"): value
            for name, value in sent.items()
            if name.startswith("custom_") and not is_unfilled(value)
        },
        grade_service=_read_grade_service(sent),
        extensions={
            name.removeprefix("ext_"): value
            for name, value in sent.items()
            if _EXTENSIONS.fullmatch(name)
        },
    )


class _Sent(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return ""


def _read_return_url(sent: _Sent) -> str | None:
    url = sent["launch_presentation_return_url"]
    # Where content is selected, the LMS understands nothing but a signed selection.
    return url if may_return_to(url) and not is_selection(sent) else None


def _read_person(sent: _Sent) -> Person:
    return Person(
        user_id=sent["user_id"],
        **complete_names(
            *(sent[f"lis_person_name_{part}"] for part in ("full", "given", "family"))
        ),
        email=sent["lis_person_contact_email_primary"].strip(),
        sis_id=sent["lis_person_sourcedid"],
    )


def _parse_roles(text: str) -> frozenset[Role]:
    # Entries with commas between them, in whatever case.
    entries = (entry.strip() for entry in text.split(","))
    return frozenset(parse_role(entry) for entry in entries if entry)


def _read_grade_service(sent: _Sent) -> GradeService | None:
    url, remote_id = sent["lis_outcome_service_url"], sent["lis_result_sourcedid"]
    if not remote_id or not is_http_url(url):
        return None
    named = {name.strip() for name in sent["ext_outcome_data_values_accepted"].split(",")}
    return GradeService(
        service=LtiResult.Service.BASIC_OUTCOMES,
        url=url,
        remote_id=remote_id,
        accepts=tuple(name for name in ("url", "text") if name in named),
    )


def _parse_pixels(text: str) -> int | None:
    return int(text) if _PIXELS.fullmatch(text) else None

"""What one LTI message said: frozen, without database or request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import ClassVar, Self

from django.utils.text import format_lazy
from django.utils.translation import get_supported_language_variant
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import (
    InvalidParameter,
    MissingResourceLink,
    UnsupportedMessageType,
    UnsupportedVersion,
)
from lti_provider.origins import get_origin, is_http_url

Pairs = tuple[tuple[str, str], ...]

#: The longest identifier that can be kept whole; longer ones are refused, never cut.
IDENTIFIER_LENGTH = 255

#: Servers and browsers differ in what they take; Django refuses to redirect to very long ones.
RETURN_URL_LENGTH = 4000

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
# `$Canvas.module.id`, `$Person.email.primary`: a variable that the LMS did not fill in.
_UNRESOLVED = re.compile(r"\$[A-Za-z]\w*(\.\w+)+")


_EMPTY_LINK = _(
    "The LMS sent resource_link_id, but empty, as D2L did in 2014: LTI requires it, and without it "
    "activities could not be told apart. Open the tool from an activity in a course; if it stays "
    "empty, update the LMS."
)


class PersonalData(StrEnum):
    """Which personal data a consumer lets us keep."""

    NONE = "none"
    NAME = "name"
    NAME_EMAIL = "name_email"


_NAME_PARAMETERS = frozenset(
    {"lis_person_name_full", "lis_person_name_given", "lis_person_name_family"}
)
_KEPT = {
    PersonalData.NONE: frozenset[str](),
    PersonalData.NAME: _NAME_PARAMETERS,
    PersonalData.NAME_EMAIL: _NAME_PARAMETERS | {"lis_person_contact_email_primary"},
}


class RoleNamespace(StrEnum):
    """The vocabulary of a role: course, institution or system (LTI 1.1 appendix A)."""

    CONTEXT = "urn:lti:role:ims/lis/"
    INSTITUTION = "urn:lti:instrole:ims/lis/"
    SYSTEM = "urn:lti:sysrole:ims/lis/"
    UNKNOWN = ""


_HANDLES = {
    RoleNamespace.CONTEXT: (
        "Learner",
        "Instructor",
        "ContentDeveloper",
        "Member",
        "Manager",
        "Mentor",
        "Administrator",
        "TeachingAssistant",
    ),
    RoleNamespace.INSTITUTION: (
        "Student",
        "Faculty",
        "Member",
        "Learner",
        "Instructor",
        "Mentor",
        "Staff",
        "Alumni",
        "ProspectiveStudent",
        "Guest",
        "Other",
        "Administrator",
        "Observer",
    ),
    RoleNamespace.SYSTEM: (
        "SysAdmin",
        "SysSupport",
        "Creator",
        "AccountAdmin",
        "User",
        "Administrator",
        "None",
    ),
}
_CANONICAL = {
    (namespace, handle.lower()): handle
    for namespace, handles in _HANDLES.items()
    for handle in handles
}


@dataclass(frozen=True)
class Role:
    """One role of a person (LTI 1.1 appendix A): namespace, handle, optional sub-role.

    The constants are the context roles, the only ones that say what a person is in the course.
    """

    namespace: RoleNamespace
    name: str
    sub_role: str = ""

    LEARNER: ClassVar[Role]
    INSTRUCTOR: ClassVar[Role]
    CONTENT_DEVELOPER: ClassVar[Role]
    MEMBER: ClassVar[Role]
    MANAGER: ClassVar[Role]
    MENTOR: ClassVar[Role]
    ADMINISTRATOR: ClassVar[Role]
    TEACHING_ASSISTANT: ClassVar[Role]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one entry of ``roles``; an unknown one is kept and equals none of the constants."""
        for namespace in _HANDLES:
            if text[: len(namespace)].lower() == namespace.value:
                return cls._from_path(namespace, text[len(namespace) :])
        bare = text.partition("/")[0].lower()
        for namespace in _HANDLES:
            if (namespace, bare) in _CANONICAL:
                return cls._from_path(namespace, text)
        return cls(RoleNamespace.UNKNOWN, text)

    @classmethod
    def _from_path(cls, namespace: RoleNamespace, path: str) -> Self:
        name, _slash, sub_role = path.partition("/")
        return cls(namespace, _CANONICAL.get((namespace, name.lower()), name), sub_role)

    def includes(self, other: Role) -> bool:
        """Whether somebody with ``other`` has this role; a sub-role counts as its main role."""
        return (self.namespace, self.name) == (other.namespace, other.name) and (
            self.sub_role in ("", other.sub_role)
        )

    def __str__(self) -> str:
        return f"{self.namespace}{self.name}" + (f"/{self.sub_role}" if self.sub_role else "")


Role.LEARNER = Role(RoleNamespace.CONTEXT, "Learner")
Role.INSTRUCTOR = Role(RoleNamespace.CONTEXT, "Instructor")
Role.CONTENT_DEVELOPER = Role(RoleNamespace.CONTEXT, "ContentDeveloper")
Role.MEMBER = Role(RoleNamespace.CONTEXT, "Member")
Role.MANAGER = Role(RoleNamespace.CONTEXT, "Manager")
Role.MENTOR = Role(RoleNamespace.CONTEXT, "Mentor")
Role.ADMINISTRATOR = Role(RoleNamespace.CONTEXT, "Administrator")
Role.TEACHING_ASSISTANT = Role(RoleNamespace.CONTEXT, "TeachingAssistant")

_COURSE_STAFF = (
    Role.INSTRUCTOR,
    Role.TEACHING_ASSISTANT,
    Role.CONTENT_DEVELOPER,
    Role.ADMINISTRATOR,
)


def is_core_name(name: str) -> bool:
    """Whether LTI itself defines this parameter name (LTI 1.1 §3)."""
    return name in _CORE_NAMES or name.startswith(_CORE_PREFIXES)


def is_lti_name(name: str) -> bool:
    """Whether LTI, OAuth or an extension of LTI knows this parameter name, in whatever case."""
    lowered = name.lower()
    return is_core_name(lowered) or lowered.startswith(("oauth_", "custom_", "ext_"))


def is_personal_name(name: str, kept: PersonalData = PersonalData.NONE) -> bool:
    """Whether this parameter is personal and not kept under the policy ``kept``.

    What LTI does not define may hold anything about a person.
    """
    if name in _KEPT[kept]:
        return False
    if name in _PERSONAL_NAMES or name.startswith("lis_person_"):
        return True
    return not (is_core_name(name) or name.startswith(("custom_", "oauth_")))


@dataclass(frozen=True, kw_only=True, repr=False)
class GradeService:
    """Where an LMS takes the grade of one person for one activity.

    ``service`` is how it is asked, one of ``LtiResult.Service``; ``url`` is absolute and http(s);
    ``remote_id`` is what the LMS calls the grade, opaque and never blank; ``accepts`` says what
    it takes beside a score: ``url``, ``text``, both or nothing.
    """

    service: str
    url: str
    remote_id: str
    accepts: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class LaunchMessage:
    """The verified pairs of one launch, and what they mean.

    ``pairs`` are all pairs that the signature covers, in the order of body, then URL.
    """

    pairs: Pairs

    @classmethod
    def parse(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """Read a basic launch (LTI 1.1 §3).

        Raises UnsupportedMessageType, UnsupportedVersion, MissingResourceLink, InvalidParameter.
        """
        message = cls(tuple(pairs))
        message._check_unambiguous()
        message._check_type()
        for name in _IDENTIFIERS:
            if len(message.get(name)) > IDENTIFIER_LENGTH:
                raise InvalidParameter(
                    format_lazy(
                        _("{name} is longer than {length} characters."),
                        name=name,
                        length=IDENTIFIER_LENGTH,
                    )
                )
        return message

    def _check_unambiguous(self) -> None:
        counts = Counter(name for name, value in set(self.pairs))
        for name, count in counts.items():
            if count > 1 and is_lti_name(name):
                raise InvalidParameter(
                    format_lazy(_("{name} came with two values."), name=name[:100])
                )

    def _check_type(self) -> None:
        if self.is_selection:
            refusal = UnsupportedMessageType(
                _(
                    "The LMS asked for content to choose from, which this site does not have. "
                    "Switch that off for the tool in the LMS; in Moodle it is “Supports Deep "
                    "Linking (Content-Item Message)”."
                )
            )
            refusal.public_text = _(
                "This site has no content to choose from. Enter the launch URL of an activity "
                "instead."
            )
            raise refusal
        if (found := self.get("lti_message_type")) != "basic-lti-launch-request":
            raise UnsupportedMessageType(
                format_lazy(
                    _("lti_message_type is “{found}”; only basic-lti-launch-request is answered."),
                    found=found[:100],
                )
            )
        if (found := self.get("lti_version")) not in _VERSIONS:
            raise UnsupportedVersion(
                format_lazy(
                    _("lti_version is “{found}”; only LTI 1.0 to 1.2 (LTI-1p0) is answered."),
                    found=found[:100],
                )
            )
        if not self.resource_link_id:
            raise MissingResourceLink(_EMPTY_LINK if "resource_link_id" in self._values else "")

    @cached_property
    def _values(self) -> dict[str, str]:
        return dict(reversed(self.pairs))

    def get(self, name: str) -> str:
        """The value of a parameter as it was signed, empty if it was not sent."""
        return self._values.get(name, "")

    @property
    def identity_pairs(self) -> Pairs:
        """Names and e-mail, shown to the person who connects an account."""
        shown = _NAME_PARAMETERS | {"lis_person_contact_email_primary"}
        return tuple(pair for pair in self.pairs if pair[0] in shown)

    def without_personal_data(self, kept: PersonalData) -> Self:
        """What may be stored of this message under a consumer's ``personal_data`` policy.

        LTI's own, custom and outcome parameters stay; OAuth's and vendors' ones go.
        """
        return type(self)(
            tuple(
                (name, value)
                for name, value in self.pairs
                if name.startswith("ext_outcome_")
                or not (name.startswith("oauth_") or is_personal_name(name, kept))
            )
        )

    @property
    def user_id(self) -> str:
        """Opaque, unique in one LMS; empty for an unnamed visitor."""
        return self.get("user_id")

    @property
    def context_id(self) -> str:
        """Opaque id of the course, or empty."""
        return self.get("context_id")

    @property
    def resource_link_id(self) -> str:
        """Opaque id of the placement of this activity."""
        return self.get("resource_link_id")

    @property
    def instance_guid(self) -> str:
        """What the LMS calls its own installation, or empty."""
        return self.get("tool_consumer_instance_guid")

    @property
    def email(self) -> str:
        """What the LMS says is the person's e-mail. It proves nothing."""
        return self.get("lis_person_contact_email_primary").strip()

    @cached_property
    def roles(self) -> frozenset[Role]:
        """All roles of this launch, whatever their namespace."""
        entries = (entry.strip() for entry in self.get("roles").split(","))
        return frozenset(Role.parse(entry) for entry in entries if entry)

    def has_role(self, role: Role) -> bool:
        """Whether the person has ``role`` in this launch."""
        return any(role.includes(own) for own in self.roles)

    @property
    def is_learner(self) -> bool:
        """Whether the person is a learner in this context."""
        return self.has_role(Role.LEARNER)

    @property
    def is_instructor(self) -> bool:
        """Whether the person is an instructor in this context; a role elsewhere does not count."""
        return self.has_role(Role.INSTRUCTOR)

    @property
    def is_course_staff(self) -> bool:
        """Whether the person runs this course in any role; a role elsewhere does not count."""
        return any(map(self.has_role, _COURSE_STAFF))

    @cached_property
    def _names(self) -> tuple[str, str, str]:
        full, given, family = (
            " ".join(self.get(f"lis_person_name_{part}").split())
            for part in ("full", "given", "family")
        )
        full = full or f"{given} {family}".strip()
        if not given and not family:
            given, _blank, family = full.partition(" ")
        return full, given, family

    @property
    def full_name(self) -> str:
        """As sent, else made of given and family name."""
        return self._names[0]

    @property
    def given_name(self) -> str:
        """As sent, else the first word of the full name."""
        return self._names[1]

    @property
    def family_name(self) -> str:
        """As sent, else the rest of the full name."""
        return self._names[2]

    @cached_property
    def custom(self) -> dict[str, str]:
        """Custom parameters without their prefix; variables that the LMS left unfilled are absent.

        LTI 1.1 §3 and appendix C.
        """
        return {
            name.removeprefix("custom_"): value
            for name, value in self._values.items()
            if name.startswith("custom_") and not _UNRESOLVED.fullmatch(value)
        }

    @property
    def locale(self) -> str | None:
        """The language of ``settings.LANGUAGES`` that the LMS asked for, if there is one."""
        code = self.get("launch_presentation_locale").replace("_", "-").strip("- ").lower()
        try:
            return get_supported_language_variant(code)
        except (LookupError, ValueError):
            return None

    @property
    def is_selection(self) -> bool:
        """Whether a teacher is to select content (LTI Deep Linking 1.0), which is not a launch."""
        return self.get("lti_message_type") == "ContentItemSelectionRequest"

    @property
    def return_url(self) -> str | None:
        """Where the LMS wants the person back: absolute, http(s) and not too long, else None.

        A content selection has a return URL of its own (LTI Deep Linking 1.0 §2).
        """
        name = "content_item_return_url" if self.is_selection else "launch_presentation_return_url"
        url = self.get(name)
        return url if len(url) <= RETURN_URL_LENGTH and is_http_url(url) else None

    @cached_property
    def return_origin(self) -> str | None:
        """Origin (RFC 6454) of ``return_url``."""
        return get_origin(self.return_url or "") or None

    @property
    def grade_service(self) -> GradeService | None:
        """Where the person's grade goes (LTI 1.1 §6), None if the LMS wants none."""
        url, remote_id = self.get("lis_outcome_service_url"), self.get("lis_result_sourcedid")
        if not is_http_url(url) or not remote_id:
            return None
        named = {each.strip() for each in self.get("ext_outcome_data_values_accepted").split(",")}
        return GradeService(
            service="basic_outcomes",
            url=url,
            remote_id=remote_id,
            accepts=tuple(each for each in ("url", "text") if each in named),
        )

    def __repr__(self) -> str:
        return f"<LaunchMessage of {len(self.pairs)} pairs>"

"""What one launch said, in nouns that both dialects of LTI share.

Frozen, without database or request. Where the LMS left something out, a noun is blank.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Self

from django.utils.translation import get_supported_language_variant

from lti_provider.origins import get_origin, is_http_url

#: The longest identifier that can be kept whole; longer ones are refused, never cut.
IDENTIFIER_LENGTH = 255

#: Servers and browsers differ in what they take; Django refuses to redirect to very long ones.
RETURN_URL_LENGTH = 4000

#: Of the JSON that ``to_json`` makes.
FORMAT = 1

# Canvas's own variable for the name that a person signs in with there.
_PERSONAL_CUSTOM = frozenset({"canvas_user_login_id"})
# `$Canvas.module.id`, `$Person.email.primary`: a variable that the LMS did not fill in.
_UNFILLED = re.compile(r"\$[A-Za-z]\w*(\.\w+)+")


def may_return_to(url: str) -> bool:
    """Whether a person may be sent there: an absolute http(s) URL, and not too long."""
    return len(url) <= RETURN_URL_LENGTH and is_http_url(url)


def is_unfilled(text: str) -> bool:
    """Whether a custom parameter's value is the name of a variable, as `$Canvas.module.id`."""
    return bool(_UNFILLED.fullmatch(text))


def make_storable(text: str) -> str:
    """A text less what databases do not take: NUL and lone surrogates."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def complete_names(full: str, given: str, family: str) -> dict[str, str]:
    """The names of a Person, where an LMS left out some, with single blanks between words."""
    full, given, family = (" ".join(name.split()) for name in (full, given, family))
    full = full or f"{given} {family}".strip()
    if not given and not family:
        given, _blank, family = full.partition(" ")
    return {"full_name": full, "given_name": given, "family_name": family}


class PersonalData(StrEnum):
    """Which personal data a consumer lets us keep."""

    NONE = "none"
    NAME = "name"
    NAME_EMAIL = "name_email"


_NAMES = ("full_name", "given_name", "family_name")
_KEPT: dict[PersonalData, tuple[str, ...]] = {
    PersonalData.NONE: (),
    PersonalData.NAME: _NAMES,
    PersonalData.NAME_EMAIL: (*_NAMES, "email"),
}


class RoleNamespace(StrEnum):
    """Where somebody has a role: in the course, in the institution or in the whole LMS."""

    CONTEXT = "context"
    INSTITUTION = "institution"
    SYSTEM = "system"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Role:
    """One role of a person (LTI 1.1 appendix A, LTI 1.3 appendix A.2).

    The constants are the context roles, the only ones that say what a person is in the course,
    and ``TEST_USER``, which marks a preview as a student, beside the role that is previewed.
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
    TEST_USER: ClassVar[Role]

    def includes(self, other: Role) -> bool:
        """Whether somebody with ``other`` has this role; a sub-role counts as its main role."""
        return (self.namespace, self.name) == (other.namespace, other.name) and (
            self.sub_role in ("", other.sub_role)
        )

    def __str__(self) -> str:
        """As ``Instructor``, ``TeachingAssistant/Grader`` or ``institution: Student``."""
        name = f"{self.name}/{self.sub_role}" if self.sub_role else self.name
        elsewhere = self.namespace in (RoleNamespace.INSTITUTION, RoleNamespace.SYSTEM)
        return f"{self.namespace}: {name}" if elsewhere else name


Role.LEARNER = Role(RoleNamespace.CONTEXT, "Learner")
Role.INSTRUCTOR = Role(RoleNamespace.CONTEXT, "Instructor")
Role.CONTENT_DEVELOPER = Role(RoleNamespace.CONTEXT, "ContentDeveloper")
Role.MEMBER = Role(RoleNamespace.CONTEXT, "Member")
Role.MANAGER = Role(RoleNamespace.CONTEXT, "Manager")
Role.MENTOR = Role(RoleNamespace.CONTEXT, "Mentor")
Role.ADMINISTRATOR = Role(RoleNamespace.CONTEXT, "Administrator")
Role.TEACHING_ASSISTANT = Role(RoleNamespace.CONTEXT, "TeachingAssistant")
Role.TEST_USER = Role(RoleNamespace.SYSTEM, "TestUser")

_COURSE_STAFF = (
    Role.INSTRUCTOR,
    Role.TEACHING_ASSISTANT,
    Role.CONTENT_DEVELOPER,
    Role.ADMINISTRATOR,
)


@dataclass(frozen=True, kw_only=True, repr=False)
class Person:
    """Who launched, as the LMS says. Names and e-mail address prove nothing.

    ``user_id`` is opaque, unique in one LMS, and blank for an unnamed visitor. ``sis_id`` is the
    person's id in the institution's student information system; it is never stored.
    """

    user_id: str = ""
    full_name: str = ""
    given_name: str = ""
    family_name: str = ""
    email: str = ""
    sis_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Context:
    """The course. ``id`` is opaque; ``types`` are as sent, such as ``CourseSection``.

    The ids of course and section in the institution's student information system go with it.
    """

    id: str = ""
    title: str = ""
    label: str = ""
    types: tuple[str, ...] = ()
    offering_sis_id: str = ""
    section_sis_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ResourceLink:
    """The placement of an activity in a course. ``id`` is opaque."""

    id: str = ""
    title: str = ""
    description: str = ""


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The running LMS: ``guid`` as it calls itself, ``product`` is the family code of its make."""

    guid: str = ""
    name: str = ""
    product: str = ""
    version: str = ""
    url: str = ""
    contact_email: str = ""


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """How the LMS shows the activity. ``locale`` is as sent, sizes are in pixels.

    ``return_url`` is where it wants the person back: absolute, http(s) and not too long, else None.
    """

    locale: str = ""
    return_url: str | None = None
    document_target: str = ""
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class GradeService:
    """Where and how the LMS takes this person's grade.

    ``service`` names the protocol, ``remote_id`` is what the LMS calls the grade, and ``accepts``
    what it takes beside a score: ``url``, ``text``, both or nothing.
    """

    service: str = ""
    url: str = ""
    remote_id: str = ""
    accepts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class LaunchMessage:
    """What one launch said.

    ``custom`` are the custom parameters without their prefix; variables that the LMS left unfilled
    are absent. ``extensions`` are those of a product's own parameters that hold nothing personal.
    ``grade_service`` is None where the LMS wants no grade, as for teachers.
    """

    person: Person = field(default_factory=Person)
    roles: frozenset[Role] = frozenset()
    context: Context = field(default_factory=Context)
    resource_link: ResourceLink = field(default_factory=ResourceLink)
    installation: Installation = field(default_factory=Installation)
    presentation: Presentation = field(default_factory=Presentation)
    custom: Mapping[str, str] = field(default_factory=dict)
    grade_service: GradeService | None = None
    extensions: Mapping[str, str] = field(default_factory=dict)

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

    @property
    def is_test_user(self) -> bool:
        """Whether the LMS says that this is not a person, but a preview as a student."""
        return self.has_role(Role.TEST_USER)

    @property
    def locale(self) -> str | None:
        """The language of ``settings.LANGUAGES`` that the LMS asked for, if there is one."""
        code = self.presentation.locale.replace("_", "-").strip("- ").lower()
        try:
            return get_supported_language_variant(code)
        except (LookupError, ValueError):
            return None

    @property
    def return_origin(self) -> str | None:
        """Origin (RFC 6454) of the return URL."""
        return get_origin(self.presentation.return_url or "") or None

    def without_personal_data(self, kept: PersonalData) -> Self:
        """What may be stored of this message under a consumer's ``personal_data`` policy."""
        known = {name: getattr(self.person, name) for name in ("user_id", *_KEPT[kept])}
        custom = {key: text for key, text in self.custom.items() if key not in _PERSONAL_CUSTOM}
        return replace(self, person=Person(**known), custom=custom)

    def with_identity(self, identity: Mapping[str, str]) -> Self:
        """With names and e-mail address as ``identity`` had them."""
        return replace(self, person=replace(self.person, **identity))

    @property
    def identity(self) -> dict[str, str]:
        """Names and e-mail address, shown to the person who connects an account."""
        found = {name: getattr(self.person, name) for name in _KEPT[PersonalData.NAME_EMAIL]}
        return {name: text for name, text in found.items() if text}

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads, as Django's JSON fields store it; blanks are left out."""
        said: dict[str, Any] = {
            name: _drop_blanks(asdict(noun)) if noun is not None else None
            for name in _NOUNS
            for noun in (getattr(self, name),)
        }
        said["roles"] = sorted([role.namespace, role.name, role.sub_role] for role in self.roles)
        said |= {"custom": dict(self.custom), "extensions": dict(self.extensions)}
        return {"version": FORMAT, **_drop_blanks(said)}

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Self:
        """The message that was stored; blank if nothing was."""
        nouns: dict[str, Any] = {
            name: noun(**_freeze_lists(said[name])) for name, noun in _NOUNS.items() if name in said
        }
        roles = (Role(RoleNamespace(space), *names) for space, *names in said.get("roles", ()))
        return cls(
            **nouns,
            roles=frozenset(roles),
            custom=said.get("custom", {}),
            extensions=said.get("extensions", {}),
        )

    def __repr__(self) -> str:
        return "<LaunchMessage>"


_NOUNS: dict[str, Any] = {
    "person": Person,
    "context": Context,
    "resource_link": ResourceLink,
    "installation": Installation,
    "presentation": Presentation,
    "grade_service": GradeService,
}


def _drop_blanks(said: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value or value == 0}


def _freeze_lists(said: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in said.items()
    }

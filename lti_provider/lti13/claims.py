"""The claims of a launch (LTI 1.3 §5), and what they say in nouns."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from lti_provider.exceptions import InvalidClaim
from lti_provider.message import (
    IDENTIFIER_LENGTH,
    Context,
    Installation,
    LaunchMessage,
    Person,
    Presentation,
    ResourceLink,
    Role,
    RoleNamespace,
    complete_names,
    is_unfilled,
    make_storable,
    may_return_to,
)
from lti_provider.roles import parse_role

PREFIX = "https://purl.imsglobal.org/spec/lti/claim/"
MESSAGE_TYPE = f"{PREFIX}message_type"
VERSION = f"{PREFIX}version"
DEPLOYMENT_ID = f"{PREFIX}deployment_id"
TARGET_LINK_URI = f"{PREFIX}target_link_uri"
ROLES = f"{PREFIX}roles"
CONTEXT = f"{PREFIX}context"
RESOURCE_LINK = f"{PREFIX}resource_link"
PLATFORM = f"{PREFIX}tool_platform"
PRESENTATION = f"{PREFIX}launch_presentation"
LIS = f"{PREFIX}lis"
CUSTOM = f"{PREFIX}custom"
EXTENSIONS = f"{PREFIX}ext"
DEEP_LINKING = "https://purl.imsglobal.org/spec/lti-dl/claim/deep_linking_settings"

LAUNCH = "LtiResourceLinkRequest"
SELECTION = "LtiDeepLinkingRequest"

#: Who it is, as OpenID Connect says it.
NAMES = ("name", "given_name", "family_name")
IDENTITY = (*NAMES, "email")

_SERVICES = (
    "https://purl.imsglobal.org/spec/lti-ags/claim/endpoint",
    "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice",
)
#: What may be shown to an administrator of anybody's launch: whole claims, and members of claims.
#: What LTI does not define may hold anything about a person.
IMPERSONAL = frozenset(
    {
        *("iss", "aud", "azp", "exp", "iat", "nbf", "nonce", "locale"),
        *(MESSAGE_TYPE, VERSION, DEPLOYMENT_ID, TARGET_LINK_URI, ROLES, *_SERVICES),
    }
)
IMPERSONAL_MEMBERS: dict[str, frozenset[str]] = {
    CONTEXT: frozenset({"id", "label", "title", "type"}),
    RESOURCE_LINK: frozenset({"id", "title", "description"}),
    PLATFORM: frozenset({"guid", "name", "version", "product_family_code", "url", "description"}),
    PRESENTATION: frozenset({"document_target", "width", "height", "locale", "return_url"}),
    LIS: frozenset({"course_offering_sourcedid", "course_section_sourcedid"}),
    CUSTOM: frozenset(),
    EXTENSIONS: frozenset({"lms"}),
    DEEP_LINKING: frozenset({"deep_link_return_url", "accept_types", "accept_multiple"}),
}

_TEXTS = (str,)
_NUMBERS_OR_TEXTS = (str, int, float)
# What is read of each claim, and of which types it may be: a tuple of types, a list of one kind,
# or an object with such members. Claims that are absent or null are not checked.
_SHAPES: dict[str, Any] = {
    "sub": _TEXTS,
    **dict.fromkeys((*IDENTITY, "locale"), _TEXTS),
    DEPLOYMENT_ID: _TEXTS,
    TARGET_LINK_URI: _TEXTS,
    ROLES: [_TEXTS],
    CONTEXT: {"id": _TEXTS, "title": _TEXTS, "label": _TEXTS, "type": [_TEXTS]},
    RESOURCE_LINK: {"id": _TEXTS, "title": _TEXTS, "description": _TEXTS},
    PLATFORM: dict.fromkeys(
        ("guid", "name", "version", "product_family_code", "url", "contact_email"), _TEXTS
    ),
    PRESENTATION: {
        **dict.fromkeys(("document_target", "locale", "return_url"), _TEXTS),
        **dict.fromkeys(("width", "height"), _NUMBERS_OR_TEXTS),
    },
    LIS: dict.fromkeys(
        ("person_sourcedid", "course_offering_sourcedid", "course_section_sourcedid"), _TEXTS
    ),
    CUSTOM: {},
    EXTENSIONS: {},
    DEEP_LINKING: {"deep_link_return_url": _TEXTS, "accept_types": [_TEXTS], "data": _TEXTS},
}
# Compared to the letter, so what cannot be stored as it is is refused, not replaced.
_IDENTIFIERS = (
    ("sub",),
    (DEPLOYMENT_ID,),
    (CONTEXT, "id"),
    (RESOURCE_LINK, "id"),
    (PLATFORM, "guid"),
)

# Roles (LTI 1.3 §A.2), http and not https.
_VOCABULARY = "http://purl.imsglobal.org/vocab/lis/v2/"
_CONTEXT_ROLE = re.compile(r"membership(?:/(\w+))?#(\w+)", re.ASCII)
_OTHER_ROLE = re.compile(r"(institution|system)/person#(\w+)", re.ASCII)
_TEST_USER = "http://purl.imsglobal.org/vocab/lti/system/person#TestUser"
# LTI 1.1 has them below a role of their own, and so do a site's pages.
_ASSISTANTS = re.compile(r"TeachingAssistant\w*|Grader", re.ASCII)
_CONTEXT_TYPE = f"{_VOCABULARY}course#"
_PIXELS = re.compile(r"[0-9]{1,5}")


class Claims:
    """An object of the token. What is absent, null or of a wrong type reads as blank."""

    def __init__(self, members: Any) -> None:
        self._members: Mapping[str, Any] = members if isinstance(members, dict) else {}

    def get_object(self, name: str) -> Claims:
        """A member that is an object."""
        return Claims(self._members.get(name))

    def get_text(self, name: str) -> str:
        """A member that is a text, less what databases do not take."""
        found = self._members.get(name)
        return make_storable(found) if isinstance(found, str) else ""

    def get_identifier(self, name: str) -> str:
        """A member that can be kept to the letter; others read as blank, never mended."""
        found = self._members.get(name)
        return found if is_identifier(found) else ""

    def get_texts(self, name: str) -> tuple[str, ...]:
        """The texts of a member that is a list."""
        found = self._members.get(name)
        entries = found if isinstance(found, list) else []
        return tuple(make_storable(entry) for entry in entries if isinstance(entry, str))

    def get_pixels(self, name: str) -> int | None:
        """A number of pixels; platforms send numbers and texts."""
        found = str(self._members.get(name))
        return int(found) if _PIXELS.fullmatch(found) else None

    def get_custom(self) -> dict[str, str]:
        """All members as custom parameters, those aside that the platform did not fill in.

        Older Canvas sends numbers where LTI has only texts.
        """
        texts = {
            make_storable(name): make_storable(value if isinstance(value, str) else _to_json(value))
            for name, value in self._members.items()
            if isinstance(value, str | int | float)
        }
        return {name: text for name, text in texts.items() if not is_unfilled(text)}


def is_identifier(value: object) -> TypeGuard[str]:
    """Whether a claim can be kept and compared to the letter, on each database."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= IDENTIFIER_LENGTH
        and make_storable(value) == value
    )


def is_selection(claims: Mapping[str, Any]) -> bool:
    """Whether a person is to select content (LTI Deep Linking 2.0), which is not a launch."""
    return claims.get(MESSAGE_TYPE) == SELECTION


def check_claims(claims: Mapping[str, Any]) -> None:
    """Check that every claim that is read is of its type, and can be kept. Raises InvalidClaim."""
    for name, shape in _SHAPES.items():
        _check_shape(name.removeprefix(PREFIX), claims.get(name), shape)
    for name, value in (claims.get(CUSTOM) or {}).items():
        _check_shape(f"custom.{make_storable(name)[:60]}", value, _NUMBERS_OR_TEXTS)
    for path in _IDENTIFIERS:
        found: Any = claims
        for name in path:
            found = (found or {}).get(name)
        if found and not is_identifier(found):
            raise _build_invalid(
                _("{name} is longer than {length} characters, or has invalid characters."),
                ".".join(path).removeprefix(PREFIX),
            )


def _check_shape(name: str, value: Any, shape: Any) -> None:
    if value is None:
        return
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            raise _build_invalid(_("{name} is not an object."), name)
        for member, inner in shape.items():
            _check_shape(f"{name}.{member}", value.get(member), inner)
    elif isinstance(shape, list):
        if not isinstance(value, list) or not all(isinstance(each, shape[0]) for each in value):
            raise _build_invalid(_("{name} is not a list of texts."), name)
    elif not isinstance(value, shape):
        raise _build_invalid(_("{name} is not a text."), name)


def _build_invalid(text: Any, name: str) -> InvalidClaim:
    return InvalidClaim(format_lazy(text, name=name, length=IDENTIFIER_LENGTH))


def read_message(claims: Mapping[str, Any]) -> LaunchMessage:
    """What the claims say; whatever is missing or cannot be read is blank."""
    said = Claims(claims)
    context, link, lis = (said.get_object(name) for name in (CONTEXT, RESOURCE_LINK, LIS))
    return LaunchMessage(
        person=_read_person(said),
        roles=frozenset(_parse_role(text) for text in said.get_texts(ROLES)),
        context=Context(
            id=context.get_identifier("id"),
            title=context.get_text("title"),
            label=context.get_text("label"),
            types=tuple(text.removeprefix(_CONTEXT_TYPE) for text in context.get_texts("type")),
            offering_sis_id=lis.get_text("course_offering_sourcedid"),
            section_sis_id=lis.get_text("course_section_sourcedid"),
        ),
        resource_link=ResourceLink(
            id=link.get_identifier("id"),
            title=link.get_text("title"),
            description=link.get_text("description"),
        ),
        installation=_read_installation(said.get_object(PLATFORM)),
        presentation=_read_presentation(said, is_selection(claims)),
        custom=said.get_object(CUSTOM).get_custom(),
        extensions=_read_extensions(said.get_object(EXTENSIONS)),
    )


def _read_person(said: Claims) -> Person:
    return Person(
        user_id=said.get_identifier("sub"),
        **complete_names(*(said.get_text(name) for name in NAMES)),
        email=said.get_text("email").strip(),
        sis_id=said.get_object(LIS).get_text("person_sourcedid"),
    )


def _read_installation(platform: Claims) -> Installation:
    return Installation(
        guid=platform.get_identifier("guid"),
        name=platform.get_text("name"),
        product=platform.get_text("product_family_code"),
        version=platform.get_text("version"),
        url=platform.get_text("url"),
        contact_email=platform.get_text("contact_email"),
    )


def _read_presentation(said: Claims, is_for_selection: bool) -> Presentation:
    presentation = said.get_object(PRESENTATION)
    url = presentation.get_text("return_url")
    return Presentation(
        locale=presentation.get_text("locale") or said.get_text("locale"),
        # Where content is selected, the LMS understands nothing but a signed selection.
        return_url=url if may_return_to(url) and not is_for_selection else None,
        document_target=presentation.get_text("document_target"),
        width=presentation.get_pixels("width"),
        height=presentation.get_pixels("height"),
    )


def _read_extensions(extensions: Claims) -> dict[str, str]:
    # Which LMS it is; other extensions may hold anything about a person.
    product = extensions.get_text("lms")
    return {"lms": product} if product else {}


def _parse_role(text: str) -> Role:
    if text == _TEST_USER:
        return Role.TEST_USER
    if not text.startswith(_VOCABULARY):
        return parse_role(text)
    path = text.removeprefix(_VOCABULARY)
    if match := _CONTEXT_ROLE.fullmatch(path):
        return _build_context_role(match[1], match[2])
    if match := _OTHER_ROLE.fullmatch(path):
        return Role(RoleNamespace(match[1]), match[2])
    # So is "person#", which says a role, but not where.
    return Role(RoleNamespace.UNKNOWN, text)


def _build_context_role(principal: str | None, name: str) -> Role:
    if principal is None:
        return Role(RoleNamespace.CONTEXT, name)
    if principal == "Instructor" and _ASSISTANTS.fullmatch(name):
        main = Role.TEACHING_ASSISTANT
        return main if name == main.name else replace(main, sub_role=name)
    return Role(RoleNamespace.CONTEXT, principal, name)


def _to_json(value: object) -> str:
    return json.dumps(value)

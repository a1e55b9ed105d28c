"""The names that both dialects have for roles: URNs, and bare names (LTI 1.1 appendix A)."""

from __future__ import annotations

from lti_provider.message import Role, RoleNamespace

_URNS = {
    RoleNamespace.CONTEXT: "urn:lti:role:ims/lis/",
    RoleNamespace.INSTITUTION: "urn:lti:instrole:ims/lis/",
    RoleNamespace.SYSTEM: "urn:lti:sysrole:ims/lis/",
}
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


def parse_role(text: str) -> Role:
    """The role of a URN or of a bare name, in whatever case.

    An unknown one is kept and equals none of Role's constants.
    """
    for namespace, urn in _URNS.items():
        if text[: len(urn)].lower() == urn:
            return _build_role(namespace, text[len(urn) :])
    bare = text.partition("/")[0].lower()
    for namespace in _HANDLES:
        if (namespace, bare) in _CANONICAL:
            return _build_role(namespace, text)
    return Role(RoleNamespace.UNKNOWN, text)


def _build_role(namespace: RoleNamespace, path: str) -> Role:
    name, _slash, sub_role = path.partition("/")
    return Role(namespace, _CANONICAL.get((namespace, name.lower()), name), sub_role)

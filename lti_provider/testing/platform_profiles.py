"""What platforms of LTI 1.3 send, by make: the claims of one learner's launch of a graded activity.

Moodle and Open edX as real ones sent it, with other names; the others are made up from what their
vendors document.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

LTI = "https://purl.imsglobal.org/spec/lti/claim/"
AGS = "https://purl.imsglobal.org/spec/lti-ags/claim/"
NRPS = "https://purl.imsglobal.org/spec/lti-nrps/claim/"
BASIC_OUTCOME = "https://purl.imsglobal.org/spec/lti-bo/claim/"

_SCOPE = "https://purl.imsglobal.org/spec/lti-ags/scope/"
_ROLE = "http://purl.imsglobal.org/vocab/lis/v2/"
_LEARNER = f"{_ROLE}membership#Learner"
_COURSE = f"{_ROLE}course#CourseOffering"

_LAUNCH = {f"{LTI}message_type": "LtiResourceLinkRequest", f"{LTI}version": "1.3.0"}
_NAMES = {"given_name": "Robin", "family_name": "Doe", "name": "Robin Doe"}
_PERSON = {**_NAMES, "email": "robin.doe@lms.example"}


@dataclass(frozen=True, kw_only=True)
class PlatformProfile:
    """A make of LMS: ``claims`` of a launch, and what its registrations look like.

    ``is_real``: a running LMS has sent such claims; otherwise they are made up. The endpoints are
    those of the product, on ``lms.example`` where a school has its own.
    """

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    deployment_id: str
    claims: Mapping[str, Any]
    is_real: bool = False
    token_audience: str = ""


def _list_scopes(*names: str) -> list[str]:
    return [_SCOPE + name for name in names]


CANVAS = PlatformProfile(
    issuer="https://canvas.instructure.com",
    authorization_endpoint="https://sso.canvaslms.com/api/lti/authorize_redirect",
    token_endpoint="https://sso.canvaslms.com/login/oauth2/token",  # noqa: S106
    deployment_id="7:8865aa05b4b79b64a91a86042e43af5ea8ae79eb",
    claims={
        **_LAUNCH,
        **_PERSON,
        "sub": "a6d5c443-1f51-4783-ba1a-7686ffe3b54a",
        "locale": "en",
        f"{LTI}roles": [
            f"{_ROLE}institution/person#Student",
            _LEARNER,
            f"{_ROLE}system/person#User",
        ],
        f"{LTI}context": {
            "id": "9f1c2a5d7b3e48f60a1b2c3d4e5f60718293a4b5",
            "label": "ALG-1",
            "title": "Algebra",
            "type": [_COURSE],
        },
        f"{LTI}resource_link": {
            "id": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
            "title": "Linear equations",
            "description": None,
        },
        f"{LTI}launch_presentation": {
            "document_target": "iframe",
            "locale": "en",
            "return_url": "https://lms.example/courses/101/external_content/success/external_tool",
        },
        f"{LTI}tool_platform": {
            "guid": "Aa1Bb2Cc3Dd4Ee5Ff6Gg7Hh8:canvas-lms",
            "name": "Example School",
            "version": "cloud",
            "product_family_code": "canvas",
        },
        f"{LTI}lis": {"person_sourcedid": None, "course_offering_sourcedid": None},
        f"{LTI}custom": {"canvas_module_id": "$Canvas.module.id"},
        f"{LTI}lti11_legacy_user_id": "86157096483e6b3a50bfedc6bac902c0b20a824f",
        f"{AGS}endpoint": {
            "scope": _list_scopes("lineitem", "result.readonly", "score"),
            "lineitems": "https://lms.example/api/lti/courses/101/line_items",
            "lineitem": "https://lms.example/api/lti/courses/101/line_items/55",
        },
        f"{NRPS}namesroleservice": {
            "context_memberships_url": "https://lms.example/api/lti/courses/101/names_and_roles",
            "service_versions": ["2.0"],
        },
    },
)

MOODLE = PlatformProfile(
    is_real=True,
    issuer="https://lms.example",
    authorization_endpoint="https://lms.example/mod/lti/auth.php",
    token_endpoint="https://lms.example/mod/lti/token.php",  # noqa: S106
    deployment_id="3",
    claims={
        **_LAUNCH,
        **_PERSON,
        "sub": "4",
        f"{LTI}roles": [_LEARNER],
        f"{LTI}context": {
            "id": "2",
            "label": "ALG1",
            "title": "Algebra & Géométrie",
            "type": ["CourseSection"],
        },
        f"{LTI}resource_link": {"title": "Linear equations", "description": "", "id": "5"},
        f"{LTI}lis": {"person_sourcedid": "SIS-0001", "course_section_sourcedid": "SIS-ALG-1"},
        f"{LTI}ext": {"user_username": "robin", "lms": "moodle-2"},
        f"{LTI}launch_presentation": {
            "locale": "en",
            "document_target": "iframe",
            "return_url": (
                "https://lms.example/mod/lti/return.php?course=2&launch_container=3&instanceid=5"
            ),
        },
        f"{LTI}tool_platform": {
            "product_family_code": "moodle",
            "version": "2023100900",
            "guid": "lms.example",
            "name": "campus",
            "description": "Example Moodle",
        },
        f"{LTI}custom": {
            "context_memberships_url": (
                "https://lms.example/mod/lti/services.php/CourseSection/2/bindings/3/memberships"
            ),
            "system_setting_url": "https://lms.example/mod/lti/services.php/tool/3/custom",
            "link_setting_url": "https://lms.example/mod/lti/services.php/links/{link_id}/custom",
        },
        f"{BASIC_OUTCOME}basicoutcome": {
            "lis_result_sourcedid": (
                '{"data":{"instanceid":"5","userid":"4","typeid":"3","launchid":318470388},'
                '"hash":"5f1d9c7e3a2b4c6d8e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}'
            ),
            "lis_outcome_service_url": "https://lms.example/mod/lti/service.php",
        },
        f"{AGS}endpoint": {
            "scope": _list_scopes("lineitem", "lineitem.readonly", "result.readonly", "score"),
            "lineitems": "https://lms.example/mod/lti/services.php/2/lineitems?type_id=3",
            "lineitem": (
                "https://lms.example/mod/lti/services.php/2/lineitems/5/lineitem?type_id=3"
            ),
        },
        f"{NRPS}namesroleservice": {
            "context_memberships_url": (
                "https://lms.example/mod/lti/services.php/CourseSection/2/bindings/3/memberships"
            ),
            "service_versions": ["1.0", "2.0"],
        },
    },
)

BLACKBOARD = PlatformProfile(
    issuer="https://blackboard.com",
    authorization_endpoint="https://developer.blackboard.com/api/v1/gateway/oidcauth",
    token_endpoint="https://developer.blackboard.com/api/v1/gateway/oauth2/jwttoken",  # noqa: S106
    deployment_id="2fe2dbdc-4d1e-4a6b-8c77-0f5b1c2d3e4f",
    claims={
        **_LAUNCH,
        **_PERSON,
        "sub": "f94cd1b709d141f1955c610e34135d47",
        f"{LTI}roles": [f"{_ROLE}institution/person#Student", _LEARNER],
        f"{LTI}context": {
            "id": "5d0c9b8a7f6e4d3c2b1a0f9e8d7c6b5a",
            "label": "ALG1",
            "title": "Algebra",
            "type": [_COURSE],
        },
        f"{LTI}resource_link": {"id": "_1303_1", "title": "Linear equations"},
        f"{LTI}launch_presentation": {
            "document_target": "window",
            "locale": "en-US",
            "return_url": "https://lms.example/webapps/blackboard/execute/blti/launchReturn",
        },
        f"{LTI}tool_platform": {
            "guid": "375fd6b5351f43a69d06efa6952583f5",
            "name": "School",
            "version": "3900.0.0",
            "product_family_code": "BlackboardLearn",
        },
        f"{AGS}endpoint": {
            "scope": _list_scopes("lineitem", "result.readonly", "score"),
            "lineitems": "https://lms.example/learn/api/v1/lti/courses/_7_1/lineItems",
            "lineitem": "https://lms.example/learn/api/v1/lti/courses/_7_1/lineItems/_11_1",
        },
        f"{NRPS}namesroleservice": {
            "context_memberships_url": (
                "https://lms.example/learn/api/v1/lti/external/namesandroles/_7_1"
            ),
            "service_versions": ["2.0"],
        },
    },
)

BRIGHTSPACE = PlatformProfile(
    issuer="https://lms.example",
    authorization_endpoint="https://lms.example/d2l/lti/authenticate",
    token_endpoint="https://auth.brightspace.com/core/connect/token",  # noqa: S106
    token_audience="https://api.brightspace.com/auth/token",  # noqa: S106
    deployment_id="1f3f0a1c-5b6d-4f0e-9c0b-7a8d9e0f1a2b",
    claims={
        **_LAUNCH,
        **_PERSON,
        "sub": "0b7f3c1e-6a5d-4e2f-9c8b-1a2b3c4d5e6f_355",
        f"{LTI}roles": [f"{_ROLE}institution/person#Student", _LEARNER],
        f"{LTI}context": {
            "id": "744563",
            "label": "ALG1",
            "title": "Algebra (autumn)",
            "type": [_COURSE],
        },
        f"{LTI}resource_link": {"id": "1820151128", "title": "Linear equations"},
        f"{LTI}launch_presentation": {
            "document_target": "iframe",
            "locale": "EN-US__",
            "return_url": "https://lms.example/d2l/le/lti/744563/return",
        },
        f"{LTI}tool_platform": {
            "guid": "c8d4ec3d-7a6f-4e4b-8a51-3d0c2b1a0f9e",
            "product_family_code": "desire2learn",
            "version": "20.24.1",
        },
        f"{AGS}endpoint": {
            "scope": _list_scopes("lineitem", "lineitem.readonly", "result.readonly", "score"),
            "lineitems": "https://lms.example/d2l/api/lti/ags/2.0/deployment/9/orgunit/744563",
            "lineitem": "https://lms.example/d2l/api/lti/ags/2.0/deployment/9/lineitems/31",
        },
        f"{NRPS}namesroleservice": {
            "context_memberships_url": "https://lms.example/d2l/api/lti/nrps/2.0/orgunit/744563",
            "service_versions": ["2.0"],
        },
    },
)

SAKAI = PlatformProfile(
    issuer="https://lms.example",
    authorization_endpoint="https://lms.example/imsoidc/lti13/oidc_auth",
    token_endpoint="https://lms.example/imsblis/lti13/token/3",  # noqa: S106
    deployment_id="1",
    claims={
        **_LAUNCH,
        **_PERSON,
        "sub": "3d1f5a7c-robin",
        "locale": "en_US",
        f"{LTI}roles": [_LEARNER],
        f"{LTI}context": {
            "id": "mercury",
            "label": "Algebra",
            "title": "Algebra",
            "type": [_COURSE],
        },
        f"{LTI}resource_link": {"id": "content:3", "title": "Linear equations"},
        f"{LTI}launch_presentation": {
            "document_target": "iframe",
            "locale": "en_US",
            "return_url": "https://lms.example/imsblis/service/return-url/site/mercury",
        },
        f"{LTI}tool_platform": {
            "guid": "lms.example",
            "name": "Example",
            "version": "23",
            "product_family_code": "sakai",
        },
        f"{LTI}lis": {"person_sourcedid": "robin"},
        f"{LTI}ext": {"sakai_server": "https://lms.example"},
        f"{AGS}endpoint": {
            "scope": _list_scopes("lineitem", "result.readonly", "score"),
            "lineitems": "https://lms.example/imsblis/lti13/lineitems/mercury",
            "lineitem": "https://lms.example/imsblis/lti13/lineitem/mercury",
        },
        f"{NRPS}namesroleservice": {
            "context_memberships_url": "https://lms.example/imsblis/lti13/namesandroles/mercury",
            "service_versions": ["2.0"],
        },
    },
)

OPEN_EDX = PlatformProfile(
    is_real=True,
    issuer="https://lms.example",
    authorization_endpoint="https://lms.example/api/lti_consumer/v1/launch/",
    token_endpoint="https://lms.example/api/lti_consumer/v1/token/17",  # noqa: S106
    deployment_id="1",
    claims={
        **_LAUNCH,
        "sub": "84ffa3f5-5ca3-58ff-b95e-ef9c49467240",
        "name": "Robin Doe",
        "email": "robin.doe@lms.example",
        "preferred_username": "robin",
        f"{LTI}roles": [
            _LEARNER,
            f"{_ROLE}system/person#None",
            f"{_ROLE}institution/person#None",
        ],
        f"{LTI}context": {
            "id": "course-v1:edX+Algebra+2026",
            "label": "course-v1:edX+Algebra+2026",
            "title": "Algebra - edX",
            "type": [_COURSE],
        },
        f"{LTI}resource_link": {
            "id": "block-v1:edX+Algebra+2026+type@lti_consumer+block@0a1b2c3d4e5f"
        },
        f"{LTI}launch_presentation": {"document_target": "iframe"},
        f"{LTI}tool_platform": {
            "guid": "26d53695-07ba-5604-b64e-3620259ab17d",
            "name": "Your Platform Name Here",
        },
        f"{LTI}custom": {"page": "one two & three=4"},
        f"{AGS}endpoint": {
            "scope": _list_scopes("lineitem", "result.readonly", "score"),
            "lineitems": "https://lms.example/api/lti_consumer/v1/lti/1/lti-ags",
        },
        f"{NRPS}namesroleservice": {
            "context_memberships_url": "https://lms.example/api/lti_consumer/v1/lti/1/memberships",
            "service_versions": ["2.0"],
        },
    },
)

#: What a launch of LTI 1.3 looks like, by product.
PLATFORM_PROFILES = MappingProxyType(
    {
        "canvas": CANVAS,
        "moodle": MOODLE,
        "blackboard": BLACKBOARD,
        "brightspace": BRIGHTSPACE,
        "sakai": SAKAI,
        "open_edx": OPEN_EDX,
    }
)

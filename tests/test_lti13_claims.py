"""What claims say in nouns, and which launches have to be understood."""

import json
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from lti_provider.lti11.parameters import read_message as read_lti11
from lti_provider.lti13.claims import PREFIX, read_message
from lti_provider.message import (
    Context,
    Installation,
    Person,
    Presentation,
    ResourceLink,
    Role,
    RoleNamespace,
)
from lti_provider.models import LtiLaunch
from lti_provider.testing.platform import FakePlatform
from tests.answering import get_refusal, log_in

PAYLOADS = Path(__file__).parent / "data" / "payloads13"
LIS = "http://purl.imsglobal.org/vocab/lis/v2/"


def payload(name):
    return json.loads((PAYLOADS / f"{name}.json").read_text())["claims"]


def roles_of(*texts):
    return read_message({f"{PREFIX}roles": list(texts)}).roles


def test_what_a_real_moodle_says():
    message = read_message(payload("live_moodle_4_3_learner"))

    assert message.person == Person(
        user_id="3",
        full_name="Zoë Müller-O'Brien",
        given_name="Zoë",
        family_name="Müller-O'Brien",
        email="zoe@example.com",
        sis_id="SIS-0001",
    )
    assert message.roles == {Role.LEARNER}
    assert message.context == Context(
        id="2",
        title='Algèbre & Géométrie — "Honours"',
        label="LTI101",
        types=("CourseSection",),
        section_sis_id="SIS-LTI-101",
    )
    assert message.resource_link == ResourceLink(id="5", title="Advantage activity")
    assert message.installation == Installation(
        guid="127.0.0.1", name="EX", product="moodle", version="2023100900"
    )
    assert message.presentation == Presentation(
        locale="en",
        document_target="window",
        return_url="http://127.0.0.1:8088/mod/lti/return.php?course=2&launch_container=4"
        "&instanceid=5&sesskey=mDYDfD6pOK",
    )
    assert set(message.custom) == {
        "context_memberships_url", "system_setting_url", "context_setting_url", "link_setting_url"
    }  # fmt: skip
    assert message.extensions == {"lms": "moodle-2"}
    assert message.grade_service is None


def test_what_a_real_open_edx_says():
    message = read_message(payload("live_openedx_learner"))

    assert message.person == Person(
        user_id="84ffa3f5-5ca3-58ff-b95e-ef9c49467240",
        full_name="Sam Plain",
        given_name="Sam",
        family_name="Plain",
        email="sam@example.com",
    )
    assert message.is_learner
    assert not message.is_course_staff
    assert message.roles == {
        Role.LEARNER,
        Role(RoleNamespace.SYSTEM, "None"),
        Role(RoleNamespace.INSTITUTION, "None"),
    }
    assert message.context.types == ("CourseOffering",)
    assert message.custom == {"vbid": "put_book_id_here", "page": "one two & three=4"}
    assert message.presentation == Presentation(document_target="iframe")


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["live_moodle_4_3_learner", "live_openedx_learner"])
def test_real_claims_launch(settings, name):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    lms = FakePlatform.create("canvas", issuer="")
    real = payload(name)
    for claim in ("iss", "aud", "azp", "exp", "iat", "nonce"):
        real.pop(claim, None)
    login = log_in(lms)
    real[f"{PREFIX}deployment_id"] = lms.deployment.deployment_id
    real[f"{PREFIX}target_link_uri"] = login.target

    response = login.post(lms.sign({**login.claims(), **real}))

    assert response["Location"].startswith("/lti/enter/")
    assert LtiLaunch.objects.get().message.person.user_id == real["sub"]


@pytest.mark.parametrize(
    ("text", "role"),
    [
        (f"{LIS}membership#Instructor", Role.INSTRUCTOR),
        (f"{LIS}membership#Learner", Role.LEARNER),
        (f"{LIS}membership#ContentDeveloper", Role.CONTENT_DEVELOPER),
        (f"{LIS}membership#Administrator", Role.ADMINISTRATOR),
        (f"{LIS}membership#Mentor", Role.MENTOR),
        (f"{LIS}membership#Manager", Role.MANAGER),
        (f"{LIS}membership#Member", Role.MEMBER),
        (f"{LIS}membership#Officer", Role(RoleNamespace.CONTEXT, "Officer")),
        (f"{LIS}membership/Instructor#TeachingAssistant", Role.TEACHING_ASSISTANT),
        (
            f"{LIS}membership/Instructor#TeachingAssistantSection",
            Role(RoleNamespace.CONTEXT, "TeachingAssistant", "TeachingAssistantSection"),
        ),
        (
            f"{LIS}membership/Instructor#Grader",
            Role(RoleNamespace.CONTEXT, "TeachingAssistant", "Grader"),
        ),
        (
            f"{LIS}membership/Instructor#Lecturer",
            Role(RoleNamespace.CONTEXT, "Instructor", "Lecturer"),
        ),
        (
            f"{LIS}membership/Learner#Instructor",
            Role(RoleNamespace.CONTEXT, "Learner", "Instructor"),
        ),
        (f"{LIS}institution/person#Faculty", Role(RoleNamespace.INSTITUTION, "Faculty")),
        (f"{LIS}institution/person#Instructor", Role(RoleNamespace.INSTITUTION, "Instructor")),
        (f"{LIS}system/person#SysAdmin", Role(RoleNamespace.SYSTEM, "SysAdmin")),
        (f"{LIS}system/person#None", Role(RoleNamespace.SYSTEM, "None")),
        ("http://purl.imsglobal.org/vocab/lti/system/person#TestUser", Role.TEST_USER),
        ("Instructor", Role.INSTRUCTOR),
        ("urn:lti:role:ims/lis/Learner", Role.LEARNER),
        ("urn:lti:instrole:ims/lis/Student", Role(RoleNamespace.INSTITUTION, "Student")),
    ],
)
def test_both_vocabularies_lead_to_the_same_roles(text, role):
    assert roles_of(text) == {role}


@pytest.mark.parametrize(
    "text",
    [
        f"{LIS}person#Instructor",
        f"{LIS}membership#",
        f"{LIS}membership#Instructor#Learner",
        f"{LIS}membership#Instructor ",
        f"{LIS}membership/#Instructor",
        f"{LIS}membership/A/B#Instructor",
        f"{LIS.replace('http:', 'https:')}membership#Instructor",
        f"x{LIS}membership#Instructor",
        f"{LIS.upper()}membership#Instructor",
        f"{LIS}institution#Instructor",
        "http://purl.imsglobal.org/vocab/lti/system/person#TestUser2",
        "NotAnInstructor",
        "",
    ],
)
def test_what_only_looks_like_a_role_gives_nothing(text):
    assert roles_of(text) == {Role(RoleNamespace.UNKNOWN, text)}
    assert not read_message({f"{PREFIX}roles": [text]}).is_course_staff


def test_case_counts_in_names_of_lti_13():
    assert not read_message({f"{PREFIX}roles": [f"{LIS}membership#instructor"]}).is_instructor


def test_a_role_elsewhere_is_none_in_the_course():
    message = read_message(
        {
            f"{PREFIX}roles": [
                f"{LIS}institution/person#Instructor",
                f"{LIS}system/person#Administrator",
                f"{LIS}membership/Learner#Instructor",
            ]
        }
    )

    assert message.is_learner
    assert not message.is_instructor
    assert not message.is_course_staff


def test_a_preview_as_a_student_is_a_test_user():
    test_user = "http://purl.imsglobal.org/vocab/lti/system/person#TestUser"
    message = read_message({f"{PREFIX}roles": [f"{LIS}membership#Learner", test_user]})

    assert message.is_test_user
    assert message.is_learner
    assert not read_message({f"{PREFIX}roles": [f"{LIS}membership#Learner"]}).is_test_user
    assert read_lti11((("roles", "Learner,urn:lti:sysrole:ims/lis/TestUser"),)).is_test_user


def test_custom_parameters_keep_their_case_and_lose_unfilled_variables():
    message = read_message(
        {
            f"{PREFIX}custom": {
                "MixedCase": "x",
                "empty": "",
                "price": "$5",
                "unfilled": "$ResourceLink.submission.endDateTime",
                "number": 7,
                "points": 2.5,
                "flag": True,
                "nothing": None,
            }
        }
    )

    assert message.custom == {
        "MixedCase": "x",
        "empty": "",
        "price": "$5",
        "number": "7",
        "points": "2.5",
        "flag": "true",
    }


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "/back", "//evil.example", "https://lms.example\\@evil.example/",
            "https://lms.example@evil.example/", "https://lms.example/" + "x" * 4000, "", 7]
)  # fmt: skip
def test_a_return_url_that_cannot_be_trusted_is_absent(url):
    message = read_message({f"{PREFIX}launch_presentation": {"return_url": url}})

    assert message.presentation.return_url is None


def test_where_content_is_selected_nobody_returns_by_url():
    said = {
        f"{PREFIX}message_type": "LtiDeepLinkingRequest",
        f"{PREFIX}launch_presentation": {"return_url": "https://lms.example/back"},
    }

    assert read_message(said).presentation.return_url is None


@pytest.mark.parametrize(
    ("said", "pixels"),
    [
        *((800, 800), ("800", 800), (0, 0), (-1, None), (800.5, None), ("8e2", None)),
        *((True, None), (10**9, None), (None, None), ("", None)),
    ],
    ids=range(10),
)
def test_sizes_are_pixels(said, pixels):
    message = read_message({f"{PREFIX}launch_presentation": {"width": said, "height": said}})

    assert message.presentation.width == message.presentation.height == pixels


def test_the_persons_locale_stands_in_for_the_pages():
    assert read_message({"locale": "fr-CA"}).presentation.locale == "fr-CA"
    both = {"locale": "fr-CA", f"{PREFIX}launch_presentation": {"locale": "de"}}
    assert read_message(both).presentation.locale == "de"


@pytest.mark.parametrize("name", ["sub", "context", "custom", "roles", "lis"])
@pytest.mark.parametrize("value", [7, [1], "x", {"a": 1}, None], ids=range(5))
def test_what_cannot_be_read_is_blank(name, value):
    message = read_message({name if name == "sub" else f"{PREFIX}{name}": value})

    assert message.person.user_id == (value if name == "sub" and value == "x" else "")
    assert message.context.id == ""
    assert message.roles == frozenset()
    assert message.custom == ({"a": "1"} if name == "custom" and value == {"a": 1} else {})


# Certification of a tool: "Advantage Conformance Certification Guide", §6.1.

NOBODY = dict.fromkeys(["name", "given_name", "family_name", "email"])
TEACHER = [f"{LIS}membership#Instructor"]
LEARNER = [f"{LIS}membership#Learner"]
VALID = {
    "plain": {},
    "several roles": {
        "roles": [f"{LIS}institution/person#Faculty", f"{LIS}institution/person#Student"]
    },
    "short role": {"roles": ["Instructor"]},
    "unknown role": {"roles": [f"{LIS}uknownrole/unknown#Helper"]},
    "no roles": {"roles": []},
    "e-mail only": {**NOBODY, "email": "a@lms.example"},
    "names only": {**NOBODY, "name": "A B", "given_name": "A", "family_name": "B"},
    "nothing personal": NOBODY,
    "e-mail without context": {**NOBODY, "email": "a@lms.example", "context": None},
}
LTI_CLAIMS = ["version", "message_type", "deployment_id", "roles", "resource_link", "custom"]
BAD = {
    "no kid": ({"header": {"kid": None}}, "missing_key_id"),
    "wrong kid": ({"header": {"kid": "imstester_66067"}}, "unknown_signing_key"),
    "wrong key": ({"key": RSAKey.generate_key(2048)}, "token_signature_invalid"),
    "wrong version": ({"version": "11.3"}, "unsupported_version"),
    "no version": ({"version": None}, "unsupported_version"),
    "no message": ({"message_type": "AnotherMessage"}, "unsupported_message_type"),
    "missing claims": (dict.fromkeys(LTI_CLAIMS), "unsupported_version"),
    "wrong times": ({"iat": 11111, "exp": 22222}, "token_expired"),
    "no message type": ({"message_type": None}, "unsupported_message_type"),
    "no roles": ({"roles": None}, "missing_roles"),
    "no deployment": ({"deployment_id": None}, "missing_deployment"),
    "no resource link": ({"resource_link": {"id": None, "title": "T"}}, "missing_resource_link"),
    "no user": ({"sub": None}, "missing_person"),
}  # fmt: skip


@pytest.fixture
def lms(settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakePlatform.create("canvas")


@pytest.mark.django_db
@pytest.mark.parametrize("roles", [TEACHER, LEARNER], ids=["teacher", "learner"])
@pytest.mark.parametrize("name", VALID)
def test_valid_launches_of_the_certification_open_the_page(lms, name, roles):
    response = lms.launch(log_in(lms).client, **{"roles": roles, **VALID[name]})

    assert response.status_code == 200
    assert LtiLaunch.objects.get().entered_at is not None


@pytest.mark.django_db
@pytest.mark.parametrize("name", BAD)
def test_bad_payloads_of_the_certification_are_refused(lms, name):
    changes, code = BAD[name]
    login = log_in(lms)

    login.post(login.token(**changes))

    assert get_refusal()[0] == code

import json
from dataclasses import replace

import pytest
from django.test import RequestFactory

from lti_provider.exceptions import (
    InvalidParameter,
    LaunchRefused,
    MissingResourceLink,
    UnsupportedMessageType,
    UnsupportedVersion,
)
from lti_provider.form import read_form
from lti_provider.lti11.diagnosis import Evidence
from lti_provider.lti11.form import read_launch_form
from lti_provider.lti11.parameters import check_launch, read_message
from lti_provider.message import (
    IDENTIFIER_LENGTH,
    RETURN_URL_LENGTH,
    Context,
    GradeService,
    Installation,
    LaunchMessage,
    Person,
    PersonalData,
    Presentation,
    ResourceLink,
    Role,
    RoleNamespace,
)
from lti_provider.testing import PROFILES

LAUNCH = {
    "lti_message_type": "basic-lti-launch-request",
    "lti_version": "LTI-1p0",
    "resource_link_id": "r1",
}


def parse(pairs):
    pairs = tuple(pairs)
    check_launch(pairs)
    return read_message(pairs)


def message(**fields):
    return parse({**LAUNCH, **fields}.items())


def roles(text):
    return {str(role) for role in message(roles=text).roles}


CONTEXT = ""
INSTITUTION = "institution: "
SYSTEM = "system: "


@pytest.mark.parametrize(
    ("sent", "parsed"),
    [
        ("", set()),
        (",", set()),
        ("Learner", {f"{CONTEXT}Learner"}),
        ("learner", {f"{CONTEXT}Learner"}),
        (" LEARNER , instructor", {f"{CONTEXT}Learner", f"{CONTEXT}Instructor"}),
        ("TeachingAssistant", {f"{CONTEXT}TeachingAssistant"}),
        ("contentdeveloper", {f"{CONTEXT}ContentDeveloper"}),
        ("urn:lti:role:ims/lis/Instructor", {f"{CONTEXT}Instructor"}),
        ("URN:LTI:Role:IMS/LIS/instructor", {f"{CONTEXT}Instructor"}),
        ("urn:lti:role:ims/lis/Learner/Instructor", {f"{CONTEXT}Learner/Instructor"}),
        ("urn:lti:instrole:ims/lis/Instructor", {f"{INSTITUTION}Instructor"}),
        ("urn:lti:sysrole:ims/lis/Administrator", {f"{SYSTEM}Administrator"}),
        (
            "Instructor,urn:lti:sysrole:ims/lis/Administrator,urn:lti:instrole:ims/lis/Administrator",
            {f"{CONTEXT}Instructor", f"{SYSTEM}Administrator", f"{INSTITUTION}Administrator"},
        ),
        ("Student,Learner", {f"{INSTITUTION}Student", f"{CONTEXT}Learner"}),
        ("Administrator", {f"{CONTEXT}Administrator"}),
        (
            "Student,Instructor,Administrator",
            {f"{INSTITUTION}Student", f"{CONTEXT}Instructor", f"{CONTEXT}Administrator"},
        ),
        ("Faculty,Staff", {f"{INSTITUTION}Faculty", f"{INSTITUTION}Staff"}),
        ("SysAdmin", {f"{SYSTEM}SysAdmin"}),
        ("Überlehrer", {"Überlehrer"}),
        ("urn:lti:role:ims/lis/Wizard", {f"{CONTEXT}Wizard"}),
        ("urn:lti:rôle:ims/lis/Instructor", {"urn:lti:rôle:ims/lis/Instructor"}),
    ],
)
def test_roles_are_parsed_exactly(sent, parsed):
    assert roles(sent) == parsed


@pytest.mark.parametrize(
    ("sent", "learner", "instructor"),
    [
        ("Learner", True, False),
        ("urn:lti:role:ims/lis/Learner", True, False),
        ("urn:lti:role:ims/lis/Learner/NonCreditLearner", True, False),
        ("urn:lti:role:ims/lis/Learner/Instructor", True, False),
        ("Learner/Instructor", True, False),
        ("Instructor", False, True),
        ("Instructor/GuestInstructor", False, True),
        ("Instructor,Learner", True, True),
        # A professor who is a student of this course.
        ("Learner,urn:lti:instrole:ims/lis/Instructor", True, False),
        ("urn:lti:instrole:ims/lis/Instructor", False, False),
        ("urn:lti:instrole:ims/lis/Learner", False, False),
        ("urn:lti:sysrole:ims/lis/Administrator", False, False),
        ("urn:lti:instrole:ims/lis/Administrator,urn:lti:sysrole:ims/lis/SysAdmin", False, False),
        ("TeachingAssistant", False, False),
        ("NotAnInstructor", False, False),
        ("InstructorX", False, False),
        ("urn:lti:role:ims/lis/TeachingAssistant/Instructor", False, False),
        ("urn:lti:role:ims/lis/", False, False),
        ("/Instructor", False, False),
        ("Instructor;Learner", False, False),
        ("Student", False, False),
        ("Faculty", False, False),
        ("", False, False),
    ],
)
def test_only_a_context_role_says_what_a_person_is_in_the_course(sent, learner, instructor):
    launched = message(roles=sent)

    assert (launched.is_learner, launched.is_instructor) == (learner, instructor)


@pytest.mark.parametrize(
    "sent",
    [
        "Instructor",
        "TeachingAssistant",
        "ContentDeveloper",
        "Administrator",
        "urn:lti:role:ims/lis/Administrator/Support",
        "Learner,urn:lti:role:ims/lis/TeachingAssistant/Grader",
    ],
)
def test_course_staff_run_the_course(sent):
    assert message(roles=sent).is_course_staff


@pytest.mark.parametrize(
    "sent",
    [
        "Learner",
        "Mentor",
        "Manager",
        "Member",
        "urn:lti:instrole:ims/lis/Administrator",
        "urn:lti:instrole:ims/lis/Instructor",
        "urn:lti:sysrole:ims/lis/Administrator",
        "urn:lti:sysrole:ims/lis/SysAdmin,Learner",
        "Staff",
        "NotAnAdministrator",
        "",
    ],
)
def test_nobody_is_course_staff_by_a_role_elsewhere(sent):
    assert not message(roles=sent).is_course_staff


def test_a_sub_role_can_be_asked_for():
    grader = Role(RoleNamespace.CONTEXT, "TeachingAssistant", "Grader")
    launched = message(roles="urn:lti:role:ims/lis/TeachingAssistant/Grader")

    assert launched.has_role(grader)
    assert launched.has_role(Role.TEACHING_ASSISTANT)
    assert not message(roles="TeachingAssistant").has_role(grader)


def test_mentors_of_learners_get_nothing_by_role_scope():
    launched = message(roles="Mentor", role_scope_mentor="u1%2Cx,u2")

    assert launched.has_role(Role.MENTOR)
    assert not launched.is_learner


@pytest.mark.parametrize(
    ("full", "given", "family", "expected"),
    [
        ("Robin Doe", "Robin", "Doe", ("Robin Doe", "Robin", "Doe")),
        ("", "Robin", "Doe", ("Robin Doe", "Robin", "Doe")),
        ("Robin Doe", "", "", ("Robin Doe", "Robin", "Doe")),
        ("Robin van der Doe", "", "", ("Robin van der Doe", "Robin", "van der Doe")),
        ("Robin", "", "", ("Robin", "Robin", "")),
        ("", "Robin", "", ("Robin", "Robin", "")),
        ("", "", "Doe", ("Doe", "", "Doe")),
        (" Robin  Doe ", "", "", ("Robin Doe", "Robin", "Doe")),
        ("", "robin@lms.example", "", ("robin@lms.example", "robin@lms.example", "")),
        ("", "", "", ("", "", "")),
        ("\t\r\n", " ", "\u00a0", ("", "", "")),
    ],
)
def test_missing_names_are_derived_from_the_others(full, given, family, expected):
    sent = {
        "lis_person_name_full": full,
        "lis_person_name_given": given,
        "lis_person_name_family": family,
    }
    launched = message(**sent)
    without_blanks = message(**{name: value for name, value in sent.items() if value})

    for found in (launched, without_blanks):
        assert (
            found.person.full_name,
            found.person.given_name,
            found.person.family_name,
        ) == expected


@pytest.mark.parametrize(
    "variable",
    [
        "$Canvas.module.id",
        "$Person.email.primary",
        "$com.instructure.Assignment.lti.id",
        "$ResourceLink.title",
        "$Context.id.history",
    ],
)
def test_variables_that_the_lms_left_unfilled_are_absent(variable):
    assert message(custom_page="3", custom_unfilled=variable).custom == {"page": "3"}


@pytest.mark.parametrize(
    "value", ["", "$", "$5.00", "5 $a.b", "$a.b c", "$US", "$a.", "\\$a.b", "$a.b\n", "one & two=3"]
)
def test_values_that_only_look_a_little_like_variables_stay(value):
    assert message(custom_page=value).custom == {"page": value}


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        ("en-US", "en"),
        ("en_US", "en"),
        ("EN-US__", "en"),
        ("en", "en"),
        ("de-AT", "de"),
        ("pt_BR", "pt-br"),
        ("zh-Hant-TW", "zh-hant"),
        ("es-419", "es"),
        ("", None),
        ("__", None),
        ("xx", None),
        ("tlh-KX", None),
        ("en;DROP", None),
        ("../../etc/passwd", None),
        ("ﬁ", None),
        ("e" * 10_000, None),
        ("xx-" * 10_000, None),
        ("\u202een", None),
    ],
)
def test_the_locale_is_one_that_the_site_has_or_none(sent, found):
    assert message(launch_presentation_locale=sent).locale == found


def test_the_locale_is_one_of_the_sites_own_languages(settings):
    settings.LANGUAGES = [("fr", "Français")]

    assert message(launch_presentation_locale="de").locale is None
    assert message(launch_presentation_locale="fr_CA").locale == "fr"


ACCEPTABLE = [
    ("https://lms.example/back?course=2&x=%20", "https://lms.example"),
    ("HTTPS://LMS.example:443/", "https://lms.example"),
    ("http://127.0.0.1:8088/mod/lti/return.php?course=2#top", "http://127.0.0.1:8088"),
    ("http://[::1]:8088/", "http://[::1]:8088"),
    ("http://lms.example:80", "http://lms.example"),
    ("http://lms.example:", "http://lms.example"),
]
UNACCEPTABLE = [
    "",
    "about:blank",
    "javascript:alert(1)",
    "JaVaScRiPt://lms.example/%0aalert(1)",
    "data:text/html,x",
    "ftp://lms.example/",
    "//evil.example/",
    "/back",
    "back",
    "https:lms.example",
    "https:/lms.example",
    "https:///evil.example",
    "https://",
    "https://?x",
    "https://lms.example\\@evil.example/",
    "https:\\\\evil.example/",
    "https://lms.example@evil.example/",
    "https://lms.example:secret@evil.example/",
    "https://@evil.example/",
    "https://:@evil.example/",
    "https://lms.example/\nSet-Cookie: x=1",
    "https://lms.example/\r\n",
    "\thttps://lms.example/",
    " https://lms.example/",
    "https://lms.example/ ",
    "https://lms.exam\tple/",
    "https://lms.example:99999/",
    "https://lms.example:x/",
    "https://lms.example;evil/",
    "https://lms.example,evil.example/",
    "https://[::1/",
    "https://[evil]/",
    "https://lms.exämple/",
    "https://lms.example/ä",
    'https://lms.example/"onload=x',
    "https://lms.example/<script>",
    "https://-lms.example/",
    "https://lms.example./",
    "https://lms%2eexample/",
    "https://*/",
    "https://'self'/",
    "https://lms.example/" + "a" * RETURN_URL_LENGTH,
]


@pytest.mark.parametrize(("url", "origin"), ACCEPTABLE)
def test_return_urls_that_are_followed(url, origin):
    launched = message(launch_presentation_return_url=url)

    assert (launched.presentation.return_url, launched.return_origin) == (url, origin)


@pytest.mark.parametrize("url", UNACCEPTABLE)
def test_return_urls_that_are_not(url):
    launched = message(launch_presentation_return_url=url)

    assert (launched.presentation.return_url, launched.return_origin) == (None, None)


def test_a_launch_does_not_return_to_the_url_of_a_content_selection():
    assert message(content_item_return_url="https://lms.example/").presentation.return_url is None


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"lti_message_type": ""}, UnsupportedMessageType),
        ({"lti_message_type": "Basic-LTI-Launch-Request"}, UnsupportedMessageType),
        ({"lti_message_type": "basic-lti-launch-request "}, UnsupportedMessageType),
        ({"lti_message_type": "ContentItemSelectionRequest"}, UnsupportedMessageType),
        ({"lti_version": ""}, UnsupportedVersion),
        ({"lti_version": "LTI-2p0"}, UnsupportedVersion),
        ({"lti_version": "lti-1p0"}, UnsupportedVersion),
        ({"lti_version": "LTI-1p3"}, UnsupportedVersion),
        ({"resource_link_id": ""}, MissingResourceLink),
        ({"user_id": "u" * (IDENTIFIER_LENGTH + 1)}, InvalidParameter),
        ({"context_id": "é" * (IDENTIFIER_LENGTH + 1)}, InvalidParameter),
        ({"resource_link_id": "😀" * (IDENTIFIER_LENGTH + 1)}, InvalidParameter),
        ({"tool_consumer_instance_guid": "g" * (IDENTIFIER_LENGTH + 1)}, InvalidParameter),
    ],
)
def test_what_is_no_launch_is_refused(changes, refusal):
    with pytest.raises(refusal):
        message(**changes)


@pytest.mark.parametrize("version", ["LTI-1p0", "LTI-1p1", "LTI-1p2"])
def test_every_version_of_lti_1_is_a_launch(version):
    assert message(lti_version=version).resource_link.id == "r1"


def test_a_missing_and_an_empty_resource_link_have_hints_of_their_own():
    pairs = {**LAUNCH, "resource_link_id": ""}
    with pytest.raises(MissingResourceLink) as empty:
        parse(pairs.items())
    with pytest.raises(MissingResourceLink) as missing:
        parse(pair for pair in pairs.items() if pair[1])

    assert "but empty" in str(empty.value.hint)
    assert "did not send" in str(missing.value.hint)


@pytest.mark.parametrize("name", ["user_id", "custom_page", "ext_roles", "lis_person_name_full"])
def test_two_values_for_one_name_are_refused(name):
    pairs = [*LAUNCH.items(), (name, "one"), (name, "two")]

    with pytest.raises(InvalidParameter) as refused:
        parse(pairs)
    assert name in str(refused.value.hint)
    assert parse([*LAUNCH.items(), (name, "one"), (name, "one")]) == message(**{name: "one"})


def test_an_identifier_of_the_longest_length_is_kept_whole():
    longest = "😀" * IDENTIFIER_LENGTH

    assert message(user_id=longest).person.user_id == longest


PERSONAL = {
    "lis_person_name_full": "Canary Name",
    "lis_person_name_given": "Canary",
    "lis_person_name_family": "Name",
    "lis_person_name_middle": "Mid-canary",
    "lis_person_contact_email_primary": "canary@lms.example",
    "lis_person_contact_email_personal": "home-canary@lms.example",
    "lis_person_sourcedid": "sis-canary",
    "lis_person_phone_mobile": "+1-canary",
    "user_image": "https://lms.example/canary.png",
    "custom_canvas_user_login_id": "login-canary",
    "ext_user_username": "ext-canary",
    "email": "other-canary@lms.example",
    "role_scope_mentor": "other-canary",
}
NAME = {"full_name": "Canary Name", "given_name": "Canary", "family_name": "Name"}


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (PersonalData.NONE, {}),
        (PersonalData.NAME, NAME),
        (PersonalData.NAME_EMAIL, {**NAME, "email": "canary@lms.example"}),
    ],
)
def test_what_is_kept_of_a_person_is_what_the_policy_says(policy, kept):
    sent = message(**SENT, **PERSONAL, oauth_nonce="n-canary")

    found = sent.without_personal_data(policy)

    assert found == replace(message(**SENT), person=Person(user_id="u1", **kept))
    for text in kept.values():
        assert text in repr(found.to_json())
    assert repr(found.to_json()).lower().count("canary") == len(
        [text for text in kept.values() if "canary" in text.lower()]
    )


SENT = {
    **LAUNCH,
    "user_id": "u1",
    "roles": "Learner,urn:lti:instrole:ims/lis/Student,TeachingAssistant/Grader,Wizard",
    "context_id": "c1",
    "context_title": "Algebra",
    "context_label": "ALG-1",
    "context_type": "CourseSection, urn:lti:context-type:ims/lis/Group,",
    "lis_course_offering_sourcedid": "offering-1",
    "lis_course_section_sourcedid": "section-1",
    "resource_link_title": "Equations",
    "resource_link_description": "Solve them",
    "tool_consumer_instance_guid": "guid-1",
    "tool_consumer_instance_name": "School",
    "tool_consumer_instance_url": "https://lms.example",
    "tool_consumer_instance_contact_email": "admin@lms.example",
    "tool_consumer_info_product_family_code": "canvas",
    "tool_consumer_info_version": "cloud",
    "launch_presentation_locale": "de-AT",
    "launch_presentation_document_target": "iframe",
    "launch_presentation_width": "800",
    "launch_presentation_height": "0",
    "launch_presentation_return_url": "https://lms.example/back",
    "custom_page": "3",
    "custom_empty": "",
    "ext_lms": "moodle-2",
    "ext_outcome_data_values_accepted": "text, url,pdf",
    "lis_outcome_service_url": "https://lms.example/grades",
    "lis_result_sourcedid": "s1",
}


def test_every_noun_of_a_launch():
    said = message(**SENT, **PERSONAL)

    assert said == LaunchMessage(
        person=Person(user_id="u1", email="canary@lms.example", sis_id="sis-canary", **NAME),
        roles=frozenset(
            {
                Role.LEARNER,
                Role(RoleNamespace.INSTITUTION, "Student"),
                Role(RoleNamespace.CONTEXT, "TeachingAssistant", "Grader"),
                Role(RoleNamespace.UNKNOWN, "Wizard"),
            }
        ),
        context=Context(
            id="c1",
            title="Algebra",
            label="ALG-1",
            types=("CourseSection", "urn:lti:context-type:ims/lis/Group"),
            offering_sis_id="offering-1",
            section_sis_id="section-1",
        ),
        resource_link=ResourceLink(id="r1", title="Equations", description="Solve them"),
        installation=Installation(
            guid="guid-1",
            name="School",
            product="canvas",
            version="cloud",
            url="https://lms.example",
            contact_email="admin@lms.example",
        ),
        presentation=Presentation(
            locale="de-AT",
            return_url="https://lms.example/back",
            document_target="iframe",
            width=800,
            height=0,
        ),
        custom={"page": "3", "empty": "", "canvas_user_login_id": "login-canary"},
        grade_service=GradeService(
            service="basic_outcomes",
            url="https://lms.example/grades",
            remote_id="s1",
            accepts=("url", "text"),
        ),
        extensions={"lms": "moodle-2", "outcome_data_values_accepted": "text, url,pdf"},
    )
    assert said.identity == {**NAME, "email": "canary@lms.example"}


@pytest.mark.parametrize(
    "fields", [SENT, {**SENT, **PERSONAL}, {}, {"launch_presentation_width": "1e9"}]
)
def test_a_message_comes_out_of_its_json_as_it_went_in(fields):
    said = message(**fields)
    stored = json.loads(json.dumps(said.to_json()))

    assert stored["version"] == 1
    assert LaunchMessage.from_json(stored) == said
    assert "" not in stored.values()


def test_of_nothing_that_was_stored_a_blank_message_is_made():
    assert LaunchMessage.from_json({}) == LaunchMessage()


@pytest.mark.parametrize("url", ["", "javascript:alert(1)", "ftp://lms.example/", "/grades"])
def test_grades_go_only_to_an_http_url(url):
    assert message(**{**SENT, "lis_outcome_service_url": url}).grade_service is None
    assert message(**{**SENT, "lis_result_sourcedid": ""}).grade_service is None


def test_nothing_of_a_message_is_in_a_repr(rf: RequestFactory):
    said = message(**PERSONAL)
    request = rf.post("/", "user_id=canary", content_type="application/x-www-form-urlencoded")
    form = read_launch_form(request, read_form(request))
    evidence = Evidence(request, form)
    refusal = LaunchRefused().with_details(message=said, evidence=evidence)

    for thing in (said, said.person, form, evidence, refusal):
        assert "anary" not in f"{thing!r} {thing!s}"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_of_the_testing_module_is_a_learner(profile):
    launched = parse(PROFILES[profile].items())

    assert launched.is_learner
    assert not launched.is_instructor

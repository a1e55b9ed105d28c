"""What LMSs send, by make: the parameters of one learner's launch of a graded activity."""

from __future__ import annotations

from types import MappingProxyType

_LAUNCH = {"lti_message_type": "basic-lti-launch-request", "lti_version": "LTI-1p0"}
_PERSON = {
    "lis_person_name_given": "Robin",
    "lis_person_name_family": "Doe",
    "lis_person_name_full": "Robin Doe",
    "lis_person_contact_email_primary": "robin.doe@lms.example",
}

CANVAS = {
    **_LAUNCH,
    **_PERSON,
    "context_id": "9f1c2a5d7b3e48f60a1b2c3d4e5f60718293a4b5",
    "context_label": "ALG-1",
    "context_title": "Algebra",
    "custom_canvas_api_domain": "lms.example",
    "custom_canvas_course_id": "101",
    "custom_canvas_enrollment_state": "active",
    "custom_canvas_module_id": "$Canvas.module.id",
    "custom_canvas_user_login_id": "robin.doe@lms.example",
    "ext_outcome_data_values_accepted": "url,text",
    "ext_roles": "urn:lti:instrole:ims/lis/Student,urn:lti:role:ims/lis/Learner",
    "launch_presentation_document_target": "iframe",
    "launch_presentation_locale": "en",
    "launch_presentation_return_url": "https://lms.example/courses/101/assignments",
    "lis_outcome_service_url": "https://lms.example/api/lti/v1/tools/7/grade_passback",
    "lis_result_sourcedid": "7-101-55-12-0f1e2d3c4b5a69788796a5b4c3d2e1f001122334",
    "oauth_callback": "about:blank",
    "resource_link_id": "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
    "resource_link_title": "Linear equations",
    "roles": "Learner",
    "tool_consumer_info_product_family_code": "canvas",
    "tool_consumer_info_version": "cloud",
    "tool_consumer_instance_guid": "Aa1Bb2Cc3Dd4Ee5Ff6Gg7Hh8:canvas-lms",
    "tool_consumer_instance_name": "Example School",
    "user_id": "86157096483e6b3a50bfedc6bac902c0b20a824f",
}

MOODLE = {
    **_LAUNCH,
    **_PERSON,
    "context_id": "2",
    "context_label": "ALG1",
    "context_title": "Algebra & Géométrie",
    "context_type": "CourseSection",
    "ext_lms": "moodle-2",
    "ext_user_username": "robin",
    "launch_presentation_document_target": "iframe",
    "launch_presentation_locale": "en",
    "launch_presentation_return_url": (
        "https://lms.example/mod/lti/return.php?course=2&launch_container=3&instanceid=1"
    ),
    "lis_outcome_service_url": "https://lms.example/mod/lti/service.php",
    "lis_person_sourcedid": "",
    "lis_result_sourcedid": (
        '{"data":{"instanceid":"1","userid":"4","typeid":"1","launchid":318470388},'
        '"hash":"5f1d9c7e3a2b4c6d8e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"}'
    ),
    "oauth_callback": "about:blank",
    "resource_link_description": "First paragraph\r\n\r\nSecond paragraph",
    "resource_link_id": "1",
    "resource_link_title": "Linear equations",
    "roles": "Learner",
    "tool_consumer_info_product_family_code": "moodle",
    "tool_consumer_info_version": "2023100900",
    "tool_consumer_instance_guid": "lms.example",
    "tool_consumer_instance_name": "campus",
    "user_id": "4",
}

BLACKBOARD = {
    **_LAUNCH,
    **_PERSON,
    "context_id": "5d0c9b8a7f6e4d3c2b1a0f9e8d7c6b5a",
    "context_label": "ALG1",
    "context_title": "Algebra",
    "ext_lms": "bb-3900.0.0",
    "launch_presentation_document_target": "window",
    "launch_presentation_locale": "en-US",
    "launch_presentation_return_url": (
        "https://lms.example/webapps/blackboard/execute/blti/launchReturn?course_id=_7_1"
    ),
    "lis_outcome_service_url": "https://lms.example/webapps/gradebook/lti11grade",
    "lis_person_name_full": " Robin Doe",
    "lis_result_sourcedid": "bbgc46gi65",
    "oauth_callback": "about:blank",
    "resource_link_id": "_1303_1",
    "resource_link_title": "Linear equations",
    "roles": "urn:lti:role:ims/lis/Learner",
    "tool_consumer_info_product_family_code": "Blackboard Learn",
    "tool_consumer_info_version": "3900.0.0",
    "tool_consumer_instance_guid": "375fd6b5351f43a69d06efa6952583f5",
    "tool_consumer_instance_name": "School",
    "user_id": "f94cd1b709d141f1955c610e34135d47",
}

BRIGHTSPACE = {
    **_LAUNCH,
    **_PERSON,
    "context_id": "744563",
    "context_label": "ALG1",
    "context_title": "Algebra (autumn)",
    "context_type": "",
    "ext_d2l_username": "robin",
    "launch_presentation_locale": "EN-US__",
    "lis_outcome_service_url": "https://lms.example/d2l/le/lti/outcome",
    "lis_result_sourcedid": "0b7f3c1e-6a5d-4e2f-9c8b-1a2b3c4d5e6f",
    "oauth_callback": "about:blank",
    "resource_link_id": "1820151128",
    "resource_link_title": "Linear equations",
    "roles": "urn:lti:instrole:ims/lis/Student,Student,urn:lti:instrole:ims/lis/Learner,Learner",
    "tool_consumer_info_product_family_code": "desire2learn",
    "tool_consumer_info_version": "20.24.1",
    "tool_consumer_instance_guid": "",
    "user_id": "School_11697",
}

SAKAI = {
    **_LAUNCH,
    "context_id": "mercury",
    "context_label": "Algebra",
    "context_title": "Algebra",
    "ext_basiclti_submit": "Press to continue to external tool.",
    "ext_lms": "sakai-23",
    "ext_sakai_server": "https://lms.example",
    "launch_presentation_locale": "en_US",
    "launch_presentation_return_url": "https://lms.example/imsblis/service/return-url/site/mercury",
    "lis_outcome_service_url": "https://lms.example/imsblis/service/",
    "lis_person_name_family": "Doe",
    "lis_person_name_full": "Robin Doe",
    "lis_person_name_given": "Robin",
    "lis_person_sourcedid": "robin",
    "lis_result_sourcedid": "f6d4d47e24848911:::robin:::content:3",
    "oauth_callback": "about:blank",
    "resource_link_id": "content:3",
    "resource_link_title": "Linear equations",
    "roles": "Learner",
    "tool_consumer_info_product_family_code": "sakai",
    "tool_consumer_info_version": "23",
    "user_id": "3d1f5a7c-robin",
}

OPEN_EDX = {
    **_LAUNCH,
    "context_id": "course-v1:edX+Algebra+2026",
    "context_label": "edX",
    "context_title": "Algebra",
    "custom_component_display_name": "Linear equations",
    "launch_presentation_locale": "en",
    "launch_presentation_return_url": "",
    "lis_outcome_service_url": (
        "https://lms.example/courses/course-v1:edX+Algebra+2026/xblock/"
        "block-v1:edX+Algebra+2026+type@lti_consumer+block@0a1b/handler_noauth/"
        "outcome_service_handler"
    ),
    "lis_result_sourcedid": (
        "course-v1%3AedX%2BAlgebra%2B2026:lms.example-0a1b:5b88ff3588ed94e841505ff0493be4f5"
    ),
    "oauth_callback": "about:blank",
    "resource_link_id": "lms.example-0a1b2c3d4e5f",
    "roles": "Student,Learner",
    "user_id": "5b88ff3588ed94e841505ff0493be4f5",
}

#: Parameters by product, without OAuth's.
PROFILES = MappingProxyType(
    {
        "canvas": CANVAS,
        "moodle": MOODLE,
        "blackboard": BLACKBOARD,
        "brightspace": BRIGHTSPACE,
        "sakai": SAKAI,
        "open_edx": OPEN_EDX,
    }
)

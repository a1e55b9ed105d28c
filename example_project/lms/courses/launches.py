"""The form that opens a tool: an LTI 1.1 launch, signed as OAuth 1.0 wants it."""

from urllib.parse import parse_qsl, urlencode

from oauthlib.oauth1 import SIGNATURE_TYPE_BODY, Client

from courses.models import Person
from courses.outcomes import sourcedid

FORM = "application/x-www-form-urlencoded"


def launch_fields(activity, person, return_url, outcome_url):
    fields = {
        "lti_message_type": "basic-lti-launch-request",
        "lti_version": "LTI-1p0",
        "resource_link_id": f"activity-{activity.pk}",
        "resource_link_title": activity.title,
        "resource_link_description": activity.description,
        "context_id": f"course-{activity.course.pk}",
        "context_type": "CourseSection",
        "context_label": activity.course.label,
        "context_title": activity.course.title,
        "user_id": str(person.pk),
        "roles": person.role,
        "launch_presentation_locale": person.locale,
        "launch_presentation_document_target": activity.opens,
        "launch_presentation_return_url": return_url,
        "tool_consumer_info_product_family_code": "demo-lms",
        "tool_consumer_info_version": "1.0",
        "tool_consumer_instance_name": "Harbour Campus",
        "oauth_callback": "about:blank",
    }
    fields |= person_fields(activity.tool, person) | installation_fields(activity.tool)
    return fields | grade_fields(activity, person, outcome_url)


def grade_fields(activity, person, outcome_url):
    if not activity.is_graded:
        return {}
    fields = {
        "lis_outcome_service_url": outcome_url,
        "ext_outcome_data_values_accepted": "url",
    }
    if person.role == Person.Role.LEARNER:
        fields["lis_result_sourcedid"] = sourcedid(activity, person)
    return fields


def person_fields(tool, person):
    fields = {}
    if tool.send_name:
        fields["lis_person_name_given"] = person.given_name
        fields["lis_person_name_family"] = person.family_name
        fields["lis_person_name_full"] = str(person)
    if tool.send_email:
        fields["lis_person_contact_email_primary"] = person.email
    return fields


def installation_fields(tool):
    if not tool.instance_guid:
        return {}
    return {"tool_consumer_instance_guid": tool.instance_guid}


def sign(url, fields, tool):
    """Return the fields of the form, those that OAuth adds included, in the order posted."""
    client = Client(
        tool.consumer_key,
        client_secret=tool.shared_secret,
        signature_method=tool.signature_method,
        signature_type=SIGNATURE_TYPE_BODY,
    )
    _, _, body = client.sign(
        url, http_method="POST", body=urlencode(fields), headers={"Content-Type": FORM}
    )
    return parse_qsl(body, keep_blank_values=True, strict_parsing=True)

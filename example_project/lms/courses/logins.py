"""A launch of LTI 1.3: the tool asks who is at the browser, and a signed token answers.

1. We send the browser to the tool's login URL, with hints that only we can read.
2. The tool sends it back to our authorization endpoint, with the hints and a nonce of its own.
3. Our page posts a token to the tool's redirect URI: who it is, and what is to be opened.
"""

import time

from django.conf import settings
from django.core import signing
from joserfc import jwt
from joserfc.jwk import RSAKey

from courses.models import Activity, Campus, ExternalTool, Person

HINT_SECONDS = 300
TOKEN_SECONDS = 300
PERSON, MESSAGE = "courses.login_hint", "courses.lti_message_hint"

# What a tool has to ask for, and what it is told if it asks for something else.
REQUIRED = (
    ("scope", "openid", "invalid_scope"),
    ("response_type", "id_token", "unsupported_response_type"),
    ("response_mode", "form_post", "invalid_request"),
    ("prompt", "none", "invalid_request"),
)
CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"
ROLE = "http://purl.imsglobal.org/vocab/lis/v2/membership#"
COURSE_SECTION = "http://purl.imsglobal.org/vocab/lis/v2/course#CourseSection"


class UnknownTool(Exception):
    """There is nobody to answer: the reason is for whoever is at the browser."""


class Refused(Exception):
    """The tool is told why, with an error code of OpenID Connect."""

    def __init__(self, error, description):
        self.error, self.description = error, description


def login_fields(activity, person, is_shown=False):
    """Return what step 1 tells the tool. If it is shown, step 3 waits for a click."""
    return {
        "iss": settings.ISSUER,
        "target_link_uri": activity.launch_url,
        "login_hint": signing.dumps(person.pk, salt=PERSON),
        "lti_message_hint": signing.dumps([activity.pk, is_shown], salt=MESSAGE),
        "client_id": activity.tool.client_id,
        "lti_deployment_id": activity.tool.deployment_id,
    }


def find_tool(asked):
    """Find who asks in step 2. Tokens go to the redirect URI that we have on file, or nowhere."""
    tools = ExternalTool.objects.filter(version=ExternalTool.Version.LTI_1_3)
    tool = tools.filter(client_id=asked.get("client_id", "")).first()
    if tool is None:
        raise UnknownTool("No tool has this client id.")
    if asked.get("redirect_uri") != tool.redirect_uri:
        raise UnknownTool(f"{tool} is registered with another redirect URI.")
    return tool


def check(asked, tool, signed_in):
    """Return person, activity and whether step 3 is shown, or refuse to say who is signed in."""
    for name, value, error in REQUIRED:
        if asked.get(name) != value:
            raise Refused(error, f"{name} must be {value}.")
    if not asked.get("nonce"):
        raise Refused("invalid_request", "nonce is missing.")
    person = Person.objects.filter(pk=read_hint(asked, "login_hint", PERSON)).first()
    if person is None or person.pk != signed_in:
        raise Refused("login_required", "Somebody else is signed in to the LMS, or nobody.")
    pk, is_shown = read_hint(asked, "lti_message_hint", MESSAGE)
    activity = Activity.objects.select_related("course", "tool").filter(pk=pk, tool=tool).first()
    if activity is None:
        raise Refused("invalid_request", "The activity is not there any more.")
    return person, activity, is_shown


def read_hint(asked, name, salt):
    try:
        return signing.loads(asked.get(name, ""), salt=salt, max_age=HINT_SECONDS)
    except signing.SignatureExpired:
        raise Refused("invalid_request", f"{name} has expired.") from None
    except signing.BadSignature:
        raise Refused("invalid_request", f"{name} was not made here.") from None


def make_token(activity, person, nonce, return_url):
    """Return header and claims of step 3, and the token that has both and our signature."""
    key = RSAKey.import_key(Campus.objects.get().key)
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "kid": key.kid}
    claims = {
        "iss": settings.ISSUER,
        "aud": activity.tool.client_id,
        "sub": str(person.pk),
        "iat": now,
        "exp": now + TOKEN_SECONDS,
        "nonce": nonce,
    }
    claims |= person_claims(activity.tool, person) | message_claims(activity, person, return_url)
    return header, claims, jwt.encode(header, claims, key)


def person_claims(tool, person):
    claims = {}
    if tool.send_name:
        claims["name"] = str(person)
        claims["given_name"] = person.given_name
        claims["family_name"] = person.family_name
    if tool.send_email:
        claims["email"] = person.email
    return claims


def message_claims(activity, person, return_url):
    claims = {
        "message_type": "LtiResourceLinkRequest",
        "version": "1.3.0",
        "deployment_id": activity.tool.deployment_id,
        "target_link_uri": activity.launch_url,
        "roles": [ROLE + person.role],
        "resource_link": {
            "id": f"activity-{activity.pk}",
            "title": activity.title,
            "description": activity.description,
        },
        "context": {
            "id": f"course-{activity.course.pk}",
            "type": [COURSE_SECTION],
            "label": activity.course.label,
            "title": activity.course.title,
        },
        "launch_presentation": {
            "locale": person.locale,
            "document_target": activity.opens,
            "return_url": return_url,
        },
    }
    if activity.tool.instance_guid:
        claims["tool_platform"] = {
            "guid": activity.tool.instance_guid,
            "name": "Harbour Campus",
            "product_family_code": "demo-lms",
            "version": "1.0",
        }
    return {CLAIM + name: value for name, value in claims.items()}


def public_key():
    """Return the half of the key that the key set URL publishes."""
    return RSAKey.import_key(Campus.objects.get().key).as_dict(private=False)

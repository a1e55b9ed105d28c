import json
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import time_machine

from lti_provider.models import LtiConsumer, LtiLaunch
from tests import rfc5849

PAYLOADS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "data" / "payloads").glob("*.json"))
}
LIVE = [name for name in PAYLOADS if name.startswith("live_")]
SHAPES = [name for name in PAYLOADS if name not in LIVE]
REFUSED = {
    "d2l_10_3_instructor_empty_resource_link": "missing_resource_link",
    "live_moodle_4_3_content_item_selection": "unsupported_message_type",
    "moodle_3_11_content_item_selection": "unsupported_message_type",
}
#: Learner, Instructor: what the person is in the course, whatever she is elsewhere.
ROLES = {
    "blackboard_9_1_instructor": (False, True),
    "canvas_2015_assignment_learner": (True, False),
    "canvas_2018_assignment_instructor": (False, True),
    "canvas_2018_course_nav_admin_instructor": (False, True),
    "canvas_2025_assignment_admin": (False, False),
    "canvas_2025_assignment_instructor": (False, True),
    "canvas_2025_assignment_learner": (True, False),
    "d2l_10_1_admin": (False, True),
    "d2l_10_8_faculty": (False, True),
    "live_moodle_4_3_instructor_url_with_query": (False, True),
    "live_moodle_4_3_learner_graded": (True, False),
    "live_moodle_4_3_learner_private": (True, False),
    "live_openedx_learner": (True, False),
    "moodle_2_6_admin": (False, True),
    "openedx_2018_instructor": (False, True),
    "sakai_10_admin": (False, True),
    "sakai_2_9_instructor": (False, True),
}


@pytest.fixture
def site(db, settings):
    settings.ROOT_URLCONF = "tests.urls_without_slash"
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"


@pytest.fixture
def post(client, site):
    """Post a payload: the captured ones as they were, the others signed afresh."""

    def post_payload(name, **changes):
        payload = PAYLOADS[name]
        url = payload.get("url", "http://127.0.0.1:9000/lti/launch")
        fields = [(key, changes.get(key, value)) for key, value in payload["fields"]]
        consumer = LtiConsumer.objects.create(
            consumer_name=payload["lms"],
            consumer_key=payload.get("consumer_key", "k"),
            consumer_secret=payload.get("shared_secret", "s"),
        )
        if name in SHAPES:
            fields = rfc5849.sign(
                url, fields, key=consumer.consumer_key, secret=consumer.consumer_secret
            )
        parts = urlsplit(url)
        return client.generic(
            "POST",
            parts.path + (f"?{parts.query}" if parts.query else ""),
            urlencode(fields),
            "application/x-www-form-urlencoded",
            headers={"Host": parts.netloc, "Sec-Fetch-Dest": "document"},
        )

    return post_payload


@pytest.fixture
def follow(client):
    def follow_redirects(response):
        while response.status_code == 303:
            response = client.get(
                response["Location"],
                headers={"Host": "127.0.0.1:9000", "Sec-Fetch-Dest": "document"},
            )
        return response

    return follow_redirects


@pytest.fixture
def at_its_time():
    def travel(name):
        sent = dict(PAYLOADS[name]["fields"]).get("oauth_timestamp")
        return time_machine.travel(int(sent) if sent else 1_795_000_000, tick=False)

    return travel


def test_course_staff_of_open_edx_are_administrators_only(post, follow):
    assert follow(post("openedx_2018_instructor", roles="Administrator")).status_code == 200
    launch = LtiLaunch.objects.get()
    assert launch.message.is_course_staff
    assert not launch.message.is_instructor


@pytest.mark.parametrize("name", [name for name in PAYLOADS if name not in REFUSED])
def test_every_payload_launches(post, follow, at_its_time, name):
    sent = dict(PAYLOADS[name]["fields"])

    with at_its_time(name):
        response = follow(post(name))

    assert response.content.startswith(b"content/ for lti-")
    launch = LtiLaunch.objects.with_all().get()
    assert (launch.message.is_learner, launch.message.is_instructor) == ROLES[name]
    assert launch.message.is_course_staff == launch.message.is_instructor
    assert launch.lti_user.lti_user_id == sent["user_id"]
    assert launch.resource_link.resource_link_id == sent["resource_link_id"]
    assert launch.resource_link.title == sent.get("resource_link_title", "")
    assert launch.context.context_id == sent["context_id"]
    assert launch.context.title == sent.get("context_title", "")
    assert launch.lti_consumer.instance_guid == sent.get("tool_consumer_instance_guid", "")
    assert launch.message.custom == {
        name.removeprefix("custom_"): value
        for name, value in sent.items()
        if name.startswith("custom_")
        and not value.startswith("$")
        and name != "custom_canvas_user_login_id"
    }


def test_an_empty_resource_link_is_refused_on_our_own_page(post, at_its_time):
    name = "d2l_10_3_instructor_empty_resource_link"

    with at_its_time(name):
        response = post(name)

    assert response.status_code == 400
    assert b"missing_resource_link" in response.content
    refused = LtiLaunch.objects.get()
    assert refused.refusal_code == "missing_resource_link"
    assert refused.refusal_hint.startswith("The LMS sent resource_link_id, but empty")


@pytest.mark.parametrize("name", LIVE)
def test_a_captured_launch_is_worth_nothing_once_it_is_old(post, name):
    response = post(name)

    assert response.status_code == 401
    assert b"stale_timestamp" in response.content
    assert not LtiLaunch.objects.accepted().exists()


@pytest.mark.parametrize("name", LIVE)
def test_a_captured_launch_with_one_field_changed_is_refused(client, post, at_its_time, name):
    payload = PAYLOADS[name]
    with at_its_time(name):
        post(name)
        parts = urlsplit(payload["url"])
        for index, (field, value) in enumerate(payload["fields"]):
            changed = list(map(tuple, payload["fields"]))
            changed[index] = (field, f"{value} ")
            response = client.generic(
                "POST",
                f"{parts.path}?{parts.query}",
                urlencode(changed),
                "application/x-www-form-urlencoded",
                headers={"Host": parts.netloc},
            )
            assert response.status_code in (400, 401), field
    assert LtiLaunch.objects.accepted().count() <= 1


def test_a_query_of_the_launch_url_reaches_the_page(post, at_its_time):
    name = "live_moodle_4_3_instructor_url_with_query"

    with at_its_time(name):
        post(name)

    target = urlsplit(LtiLaunch.objects.get().target)
    assert target.path == "/content/"
    assert parse_qsl(target.query, keep_blank_values=True) == parse_qsl(
        urlsplit(PAYLOADS[name]["url"]).query, keep_blank_values=True
    )

"""OAuth signs the parameters of URL and form as one set: whoever launches can move them about."""

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lti_provider.models import LtiLaunch
from lti_provider.testing import PROFILES, FakeLms
from tests import rfc5849

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
PATH = "/lti/launch/content/quiz/"
QUERY = [("next", "/a"), ("tab", "1"), ("tab", "2"), ("custom_level", "3")]
KNOWN = {
    "custom_course": "algebra",
    "ext_lms": "make-1",
    "ext_outcome_data_values_accepted": "text",
    # To LTI a name in another case is another name; a page may be less exact.
    "Custom_Mode": "exam",
    "CUSTOM_COURSE": "geometry",
    "Ext_Group": "b",
    "Roles": "Instructor",
    "User_Id": "somebody",
    "LTI_Launch": "1",
    "OAuth_Callback": "about:blank",
}
VENDORS = {"basiclti_submit": "Launch", "mode": "preview"}
LTI_NAMES = (
    "custom_",
    "ext_",
    "oauth_",
    "lti_",
    "lis_",
    "context_",
    "resource_link_",
    "tool_consumer_",
    "launch_presentation_",
    "content_item_",
    "user_",
    "role",
)
REFUSED_IN_THE_QUERY = (
    "user_id",
    "roles",
    "context_id",
    "lti_version",
    "resource_link_id",
    "lis_person_name_full",
    "tool_consumer_instance_guid",
    "launch_presentation_locale",
    "oauth_nonce",
    "oauth_consumer_key",
    "oauth_signature",
)


@pytest.fixture
def lms() -> FakeLms:
    return FakeLms.create("canvas", personal_data="name_email")


def signed_by(lms: FakeLms) -> list[tuple[str, str]]:
    return lms.sign(f"/content/quiz/?{urlencode(QUERY)}", **KNOWN, **VENDORS)


def open_as(pairs, query) -> str | None:
    """Post a form to the launch URL with a query; the answer is the page, None if refused."""
    client = Client()
    response = client.generic("POST", f"{PATH}?{urlencode(query)}", urlencode(pairs), FORM)
    if response.status_code != 303 or "/enter/" not in response["Location"]:
        return None
    return str(client.get(response["Location"])["Location"])


def passed_on(page: str) -> list[tuple[str, str]]:
    pairs = parse_qsl(urlsplit(page).query, keep_blank_values=True)
    assert pairs[-1] == ("lti_launch", str(LtiLaunch.objects.latest("pk").pk))
    return pairs[:-1]


def assert_harmless(page: str | None) -> None:
    """Refused, or the launch says what it said, of the same page, and no LTI name went on."""
    if page is None:
        return
    launch = LtiLaunch.objects.latest("pk")
    assert urlsplit(page).path == "/content/quiz/"
    assert (launch.message.custom["course"], launch.message.custom["level"]) == ("algebra", "3")
    assert launch.message.person.user_id == PROFILES["canvas"]["user_id"]
    assert launch.message.is_learner
    assert not launch.message.is_instructor
    assert launch.message.grade_service.accepts == ("text",)
    assert not [name for name, _value in passed_on(page) if name.lower().startswith(LTI_NAMES)]


def test_untouched_it_opens_with_its_own_query(lms):
    page = open_as(signed_by(lms), QUERY)

    assert_harmless(page)
    assert passed_on(page) == [("next", "/a"), ("tab", "1"), ("tab", "2")]


@pytest.mark.parametrize("copied", [False, True], ids=["moved", "copied"])
@pytest.mark.parametrize("name", [*KNOWN, *REFUSED_IN_THE_QUERY])
def test_no_name_that_lti_knows_goes_on_to_the_page(lms, name, copied):
    for turn in range(3):
        pairs = signed_by(lms)
        pair = next(pair for pair in pairs if pair[0] == name)
        rest = pairs if copied else [other for other in pairs if other != pair]
        page = open_as(rest, ([pair, *QUERY], [*QUERY, pair], [*QUERY, pair, pair])[turn])
        # Twice in the query, it was signed once only.
        if name in REFUSED_IN_THE_QUERY or (turn == 2 and not copied):
            assert page is None
        else:
            assert_harmless(page)
            assert page is not None
            assert passed_on(page) == [("next", "/a"), ("tab", "1"), ("tab", "2")]


@pytest.mark.parametrize(
    ("name", "value"),
    [("oauth_callback", "about:blank"), ("oauth_version", "1.0"), ("oauth_token", ""),
     ("oauth_nonce", "once"), ("oauth_of_nobody", "1")],
)  # fmt: skip
def test_what_oauth_knows_is_refused_in_the_query_though_the_lms_signed_it(lms, name, value):
    query = urlencode([*QUERY, (name, value)])
    signed = rfc5849.sign(
        f"http://testserver{PATH}?{query}",
        lms.fields.items(),
        key=lms.consumer.consumer_key,
        secret=lms.consumer.consumer_secret,
    )

    response = Client().generic("POST", f"{PATH}?{query}", urlencode(signed), FORM)

    assert response.status_code == 400
    assert b"malformed_request" in response.content


def test_what_lti_does_not_know_is_not_tied_to_its_place(lms):
    """Documented: what has to hold belongs into the path or a custom parameter."""
    pairs = signed_by(lms)
    vendors = next(pair for pair in pairs if pair[0] == "mode")
    moved = [pair for pair in QUERY if pair != ("next", "/a")]

    assert "next" not in dict(passed_on(open_as([*pairs, ("next", "/a")], moved)))
    without = [pair for pair in signed_by(lms) if pair != vendors]
    assert passed_on(open_as(without, [*QUERY, vendors]))[-1] == vendors
    swapped = passed_on(open_as(signed_by(lms), [QUERY[0], QUERY[2], QUERY[1], QUERY[3]]))
    assert swapped[1:] == [("tab", "2"), ("tab", "1")]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_moved_about_the_launch_says_what_it_said(lms, data):
    pairs = signed_by(lms)
    touched = data.draw(st.lists(st.sampled_from([*pairs, *QUERY]), max_size=4, unique=True))
    query = data.draw(st.permutations(QUERY))
    for pair in touched:
        here, there = (query, pairs) if pair in QUERY else (pairs, query)
        there.insert(data.draw(st.integers(0, len(there))), pair)
        if data.draw(st.booleans()):
            here.remove(pair)

    assert_harmless(open_as(pairs, query))

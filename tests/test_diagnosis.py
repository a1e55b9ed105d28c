from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import PROFILES
from tests import rfc5849

FORM = "application/x-www-form-urlencoded"
SECRET = "s3cret-of-the-consumer"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def consumer(settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    settings.ALLOWED_HOSTS = ["testserver", ".tool.example", "www.tool.example"]
    return LtiConsumer.objects.create(
        consumer_name="LMS", consumer_key="known", consumer_secret=SECRET
    )


@pytest.fixture
def hint(client):
    """Post a launch that the LMS signed for `signed_for` with `secret`; what the log advises."""

    def hint_for(
        signed_for="http://testserver/lti/launch/",
        path="/lti/launch/",
        secret=SECRET,
        query=None,
        changes=(),
        headers=None,
        **fields,
    ):
        sent = {**PROFILES["canvas"], **fields}
        pairs = rfc5849.sign(signed_for, sent.items(), key="known", secret=secret, query=query)
        posted = {**dict(pairs), **dict(changes)}
        response = client.post(path, urlencode(posted), content_type=FORM, headers=headers)
        assert response.status_code == 401
        return LtiLaunch.objects.refused().order_by("-pk").first().refusal_hint

    return hint_for


def test_https_that_a_proxy_ended(hint):
    advice = hint("https://testserver/lti/launch/")

    assert "posted to https://testserver/lti/launch/" in advice
    assert "sees http://testserver/lti/launch/" in advice
    assert "SECURE_PROXY_SSL_HEADER" in advice


def test_a_host_that_a_proxy_replaced(hint):
    advice = hint(
        "http://tool.school.example/lti/launch/",
        headers={"X-Forwarded-Host": "tool.school.example"},
    )

    assert "posted to http://tool.school.example/lti/launch/" in advice
    assert "USE_X_FORWARDED_HOST" in advice


@pytest.mark.parametrize("forwarded", ["a.example, tool.school.example", "tool.school.example , b"])
def test_one_of_several_forwarded_hosts(hint, forwarded):
    advice = hint(
        "https://tool.school.example/lti/launch/", headers={"X-Forwarded-Host": forwarded}
    )

    assert "posted to https://tool.school.example/lti/launch/" in advice


def test_a_host_that_the_site_allows(hint):
    assert "posted to http://www.tool.example/" in hint("http://www.tool.example/lti/launch/")


def test_a_port_that_the_lms_does_not_know(hint):
    advice = hint("http://testserver/lti/launch/", headers={"Host": "testserver:8000"})

    assert "posted to http://testserver/lti/launch/" in advice
    assert "sees http://testserver:8000/lti/launch/" in advice


def test_a_slash_too_few(hint):
    advice = hint("http://testserver/lti/launch")

    assert "signed http://testserver/lti/launch, but the request came to" in advice


def test_a_slash_too_many(hint):
    advice = hint("http://testserver/lti/launch/content/", path="/lti/launch/content")

    assert "signed http://testserver/lti/launch/content/, but the request came to" in advice


def test_a_path_that_the_lms_signs_decoded(hint):
    path = "/lti/launch/content/%C3%A9t%C3%A9/"

    advice = hint("http://testserver/lti/launch/content/été/", path=path)

    assert "signed http://testserver/lti/launch/content/été/" in advice


def test_a_query_that_the_lms_did_not_sign(hint):
    assert "did not sign the launch URL's query" in hint(path="/lti/launch/?a=1", query=())


def test_a_query_that_the_lms_counted_twice(hint):
    advice = hint(path="/lti/launch/?a=1", query=[("a", "1"), ("a", "1")])

    assert "counted the launch URL's query twice" in advice


@pytest.mark.parametrize("secret", [f" {SECRET}", f"{SECRET} ", f"{SECRET}\n"])
def test_a_blank_that_was_copied_into_the_lms(hint, secret):
    assert "differ only by blanks" in hint(secret=secret)


def test_a_blank_that_was_copied_into_the_site(hint):
    LtiConsumer.objects.update(consumer_secret=f" {SECRET}\t")

    assert "differ only by blanks" in hint(secret=SECRET)


def test_the_secret_of_another_consumer(hint):
    LtiConsumer.objects.create(consumer_name="Physics", consumer_key="b", consumer_secret="other")

    assert "signed with the secret of “Physics”" in hint(secret="other")


def test_no_secret_at_all(hint):
    LtiConsumer.objects.update(consumer_secret="")

    assert "has no secret" in hint(secret="")


def test_another_secret_from_the_start(hint):
    assert "most likely has another secret" in hint(secret="another")


def test_a_body_that_was_changed_after_launches_that_worked(client, hint):
    url = "http://testserver/lti/launch/"
    pairs = rfc5849.sign(url, PROFILES["canvas"].items(), key="known", secret=SECRET)
    assert client.post("/lti/launch/", urlencode(pairs), content_type=FORM).status_code == 303

    advice = hint(changes={"roles": "Instructor"})

    assert "worked before" in advice
    assert "changed on the way" in advice


@pytest.mark.parametrize(
    "host", ["[", "a b", "evil.example:99999", "evil.example/x?y", "\xff", "x," * 999]
)
def test_hosts_that_are_none_are_passed_over(hint, host):
    assert "most likely has another secret" in hint(
        secret="another", headers={"X-Forwarded-Host": host}
    )


def test_the_log_shows_what_was_computed(hint):
    hint(secret="another", context_title="Algèbre & co")

    refused = LtiLaunch.objects.refused().get()
    assert refused.launch_url == "http://testserver/lti/launch/"
    assert refused.clock_difference in (-1, 0, 1)
    assert refused.signed_text.startswith("POST&http%3A%2F%2Ftestserver%2Flti%2Flaunch%2F&")
    assert "context_title%3DAlg%25C3%25A8bre%2520%2526%2520co" in refused.signed_text
    assert "oauth_signature%3D" not in refused.signed_text


PERSONAL = {
    "lis_person_name_full": "Canary Full",
    "lis_person_name_given": "Canary Given",
    "lis_person_name_family": "Canary Family",
    "lis_person_name_middle": "Canary Middle",
    "lis_person_contact_email_primary": "canary@lms.example",
    "lis_person_sourcedid": "canary-sis",
    "user_image": "https://lms.example/canary.png",
    "ext_user_username": "canary",
    "custom_canvas_user_login_id": "canary",
    "mail": "canary@lms.example",
}


@pytest.mark.parametrize("policy", ["none", "name", "name_email"])
def test_personal_data_of_an_unverified_base_string_is_masked(hint, policy):
    LtiConsumer.objects.update(personal_data=policy)

    hint(secret="another", **PERSONAL)

    base_string = LtiLaunch.objects.refused().get().signed_text
    assert "anary" not in base_string
    assert "lis_person_name_full%3D%252A" in base_string
    assert "%26mail%3D%252A" in base_string


def test_the_secret_and_the_right_signature_are_nowhere_in_the_log(hint):
    LtiConsumer.objects.create(consumer_name="B", consumer_key="b", consumer_secret="other-s3cret")
    for secret in ("wrong", f"{SECRET} ", "other-s3cret"):
        hint(secret=secret)

    for row in LtiLaunch.objects.refused().values_list():
        assert "s3cret" not in str(row)


def test_the_base_string_is_bounded(hint):
    hint(secret="another", custom_text="x" * 60_000)

    assert len(LtiLaunch.objects.refused().get().signed_text) == 8000


def test_few_other_consumers_are_tried(hint):
    LtiConsumer.objects.bulk_create(
        LtiConsumer(
            consumer_name=f"{number:03}",
            consumer_key=str(number),
            consumer_key_digest=str(number),
            consumer_secret=f"other-{number}",
        )
        for number in range(50)
    )

    assert "“003”" in hint(secret="other-3")
    with CaptureQueriesContext(connection) as queries:
        assert "most likely" in hint(secret="other-49")
    assert len(queries) < 10


def test_what_would_have_held_is_not_accepted(hint):
    hint("https://testserver/lti/launch/")
    hint(path="/lti/launch/?a=1", query=())
    hint(secret=f"{SECRET} ")

    assert not LtiLaunch.objects.accepted().exists()

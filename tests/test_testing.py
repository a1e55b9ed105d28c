import base64
import hmac
import time
import urllib.error
import urllib.request
from html.parser import HTMLParser
from urllib.parse import parse_qsl, quote, urlencode

import oauthlib.oauth1
import pytest
from django.test import Client

import lti_provider.testing
from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import PROFILES, FakeLms, LmsServer, sign_launch

URL = "http://testserver/lti/launch/content/"
FORM = "application/x-www-form-urlencoded"


def encoded(text: str) -> str:
    return quote(text, safe="~")


def signature_by_hand(url: str, pairs, secret: str, hash_name: str = "sha1") -> str:
    bare, _mark, query = url.partition("?")
    covered = [*pairs, *parse_qsl(query, keep_blank_values=True)]
    covered = [pair for pair in covered if pair[0] != "oauth_signature"]
    ordered = sorted((encoded(name), encoded(value)) for name, value in covered)
    parameters = "&".join(f"{name}={value}" for name, value in ordered)
    text = "&".join(("POST", encoded(bare), encoded(parameters)))
    made = hmac.new(f"{encoded(secret)}&".encode(), text.encode(), hash_name)
    return base64.b64encode(made.digest()).decode()


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class FormReader(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = self.target = ""
        self.pairs: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        if tag == "form":
            self.action, self.target = found["action"], found["target"]
        elif tag == "input":
            self.pairs.append((found["name"], found["value"]))


def test_what_is_offered():
    assert set(lti_provider.testing.__all__) == {
        "PLATFORM_PROFILES",
        "PROFILES",
        "FakeLms",
        "FakePlatform",
        "LmsServer",
        "get_framed_session",
        "sign_launch",
    }


# Signing


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
@pytest.mark.parametrize("url", [URL, f"{URL}?page=2&mode=a%26b&blank=", f"{URL}?é=%20+"])
@pytest.mark.parametrize("secret", ["secret", "s / + % = é &"])
def test_a_signed_launch_is_signed_as_the_rfc_says(method, url, secret):
    fields = {"roles": "Learner", "blank": "", "text": "a\r\nb é&=+~*", "user_id": "😀"}
    pairs = sign_launch(url, fields, key="k&y", secret=secret, method=method)
    expected = signature_by_hand(url, pairs, secret, method.removeprefix("HMAC-").lower())
    assert dict(pairs)["oauth_signature"] == expected
    assert dict(pairs).items() >= fields.items()


def test_a_signed_launch_is_what_another_signer_makes():
    pairs = sign_launch(URL, {"a": "1"}, key="key", secret="secret", timestamp=7, nonce="n")
    signer = oauthlib.oauth1.Client(
        "key",
        client_secret="secret",
        signature_type=oauthlib.oauth1.SIGNATURE_TYPE_BODY,
        timestamp="7",
        nonce="n",
    )
    _url, _headers, body = signer.sign(URL, "POST", urlencode({"a": "1"}), {"Content-Type": FORM})
    assert dict(pairs) == dict(parse_qsl(body))


def test_each_signed_launch_is_new_and_of_now():
    first, second = (dict(sign_launch(URL, {}, key="k", secret="s")) for _time in range(2))
    assert first["oauth_nonce"] != second["oauth_nonce"]
    assert abs(int(first["oauth_timestamp"]) - time.time()) < 60


def test_time_and_nonce_may_be_given():
    signed = dict(sign_launch(URL, {}, key="k", secret="s", timestamp=0, nonce=""))
    assert (signed["oauth_timestamp"], signed["oauth_nonce"]) == ("0", "")


def test_fields_may_be_pairs():
    pairs = sign_launch(URL, [("a", "1"), ("a", "2")], key="k", secret="s")
    assert pairs[:2] == [("a", "1"), ("a", "2")]
    assert dict(pairs)["oauth_signature"] == signature_by_hand(URL, pairs, "s")


# An LMS for the test client


@pytest.mark.django_db
@pytest.mark.parametrize("make", PROFILES)
@pytest.mark.parametrize("framed", [True, False])
def test_an_lms_of_each_make_launches(client, make, framed):
    lms = FakeLms.create(make)
    page = lms.launch(client, "/content/", framed=framed)
    assert page.status_code == 200
    assert page.wsgi_request.path == "/content/"
    lti = page.wsgi_request.lti
    assert lti.consumer == lms.consumer
    assert lti.is_learner
    assert lti.message.grade_service.url.startswith("https://lms.example/")
    assert lti.message.grade_service.remote_id


def test_the_makes_are_those_of_real_lmss_without_their_signatures():
    assert set(PROFILES) == {"canvas", "moodle", "blackboard", "brightspace", "sakai", "open_edx"}
    for fields in PROFILES.values():
        assert all(isinstance(value, str) for value in fields.values())
        assert {name for name in fields if name.startswith("oauth_")} <= {"oauth_callback"}


@pytest.mark.django_db
def test_one_lms_does_not_change_the_profile_for_the_next():
    FakeLms.create("canvas").fields["user_id"] = "changed"
    assert FakeLms.create("canvas").fields["user_id"] != "changed"


@pytest.mark.django_db
def test_an_lms_may_be_that_of_any_consumer(client):
    consumer = LtiConsumer.objects.create(consumer_name="Campus", personal_data="name")
    lms = FakeLms(consumer, {**PROFILES["moodle"], "user_id": "7"})
    assert lms.launch(client, "/content/").wsgi_request.lti.person.user_id == "7"


@pytest.mark.django_db
def test_an_lms_is_canvas_unless_said_otherwise():
    lms = FakeLms.create(consumer_name="Campus", is_active=False)
    assert lms.fields == PROFILES["canvas"]
    assert lms.consumer.consumer_name == "Campus"
    assert not LtiConsumer.objects.get().is_active


@pytest.mark.django_db
def test_a_launch_may_differ_from_the_profile(client):
    lms = FakeLms.create("canvas")
    page = lms.launch(client, "/content/?page=2", roles="Instructor", context_id=None)
    assert page.wsgi_request.lti.is_instructor
    assert page.wsgi_request.lti.context is None
    assert page.wsgi_request.GET["page"] == "2"
    assert lms.fields["roles"] == "Learner"


@pytest.mark.django_db
def test_a_launch_without_a_page_goes_to_the_default_target(client, settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    assert FakeLms.create("moodle").launch(client).wsgi_request.path == "/content/"


@pytest.mark.django_db
def test_a_post_stops_before_the_session(client):
    response = FakeLms.create("canvas").post(client, "/content/")
    assert "/enter/" in response["Location"]
    assert LtiLaunch.objects.get().entered_at is None
    assert "sessionid" not in client.cookies


@pytest.mark.django_db
def test_a_refusal_is_seen_where_it_is_answered(client):
    lms = FakeLms.create("canvas")
    response = lms.launch(client, "/content/", launch_presentation_return_url=None, lti_version="2")
    assert response.status_code == 400
    assert "unsupported_version" in response.content.decode()


@pytest.mark.django_db
def test_an_lms_of_another_host(client):
    lms = FakeLms.create("canvas")
    form = urlencode(lms.sign("/content/", host="https://tool.example"))
    response = client.post(
        "/lti/launch/content/",
        form,
        content_type=FORM,
        headers={"Host": "tool.example"},
        secure=True,
    )
    assert "/enter/" in response["Location"]


# An LMS for a browser


@pytest.fixture
def server():
    with LmsServer() as server:
        yield server


def test_the_server_is_another_site_than_localhost(server):
    assert server.url.startswith("http://127.0.0.1:")
    assert server.return_url == f"{server.url}/return"


def test_the_server_shows_pages(server):
    status, page = fetch(server.add_page("<p>é", title="Course"))
    assert status == 200
    assert "<title>Course</title>" in page
    assert "<p>é" in page
    assert fetch(f"{server.url}/unknown")[0] == 404


@pytest.mark.django_db
def test_the_server_launches(server):
    lms = FakeLms.create("moodle", consumer_key='k"&<y')
    pairs = lms.sign("/content/?a=1&b=2", custom_text="\"'><b>&amp;")
    url = f"{URL}?a=1&b=2"
    _status, page = fetch(server.add_launch(url, pairs, target="tool"))
    form = FormReader(page)
    assert (form.action, form.target) == (url, "tool")
    assert form.pairs == pairs
    response = Client().post(form.action, urlencode(form.pairs), content_type=FORM)
    assert "/enter/" in response["Location"]


def test_the_server_frames(server):
    framed = server.add_page("inside")
    _status, page = fetch(server.add_frame(f"{framed}?a=1&b=2", "sandbox"))
    assert f'src="{framed}?a=1&amp;b=2"' in page
    assert "name=tool" in page
    assert "sandbox>" in page


def test_the_server_notes_who_came_back(server):
    status, page = fetch(f"{server.return_url}?course=2&lti_errormsg=Too%20late")
    assert status == 200
    assert "Back in the course" in page
    fetch(server.return_url)
    assert server.returned == [{"course": "2", "lti_errormsg": "Too late"}, {}]


@pytest.mark.django_db
def test_a_refused_person_comes_back_to_the_server(client, server):
    lms = FakeLms.create("canvas")
    response = lms.post(
        client, "/content/", lti_version="2", launch_presentation_return_url=server.return_url
    )
    fetch(response["Location"])
    (returned,) = server.returned
    assert returned["lti_errormsg"] == "This site does not support this version of LTI."


def test_two_servers_run_at_once_and_end():
    with LmsServer() as one, LmsServer() as two:
        assert one.url != two.url
        assert fetch(one.return_url)[0] == fetch(two.return_url)[0] == 200
    with pytest.raises(urllib.error.URLError):
        fetch(one.return_url)

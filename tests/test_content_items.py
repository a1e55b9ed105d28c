"""A content selection that is refused is answered as LTI asks: by a signed selection of nothing."""

import json
from datetime import timedelta
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import time_machine
from django.test import Client
from django.utils import timezone
from oauthlib.common import Request
from oauthlib.oauth1.rfc5849 import signature

from lti_provider.models import LtiConsumer, LtiLaunch
from lti_provider.testing import FakeLms
from tests import rfc5849
from tests.test_payloads import PAYLOADS

pytestmark = pytest.mark.django_db

FORM = "application/x-www-form-urlencoded"
RETURN = "https://lms.example/mod/lti/contentitem_return.php?course=2&id=1&sesskey=15gDWigwCl"
SELECTIONS = ("live_moodle_4_3_content_item_selection", "moodle_3_11_content_item_selection")
SECRET = "moodle secret & = % +"


class Page(HTMLParser):
    """The one form of a page, as a browser would post it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.forms: list[dict[str, str]] = []
        self.pairs: list[tuple[str, str]] = []
        self.buttons = 0
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        given = dict(attrs)
        if tag == "form":
            self.forms.append(given)
        elif tag == "input":
            # HTML, "constructing the entry list": line ends are sent as CRLF.
            value = "\r\n".join(given["value"].replace("\r\n", "\n").split("\n"))
            self.pairs.append((given["name"], value))
        self.buttons += tag == "button"

    @property
    def fields(self) -> dict[str, str]:
        assert len(dict(self.pairs)) == len(self.pairs)
        return dict(self.pairs)


def holds(page: Page, secret: str) -> bool:
    """What the LMS would say of the signature: oauthlib's server side, and our own in the tests."""
    action, sent = page.forms[0]["action"], page.fields
    query = parse_qsl(urlsplit(action).query, keep_blank_values=True)
    others = [pair for pair in page.pairs if pair[0] != "oauth_signature"]
    text = rfc5849.base_string(action, [*others, *query])
    method = sent["oauth_signature_method"]
    own = rfc5849.signature(text, secret, method) == sent["oauth_signature"]
    request = Request(action, "POST", urlencode(page.pairs), {"Content-Type": FORM})
    request.params = [*others, *query]
    request.signature = sent["oauth_signature"]
    verify = {
        "HMAC-SHA1": signature.verify_hmac_sha1,
        "HMAC-SHA256": signature.verify_hmac_sha256,
    }[method]
    assert own == verify(request, client_secret=secret)
    return own


@pytest.fixture
def lms(settings) -> FakeLms:
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    lms = FakeLms.create("moodle", consumer_key="k&y", consumer_secret=SECRET)
    lms.fields |= {
        "lti_message_type": "ContentItemSelectionRequest",
        "content_item_return_url": RETURN,
        "accept_unsigned": "false",
    }
    del lms.fields["resource_link_id"]
    return lms


def select(lms: FakeLms, *, secret: str | None = None, method: str = "HMAC-SHA1", **changes):
    sent = {**lms.fields, **changes}
    pairs = rfc5849.sign(
        "http://testserver/lti/launch/",
        [(name, value) for name, value in sent.items() if value is not None],
        key=lms.consumer.consumer_key,
        secret=SECRET if secret is None else secret,
        method=method,
    )
    return Client().post("/lti/launch/", urlencode(pairs), content_type=FORM)


def post_as_moodle_did(name: str):
    """To the address, with the key and at the time of the captured one; the other is signed now."""
    payload = PAYLOADS[name]
    fields, url = (
        [*map(tuple, payload["fields"])],
        payload.get("url", "http://testserver/lti/launch"),
    )
    key, secret = payload.get("consumer_key", "k"), payload.get("shared_secret", "s")
    LtiConsumer.objects.create(consumer_name="Campus", consumer_key=key, consumer_secret=secret)
    now = int(dict(fields).get("oauth_timestamp", 1_795_000_000))
    with time_machine.travel(now, tick=False):
        if "oauth_signature" not in dict(fields):
            fields = rfc5849.sign(url, fields, key=key, secret=secret)
        parts = urlsplit(url)
        headers = {"Host": parts.netloc}
        return Client().post(parts.path, urlencode(fields), content_type=FORM, headers=headers)


@pytest.mark.parametrize("name", SELECTIONS)
def test_moodles_own_request_gets_a_signed_empty_selection(settings, name):
    settings.ROOT_URLCONF = "tests.urls_without_slash"
    response = post_as_moodle_did(name)
    page = Page(response.content.decode())
    assert holds(page, PAYLOADS[name].get("shared_secret", "s"))
    assert response.status_code == 200
    sent = page.fields
    assert page.forms[0]["method"] == "post"
    assert page.forms[0]["action"] == dict(PAYLOADS[name]["fields"])["content_item_return_url"]
    assert sent["oauth_consumer_key"] == PAYLOADS[name].get("consumer_key", "k")
    assert sent["lti_message_type"] == "ContentItemSelection"
    assert sent["lti_version"] == "LTI-1p0"
    assert json.loads(sent["content_items"]) == {
        "@context": "http://purl.imsglobal.org/ctx/lti/v1/ContentItem",
        "@graph": [],
    }
    assert sent["lti_errormsg"].startswith("This site has no content to choose from.")
    assert sent["lti_errorlog"] == "unsupported_message_type"
    assert "data" not in sent
    launch = LtiLaunch.objects.get()
    assert launch.refusal_code == "unsupported_message_type"
    assert "Content-Item Message" in launch.refusal_hint


@pytest.mark.parametrize("data", ["", 'opaque & <b>"quoted" é</b>', "two\r\nlines", "a\nb", "{}"])
def test_data_comes_back(lms, data):
    page = Page(select(lms, data=data).content.decode())
    assert page.fields["data"] == "\r\n".join(data.splitlines())
    assert holds(page, SECRET)


def test_the_method_is_that_of_the_request(lms):
    page = Page(select(lms, method="HMAC-SHA256").content.decode())
    assert page.fields["oauth_signature_method"] == "HMAC-SHA256"
    assert holds(page, SECRET)


@pytest.mark.parametrize("used", ["current", "previous"])
def test_it_is_signed_with_the_secret_that_the_lms_used(lms, used):
    lms.consumer.rotate_secret(timezone.now() + timedelta(days=1), "the new one")
    secret, other = {"current": ("the new one", SECRET), "previous": (SECRET, "the new one")}[used]
    page = Page(select(lms, secret=secret).content.decode())
    assert holds(page, secret)
    assert not holds(page, other)


def test_each_answer_has_a_nonce_and_a_time_of_its_own(lms):
    form = rfc5849.sign(
        "http://testserver/lti/launch/",
        lms.fields.items(),
        key="k&y",
        secret=SECRET,
        nonce="once",
    )
    pages = [
        Page(Client().post("/lti/launch/", urlencode(form), content_type=FORM).content.decode())
        for _time in range(2)
    ]
    nonces = {page.fields["oauth_nonce"] for page in pages}
    assert len(nonces) == 2
    assert "once" not in nonces


# From the attacker's side


def unsigned(response) -> bool:
    text = response.content.decode()
    return "oauth_signature" not in text and "<form" not in text and "Location" not in response


@pytest.mark.parametrize(
    "changes",
    [
        {"secret": "wrong"},
        {"secret": "wrong", "method": "HMAC-SHA256"},
        {"secret": ""},
    ],
)
def test_without_the_secret_nothing_is_signed(lms, changes):
    response = select(lms, **changes)
    assert response.status_code == 401
    assert unsigned(response)


def test_a_field_that_was_changed_on_the_way_is_not_answered(lms):
    pairs = rfc5849.sign(
        "http://testserver/lti/launch/", lms.fields.items(), key="k&y", secret=SECRET
    )
    for number, (name, value) in enumerate(pairs):
        if name in ("content_item_return_url", "lti_message_type"):
            changed = [*pairs]
            changed[number] = (name, value.replace("lms.example", "evil.example") + "x")
            body = urlencode(changed)
            assert unsigned(Client().post("/lti/launch/", body, content_type=FORM))
    # A return URL that the signature does not cover is none.
    body = urlencode([*pairs, ("content_item_return_url", "https://evil.example/")])
    assert unsigned(Client().post("/lti/launch/", body, content_type=FORM))
    query = urlencode({"content_item_return_url": "https://evil.example/"})
    body = urlencode(pairs)
    assert unsigned(Client().post(f"/lti/launch/?{query}", body, content_type=FORM))


@pytest.mark.parametrize(
    "url",
    [None, "", "javascript:alert(1)", "//evil.example/", "/lti/launch/", "data:text/html,x",
     "https://lms.example\\@evil.example/", "https://lms.example@evil.example/",
     "https://evil.example/\r\nX-Header: x", "https://evil.example/?" + "a" * 5000],
)  # fmt: skip
def test_nothing_is_posted_to_what_is_no_plain_url(lms, url):
    response = select(lms, content_item_return_url=url)
    assert response.status_code == 400
    assert unsigned(response)
    assert "javascript:" not in response.content.decode()


def test_an_old_request_is_not_answered_and_leads_to_no_error_page(lms):
    pairs = rfc5849.sign(
        "http://testserver/lti/launch/", lms.fields.items(), key="k&y", secret=SECRET
    )
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        response = Client().post("/lti/launch/", urlencode(pairs), content_type=FORM)
    assert response.status_code == 401
    assert unsigned(response)
    assert "contentitem_return" not in response.content.decode()


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
@pytest.mark.parametrize(
    ("code", "consumer"),
    [
        ("consumer_inactive", {"is_active": False}),
        ("weak_signature_method", {"minimum_signature_method": "HMAC-SHA256"}),
    ],
)
def test_what_the_consumer_does_not_admit_is_not_signed(lms, code, consumer, method):
    LtiConsumer.objects.update(**consumer)
    response = select(lms, method=method)
    if (code, method) == ("weak_signature_method", "HMAC-SHA256"):
        assert Page(response.content.decode()).fields["oauth_signature_method"] == method
        return
    assert response.status_code == 403
    assert code in response.content.decode()
    assert unsigned(response)
    # Moodle's page there shows an error to whoever brings nothing.
    assert "contentitem_return" not in response.content.decode()


def test_whatever_else_refuses_it_is_not_signed(lms):
    # A second, different value.
    url = "http://testserver/lti/launch/?custom_chapter=2"
    fields = [*lms.fields.items(), ("custom_chapter", "1")]
    pairs = rfc5849.sign(url, fields, key="k&y", secret=SECRET)
    response = Client().post(url, urlencode(pairs), content_type=FORM)
    assert response.status_code == 400
    assert "invalid_parameter" in response.content.decode()
    assert unsigned(response)


def test_data_of_the_launch_urls_query_does_not_come_back(lms):
    # OAuth does not tie a pair to the form: whoever posts it may move it to the URL.
    pairs = rfc5849.sign(
        "http://testserver/lti/launch/",
        [*lms.fields.items(), ("data", "planted")],
        key="k&y",
        secret=SECRET,
    )
    body = urlencode([pair for pair in pairs if pair[0] != "data"])
    response = Client().post("/lti/launch/?data=planted", body, content_type=FORM)
    page = Page(response.content.decode())
    assert "data" not in page.fields
    assert holds(page, SECRET)


@pytest.mark.parametrize(
    "query",
    [
        "oauth_body_hash=abc",
        "oauth_token=abc",
        "OAuth_Nonce=abc",
        "course=2&%6fauth_callback=about:blank",
        "lti_message_type=basic-lti-launch-request",
        "lti_errormsg=",
        "content_items=%7B%7D",
        "content_item_return_url=x",
        "data=abc",
        "custom_a=b",
        "ext_a=b",
        "user_id=1",
        "resource_link_id=1",
        "lis_result_sourcedid",
    ],
)
@pytest.mark.parametrize("data", [None, "abc"])
def test_a_return_url_with_a_name_of_the_protocol_is_not_signed(lms, query, data):
    url = f"https://lms.example/return.php?{query}"
    response = select(lms, content_item_return_url=url, data=data)
    assert response.status_code == 400
    assert "unsupported_message_type" in response.content.decode()
    assert unsigned(response)
    assert "return.php" not in response.content.decode()


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
def test_the_secret_is_nowhere_in_the_answer(lms, method, caplog):
    lms.consumer.rotate_secret(timezone.now() + timedelta(days=1), "canary-current-secret")
    for secret in (SECRET, "canary-current-secret"):
        response = select(lms, secret=secret, method=method, data="x")
        everything = f"{response.content.decode()} {response.headers} {caplog.text}"
        assert SECRET not in everything
        assert "canary" not in everything


def test_hostile_values_do_not_become_markup(lms):
    hostile = '"><script>alert(1)</script>'
    response = select(lms, data=hostile, tool_consumer_instance_name=hostile)
    assert "<script>alert" not in response.content.decode()
    assert holds(Page(response.content.decode()), SECRET)


# As a page


def test_it_posts_itself_and_has_a_button_where_scripts_do_not_run(lms):
    response = select(lms)
    page = Page(response.content.decode())
    assert page.buttons == 1
    assert response.content.decode().count("<script>") == 1
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize(
    ("origins", "framers"),
    [("", "https://lms.example"), ("https://a.example\nhttps://b.example", "https://a.example https://b.example")],
)  # fmt: skip
def test_only_the_lms_frames_it(lms, origins, framers):
    LtiConsumer.objects.update(frame_origins=origins)
    response = select(lms)
    assert response["Content-Security-Policy"].endswith(f"frame-ancestors {framers}")
    assert "X-Frame-Options" not in response


def test_it_speaks_the_teachers_language(lms, settings):
    settings.LANGUAGES = [("en", "English"), ("de", "German")]
    page = select(lms, launch_presentation_locale="de").content.decode()
    assert '<html lang="de"' in page


def test_it_signs_nobody_in_and_uses_nothing_up(lms):
    response = select(lms)
    assert not response.cookies
    assert not LtiLaunch.objects.accepted().exists()
    assert LtiConsumer.objects.get().instance_guid == ""

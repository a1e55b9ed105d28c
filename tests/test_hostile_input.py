import io
from urllib.parse import quote, unquote, unquote_to_bytes, urlencode, urljoin, urlsplit
from xml.etree import ElementTree

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from lti_provider.form import BODY_LIMIT, PAIRS_LIMIT
from lti_provider.message import IDENTIFIER_LENGTH
from lti_provider.models import LtiConsumer, LtiContext, LtiLaunch, LtiResourceLink, LtiUser
from lti_provider.testing import FakeLms
from lti_provider.views import LaunchView
from tests import rfc5849

FORM = "application/x-www-form-urlencoded"
URL = "http://testserver/lti/launch/"
LAUNCH = [
    ("lti_message_type", "basic-lti-launch-request"),
    ("lti_version", "LTI-1p0"),
    ("resource_link_id", "r1"),
]

pytestmark = pytest.mark.django_db

many = settings(max_examples=120)


@pytest.fixture
def lms(settings):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    return FakeLms.create(consumer_key="known", consumer_secret="secret")


@pytest.fixture
def client():
    # A view that fails answers 500 here, as it would on a site.
    return Client(raise_request_exception=False)


@pytest.fixture
def post(client):
    def post_body(body, path="/lti/launch/", content_type=FORM, **extra):
        with transaction.atomic():
            return client.generic("POST", path, body, content_type, **extra)

    return post_body


@pytest.fixture
def launch(client):
    """Sign and post fields as an LMS, then follow to the page."""

    def launch_fields(*fields, path="/lti/launch/", **changes):
        url = f"http://testserver{path}"
        sent = [*fields, *(pair for pair in LAUNCH if pair[0] not in dict(fields))]
        body = urlencode(rfc5849.sign(url, sent, key="known", secret="secret", **changes))
        headers = {"Sec-Fetch-Dest": "document"}
        response = client.generic("POST", path, body, FORM, headers=headers)
        while response.status_code == 303 and response["Location"].startswith("/"):
            response = client.get(response["Location"], headers=headers)
        return response

    return launch_fields


def genuine(url=URL, fields=LAUNCH, **changes):
    return urlencode(rfc5849.sign(url, fields, key="known", secret="secret", **changes))


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/xml",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=B",
        "multipart/form-data; boundary=",
        "application/x-www-form-urlencodedx",
        "xapplication/x-www-form-urlencoded",
        "application/x-www-form-urlencoded, text/plain",
        "application/x-www-form-urlencoded; charset=latin-1",
        "application/x-www-form-urlencoded; charset=utf-16",
        "application/x-www-form-urlencoded; charset=utf-7",
        "application/x-www-form-urlencoded; charset=utf-8; charset=utf-16",
        "application/x-www-form-urlencoded; charset=nonsense",
        "application/x-www-form-urlencoded; boundary=B",
        "application/x-www-form-urlencoded;" + " " * 400,
        "application/x-www-form-urlencoded;charset=utf-8" + " " * 9000,
        "application/x-www-form-urlencoded;charset=utf-8" + " " * 9000 + "x",
        "\xff\xfe",
        "; charset=utf-8",
    ],
)
def test_only_one_media_type_is_a_launch(post, lms, content_type):
    response = post(genuine(), content_type=content_type)

    assert response.status_code == 400
    assert b"malformed_request" in response.content


@pytest.mark.parametrize(
    "content_type",
    [
        FORM,
        "Application/X-WWW-Form-URLencoded",
        "application/x-www-form-urlencoded; charset=UTF-8",
        "application/x-www-form-urlencoded;charset=utf-8",
        'application/x-www-form-urlencoded; charset="utf-8"',
        "application/x-www-form-urlencoded ; Charset=utf-8;",
    ],
)
def test_its_spelling_is_free(post, lms, content_type):
    assert post(genuine(), content_type=content_type).status_code == 303


@pytest.mark.parametrize(
    "spoiled",
    [
        b"x=%",
        b"x=%1",
        b"x=%zz",
        b"%g0=x",
        b"x=%u0041",
        b"x=%00",
        b"%00=x",
        b"x=\0",
        b"x=%ff",
        b"x=%c0%80",
        b"x=%ed%a0%80",
        b"x=%ed%b0%80",
        b"x=%f5%80%80%80",
        b"x=\xe4",
        "x=ä".encode(),
        b"x=a b",
        b"x=\n",
        b"x=1\r\n",
        b"x=\x7f",
        b"=x",
        b"=",
        b"%=x",
        b"&",
        b"x=1&&y=2",
        b"user_id=1&user_id=2",
        b"user_id=1&user%5Fid=2",
        b"x&x",
        b"oauth_nonce=second",
        b"lti_version=LTI-1p0",
        b"\xef\xbb\xbfx=1",
        "x=1".encode("utf-16"),
        b'{"user_id": 1}\x01',
        b"<xml>\xff</xml>",
    ],
)
def test_a_body_that_can_be_read_in_two_ways_is_refused(post, lms, spoiled):
    for body in (genuine().encode() + b"&" + spoiled, spoiled + b"&" + genuine().encode()):
        response = post(body)
        assert response.status_code == 400
        assert b"malformed_request" in response.content
    assert post(spoiled).status_code == 400


@pytest.mark.parametrize("prefix", [b"", b"&", b"?", b"{", b"\0", b"\xff" * 10, b"a" * 1000])
def test_bodies_that_are_no_form_are_refused(post, lms, prefix):
    assert post(prefix).status_code == 400


def genuine_of_length(length):
    padding = 0
    # The signature's own escapes differ from one nonce to the next.
    while len(body := genuine(fields=[*LAUNCH, ("x", "a" * padding)])) != length:
        padding += length - len(body)
    return body


def test_the_largest_form_is_accepted_and_one_byte_more_is_not(post, lms):
    assert post(genuine_of_length(BODY_LIMIT)).status_code == 303
    assert post(genuine_of_length(BODY_LIMIT + 1)).status_code == 400


def test_500_pairs_are_accepted_and_501_are_not(post, lms):
    signed = len(rfc5849.sign(URL, LAUNCH, key="known", secret="secret"))

    def with_pairs(count, query=()):
        names = [(f"x{number}", "") for number in range(count - signed - len(query))]
        return genuine(fields=[*LAUNCH, *names], query=query)

    query = [("q", "1"), ("q", "2")]

    assert post(with_pairs(PAIRS_LIMIT)).status_code == 303
    assert post(with_pairs(PAIRS_LIMIT + 1)).status_code == 400
    assert post(with_pairs(PAIRS_LIMIT, query), "/lti/launch/?q=1&q=2").status_code == 303
    assert post(with_pairs(PAIRS_LIMIT + 1, query), "/lti/launch/?q=1&q=2").status_code == 400
    assert post(genuine(), "/lti/launch/?" + "q=1&" * (PAIRS_LIMIT + 1)).status_code == 400


@pytest.mark.parametrize("length", ["-1", "0", "5", "abc", "1e3", "٣", "5,5", "9" * 5000, ""])
def test_a_wrong_content_length_is_refused(post, lms, length):
    assert post(genuine(), CONTENT_LENGTH=length).status_code == 400


def test_a_content_length_beyond_the_limit_is_not_even_read(post, lms):
    assert post(genuine(), CONTENT_LENGTH=str(BODY_LIMIT + 1)).status_code == 400


@pytest.mark.parametrize(
    "host",
    [
        "testserver:0",
        "testserver:99999",
        "testserver:" + "9" * 400,
        "testserver:x",
        "testserver:-1",
        "[::1]:99999",
        "[:::::]",
        "[1:2]",
        "[::1",
        "::1",
        "testserver/path",
        "testserver@evil",
        "evil, testserver",
        "",
        " ",
        "a" * 5000,
        "te\tst",
        "\xff",
        "%00",
        "{{host}}",
    ],
)
def test_a_weird_host_is_refused(post, lms, host):
    response = post(genuine(), headers={"Host": host})

    assert 400 <= response.status_code < 500


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-Host": "evil.example"},
        {"X-Forwarded-Host": "[", "X-Forwarded-Proto": "gopher", "X-Forwarded-For": "\xff"},
        {"X-Forwarded-Host": "a b:99999,testserver:0,\x7f" + "x," * 2000},
        {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443", "Forwarded": "for=;host="},
        {"X-Original-URL": "/admin/", "X-Rewrite-URL": "/admin/"},
        {"X-HTTP-Method-Override": "DELETE"},
        {"Origin": "null", "Referer": "\xff", "Accept-Language": "x" * 9000},
        {"Sec-Fetch-Dest": "\xff", "Cookie": "a=b; __Host-lti_frame=x; =; lti_enter"},
        {"Cookie": "sessionid=" + "x" * 9000 + "; __Host-lti_frame=" + "y" * 9000},
        {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"},
        {"Authorization": 'OAuth oauth_consumer_key="known", oauth_signature="x"'},
    ],
)
def test_other_headers_neither_help_nor_break(post, lms, headers):
    assert post(genuine(), headers=headers).status_code == 303
    response = post(genuine().replace("r1", "r2"), headers=headers)
    assert response.status_code == 401


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-Forwarded-Proto"])
def test_a_launch_signed_for_what_a_stranger_forwards_is_refused(post, lms, name):
    scheme, host = ("http", "evil.example") if name.endswith("Host") else ("https", "testserver")

    response = post(
        genuine(f"{scheme}://{host}/lti/launch/"),
        headers={name: host if name.endswith("Host") else scheme},
    )

    assert response.status_code == 401


@pytest.mark.parametrize("value", ["9" * 100, "9" * 4000, "-1", "1e9", "٣", " 1", "1.0", "", "0x1"])
def test_any_timestamp_of_a_known_key_is_answered(post, lms, value):
    response = post(genuine(timestamp=value))

    assert response.status_code == 400
    refused = LtiLaunch.objects.refused().get()
    assert refused.clock_difference is None or abs(refused.clock_difference) < 2**31


@pytest.mark.parametrize("value", ["0", "000", "1", "999999999999"])
def test_timestamps_far_away_are_stale(post, lms, value):
    assert post(genuine(timestamp=value)).status_code == 401
    assert LtiLaunch.objects.refused().get().refusal_code == "stale_timestamp"


def post_under_asgi(body, query=b""):
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/lti/launch/",
        "query_string": query,
        "headers": [(b"host", b"testserver"), (b"content-type", FORM.encode())],
    }
    return LaunchView.as_view()(ASGIRequest(scope, io.BytesIO(body.encode())))


def test_a_query_in_raw_utf_8_is_refused_under_asgi(lms):
    assert post_under_asgi(genuine(), "x=啦".encode()).status_code == 400
    assert post_under_asgi(genuine()).status_code == 303


def test_a_body_of_unannounced_length_is_bounded_under_asgi(lms):
    assert post_under_asgi(genuine_of_length(BODY_LIMIT)).status_code == 303
    assert post_under_asgi(genuine_of_length(BODY_LIMIT + 1)).status_code == 400


@pytest.mark.parametrize(
    "character",
    [
        "ä",
        "啦",
        "😀",
        "\u202e",
        "\ufeff",
        "\uffff",
        "\x1b",
        "\r\n",
        " ",
        '"',
        "\\",
        "%",
        "'",
        "<b>",
    ],
)
def test_every_character_is_kept_as_it_was_sent(launch, lms, character):
    sent = {
        "user_id": f"u{character}",
        "context_id": f"c{character}",
        "resource_link_id": f"r{character}",
        "tool_consumer_instance_guid": f"g{character}",
        "context_title": f"t{character}",
        "context_label": f"l{character}",
        "resource_link_title": f"t{character}",
        "custom_page": f"p{character}",
    }

    response = launch(*sent.items(), nonce=f"n{character}")

    assert response.content.startswith(b"content/ for lti-")
    kept = LtiLaunch.objects.with_all().get()
    assert kept.lti_user.lti_user_id == sent["user_id"]
    assert kept.context.context_id == sent["context_id"]
    assert kept.context.title == sent["context_title"]
    assert kept.resource_link.resource_link_id == sent["resource_link_id"]
    assert kept.lti_consumer.instance_guid == sent["tool_consumer_instance_guid"]
    assert kept.message.custom == {"page": sent["custom_page"]}


@pytest.mark.parametrize("character", ["a", "é", "😀"])
def test_identifiers_of_the_longest_length_are_kept_and_longer_ones_refused(launch, lms, character):
    longest = character * IDENTIFIER_LENGTH
    names = ("user_id", "context_id", "resource_link_id", "tool_consumer_instance_guid")

    response = launch(*((name, longest) for name in names))

    assert response.content.startswith(b"content/ for lti-")
    assert LtiUser.objects.get().lti_user_id == longest
    assert LtiContext.objects.get().context_id == longest
    assert LtiResourceLink.objects.get().resource_link_id == longest
    for name in names:
        response = launch((name, longest + character), ("context_title", character * 5000))
        assert response.status_code == 400
        assert b"invalid_parameter" in response.content


def test_titles_of_any_length_are_no_reason_to_refuse(launch, lms):
    long = "😀" * 1000

    response = launch(
        ("context_id", "c"),
        ("context_title", long),
        ("context_label", long),
        ("resource_link_title", long),
        ("user_id", "u"),
        ("lis_person_name_full", long),
        ("tool_consumer_instance_name", long[:100]),
    )

    assert response.content.startswith(b"content/ for lti-")
    assert LtiContext.objects.get().title == "😀" * 255


@pytest.mark.parametrize("policy", ["name", "name_email"])
@pytest.mark.parametrize(
    "email",
    ["", "a", "a@", "@b", "a@b", "a@b.example\r\nBcc: c@d.example", "😀@b.example",
     "a" * 300 + "@b.example", '"a b"@b.example', "A@B.EXAMPLE", "a@[::1]"],
)  # fmt: skip
def test_names_and_addresses_of_any_form_are_no_reason_to_refuse(launch, lms, policy, email):
    LtiConsumer.objects.update(personal_data=policy)

    response = launch(
        ("user_id", "u"), ("lis_person_name_given", "😀" * 400),
        ("lis_person_name_family", " \u202e\x1b"), ("lis_person_contact_email_primary", email),
    )  # fmt: skip

    assert response.content.startswith(b"content/ for lti-")


@pytest.mark.parametrize(
    "nonce", ["1795403010123", "0" * 32, "A" * 43, "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
              "n" * 4000, "😀", "' OR 1=1 --", "%00", "\t", '{"$ne": null}'],
)  # fmt: skip
def test_nonces_of_any_form_are_used_once(post, lms, nonce):
    body = genuine(nonce=nonce)

    assert post(body).status_code == 303
    assert post(body).status_code == 403


@pytest.mark.parametrize("key", ["k&y", "k%26y", " k", "k ", "K", "k", "ключ", "😀" * 255, "+/=%~"])
@pytest.mark.parametrize("secret", ["a/ + % = é &", " ", "😀", "x" * 1000])
def test_keys_and_secrets_may_hold_any_character(post, settings, key, secret):
    settings.LTI_PROVIDER_DEFAULT_TARGET = "/content/"
    for other in ("k", "K", "k ", " k"):
        if other != key:
            LtiConsumer.objects.create(consumer_name="other", consumer_key=other)
    LtiConsumer.objects.create(consumer_name="LMS", consumer_key=key, consumer_secret=secret)

    body = urlencode(rfc5849.sign(URL, LAUNCH, key=key, secret=secret))

    assert post(body).status_code == 303


PATHS = [
    "content/a=b/", "content/a;b/", "content/a:b@c+d,e/", "content/gr%C3%B6%C3%9Fe/",
    "content/a!$&'()*~-._/", "content/a%20b", "content/a%25b/", "content/%F0%9F%98%80/",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_launch_url_is_signed_as_the_lms_has_it(launch, lms, path):
    response = launch(path=f"/lti/launch/{path}")

    assert response.content.startswith(b"content/")


ESCAPES = [
    "content/../admin/", "content/%2e%2e/admin/", "content/%2E./admin/", "content/..", "..",
    "content/.%2e", "content/%252e%252e/admin/", "content/..%2fadmin/", "content/..%5cadmin/",
    "content/%2e%2e%2fadmin/", "content/%252e%252e%252fadmin/", "content/./../admin/",
    "/admin/", "//evil.example/", "%2f%2fevil.example/", "%2fadmin/", "\\evil.example",
    "%5c%5cevil.example", "/%5cevil.example", "https://evil.example/", "https:%2f%2fevil.example",
    "javascript:alert(1)", "content", "contentx/", "content%2f..%2f..%2fadmin/", "CONTENT/",
    "content//../admin/", "content//evil.example", "content/a//../../admin/", "content/;/../admin/",
    "content/..;/admin/", "content/%0a../admin/", "content/%09/../admin/", "content/%00/../admin/",
    "content/\uff0e\uff0e/admin/", "content/%EF%BC%8E%EF%BC%8E/admin/",
    "content/\u2024\u2024/admin/",
    "content/%c0%ae%c0%ae/admin/", "content/%e0%80%ae/admin/", "content/?/../admin/",
    "content/%3f/../../admin/", "content/%23/../../admin/", "content/#/../../admin/",
    "content/%ff/../../admin/", "content/%ed%a0%80/", "content/\t../admin/", "%09/evil.example",
    ".content/", "admin/", "admin/..;/content/", "accounts/login/", "lti/launch/", " content/",
    "content/.. /admin/", "content/%2e%2e%20/admin/", "content/...//admin/", "%00", "%0d%0aX: y",
    "content/\u2215..\u2215admin/", "content/\u29f5..\u29f5admin/",
]  # fmt: skip


def reached(location):
    """The path at which a browser ends up, and a server that decodes it."""
    browsers = location.replace("\\", "/").replace("\t", "").replace("\n", "").replace("\r", "")
    for spelled in ("%2e", "%2E"):
        path, mark, rest = browsers.partition("?")
        browsers = path.replace(spelled, ".") + mark + rest
    parts = urlsplit(urljoin("http://testserver/lti/enter/x/", browsers))
    assert parts.netloc == "testserver"
    return parts.path


def assert_stays_inside(client, path, body, inside="/content/"):
    headers = {"Sec-Fetch-Dest": "document"}
    response = client.generic("POST", path, body, FORM, headers=headers)
    assert response.status_code < 500
    if response.status_code != 303:
        assert response.status_code >= 400
        return
    entered = client.get(response["Location"], headers=headers)
    assert entered.status_code == 303
    assert reached(entered["Location"]).startswith(inside)
    if inside == "/content/":
        assert client.get(entered["Location"]).content.startswith(b"content/")


@pytest.mark.parametrize("inside", ["/content/", "/"])
@pytest.mark.parametrize("target", ESCAPES)
def test_no_target_leads_out_of_the_launchable_paths(client, lms, settings, target, inside):
    settings.LTI_PROVIDER_LAUNCHABLE_PATHS = [inside]
    # Servers decode the path once before the site sees it.
    path = f"/lti/launch/{quote(target, safe='/%?#;=:@&+$,!~*()')}"
    seen = "/lti/launch/" + unquote(target.partition("#")[0].partition("?")[0], errors="replace")
    body = genuine("http://testserver" + quote(seen, safe="/:@!$&'()*+,;=~"))

    assert_stays_inside(client, path, body, inside)


segments = st.one_of(
    st.sampled_from(
        ["..", ".", "", "%2e%2e", "%2E", "%2f", "%5c", "\\", "content", "admin", "%252e", "%09",
         "%0a", "%00", ";", "%3b", "\uff0e\uff0e", "%c0%ae", "@", ":", "~", "a=b", "%ff"]
    ),
    st.text(max_size=6),
)  # fmt: skip


@many
@given(parts=st.lists(segments, max_size=6), inside=st.booleans())
def test_no_generated_target_leads_out_of_the_launchable_paths(lms, parts, inside):
    client = Client(raise_request_exception=False)
    target = "/".join(["content"] * inside + parts)
    encoded = quote(target.encode("utf-8", "replace"), safe="/%;=:@&+$,!~*()")
    decoded = unquote_to_bytes(encoded)
    try:
        seen = decoded.decode()
    except UnicodeDecodeError:
        seen = decoded.decode("latin-1")
    body = genuine("http://testserver" + quote(f"/lti/launch/{seen}", safe="/:@!$&'()*+,;=~"))

    assert_stays_inside(client, f"/lti/launch/{encoded}", body)


@many
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.text(max_size=100).map(lambda t: t.encode("utf-8", "surrogatepass")),
    )
)
def test_no_generated_body_fails(lms, body):
    client = Client(raise_request_exception=False)

    with transaction.atomic():
        assert 400 <= client.generic("POST", "/lti/launch/", body, FORM).status_code < 500


names = st.one_of(
    st.sampled_from(
        ["user_id", "roles", "context_id", "resource_link_id", "lti_version", "lti_message_type",
         "tool_consumer_instance_guid", "launch_presentation_return_url", "custom_page",
         "launch_presentation_locale", "lis_person_name_full", "lis_person_contact_email_primary",
         "content_item_return_url", "resource_link_title", "context_title", "oauth_version",
         "oauth_callback", "oauth_token", "tool_consumer_instance_name"]
    ),
    st.text(min_size=1, max_size=20).filter(lambda name: not name.startswith("oauth_")),
)  # fmt: skip
values = st.one_of(
    st.text(max_size=60),
    st.sampled_from(["", "LTI-1p0", "basic-lti-launch-request", "$a.b", "https://lms.example/?x"]),
    st.integers(0, 400).map(lambda length: "😀" * length),
)


@many
@given(
    fields=st.dictionaries(names, values, max_size=12),
    policy=st.sampled_from(["none", "name_email"]),
)
def test_no_genuine_launch_fails_whatever_it_says(lms, fields, policy):
    LtiConsumer.objects.update(personal_data=policy, instance_guid="")
    client = Client(raise_request_exception=False)
    sent = {**dict(LAUNCH), **fields}
    headers = {"Sec-Fetch-Dest": "document"}

    with transaction.atomic():
        body = genuine(fields=sent.items())
        response = client.generic("POST", "/lti/launch/", body, FORM, headers=headers)
    assert response.status_code < 500
    if response.status_code == 303 and response["Location"].startswith("/"):
        with transaction.atomic():
            assert client.get(response["Location"], headers=headers).status_code == 303


@many
@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["Host", "X-Forwarded-Host", "X-Forwarded-Proto", "Origin", "Referer", "Cookie",
             "Sec-Fetch-Dest", "Accept-Language", "Content-Length", "Forwarded"]
        ),
        st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60),
    )
)  # fmt: skip
def test_no_generated_header_fails(lms, headers):
    client = Client(raise_request_exception=False)

    with transaction.atomic():
        response = client.generic("POST", "/lti/launch/", genuine(), FORM, headers=headers)
        assert response.status_code < 500
        response = client.generic(
            "POST", "/lti/launch/", genuine().replace("r1", "r2"), FORM, headers=headers
        )
        assert 400 <= response.status_code < 500


@pytest.mark.parametrize(
    "handle", ["x", "%00", "..", "%2e%2e%2f", "😀", "a" * 5000, "' OR 1=1", "%ff"]
)
def test_handles_of_any_form_lead_nowhere(client, lms, handle):
    for path in (f"/lti/enter/{handle}/", f"/lti/enter/{handle}/window/"):
        for method in (client.get, client.post):
            assert method(path).status_code in (403, 404, 405)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FROB", "post"])
def test_other_methods_are_not_allowed(client, lms, method):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        response = client.generic(method, "/lti/launch/", genuine(), FORM)

    assert response.status_code in (405, 303 if method == "post" else 405)
    assert method == "post" or not queries.captured_queries


@pytest.mark.parametrize(
    "path", ["/lti/launch/", "/lti/launch/content/", "/lti/launch/%00%ff/../x?a=%"]
)
def test_get_and_head_say_what_the_address_is_and_read_nothing(client, lms, path):
    browser = {"Accept": "text/html,*/*;q=0.8"}
    with CaptureQueriesContext(connection) as queries:
        page, head = client.get(path, headers=browser), client.head(path, headers=browser)
        cartridge = client.get(path)

    assert page.status_code == head.status_code == cartridge.status_code == 200
    assert ElementTree.fromstring(cartridge.content).tag.endswith("}cartridge_basiclti_link")
    assert b"This is an LTI launch URL" in page.content
    assert not head.content
    assert not page.cookies
    assert not queries.captured_queries


def test_a_signed_get_is_no_launch(client, lms):
    response = client.get(
        "/lti/launch/", dict(rfc5849.sign(URL, LAUNCH, key="known", secret="secret"))
    )

    assert response.status_code == 200
    assert not LtiLaunch.objects.exists()


@pytest.mark.parametrize("piece", ["%", "=", "&", "a&", "%F0%9F%98%80", "%25", "x=1&", "+"])
def test_forms_that_are_all_work_are_refused(post, lms, piece):
    assert post(piece * (BODY_LIMIT // len(piece))).status_code == 400

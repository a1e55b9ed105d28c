"""What a browser posts back to the LMS where a teacher was to select content."""

import html
from urllib.parse import parse_qsl

import pytest
from playwright.sync_api import BrowserContext, Route, expect

from tests import rfc5849
from tests.browser.conftest import Lms, framed

pytestmark = pytest.mark.browser

RETURN = "https://lms.example/return.php?course=2&id=1"
DATA = 'opaque\r\n"é" & <b>'


def ask_for_content(lms: Lms, attributes: str) -> str:
    """A page of the LMS that posts its request into a frame."""
    changes = {
        "lti_message_type": "ContentItemSelectionRequest",
        "content_item_return_url": RETURN,
        "data": DATA,
        "resource_link_id": None,
    }
    lms.fake.consumer.frame_origins = lms.server.url
    lms.fake.consumer.save()
    inputs = "".join(
        f'<input type=hidden name="{name}" value="{html.escape(value)}">'
        for name, value in lms.fake.sign("content/quiz/", host=lms.tool, **changes)
    )
    url = f"{lms.tool}/lti/launch/content/quiz/"
    return lms.server.add_page(
        f"<iframe name=tool title=Activity {attributes}></iframe>"
        f'<form method=post target=tool action="{url}">{inputs}</form>'
        "<script>document.forms[0].submit()</script>"
    )


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_signed_empty_selection_arrives(
    strict_browser: BrowserContext, lms: Lms, scripts
) -> None:
    posted: list[str] = []

    def receive(route: Route) -> None:
        posted.append(route.request.post_data or "")
        route.fulfill(body="<h1>Back in the course</h1>", content_type="text/html")

    tab = strict_browser.new_page()
    tab.route(RETURN, receive)
    tab.goto(ask_for_content(lms, "" if scripts else "sandbox=allow-forms"))
    if not scripts:
        framed(tab).get_by_role("button", name="Back to your course").click()
    expect(framed(tab).get_by_text("Back in the course")).to_be_visible()
    (body,) = posted
    pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True)
    sent = dict(pairs)
    assert sent["data"] == DATA
    assert sent["lti_errormsg"].startswith("This site has no content to choose from.")
    others = [pair for pair in pairs if pair[0] != "oauth_signature"]
    text = rfc5849.base_string(RETURN, [*others, ("course", "2"), ("id", "1")])
    secret = lms.fake.consumer.consumer_secret
    assert sent["oauth_signature"] == rfc5849.signature(text, secret)

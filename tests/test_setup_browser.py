import re

import pytest
from playwright.sync_api import sync_playwright

from lti_provider.models import LtiConsumer
from tests.front import Proxy

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def consumer(admin_user):
    return LtiConsumer.objects.create(consumer_name="Campus")


@pytest.fixture
def setup_page(chromium, consumer):
    """Open the set-up page at an address of the site, as its administrator."""
    path = f"/admin/lti_provider/lticonsumer/{consumer.pk}/setup/"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def open_at(address):
            page = browser.new_page(locale="en-US")
            page.goto(f"{address}/admin/login/?next={path}")
            page.fill("#id_username", "admin")
            page.fill("#id_password", "password")
            page.click("input[type=submit]")
            page.wait_for_url(f"**{path}")
            return page

        yield open_at
        browser.close()


def test_a_secret_that_is_shown_stands_in_the_steps_too(setup_page, live_server, consumer):
    page = setup_page(live_server.url.replace("127.0.0.1", "localhost"))
    assert consumer.consumer_secret not in page.content()
    page.click("text=Show secret")
    page.click("summary:visible:has-text('Open edX')")
    passport = f'"lti_tool:{consumer.consumer_key}:{consumer.consumer_secret}"'
    page.get_by_text(passport).wait_for()
    assert page.input_value("#lti-secret") == consumer.consumer_secret
    assert page.is_hidden("[data-lti-origin]")


def test_a_launch_to_try_opens_in_a_window_of_its_own(setup_page, live_server):
    page = setup_page(live_server.url.replace("127.0.0.1", "localhost"))
    page.click("text=Make a launch")
    with page.expect_popup() as opened:
        page.click("text=Open it in this browser")
    window = opened.value
    window.get_by_role("button", name="Launch").click()
    window.get_by_role("button", name="Go on").click()
    window.wait_for_url(re.compile("/content/[?]lti_launch="))
    assert "content/ for lti-" in window.inner_text("body")
    page.goto(page.url.partition("/admin/")[0] + "/admin/")
    assert "/admin/login/" in page.url


def test_an_address_that_the_site_does_not_know_is_warned_of(setup_page, live_server, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["http://localhost"]

    def rewrite(method, path, headers):
        # With the Host, the proxy loses what CSRF protection compares Origin to.
        headers["Host"] = "internal.example"
        headers.pop("Origin", None)
        headers.pop("Referer", None)

    with Proxy(live_server.url, before=rewrite) as proxy:
        page = setup_page(proxy.url)
        assert "which this site sees" in page.inner_text("[data-lti-origin]")
        assert page.is_visible("[data-lti-origin]")

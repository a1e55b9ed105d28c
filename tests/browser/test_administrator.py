"""An administrator's first day, by hand: the two sites of the demo in Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.demo import demo_environment, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.once]

WRONG_SECRET = "not the secret"
SCHOOL = "Evening school"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[str, str]]:
    with serving(demo_environment(tmp_path / "var")) as addresses:
        yield addresses


def sign_in(admin: Page, tool: str) -> None:
    admin.goto(f"{tool}admin/")
    admin.fill("[name=username]", "admin")
    admin.fill("[name=password]", "admin")
    admin.click("[type=submit]")


def add_consumer(admin: Page) -> dict[str, str]:
    """The values that the set-up page has to copy."""
    admin.get_by_role("link", name="LTI consumers").first.click()
    admin.get_by_role("link", name="Add LTI consumer").click()
    admin.get_by_label("Consumer name").fill(SCHOOL)
    admin.get_by_label("LTI 1.1, with a key and a secret").check()
    admin.get_by_role("button", name="Save", exact=True).click()
    expect(admin.get_by_role("heading", name="Values to enter there")).to_be_visible()
    admin.get_by_role("link", name="Show secret").click()
    secret = admin.get_by_label("Consumer secret")
    expect(secret).not_to_have_value("")
    return {
        "Launch URL": admin.get_by_label("Launch URL").input_value(),
        "Consumer key": admin.get_by_label("Consumer key").input_value(),
        "Shared secret": secret.input_value(),
    }


def configure(lms: Page, address: str, values: dict[str, str]) -> None:
    lms.goto(f"{address}tools/")
    tools = lms.get_by_label("Tools").get_by_role("listitem").filter(has_text="LTI 1.1")
    tools.get_by_role("link", name="Night Sky", exact=True).click()
    for label, value in values.items():
        lms.get_by_label(label).fill(value)
    lms.get_by_role("button", name="Save").click()
    expect(lms.get_by_text("Saved.")).to_be_visible()


def open_lesson(lms: Page, address: str) -> None:
    lms.goto(address)
    lms.get_by_role("link", name="Astronomy, last year").click()
    lms.get_by_role("link", name="Lesson: Finding north").click()


def expect_launched(lms: Page, address: str) -> None:
    open_lesson(lms, address)
    frame = lms.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Finding north")).to_be_visible()


def rotate(admin: Page, consumer: str) -> str:
    """The new secret, as the set-up page shows it."""
    admin.goto(consumer)
    admin.get_by_role("link", name="Rotate secret").click()
    admin.get_by_role("button", name="Rotate secret").click()
    expect(admin.get_by_text("the previous one is accepted until")).to_be_visible()
    admin.goto(f"{consumer.removesuffix('change/')}setup/")
    admin.get_by_role("link", name="Show secret").click()
    secret = admin.get_by_label("Consumer secret")
    expect(secret).not_to_have_value("")
    return secret.input_value()


def test_from_an_empty_admin_to_launches_with_two_secrets(
    demo: tuple[str, str], strict_browser: BrowserContext
) -> None:
    address, tool = demo
    admin, lms = strict_browser.new_page(), strict_browser.new_page()
    sign_in(admin, tool)
    values = add_consumer(admin)
    consumer = admin.url.replace("/setup/", "/change/")
    configure(lms, address, values)
    expect_launched(lms, address)

    configure(lms, address, {"Shared secret": WRONG_SECRET})
    open_lesson(lms, address)
    refusal = lms.frame_locator("iframe")
    expect(refusal.get_by_text("Reason: invalid_signature")).to_be_visible()
    admin.goto(consumer.replace("/change/", "/setup/"))
    admin.get_by_role("link", name="Log entry").last.click()
    expect(admin.get_by_text("one side has a different secret now")).to_be_visible()
    expect(admin.locator("body")).not_to_contain_text(values["Shared secret"])

    second = rotate(admin, consumer)
    assert second != values["Shared secret"]
    for secret, use in [(values["Shared secret"], "previous"), (second, "present")]:
        configure(lms, address, {"Shared secret": secret})
        expect_launched(lms, address)
        admin.goto(f"{tool}admin/lti_provider/ltilaunch/")
        admin.locator("#result_list tbody th a, #result_list tbody td a").first.click()
        expect(admin.locator(".field-signed_with")).to_contain_text(use)
    admin.goto(consumer)
    expect(admin.get_by_text("Present secret: last used")).to_be_visible()
    expect(admin.get_by_text("Previous secret: accepted until")).to_contain_text("last used")


def copy_and_paste(admin: Page, value: str, lms: Page, field: str) -> None:
    admin.bring_to_front()
    place = admin.locator("p", has=admin.get_by_label(value, exact=True))
    place.get_by_role("button", name="Copy").click()
    expect(place.get_by_role("status")).to_have_text("Copied")
    lms.bring_to_front()
    lms.get_by_label(field, exact=True).select_text()
    lms.keyboard.press("ControlOrMeta+V")


def add_tool(lms: Page, address: str, admin: Page) -> None:
    """Carry the values of the set-up page over as a person does."""
    lms.goto(address)
    lms.get_by_role("link", name="External tools").click()
    lms.get_by_role("link", name="Add one by LTI 1.1").click()
    lms.get_by_label("Name", exact=True).fill(SCHOOL)
    for value, field in [
        ("Launch URL", "Launch URL"),
        ("Consumer key", "Consumer key"),
        ("Consumer secret", "Shared secret"),
    ]:
        copy_and_paste(admin, value, lms, field)
    lms.get_by_role("button", name="Add the tool").click()
    expect(lms.get_by_text(f"“{SCHOOL}” was added.")).to_be_visible()


def add_activity(lms: Page) -> None:
    lms.get_by_role("link", name="Add an activity that opens it").click()
    lms.get_by_label("Title").fill("Evening quiz")
    lms.get_by_label("Description").fill("Three questions after sunset.")
    lms.get_by_label("Target").fill("/lessons/finding-north/quiz/")
    lms.get_by_label("Graded").check()
    lms.get_by_role("button", name="Add the activity").click()
    expect(lms.get_by_role("heading", name="Evening quiz")).to_be_visible()


def choose(radio: Locator) -> None:
    # While a busy browser lays the frame out, a click may land beside it.
    wait_until(lambda: radio.is_checked() or radio.click())


def set_gradebook(teacher: Page, address: str, mood: str) -> None:
    teacher.goto(f"{address}gradebook/")
    teacher.get_by_label("This LMS").select_option(label=mood)
    teacher.get_by_role("main").get_by_role("button", name="Switch").click()
    expect(teacher.get_by_text(f"From now on this LMS {mood}.")).to_be_visible()


def grade_of_amara(gradebook: Page) -> Locator:
    headers = gradebook.get_by_role("columnheader")
    expect(headers.filter(has_text="Evening quiz")).to_be_visible()
    row = gradebook.get_by_role("row").filter(has_text="Amara Okafor")
    return row.locator("th, td").nth(headers.all_inner_texts().index("Evening quiz"))


def show_grade(admin: Page, tool: str, text: str) -> None:
    """Look at the list of grades until it says this."""
    admin.goto(f"{tool}admin/lti_provider/ltiresult/")
    row = admin.get_by_role("row").filter(has_text=SCHOOL)
    wait_until(lambda: admin.reload() and text in row.inner_text())


def test_a_grade_of_a_tool_added_by_hand_waits_for_the_gradebook(
    demo: tuple[str, str], strict_browser: BrowserContext
) -> None:
    address, tool = demo
    admin, lms, teacher = (strict_browser.new_page() for _ in range(3))
    sign_in(admin, tool)
    add_consumer(admin)
    consumer = admin.url.replace("/setup/", "/change/")
    add_tool(lms, address, admin)
    admin.goto(consumer)
    # Grades go to public addresses only, unless an administrator says otherwise.
    admin.get_by_label("Service networks").fill("127.0.0.0/8")
    admin.get_by_role("button", name="Save", exact=True).click()
    set_gradebook(teacher, address, "fails (HTTP status 500)")

    add_activity(lms)
    quiz = lms.frame_locator("iframe")
    expect(quiz.get_by_role("heading", name="Finding north")).to_be_visible()
    for question in quiz.get_by_role("group").all():
        choose(question.get_by_role("radio").first)
    quiz.get_by_role("button", name="Send my answers").click()
    status = quiz.locator("[data-lti-grade]")
    expect(status).to_contain_text("Your grade is waiting to be sent to your course.")
    show_grade(admin, tool, "has a problem: HTTP status 500")
    expect(grade_of_amara(teacher)).not_to_contain_text("%")

    set_gradebook(teacher, address, "takes grades")
    admin.get_by_role("row").filter(has_text=SCHOOL).get_by_role("checkbox").check()
    admin.get_by_label("Action:").select_option(label="Resend the selected grades")
    admin.locator("button[name=index]").click()
    expect(admin.get_by_text("1 grade was changed.")).to_be_visible()
    expect(grade_of_amara(teacher)).to_contain_text("%")
    expect(status).to_have_text("Your grade was sent to your course.")
    show_grade(admin, tool, "Sent")

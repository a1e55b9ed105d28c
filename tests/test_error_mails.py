"""Django mails an error with the variables of every frame: none may hold a secret."""

import ast
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import OperationalError, connection
from django.test import Client

from lti_provider.lti11.outcomes import send_score
from lti_provider.models import LtiResult
from lti_provider.testing import FakeLms
from tests.test_admin import form_of
from tests.test_canaries import KeptMail

SECRET = "canary-of-a-secret"
REMOTE_ID = "canary-of-a-remote-id"
ADMIN = "/admin/lti_provider/lticonsumer/"
PACKAGE = Path(__file__).parent.parent / "lti_provider"
LOGGERS = ("lti_provider", "django.request")
# "a secret", not a flag that asks for secrets.
NAMES = re.compile(r"(.+_)?secrets?|sealed|opened")


@pytest.fixture
def mailed() -> Iterator[Callable[[], str]]:
    """What Django would have mailed to the administrators."""
    handler = KeptMail()
    for name in LOGGERS:
        logging.getLogger(name).addHandler(handler)

    def text() -> str:
        assert "Traceback" in "\n".join(handler.kept)
        return "\n".join(handler.kept)

    yield text
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(handler)


@pytest.mark.django_db
@pytest.mark.parametrize("unwritable", ["key", "score"])
def test_a_grade_that_fails_is_mailed_without_secret_and_person(mailed, unwritable):
    lms = FakeLms.create(consumer_secret=SECRET, service_hosts="lms.example")
    result = LtiResult(
        lti_consumer=lms.consumer,
        service_url="https://lms.example/grades",
        service=LtiResult.Service.BASIC_OUTCOMES,
        remote_id=REMOTE_ID,
        score_given="none" if unwritable == "score" else 1,
        score_maximum=1,
    )
    if unwritable == "key":
        lms.consumer.consumer_key = "half of a pair: \ud800"

    attempt = send_score(result)

    assert attempt.code == "internal_error"
    assert SECRET not in mailed()
    assert REMOTE_ID not in mailed()


def fails(table: str):
    def fail(execute, sql, params, many, context):
        if table in sql and sql.startswith(("INSERT", "UPDATE")):
            raise OperationalError("the database went away")
        return execute(sql, params, many, context)

    return connection.execute_wrapper(fail)


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["add", "change", "rotate"])
def test_an_admins_page_that_fails_is_mailed_without_the_secret(admin_user, mailed, page):
    consumer = FakeLms.create(consumer_key="known").consumer
    browser = Client(raise_request_exception=False)
    browser.force_login(admin_user)
    path = f"{ADMIN}add/" if page == "add" else f"{ADMIN}{consumer.pk}/{page}/"
    if page == "rotate":
        sent = {"until_0": "2030-01-01", "until_1": "12:00", "secret": SECRET}
    else:
        sent = form_of(browser.get(path)) | {"consumer_name": "Campus", "consumer_secret": SECRET}

    with fails("lti_provider_lticonsumer"):
        assert browser.post(path, sent).status_code == 500

    assert SECRET not in mailed()


@pytest.mark.django_db
def test_a_rotation_by_code_of_the_site_that_fails_is_mailed_without_the_secret(mailed):
    consumer = FakeLms.create().consumer

    with fails("lti_provider_lticonsumer"):
        try:
            consumer.rotate_secret(consumer.created_at, SECRET)
        except OperationalError:
            logging.getLogger("django.request").exception("It failed.")

    assert SECRET not in mailed()


def held(function: ast.FunctionDef) -> set[str]:
    arguments = [*function.args.args, *function.args.kwonlyargs, function.args.vararg]
    names = {
        argument.arg
        for argument in arguments
        if argument and "bool" not in ast.unparse(argument.annotation or ast.Constant(""))
    }
    stored = (node for node in ast.walk(function) if isinstance(node, ast.Name))
    names |= {node.id for node in stored if isinstance(node.ctx, ast.Store)}
    return {name for name in names if NAMES.fullmatch(name)}


FUNCTIONS = [
    (f"{path.relative_to(PACKAGE)}:{node.name}", node)
    for path in sorted(PACKAGE.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef) and held(node)
]


def test_whatever_holds_a_secret_is_marked():
    marked = {
        name: any("sensitive_variables" in ast.unparse(mark) for mark in node.decorator_list)
        for name, node in FUNCTIONS
    }
    assert len(marked) > 8
    assert [name for name, is_marked in marked.items() if not is_marked] == []

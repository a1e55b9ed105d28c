"""Examines what needs no request: settings, database, clock, consumers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from django.conf import settings
from django.core.checks import ERROR, run_checks
from django.db import Error, connections, router
from django.db.migrations.executor import MigrationExecutor

from lti_provider.conf import conf
from lti_provider.doctor.finding import Finding, Stopped, error, fine, note, warning
from lti_provider.models import LtiConsumer, LtiUnknownSender
from lti_provider.status import Level, RecentLaunches, get_status_lines

#: Seconds that two clocks of one deployment may differ before it is worth a word.
CLOCK_TOLERANCE = 5

_CONSUMERS_READ = 200
# Seconds since 1970; other databases have no clock, or it is not compared.
_TIME = {
    "postgresql": "SELECT EXTRACT(EPOCH FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
}


def examine_deployment() -> Iterator[Finding]:
    """Examine everything that needs no request."""
    for examine in EXAMINATIONS:
        try:
            yield from examine()
        except Stopped as stopped:
            yield stopped.finding
            return


def _examine_checks() -> Iterator[Finding]:
    messages = run_checks(include_deployment_checks=not settings.DEBUG)
    told = [
        message
        for message in messages
        if message.level >= ERROR or str(message.id).startswith("lti_provider.")
    ]
    for message in told:
        tell = error if message.level >= ERROR else warning
        yield tell(str(message.id), str(message.msg), str(message.hint or ""))
    if not told:
        yield fine("checks", "The system checks find nothing.")


def _examine_database() -> Iterator[Finding]:
    alias = router.db_for_read(LtiConsumer)
    try:
        executor = MigrationExecutor(connections[alias])
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as problem:
        kind = type(problem).__name__
        raise Stopped(
            error("no_database", f"The database {alias!r} does not answer ({kind}).", "Start it.")
        ) from None
    pending = sorted({migration.app_label for migration, _backwards in plan})
    text, hint = f"Migrations of {', '.join(pending)} are pending.", "Run manage.py migrate."
    if "lti_provider" in pending:
        raise Stopped(error("no_tables", text, hint))
    if pending:
        yield warning("migrations", text, hint)
    else:
        yield fine("database", "The database answers, and all migrations are applied.")


def _examine_clock() -> Iterator[Finding]:
    connection = connections[router.db_for_read(LtiConsumer)]
    statement = _TIME.get(connection.vendor)
    if statement is None:
        return
    with connection.cursor() as cursor:
        cursor.execute(statement)
        (seconds,) = cursor.fetchone()
    yield from compare_clocks("database_clock", "the database's", float(seconds))


def compare_clocks(name: str, whose: str, seconds: float) -> Iterator[Finding]:
    """Compare this machine's clock to a different one, which is at ``seconds`` since 1970."""
    difference = round(abs(seconds - time.time()))
    text = f"This machine's clock and {whose} differ by {difference} s."
    hint = "Set both by NTP: launches are refused once a clock is off by more than the window."
    if difference * 2 > conf.timestamp_window:
        yield error(name, text, hint)
    elif difference > CLOCK_TOLERANCE:
        yield warning(name, text, hint)


def _examine_consumers() -> Iterator[Finding]:
    consumers = list(LtiConsumer.objects.order_by("pk")[: _CONSUMERS_READ + 1])
    if not consumers:
        yield note("no_consumer", "There is no LTI consumer yet.", "Add one in the admin.")
    if len(consumers) > _CONSUMERS_READ:
        text = f"Only the first {_CONSUMERS_READ} LTI consumers are looked at."
        yield note("many_consumers", text)
    for consumer in consumers[:_CONSUMERS_READ]:
        yield from _examine_consumer(consumer)


def _examine_consumer(consumer: LtiConsumer) -> Iterator[Finding]:
    for line in get_status_lines(RecentLaunches.for_consumer(consumer)):
        # That nobody came yet, or that one person was refused, does not concern an operator.
        if line.level in (Level.WARNING, Level.ERROR) or line.name == "inactive":
            text = f"“{consumer}”: {line.label}: {line.text}"
            yield Finding(name=line.name, level=line.level, text=text)


def _examine_unknown_senders() -> Iterator[Finding]:
    if senders := list(LtiUnknownSender.objects.newest()):
        newest, count = senders[0], len(senders)
        what = str(newest.get_kind_display()).lower()
        text = f"The newest {what} that nobody here has is “{newest}”, of {count} senders in all."
        yield note("unknown_sender", text, "Compare it with what lti_consumer list and show write.")


#: What is examined, in order.
EXAMINATIONS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _examine_checks,
    _examine_database,
    _examine_clock,
    _examine_consumers,
    _examine_unknown_senders,
)

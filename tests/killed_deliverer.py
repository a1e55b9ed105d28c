"""A deliverer that kills itself at one of its steps, or delivers to the end.

Reads one JSON line: the database, the step, and at which time of reaching it the end comes.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import django


def main() -> None:
    job = json.loads(sys.stdin.readline())
    from django.conf import settings
    from django.db import connection

    from lti_provider.grades import Deliverer, delivery

    connection.settings_dict["NAME"] = job["database"]
    settings.LTI_PROVIDER_GRADE_TIMEOUT = job["timeout"]
    settings.LTI_PROVIDER_GRADE_RATE = 100_000
    # The leases of the dead count until they end.
    settings.LTI_PROVIDER_GRADE_CONCURRENCY = 8
    reached = iter(range(job["time"]))

    def die() -> None:
        if next(reached, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    def dying(method: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if before:
                die()
            value = method(*args, **kwargs)
            if not before:
                die()
            return value

        return wrapped

    lease, record = delivery.lease_due, delivery.record_attempt
    if job["step"] in ("before the claim", "after the claim"):
        before = job["step"] == "before the claim"
        delivery.lease_due = dying(lease, before=before)
    elif job["step"] in ("before the writing", "after the writing"):
        before = job["step"] == "before the writing"
        delivery.record_attempt = dying(record, before=before)
    print(os.getpid(), flush=True)  # noqa: T201
    print(Deliverer().run().delivered, flush=True)  # noqa: T201


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    main()

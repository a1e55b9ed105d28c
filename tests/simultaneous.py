"""A process that sends requests when it is told to, for tests of what happens at once.

Reads JSON lines: first the database, then jobs. Answers "ready" to each job, sends at the next
line, and prints what came back.
"""

import json
import random
import sys
import time
from typing import Any

import django

TIMES = 20


def ask(browser: Any, url: str, form: str | None, headers: dict[str, str]) -> Any:
    """Once more for each answer that says so, as people do, with less patience."""
    for _time in range(TIMES):
        if form is None:
            response = browser.get(url, headers=headers)
        else:
            kind = "application/x-www-form-urlencoded"
            response = browser.post(url, form, content_type=kind, headers=headers)
        if "Retry-After" not in response:
            break
        time.sleep(random.uniform(0, 0.2))
    return response


def send(job: dict[str, Any]) -> list[dict[str, Any]]:
    from django.test import Client

    browser = Client(raise_request_exception=False)
    browser.cookies.load(job.get("cookies", {}))
    answers = []
    url, form = job["url"], job.get("form")
    while url.startswith("/") and len(answers) < job["requests"]:
        response = ask(browser, url, form, job["headers"])
        signed_in = browser.cookies.get("sessionid_lti_frame") or browser.cookies.get("sessionid")
        answers.append(
            {
                "status": response.status_code,
                "location": response.get("Location", ""),
                "session": bool(signed_in and signed_in.value),
            }
        )
        url, form = response.get("Location", ""), None
    return answers


def main() -> None:
    from django.db import connection

    connection.settings_dict["NAME"] = json.loads(sys.stdin.readline())["database"]
    for line in sys.stdin:
        job = json.loads(line)
        connection.ensure_connection()
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        answer = json.dumps(send(job))
        connection.close()
        print(answer, flush=True)  # noqa: T201


if __name__ == "__main__":
    django.setup()
    main()

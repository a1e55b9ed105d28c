"""How fast grades are delivered, to a fast host while a slow one has as many; see README.md."""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from databases import on_each

ENVELOPE = (
    b'<imsx_POXEnvelopeResponse xmlns="http://www.imsglobal.org/services/ltiv1p1/xsd/imsoms_v1p0">'
    b"<imsx_POXHeader><imsx_POXResponseHeaderInfo><imsx_statusInfo>"
    b"<imsx_codeMajor>success</imsx_codeMajor>"
    b"</imsx_statusInfo></imsx_POXResponseHeaderInfo></imsx_POXHeader></imsx_POXEnvelopeResponse>"
)


def main() -> None:
    arguments = read_arguments()
    if arguments.serve:
        serve(*arguments.serve)
        return
    on_each(lambda: run(arguments))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grades", type=int, default=10_000, help="for each host (10000)")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def serve(address: str, seconds: str) -> None:
    """An outcome service that takes its time, in a process of its own."""
    lock, state = threading.Lock(), {"now": 0, "most": 0, "all": 0}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            with lock:
                state["now"] += 1
                state["all"] += 1
                state["most"] = max(state["most"], state["now"])
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(float(seconds))
            with lock:
                state["now"] -= 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(ENVELOPE)))
            self.end_headers()
            self.wfile.write(ENVELOPE)

        def log_message(self, *args: object) -> None:
            """The benchmark prints its own lines."""

    server = ThreadingHTTPServer((address, 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.readline()
    print(state["most"], state["all"], flush=True)


class Service:
    """An outcome service in another process."""

    def __init__(self, address: str, seconds: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve", address, str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.host = f"{address}:{int(self.process.stdout.readline())}"

    def end(self) -> tuple[int, int]:
        """The most requests at once, and all of them."""
        output, _errors = self.process.communicate("\n")
        most, total = output.split()
        return int(most), int(total)


def run(arguments: argparse.Namespace) -> None:
    deliver(arguments.grades, slow=False)
    deliver(arguments.grades, slow=True)


def deliver(count: int, *, slow: bool) -> None:
    """Time until the fast host has all of its grades, beside a host that answers nothing."""
    from django.conf import settings
    from django.db import connection

    from lti_provider.grades import Deliverer

    settings.LTI_PROVIDER_GRADE_RATE = 100_000
    settings.LTI_PROVIDER_GRADE_TIMEOUT = 5
    fast, other = Service("127.0.0.1", 0), Service("127.0.0.2", 60)
    add_grades(fast.host, count)
    if slow:
        add_grades(other.host, count)
    deliverer = Deliverer()
    ends: list[float] = []

    def watch(report: object) -> None:
        if deliverer.report.delivered >= count and not ends:
            ends.append(time.perf_counter())
            deliverer.stop()

    queries = 0

    def counted(execute, sql, params, many, context):
        nonlocal queries
        queries += 1
        return execute(sql, params, many, context)

    started = time.perf_counter()
    with connection.execute_wrapper(counted):
        deliverer.run(progress=watch)
    seconds = ends[0] - started
    (most, _total), (slow_most, asked) = fast.end(), other.end()
    beside = f"beside {count:,} for a host that stalls" if slow else "alone"
    print(
        f"{count:,} grades {beside}: {seconds:.1f} s, {count / seconds:.0f} grades/s, "
        f"{queries / count:.2f} queries a grade, at most {most} at once"
        + (f"; the stalling host was asked {asked} times, at most {slow_most} at once" * slow)
    )


def add_grades(host: str, count: int) -> None:
    from lti_provider.models import LtiConsumer, LtiResult

    consumer = LtiConsumer.objects.create(
        consumer_name=host, service_hosts=host, service_networks="127.0.0.0/8"
    )
    LtiResult.objects.bulk_create(
        (
            LtiResult(
                lti_consumer=consumer,
                user_digest=f"{number}",
                link_digest="link",
                service_url=f"http://{host}/",
                service_host=host,
                service=LtiResult.Service.BASIC_OUTCOMES,
                remote_id=f"{number}",
            )
            for number in range(count)
        ),
        batch_size=1000,
    )
    LtiResult.objects.filter(lti_consumer=consumer).submit(0.5)


if __name__ == "__main__":
    main()

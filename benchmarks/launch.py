"""What a whole launch costs, up to the redirect to the content; see README.md."""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from databases import on_each

if TYPE_CHECKING:
    from benchmarks.harness import Bench, Cost

    Kinds = dict[str, Callable[[], Cost]]
    Measured = dict[str, list[Cost]]

LAUNCHES_A_ROUND = 5
USERS = [f"user-{n}" for n in range(200)]
LINKS = [f"link-{n}" for n in range(20)]
MANY_USERS, MANY_LINKS, MANY_LAUNCHES = 10**5, 10**4, 10**6
GOALS = {
    "returning, in a frame with our marker": 1.45,
    "returning, in a frame without it": 1.70,
    "returning, in a window": 1.70,
    "new, in a frame": 1.85,
    "new, in a window": 1.85,
}


def main() -> None:
    arguments = read_arguments()
    on_each(lambda: run(arguments))


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Compare a launch with FLOOR, on SQLite and PostgreSQL or on DATABASE_URL."
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=30,
        help=f"how often {LAUNCHES_A_ROUND} launches of each kind are measured (30)",
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help=f"also on a copy with {MANY_USERS:,} users and {MANY_LAUNCHES:,} launches",
    )
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    from benchmarks.harness import Bench
    from benchmarks.server_cpu import find_counter

    _counter, said = find_counter()
    print(said)
    bench = Bench(USERS, LINKS)
    compare(bench, arguments.rounds)
    if arguments.growth:
        grow(bench, arguments.rounds)


def compare(bench: Bench, rounds: int) -> None:
    """Print what each kind of launch costs, as rows for README.md."""
    launches = get_kinds(bench)
    measured = measure(bench, launches, rounds)
    print(
        f"\n| {'':37} | requests | round trips | CPU ms, site + server "
        "| of FLOOR (quartiles) | goal |\n|---|---|---|---|---|---|"
    )
    for kind, launch in launches.items():
        requests, trips = count(launch)
        site, server = (
            statistics.median(getattr(cost, part) for cost in measured[kind])
            for part in ("site", "server")
        )
        floor = f"{kind.partition(', ')[0]}, FLOOR"
        goal = f"{GOALS[kind]:.2f}" if kind in GOALS else ""
        print(
            f"| {kind:37} | {requests:8} | {trips:11} | {f'{site:.2f} + {server:.2f}':21} "
            f"| {get_ratio(measured[kind], measured[floor]):20} | {goal:4} |"
        )


def get_kinds(bench: Bench) -> Kinds:
    """What is measured. No browser brings a session, for which FLOOR would do less."""

    def again() -> tuple[str, str]:
        return random.choice(bench.opened)

    def another() -> tuple[str, str]:
        return random.choice(USERS), random.choice(LINKS)

    def unknown() -> tuple[str, str]:
        return secrets.token_hex(10), random.choice(LINKS)

    return {
        "returning, FLOOR": lambda: bench.floor("/floor/returning/", *again()),
        "returning, in a frame with our marker": lambda: bench.launch(*again(), marked=True),
        "returning, in a frame without it": lambda: bench.launch(*again()),
        "returning, in a window": lambda: bench.launch(*again(), framed=False),
        "returning, new activity, with marker": lambda: bench.launch(*another(), marked=True),
        "new, FLOOR": lambda: bench.floor("/floor/new/", *unknown()),
        "new, in a frame": lambda: bench.launch(*unknown()),
        "new, in a window": lambda: bench.launch(*unknown(), framed=False),
    }


def measure(bench: Bench, launches: Kinds, rounds: int) -> Measured:
    """For each kind the launch of median CPU in each round, all kinds by turns in random order."""
    for launch in launches.values():
        launch()
    measured: Measured = {kind: [] for kind in launches}
    for _round in range(rounds):
        bench.renew_marker()
        costs: Measured = {kind: [] for kind in launches}
        for _turn in range(LAUNCHES_A_ROUND):
            for kind in random.sample(list(launches), len(launches)):
                costs[kind].append(launches[kind]())
        for kind, those in costs.items():
            measured[kind].append(sorted(those, key=lambda cost: cost.cpu)[len(those) // 2])
    return measured


def get_ratio(costs: list[Cost], floors: list[Cost]) -> str:
    """Median and quartiles over the rounds."""
    ratios = [cost.cpu / floor.cpu for cost, floor in zip(costs, floors, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def count(launch: Callable[[], Cost]) -> tuple[int, int]:
    """HTTP requests of a launch, and its round trips to the database."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    requests, trips = [], []
    for _launch in range(LAUNCHES_A_ROUND):
        # It logs what begins and ends transactions too.
        with CaptureQueriesContext(connection) as queries:
            requests.append(launch().requests)
        trips.append(len(queries))
    return statistics.median(requests), statistics.median(trips)


def grow(bench: Bench, rounds: int) -> None:
    """Print what a launch costs on a grown copy, as a ratio to the small original."""
    from django.db import connection, connections

    small, creation = connections["default"], connection.creation
    creation.clone_test_db("grown", verbosity=0, autoclobber=True)
    grown = connections.create_connection("default")
    grown.settings_dict = creation.get_test_db_clone_settings("grown")

    def on(database: object, launch: Callable[[], Cost]) -> Callable[[], Cost]:
        def launch_there() -> Cost:
            connections["default"] = database
            return launch()

        return launch_there

    try:
        connections["default"] = grown
        started = time.monotonic()
        bench.grow(MANY_USERS, MANY_LINKS, MANY_LAUNCHES)
        print(
            f"\nWith {MANY_USERS:,} users and {MANY_LAUNCHES:,} launches, "
            f"filled in {time.monotonic() - started:.0f} s\n\n"
            f"| {'':37} | of the same before |\n|---|---|"
        )
        kinds = get_kinds(bench)
        both = {f"{kind} before": on(small, launch) for kind, launch in kinds.items()}
        both |= {kind: on(grown, launch) for kind, launch in kinds.items()}
        measured = measure(bench, both, rounds)
        for kind in kinds:
            print(f"| {kind:37} | {get_ratio(measured[kind], measured[f'{kind} before']):18} |")
    finally:
        grown.close()
        connections["default"] = small
        creation.destroy_test_db(suffix="grown", verbosity=0)


if __name__ == "__main__":
    main()

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
MANY_REGISTRATIONS = 10**3
MANY_USERS, MANY_LINKS, MANY_LAUNCHES = 10**5, 10**4, 10**6
GOALS = {
    "returning, in a frame with our marker": 1.45,
    "returning, in a frame without it": 1.70,
    "returning, in a window": 1.70,
    "new, in a frame": 1.85,
    "new, in a window": 1.85,
}
FLOOR13 = "1.3: returning, FLOOR13"
# Of FLOOR13; of FLOOR more than the same launch by LTI 1.1.
GOALS13 = {"1.3: id_token check": 0.08, "1.3: login, in a window": 0.20}
GOAL_MORE = 0.20


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
    parser.add_argument(
        "--registrations",
        action="store_true",
        help=f"also on a copy with {MANY_REGISTRATIONS:,} registrations, launches by LTI 1.3 only",
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
        grow(bench, arguments.rounds, get_kinds(bench) | get_kinds13(bench), fill)
    if arguments.registrations:
        grow(bench, arguments.rounds, get_kinds13(bench), add_registrations)


def compare(bench: Bench, rounds: int) -> None:
    """Print what each kind of launch costs, as rows for README.md."""
    from lti_provider.models.public_keys import load_key_set

    launches, launches13 = get_kinds(bench), get_kinds13(bench)
    parsed = load_key_set.cache_info().misses
    measured = measure(bench, launches | launches13, rounds)
    print(
        f"\n| {'':37} | requests | round trips | CPU ms, site + server "
        "| of FLOOR (quartiles) | goal |\n|---|---|---|---|---|---|"
    )
    for kind, launch in launches.items():
        floor = f"{kind.partition(', ')[0]}, FLOOR"
        goal = f"{GOALS[kind]:.2f}" if kind in GOALS else ""
        ratio = get_ratio(measured[kind], measured[floor])
        print(f"{describe(kind, launch, measured[kind])} | {ratio:20} | {goal:4} |")
    print(
        f"\n| {'':37} | requests | round trips | CPU ms, site + server "
        "| of FLOOR13 (quartiles) | more than by 1.1, of FLOOR | goal |\n"
        "|---|---|---|---|---|---|---|"
    )
    for kind, launch in launches13.items():
        ratio, more = get_ratio(measured[kind], measured[FLOOR13]), ""
        goal = f"{GOALS13[kind]:.2f}" if kind in GOALS13 else ""
        if (twin := kind.removeprefix("1.3: ")) in launches:
            more = get_difference(measured[kind], measured[twin], measured["returning, FLOOR"])
            goal = f"{GOAL_MORE:.2f}"
        row = describe(kind, launch, measured[kind])
        print(f"{row} | {ratio:22} | {more:26} | {goal:4} |")
    asked = "The LMS was asked" if bench.has_fetched_keys else "Nobody was asked"
    print(f"\n{asked} for keys; {load_key_set.cache_info().misses - parsed} key sets were parsed.")


def describe(kind: str, launch: Callable[[], Cost], costs: list[Cost]) -> str:
    """The columns that all tables have."""
    requests, trips = count(launch)
    site, server = (
        statistics.median(getattr(cost, part) for cost in costs) for part in ("site", "server")
    )
    return f"| {kind:37} | {requests:8} | {trips:11} | {f'{site:.2f} + {server:.2f}':21}"


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


def get_kinds13(bench: Bench) -> Kinds:
    """What is measured of LTI 1.3: a launch is its login and its token."""

    def again() -> tuple[str, str]:
        return random.choice(bench.opened)

    def unknown() -> tuple[str, str]:
        return secrets.token_hex(10), random.choice(LINKS)

    return {
        FLOOR13: lambda: bench.floor13("/floor13/returning/", *again()),
        "1.3: id_token check": lambda: bench.check_token(*again()),
        "1.3: login, in a window": lambda: bench.log_in13(*again()),
        "1.3: returning, in a frame with our marker": lambda: bench.launch13(*again(), marked=True),
        "1.3: returning, in a frame without it": lambda: bench.launch13(*again()),
        "1.3: returning, in a window": lambda: bench.launch13(*again(), framed=False),
        "1.3: new, in a frame": lambda: bench.launch13(*unknown()),
        "1.3: new, in a window": lambda: bench.launch13(*unknown(), framed=False),
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


def get_difference(costs: list[Cost], others: list[Cost], floors: list[Cost]) -> str:
    """Median and quartiles over the rounds."""
    rounds = zip(costs, others, floors, strict=True)
    found = [(cost.cpu - other.cpu) / floor.cpu for cost, other, floor in rounds]
    low, middle, high = statistics.quantiles(found, n=4)
    return f"{middle:+.2f} ({low:+.2f} to {high:+.2f})"


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


def fill(bench: Bench) -> str:
    """Fill a database, and say with what."""
    bench.grow(MANY_USERS, MANY_LINKS, MANY_LAUNCHES)
    add_registrations(bench)
    return (
        f"{MANY_USERS:,} users, {MANY_LAUNCHES:,} launches and {MANY_REGISTRATIONS:,} registrations"
    )


def add_registrations(bench: Bench) -> str:
    """Add registrations, and say how many."""
    bench.add_registrations(MANY_REGISTRATIONS)
    return f"{MANY_REGISTRATIONS:,} registrations"


def grow(bench: Bench, rounds: int, kinds: Kinds, fill: Callable[[Bench], str]) -> None:
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
        filled = fill(bench)
        print(
            f"\nWith {filled}, filled in {time.monotonic() - started:.0f} s\n\n"
            f"| {'':37} | of the same before |\n|---|---|"
        )
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

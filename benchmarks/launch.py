"""What a whole launch (POST and ``enter``) costs, as a ratio to FLOOR; see README.md."""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import time
from collections.abc import Callable
from itertools import cycle
from typing import TYPE_CHECKING

from databases import on_each

if TYPE_CHECKING:
    from benchmarks.harness import Bench, Cost

    Kinds = dict[str, Callable[[], Cost]]
    Measured = dict[str, list[Cost]]

LAUNCHES_A_ROUND = 10
FEW_USERS, FEW_LINKS = 200, 20
MANY_USERS, MANY_LINKS, MANY_LAUNCHES = 10**5, 10**4, 10**6
TARGETS = {"returning": 1.45, "new": 1.60}


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
        default=40,
        help=f"how often {LAUNCHES_A_ROUND} launches of each kind are measured (40)",
    )
    parser.add_argument(
        "--growth",
        action="store_true",
        help=f"also on a copy with {MANY_USERS:,} users and {MANY_LAUNCHES:,} launches",
    )
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    from benchmarks.harness import Bench

    bench = Bench()
    compare(bench, arguments.rounds)
    if arguments.growth:
        grow(bench, arguments.rounds)


def compare(bench: Bench, rounds: int) -> None:
    """Print each kind of launch as a ratio to FLOOR."""
    users = [f"user-{n}" for n in range(FEW_USERS)]
    links = [f"link-{n}" for n in range(FEW_LINKS)]
    bench.add_users(users)
    bench.add_links(links)
    bench.add_results(opened_before(users, links))
    launches = kinds(bench, users, links)
    measured = measure(launches, rounds)
    print(f"\n{'':24}{'CPU ms':>8}   {'of FLOOR':20}{'at most':10}SQL statements")
    for kind, launch in launches.items():
        who, _comma, how = kind.partition(", ")
        target = "" if how == "FLOOR" else f"{TARGETS[who]:.2f}"
        print(
            f"{kind:24}{statistics.median(cost.cpu for cost in measured[kind]):8.2f}   "
            f"{ratio(measured, kind, f'{who}, FLOOR', 'cpu'):20}{target:10}"
            f"{count_statements(launch)}"
        )


def kinds(bench: Bench, users: list[str], links: list[str]) -> Kinds:
    """What is measured. No browser brings a session, for which FLOOR would do less."""

    known = opened_before(users, links)

    def again() -> tuple[str, str]:
        return random.choice(known)

    def another() -> tuple[str, str]:
        return random.choice(users), random.choice(links)

    def unknown() -> tuple[str, str]:
        return secrets.token_hex(10), random.choice(links)

    return {
        "returning, FLOOR": lambda: bench.floor("/floor/returning/", *again()),
        "returning, in a frame": lambda: bench.launch(*again(), framed=True),
        "returning, in a window": lambda: bench.launch(*again(), framed=False),
        "returning, new activity": lambda: bench.launch(*another(), framed=True),
        "new, FLOOR": lambda: bench.floor("/floor/new/", *unknown()),
        "new, in a frame": lambda: bench.launch(*unknown(), framed=True),
        "new, in a window": lambda: bench.launch(*unknown(), framed=False),
    }


def opened_before(users: list[str], links: list[str]) -> list[tuple[str, str]]:
    """Everybody with one activity."""
    return list(zip(users, cycle(links), strict=False))


def measure(launches: Kinds, rounds: int) -> Measured:
    """The median cost of each kind in each round, all kinds by turns in random order."""
    from benchmarks.harness import Cost

    for launch in launches.values():
        launch()
    measured: Measured = {kind: [] for kind in launches}
    for _round in range(rounds):
        costs: Measured = {kind: [] for kind in launches}
        for _turn in range(LAUNCHES_A_ROUND):
            for kind in random.sample(list(launches), len(launches)):
                costs[kind].append(launches[kind]())
        for kind, those in costs.items():
            cpu = statistics.median(cost.cpu for cost in those)
            wall = statistics.median(cost.wall for cost in those)
            measured[kind].append(Cost(cpu, wall))
    return measured


def ratio(measured: Measured, kind: str, base: str, clock: str) -> str:
    """Median and quartiles over the rounds."""
    rounds = zip(measured[kind], measured[base], strict=True)
    ratios = [getattr(cost, clock) / getattr(floor, clock) for cost, floor in rounds]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def count_statements(launch: Callable[[], Cost]) -> int:
    """SQL statements of one launch, less those that only begin or end a transaction."""
    from django.db import connection

    statements = []

    def note(execute: Callable, sql: str, *arguments: object) -> object:
        statements.append(sql)
        return execute(sql, *arguments)

    with connection.execute_wrapper(note):
        launch()
    transactional = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")
    return sum(not sql.startswith(transactional) for sql in statements)


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
        users = [f"user-{n}" for n in range(MANY_USERS)]
        links = [f"link-{n}" for n in range(MANY_LINKS)]
        connections["default"] = grown
        started = time.monotonic()
        bench.add_users(users[FEW_USERS:])
        bench.add_links(links[FEW_LINKS:])
        bench.add_results(opened_before(users, links)[FEW_USERS:])
        bench.add_launches(
            (random.choice(users), random.choice(links)) for _launch in range(MANY_LAUNCHES)
        )
        if grown.vendor == "postgresql":
            # As autovacuum would have done by then.
            with grown.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE")
        print(
            f"\nWith {MANY_USERS:,} users and {MANY_LAUNCHES:,} launches, "
            f"filled in {time.monotonic() - started:.0f} s\n\n"
            f"{'':24}{'CPU':20}{'time':20}"
        )
        before = kinds(bench, users[:FEW_USERS], links[:FEW_LINKS])
        after = kinds(bench, users, links)
        both = {f"{kind} before": on(small, launch) for kind, launch in before.items()}
        both |= {kind: on(grown, launch) for kind, launch in after.items()}
        measured = measure(both, rounds)
        for kind in after:
            cpu, wall = (
                ratio(measured, kind, f"{kind} before", clock) for clock in ("cpu", "wall")
            )
            print(f"{kind:24}{cpu:20}{wall:20}")
    finally:
        grown.close()
        connections["default"] = small
        creation.destroy_test_db(suffix="grown", verbosity=0)


if __name__ == "__main__":
    main()

"""`python -m tests.torture --kills N --store STORE`: crash tests in large, and their counts."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tests.torture.ledger import Failure
from tests.torture.referee import Referee
from tests.torture.servers import STORES, target


def main() -> int:
    """Run crash tests on stores, one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Kill processes that write to a store, and see that nothing is lost.",
    )
    parser.add_argument(
        "--store", action="append", metavar="STORE",
        help=f"one of {', '.join(STORES)} (default: all of these, servers of their own included),"
        " or a URL as langcairn.open_store takes it; may be repeated",
    )  # fmt: skip
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="(default: 200)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(2**32), metavar="N",
        help="of moments and victims, as a run before has printed it",
    )  # fmt: skip
    options = parser.parse_args()
    console = Console()
    console.print(f"seed {options.seed}", highlight=False)
    columns: dict[str, dict[str, float]] = {}
    failed = []
    for store in options.store or STORES:
        begun = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="langcairn-torture-") as directory,
            target(store, Path(directory)) as (url, server),
            Referee(url, options.seed, server) as referee,
        ):
            try:
                _run(referee, store, options.kills)
            except Failure as failure:
                console.print(f"[bold red]{store}[/]: {failure}", highlight=False)
                failed.append(store)
        columns[store] = {**referee.counts, "seconds": time.monotonic() - begun}
    console.print(_table(columns))
    for store in failed:
        console.print(f"[bold red]{store} failed[/]; once more: python -m tests.torture"
                      f" --store {store} --kills {options.kills} --seed {options.seed}",
                      highlight=False, soft_wrap=True)  # fmt: skip
    return 1 if failed else 0


def _run(referee: Referee, store: str, kills: int) -> None:
    shown = (
        TextColumn(store.partition(":")[0]),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    # Refreshed after each kill and not by a thread, which the workers would be forked beside.
    with Progress(
        *shown, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as progress:
        task = progress.add_task("", total=kills)
        referee.run(kills, lambda: progress.update(task, advance=1, refresh=True))


def _table(columns: dict[str, dict[str, float]]) -> Table:
    table = Table(title="Crash tests")
    table.add_column("")
    for store in columns:
        table.add_column(store.partition(":")[0], justify="right")
    for name in sorted({name for counts in columns.values() for name in counts}):
        table.add_row(name, *(f"{counts.get(name, 0):,.0f}" for counts in columns.values()))
    return table


if __name__ == "__main__":
    sys.exit(main())

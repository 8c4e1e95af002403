"""`python -m tests.torture --store URL --kills N`: crash tests in large, with a table of counts."""

from __future__ import annotations

import argparse
import random
import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from tests.torture.ledger import Failure
from tests.torture.referee import Referee


def main() -> int:
    """Run crash tests on stores, one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description="Kill processes that write to a store, and see that nothing is lost.",
    )
    parser.add_argument(
        "--store", action="append", required=True, metavar="URL",
        help="as langcairn.open_store takes it; may be repeated",
    )  # fmt: skip
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="(default: 200)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), metavar="N")
    options = parser.parse_args()
    console = Console()
    console.print(f"seed {options.seed}")
    columns: dict[str, dict[str, int]] = {}
    failed = False
    for url in options.store:
        with Referee(url, options.seed) as referee:
            try:
                _run(referee, url, options.kills)
            except Failure as failure:
                console.print(f"[bold red]{url}[/]: {failure}", highlight=False)
                failed = True
        columns[url] = dict(referee.counts)
    console.print(_table(columns))
    return 1 if failed else 0


def _run(referee: Referee, url: str, kills: int) -> None:
    shown = (
        TextColumn(url.partition(":")[0]),
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


def _table(columns: dict[str, dict[str, int]]) -> Table:
    table = Table(title="Crash tests")
    table.add_column("")
    for url in columns:
        table.add_column(url.partition(":")[0], justify="right")
    for name in sorted({name for counts in columns.values() for name in counts}):
        table.add_row(name, *(f"{counts.get(name, 0):,}" for counts in columns.values()))
    return table


if __name__ == "__main__":
    sys.exit(main())

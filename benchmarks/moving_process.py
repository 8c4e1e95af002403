"""One operation in a process of its own: `python -m benchmarks.moving_process OPERATION FROM TO`.

Prints how long it took [s] and the most memory that the process had at any moment [bytes].
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from time import perf_counter

from langgraph.checkpoint.sqlite import SqliteSaver

from langcairn import SqliteCheckpointStore, backup, migrate, restore


def _backup(source: str, target: str) -> bool:
    with SqliteCheckpointStore(source) as store:
        return backup(store, target).ok


def _restore(source: str, target: str) -> bool:
    with SqliteCheckpointStore(target) as store:
        return restore(source, store).ok


def _migrate(source: str, target: str) -> bool:
    with SqliteSaver.from_conn_string(source) as saver, SqliteCheckpointStore(target) as store:
        return migrate(saver, store).ok


def _peak_memory() -> int:
    """Return the most that this process had.

    What getrusage says may be what the process had that started this one: Linux counts that in.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _main(operation: str, source: str, target: str) -> None:
    operations = {"backup": _backup, "restore": _restore, "migrate": _migrate}
    begin = perf_counter()
    if not operations[operation](source, target):
        raise SystemExit(f"{operation} has findings, so its time means nothing")
    print(json.dumps([perf_counter() - begin, _peak_memory()]))


if __name__ == "__main__":
    _main(*sys.argv[1:])

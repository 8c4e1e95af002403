"""The journal: what was really done, by which process, whatever the checkpoints say.

Each piece of work (a tool call, an answer of the model, a publication) appends a line to one
file, outside the database. If a process repeated what an earlier one had finished, it would
stand here twice. The same lines go to the parent process, which follows the run by them.
"""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BEGUN = "begun"
DONE = "done"


class Entry(NamedTuple):
    """One line of the journal."""

    pid: int
    event: str
    work: str


class Journal:
    """Appends to the journal and tells the parent process, from any thread."""

    def __init__(self, path: Path, parent: TextIO) -> None:
        self._path = path
        self._parent = parent
        self._lock = threading.Lock()

    def record(self, event: str, work: str, **facts: Any) -> None:
        """Write down that a piece of work was begun or done, and tell the parent."""
        line = json.dumps(Entry(os.getpid(), event, work)._asdict())
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.tell(event, work=work, **facts)

    def tell(self, event: str, **facts: Any) -> None:
        """Tell the parent something that is no work."""
        with self._lock:
            self._parent.write(json.dumps({"event": event, "pid": os.getpid(), **facts}) + "\n")
            self._parent.flush()


def read_journal(path: Path) -> list[Entry]:
    """Read all lines of a journal, oldest first."""
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def find_repetitions(entries: Iterable[Entry], *, cut_off: str) -> list[str]:
    """Compare the journal with what may have happened at most; return what is wrong with it.

    Args:
        entries: The journal of the whole demo.
        cut_off: The only work that may have been begun twice: the kill cut it off.

    Returns:
        A sentence for each piece of work that was begun or finished too often, or never
        finished; an empty list if all is well.
    """
    begun: Counter[str] = Counter()
    done: Counter[str] = Counter()
    for entry in entries:
        (begun if entry.event == BEGUN else done)[entry.work] += 1
    problems = [f"{work} was finished {times} times" for work, times in done.items() if times > 1]
    for work, times in begun.items():
        if times > (2 if work == cut_off else 1):
            problems.append(f"{work} was begun {times} times")
        if work not in done:
            problems.append(f"{work} was never finished")
    if begun[cut_off] < 2:
        problems.append(f"{cut_off} was cut off but never begun again")
    return problems

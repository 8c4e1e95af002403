"""Results on the terminal: tables and text for people, JSON for programs.

Everything that comes from a store passes `escaped` before it gets here or here at the latest.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from langcairn.cli.escaping import escaped, json_escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from rich.console import RenderableType

_NARROW = 70
"""Below so many columns, the rows of a table are shown one below the other."""
_UNLIMITED = 10_000  # [columns] what is piped is for programs, which have no right margin

Cell = str | Text


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: What stands above it.
        justify: To which side.
        style: rich's style.
    """

    name: str
    justify: Literal["left", "right"] = "left"
    style: str = ""


class Printer:
    """Prints on stdout; progress goes to stderr, and only to a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _UNLIMITED
        self.console = Console(highlight=False, markup=False, emoji=False, width=width)
        self.errors = Console(
            stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True
        )

    @property
    def unicode(self) -> bool:
        """Whether the terminal shows more than ASCII."""
        return self.console.encoding.lower().startswith("utf")

    @property
    def width(self) -> int:
        """How many columns there are."""
        return self.console.width

    def json(self, value: Any, *, indent: bool = True) -> None:
        """Print plain data as JSON."""
        option = orjson.OPT_INDENT_2 if indent else 0
        text = orjson.dumps(value, option=option | orjson.OPT_UTC_Z, default=str).decode()
        print(json_escaped(text), flush=not indent)  # noqa: T201 -- no terminal's business

    def say(self, *lines: Cell | RenderableType) -> None:
        """Print lines of text; a string is one."""
        for line in lines:
            self.console.print(_cell(line) if isinstance(line, str) else line)

    def note(self, text: str) -> None:
        """Print a remark on stderr, where it isn't taken for a result; it is one line."""
        self.errors.print(Text(escaped(text)))

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> None:
        """Print a table; on a narrow terminal, one row below the other."""
        cells = [[_cell(cell) for cell in row] for row in rows]
        if self.width < _NARROW:
            self._stacked(columns, cells)
            return
        table = Table(box=box.SIMPLE_HEAD if self.unicode else box.ASCII, pad_edge=False)
        table.box = None
        for number, column in enumerate(columns):
            last = number == len(columns) - 1
            table.add_column(
                column.name,
                justify=column.justify,
                style=column.style,
                overflow="fold",
                no_wrap=not (last or number == 0),
                header_style="bold",
            )
        for row in cells:
            table.add_row(*row)
        self.console.print(table)

    def _stacked(self, columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> None:
        for first, *others in rows:
            self.console.print(Text.assemble(first, style="bold"), overflow="fold")
            for column, cell in zip(columns[1:], others, strict=True):
                if cell.plain:
                    self.console.print(Text(f"  {column.name}: ") + cell, overflow="fold")

    def facts(self, facts: Iterable[tuple[str, Cell]]) -> None:
        """Print names and what they stand for, below each other."""
        cells = [(_cell(name), _cell(value)) for name, value in facts]
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=self.width >= _NARROW, overflow="fold")
        table.add_column(overflow="fold")
        for name, value in cells:
            table.add_row(name, value)
        self.console.print(table)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int | None], None]]:
        """Show a bar while something takes long; what is yielded takes how far it is, and of what.

        There is one only on a terminal.
        """
        if not sys.stderr.isatty() or self.as_json:
            yield lambda _done, _total: None
            return
        from rich.progress import (  # noqa: PLC0415 -- slow to import, and seldom needed
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.errors, transient=True) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)


def _cell(value: Cell) -> Text:
    return value if isinstance(value, Text) else Text(escaped(value))


def counted(number: int, one: str, several: str = "") -> str:
    """Return a number and what there are so many of; the plural has an s if it isn't given."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def size(count: float | None) -> str:
    """Return a number of bytes for people."""
    if count is None:
        return "?"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def when(moment: datetime | None) -> str:
    """Return a time in the zone of this machine, to the second."""
    if moment is None:
        return ""
    local = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S}"


def short(text: str, most: int) -> str:
    """Return the beginning of a text as one line."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1]}…"

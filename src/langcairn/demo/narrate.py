"""How the demo speaks: sections, sentences, live lines, and checks that must hold."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping

_COLOURS = ("cyan", "green", "magenta", "yellow")


class DemoError(Exception):
    """Something that the demo promises did not happen."""


class Narrator:
    """Prints to standard output; plain text if that is no terminal."""

    def __init__(self) -> None:
        # A terminal that can't show a sign gets a "?", not a traceback.
        getattr(sys.stdout, "reconfigure", lambda **_: None)(errors="replace")
        self.console = Console(highlight=False)
        self.checks = 0
        self._sections = 0
        self._labels: dict[int, str] = {}

    def section(self, title: str) -> None:
        """Begin a section."""
        self._sections += 1
        self.console.print()
        self.console.print(Rule(f"[bold]{self._sections}  {title}", align="left"))

    def say(self, markup: str) -> None:
        """Print a paragraph and a blank line."""
        self.console.print(Text.from_markup(" ".join(markup.split())))
        self.console.print()

    def introduce(self, pid: int) -> None:
        """Give the next process its name, P1 to P4, and its colour."""
        self._labels[pid] = f"P{len(self._labels) + 1}"

    def name(self, pid: object) -> Text:
        """Return the coloured name of a process."""
        label = self._labels.get(pid, "??") if isinstance(pid, int) else "??"
        number = int(label[1:]) if label[1:].isdigit() else 0
        return Text(label, style=f"bold {_COLOURS[(number - 1) % len(_COLOURS)]}")

    def legend(self) -> Text:
        """Return which process has which name."""
        parts = [Text.assemble(self.name(pid), f" = {pid}") for pid in self._labels]
        return Text.assemble("process ids: ", Text("   ").join(parts))

    def live(self, pid: int, text: str, style: str = "") -> None:
        """Print what a process just did."""
        self.console.print(Text.assemble("  ", self.name(pid), "  ", (text, style)))

    def answer(self, decision: Mapping[str, Any]) -> None:
        """Print what a person decided."""
        verdict = "publish" if decision["publish"] else "don't publish"
        text = f"{decision['by']} answers: {verdict}. “{decision['note']}”"
        self.console.print(Text.assemble("      ", (text, "bold")))

    def verify(self, holds: bool, fact: str) -> None:
        """State a fact that was checked.

        Raises:
            DemoError: It does not hold.
        """
        if not holds:
            raise DemoError(f"this should be true and is not: {fact}")
        self.checks += 1
        first, *rest = textwrap.wrap(fact, self.console.width - 4)
        self.console.print(Text.assemble("  ", ("✓", "bold green"), " ", first))
        for line in rest:
            self.console.print(Text(f"    {line}"))

    def fail(self, problem: str) -> None:
        """Print why the demo stops."""
        self.console.print()
        self.console.print(Text(f"✗ FAILED: {problem}", style="bold red"))

    def conclude(self, seconds: float) -> None:
        """Print the last line."""
        text = f"All {self.checks} checks held, in {seconds:.1f} s."
        self.console.print(Text(text, style="bold green"))


def format_bytes(size: float) -> str:
    """Return a size for people: ``4.1 kB``, ``104 kB``, ``2.04 MB``."""
    if size < 1000:
        return f"{size:.0f} B"
    if size < 1_000_000:
        return f"{size / 1000:.1f} kB" if size < 100_000 else f"{size / 1000:.0f} kB"
    return f"{size / 1_000_000:.2f} MB"

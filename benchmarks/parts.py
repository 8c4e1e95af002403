"""The parts of the benchmark: which savers replay which workloads, and who against whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.savers import ADAPTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.servers import ServerName


@dataclass(frozen=True)
class Part:
    """Savers that take turns in one run.

    Attributes:
        name: What `--only` calls it.
        pairs: Each saver of ours with what it is set against.
        workloads: Names of what they replay.
        fresh: Whether fresh processes read what was stored, too.
    """

    name: str
    pairs: dict[str, str]
    workloads: tuple[str, ...]
    fresh: bool = True

    @property
    def savers(self) -> list[str]:
        """The savers, those that are set against first."""
        names = [name for ours, reference in self.pairs.items() for name in (reference, ours)]
        return list(dict.fromkeys(names))

    def of(self, names: Sequence[str]) -> Part:
        """Return the part with no other savers than these."""
        pairs = {
            ours: reference
            for ours, reference in self.pairs.items()
            if ours in names or reference in names
        }
        return replace(self, pairs=pairs)


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            "embedded",
            {
                "langcairn sqlite": "official sqlite",
                "langcairn memory": "official memory",
            },
            ("agent", "chat", "document", "counter"),
        ),
        Part("postgres", {"langcairn postgres": "official postgres"}, ("agent", "counter")),
        Part("valkey", {"langcairn valkey": "raw valkey"}, ("agent",)),
        Part("files", {"langcairn files": "langcairn sqlite"}, ("agent",)),
        Part("objects", {"langcairn objects": "langcairn sqlite"}, ("agent",)),
        Part(
            "workflow",
            {"retaining sqlite": "langcairn sqlite", "leased postgres": "langcairn postgres"},
            ("agent",),
            fresh=False,
        ),
        Part(
            "security",
            {
                "encrypted sqlite": "langcairn sqlite",
                "signed sqlite": "langcairn sqlite",
                "encrypted memory": "langcairn memory",
                "signed memory": "langcairn memory",
            },
            ("agent",),
            fresh=False,
        ),
    )
}


def servers_of(savers: Sequence[str]) -> set[ServerName]:
    """Say which servers some savers need."""
    return {server for name in savers if (server := ADAPTERS[name].server) is not None}

"""What a saver needs to be measured: how it is opened, weighed, closed and removed."""

from __future__ import annotations

import shutil
import tempfile
from abc import ABC, abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langgraph.checkpoint.base import BaseCheckpointSaver

    from benchmarks.recording import Call
    from benchmarks.servers import ServerName


KEY = bytes(range(32))
"""What encrypted and signed stores are measured with."""
MAX_CHECKPOINTS = 10
"""How many checkpoints a saver keeps that removes old ones."""


class Session(ABC):
    """One open saver on an empty place of its own."""

    saver: BaseCheckpointSaver[Any]

    def prepare(self, calls: Sequence[Call]) -> None:  # noqa: B027 -- only a floor needs it
        """Look at what will be replayed. It isn't timed, and no real saver can do it."""

    @abstractmethod
    def bytes_kept(self) -> int:
        """Say how much is kept now. It isn't timed, and it may touch what is stored."""

    @abstractmethod
    def close(self) -> int:
        """Close the saver, and say how many bytes the whole run costs to keep."""


class Adapter(ABC):
    """How one saver is opened, weighed and closed.

    Attributes:
        name: What the report and `--savers` call it.
        persistent: Whether a fresh process can open what it stored.
        reads: Whether it can read; if not, it is only there to say what writing costs.
        server: The server that it needs.
    """

    name: ClassVar[str]
    persistent: ClassVar[bool]
    reads: ClassVar[bool] = True
    server: ClassVar[ServerName | None] = None

    @abstractmethod
    def open(self, directory: Path) -> Session:
        """Open the saver on `directory`, which is its own; there may be data there already.

        On a server, the directory holds a note of where the data is.
        """

    def remove(self, directory: Path) -> None:
        """Remove what a session, closed by now, has left."""
        shutil.rmtree(directory)

    @contextmanager
    def new_place(self, parent: Path | None = None) -> Iterator[Path]:
        """Give a directory to open the saver on, and remove what it left."""
        directory = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield directory
        finally:
            self.remove(directory)


def files_size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

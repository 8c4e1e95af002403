"""The file backend when the power fails.

A disk of the tests' own notes what the backend asks of the system. From that follow the states
in which a loss of power may leave the directory: what was synced is there; of what wasn't, any
sectors, and the first so many changes of names. A directory is synced by itself, as POSIX says;
most file systems do more.
"""

from __future__ import annotations

import os
import random
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.sqlite_rows import find, ids, put, row
from tests.test_file_backend_crash import check, story

from langcairn.backends.file import FileBackend
from langcairn.backends.file import directory as directory_module
from langcairn.backends.file.system import Descriptor
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTOR = 512
Operation = tuple[Any, ...]


class Disk:
    """Notes all changes of files below a directory, and plays them back as a power loss would."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.operations: list[Operation] = []
        self._files: dict[int, int] = {}  # inode to number, which is never used again

    @contextmanager
    def noting(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Note what is done, while doing it."""
        with monkeypatch.context() as patch:
            of_new = Descriptor.of_new

            def create(path: Path) -> Descriptor:
                file = of_new(path)
                number = len(self._files) + len(self.operations)
                self._files[os.fstat(file.fd).st_ino] = number
                self.operations.append(("link", path, number))
                return file

            patch.setattr(Descriptor, "of_new", create)
            for owner, name, note in (
                (os, "pwrite", self._pwrite),
                (os, "ftruncate", lambda fd, size: ("truncate", self._file(fd), size)),
                (os, "fdatasync", lambda fd: ("sync", self._file(fd))),
                (directory_module, "sync_directory", lambda path: ("sync names", path)),
                (Path, "mkdir", lambda path, **_: ("mkdir", path)),
                (Path, "hardlink_to", lambda path, other: ("link", path, self._at(other))),
                (Path, "unlink", lambda path: ("unlink", path)),
                (Path, "replace", lambda path, other: ("rename", path, other, self._at(path))),
                (Path, "rename", lambda path, other: ("rename", path, other, self._at(path))),
            ):
                patch.setattr(owner, name, self._noted(getattr(owner, name), note))
            yield

    def _noted(self, call: Any, note: Callable[..., Operation]) -> Any:
        def wrapper(*args: Any, **options: Any) -> Any:
            operation = note(*args, **options)
            result = call(*args, **options)
            self.operations.append(operation)
            return result

        return wrapper

    def _file(self, fd: int) -> int:
        return self._files[os.fstat(fd).st_ino]

    def _at(self, path: Path) -> int:
        return self._files[path.stat().st_ino]

    def _pwrite(self, fd: int, data: Any, offset: int) -> Operation:
        return "write", self._file(fd), offset, bytes(data)

    def lose_power(self, moment: int, target: Path, chance: random.Random) -> int:
        """Make a directory as it may be after a loss of power. Returns the steps acknowledged."""
        files: dict[int, _File] = {}
        names: list[Operation] = []
        synced: set[int] = set()  # of names, those that can't be lost
        acknowledged = 0
        for operation in self.operations[:moment]:
            match operation:
                case ("acknowledge",):
                    acknowledged += 1
                case ("sync names", path):
                    synced.update(i for i, name in enumerate(names) if _is_in(name, path))
                case ("sync", number):
                    files[number].sync()
                case ("write" | "truncate", number, *what):
                    files.setdefault(number, _File()).pending.append(tuple(what))
                case ("link", _, number):
                    files.setdefault(number, _File())
                    names.append(operation)
                case _:
                    names.append(operation)
        some = chance.randint(0, len(names))
        lasting = [name for i, name in enumerate(names) if i in synced or i < some]
        self._make(target, lasting, files, chance)
        return acknowledged

    def _make(
        self, target: Path, names: list[Operation], files: dict[int, _File], chance: random.Random
    ) -> None:
        present: dict[Path, int] = {}
        target.mkdir()
        for operation in names:
            match operation:
                case ("mkdir", path):
                    (target / path.relative_to(self.root)).mkdir(exist_ok=True)
                case ("link", path, number):
                    present[path] = number
                case ("rename", path, other, number):
                    present.pop(path, None)
                    present[other] = number
                case ("unlink", path):
                    present.pop(path, None)
        for path, number in present.items():
            place = target / path.relative_to(self.root)
            if place.parent.is_dir():  # else it was lost with its directory
                place.write_bytes(files[number].after_loss(chance))


def _is_in(operation: Operation, directory: Path) -> bool:
    return any(isinstance(part, Path) and part.parent == directory for part in operation)


class _File:
    """The content of a file that is on the disk, and what was done to it since."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.pending: list[tuple[Any, ...]] = []

    def sync(self) -> None:
        for operation in self.pending:
            self._apply(*operation)
        self.pending.clear()

    def _apply(self, offset: int, data: bytes | None = None) -> None:
        if data is None:
            del self.content[offset:]
            self.content.extend(bytes(offset - len(self.content)))
        else:
            self.content.extend(bytes(max(0, offset + len(data) - len(self.content))))
            self.content[offset : offset + len(data)] = data

    def after_loss(self, chance: random.Random) -> bytes:
        """Return what may be left: its length as of any moment since, and any sectors."""
        kept = _File()
        kept.content = bytearray(self.content)
        share = chance.choice((0, 0.5, 0.9, 1))
        for offset, *data in self.pending[: chance.randint(0, len(self.pending))]:
            if not data:
                kept._apply(offset)
                continue
            end = offset + len(data[0])
            kept._apply(end, b"")
            for sector in range(offset // SECTOR, -(-end // SECTOR)):
                start, stop = max(offset, sector * SECTOR), min(end, (sector + 1) * SECTOR)
                if chance.random() < share:
                    kept._apply(start, data[0][start - offset : stop - offset])
        return bytes(kept.content)


@pytest.fixture(autouse=True)
def compact_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langcairn.backends.file.log._WORTH_COMPACTING", 10_000)


def losses(disk: Disk, tmp_path: Path, count: int = 4) -> Iterator[tuple[Path, int]]:
    """Yield directories after losses of power at each moment, and the steps acknowledged then."""
    chance = random.Random(11)
    for moment in range(len(disk.operations) + 1):
        for n in range(count):
            directory = tmp_path / f"after {moment}.{n}"
            yield directory, disk.lose_power(moment, directory, chance)


def test_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path / "store")
    disk.root.mkdir()
    with disk.noting(monkeypatch), closing(FileBackend(disk.root)) as backend:
        story(backend, lambda: disk.operations.append(("acknowledge",)))
    assert len(disk.operations) > 50
    for directory, acknowledged in losses(disk, tmp_path):
        check(directory, acknowledged)


class _Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest would take for the user's."""


def test_after_a_writer_that_died_before_it_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote must not stand unsynced before what others acknowledge."""
    disk = Disk(tmp_path / "store")
    disk.root.mkdir()

    def die(_: int) -> None:
        raise _Interrupt

    with disk.noting(monkeypatch):
        for n in range(4):
            with closing(FileBackend(disk.root)) as backend:
                put(backend, row(f"{n}a"))
                disk.operations.append(("acknowledge",))
                with monkeypatch.context() as patch, suppress(_Interrupt):
                    patch.setattr(os, "fdatasync", die)
                    put(backend, row(f"{n}b", state=b"[" + b"1," * 900 + b"1]"))
    for directory, acknowledged in losses(disk, tmp_path, 20):
        with closing(FileBackend(directory, fsync=False)) as backend:
            found = ids(find(backend, "e"))
            assert {f"{n}a" for n in range(acknowledged)} <= set(found)
            assert set(found) <= {f"{n}{x}" for n in range(acknowledged + 1) for x in "ab"}
            put(backend, row("z"))
        with closing(FileBackend(directory)) as backend:
            assert ids(find(backend, "e")) == ["z", *found]


def test_after_a_writer_that_died_before_it_synced_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path / "store")
    disk.root.mkdir()

    def die(_: Path) -> None:
        raise _Interrupt

    with disk.noting(monkeypatch):
        with closing(FileBackend(disk.root)) as backend:
            put(backend, row("0", "other"))
        with (
            closing(FileBackend(disk.root)) as backend,
            monkeypatch.context() as patch,
            suppress(_Interrupt),
        ):
            patch.setattr(directory_module, "sync_directory", die)
            put(backend, row("1"))
        with closing(FileBackend(disk.root)) as backend:
            put(backend, row("2"))
            disk.operations.append(("acknowledge",))
    for directory, acknowledged in losses(disk, tmp_path):
        with closing(FileBackend(directory)) as backend:
            assert ids(find(backend, "e")) == ["2", "1"] or not acknowledged


def test_the_disk_finds_what_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fsync the same losses do harm: else they would prove nothing."""
    disk = Disk(tmp_path / "store")
    disk.root.mkdir()
    with disk.noting(monkeypatch), closing(FileBackend(disk.root, fsync=False)) as backend:
        story(backend, lambda: disk.operations.append(("acknowledge",)))
    harmed = 0
    for directory, acknowledged in losses(disk, tmp_path):
        try:
            check(directory, acknowledged)
        except (AssertionError, CorruptData):
            harmed += 1
    assert harmed > 20

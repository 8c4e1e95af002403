"""A backup together with those that it builds on."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from langcairn.errors import CorruptData, ForgedData, InvalidInput
from langcairn.transfer.backup_files import BackupFile
from langcairn.transfer.backup_format import Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from langcairn.transfer.backup_format import Entry
    from langcairn.transfer.protection import Keychain


class Chain:
    """A backup and its parents, the newest first.

    Args:
        path: The backup.
        keychain: The keys for what is encrypted or signed.
        parents: Where to look for those that it builds on; None: beside it, by their names.
        salvage: Take a backup that is cut off for what it is.
    """

    def __init__(
        self,
        path: Path,
        keychain: Keychain,
        parents: Sequence[Path] | None = None,
        *,
        salvage: bool = False,
    ) -> None:
        self._path = path
        self._keychain = keychain
        self._parents = parents
        self._salvage = salvage
        self._stack = ExitStack()
        self.files: list[BackupFile] = []

    def open(self) -> None:
        """Open the files.

        Raises:
            InvalidInput: A parent isn't the one that was built on, or isn't there.
            CorruptData: A backup is cut off, or its beginning is damaged.
            StoreMisconfigured: There is no such file, or a later version wrote it.
            DecryptionFailed: A backup is encrypted, and its key isn't given.
            ForgedData: A backup can't be what was built on, or is signed with another key.
        """
        parents = self._parents
        with ExitStack() as stack:
            file = self._open(stack, self._path, salvage=self._salvage)
            given: dict[bytes, Path] = {}
            for parent in parents or ():
                given[stack.enter_context(BackupFile(parent, self._keychain)).id] = parent
            while file.header.parent:
                wanted = file.header.parent
                if parents is None:
                    parent_path = file.path.with_name(file.header.parent_name)
                    if not parent_path.exists():
                        raise _missing(file, "is not there")
                elif wanted in given:
                    parent_path = given[wanted]
                else:
                    raise _missing(file, "is not among the given ones")
                child, file = file, self._open(stack, parent_path, salvage=False)
                if file.id != wanted:
                    raise _missing(child, f"is another one than {file.path}")
            self._stack = stack.pop_all()

    def _open(self, stack: ExitStack, path: Path, *, salvage: bool) -> BackupFile:
        file = stack.enter_context(BackupFile(path, self._keychain))
        if self.files and file.header.protection != self.newest.header.protection:
            # Anyone could put a plain file into the place of an encrypted one.
            raise ForgedData(
                f"{path} is not {self.newest.header.protection or 'plain'}, as the backup is that "
                "builds on it"
            )
        if file.close_frame is None and not salvage:
            raise CorruptData(
                f"{path} is cut off: it was not completed, or its end is lost. With salvage=True, "
                "the executions that are whole in it are restored"
            )
        self.files.append(file)
        return file

    def close(self) -> None:
        """Close the files."""
        self._stack.close()

    @property
    def newest(self) -> BackupFile:
        """The backup itself."""
        return self.files[0]

    def entries(self) -> Iterator[Entry]:
        """Yield the executions that the backup has, in ascending order."""
        return (entry for entry in self.newest.entries() if entry.part != Part.GONE)

    def find(self, execution_id: str) -> Entry | None:
        """Return the entry of an execution; None if the backup doesn't have it."""
        entry = self.newest.find(execution_id)
        return None if entry is None or entry.part == Part.GONE else entry

    def places(self, entry: Entry) -> list[tuple[BackupFile, Entry]]:
        """Return where an execution's content is, the newest first.

        Raises:
            CorruptData: A backup that it needs has lost its entry.
        """
        places = []
        for file in self.files:
            here = entry if file is self.newest else file.find(entry.execution_id)
            if here is None or here.part == Part.GONE:
                break
            if here.part != Part.SAME:
                places.append((file, here))
            if here.part == Part.FULL:
                return places
        raise CorruptData("the backup that has the rest of it has lost its entry")


def _missing(file: BackupFile, why: str) -> InvalidInput:
    return InvalidInput(
        f"{file.path} builds on the backup {file.header.parent_name!r}, which {why}: put it beside "
        "this one, or name where it is with parents=[…]"
    )

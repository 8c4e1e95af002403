"""Which executions of a user a backup file still has."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from langcairn.errors import InvalidInput
from langcairn.security.keys import Keyring
from langcairn.thread_id import ThreadId, part_of
from langcairn.transfer.backup_files import BackupFile
from langcairn.transfer.backup_format import Part
from langcairn.transfer.protection import Keychain

if TYPE_CHECKING:
    import os
    from uuid import UUID

    from langcairn.security.keys import Keys


@dataclass
class BackupHolding:
    """What a backup file has of a user. It is true if there is anything, or may be.

    Attributes:
        executions: Ids of his executions whose content is in this file, ascending.
        named: Ids of those that are only named: as they are in the backup before, or deleted.
        damage: What of the file can't be read; there may be more behind it.
    """

    executions: list[str] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.executions or self.named or self.damage)


def backup_contains(
    path: str | os.PathLike[str], user_id: str | int | UUID, *, encryption: Keys | None = None
) -> BackupHolding:
    """Look in a backup file for executions whose `ThreadId` names a user.

    Only its index is read. Of increments, each file must be looked at for itself.

    Args:
        path: The file.
        user_id: The user. An int or UUID stands for its text.
        encryption: The keys of an encrypted backup.

    Raises:
        DecryptionFailed: It is encrypted with a key that isn't given.
        StoreMisconfigured: There is no such file, or a later version wrote it.
        InvalidInput: It is no backup, or there is no such user id.
        CorruptData: The file's beginning is damaged.
    """
    user = part_of(user_id, "user_id")
    found = BackupHolding()
    keychain = Keychain(None if encryption is None else Keyring(encryption))
    with BackupFile(Path(path).absolute(), keychain) as file:
        for entry in file.entries():
            if not _is_of(user, entry.execution_id):
                continue
            has_content = entry.part in (Part.FULL, Part.CHANGED)
            (found.executions if has_content else found.named).append(entry.execution_id)
        found.damage += file.damage
        if file.close_frame is None:
            found.damage.append("the file is cut off: it has no end")
    return found


def _is_of(user_id: str, execution_id: str) -> bool:
    try:
        return ThreadId.parse(execution_id).user_id == user_id
    except InvalidInput:
        return False

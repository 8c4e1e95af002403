"""What a store does to change the form or the place of what it keeps: keys, and object storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langcairn.errors import InvalidInput
from langcairn.operating import Operating
from langcairn.records import valid_execution_id
from langcairn.security.encrypted import EncryptedBackend
from langcairn.security.rotation import rotate

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.objects import Moved
    from langcairn.operations import Operation
    from langcairn.security.rotation import Rotation


class Rewriting(Operating):
    """The methods of a store that encrypt anew and move to objects."""

    # Keys

    def rotate_keys(self, progress: Callable[[Rotation], None] | None = None) -> int:
        """Encrypt with the first key all that was encrypted with another one.

        Others may use the store meanwhile, if they know the new key already. What is rewritten
        stays so, so after an interruption it may simply be called again. When it has returned, and
        no process writes with the old key any more, that key is not needed any longer.

        Args:
            progress: Called after each execution.

        Returns:
            How many rows, pending writes and chunks were rewritten.

        Raises:
            InvalidInput: The store isn't encrypted.
            DecryptionFailed: Something can't be decrypted; what came before it is rewritten.
        """
        backend = self._encrypted()
        return self.run(rotate(backend, progress), backend.inner)

    async def arotate_keys(self, progress: Callable[[Rotation], None] | None = None) -> int:
        """Do as `rotate_keys`."""
        backend = self._encrypted()
        return await self.arun(rotate(backend, progress), backend.inner)

    def _encrypted(self) -> EncryptedBackend:
        if not isinstance(self.backend, EncryptedBackend):
            raise InvalidInput("this store isn't encrypted, so it has no keys to change")
        return self.backend

    # Object storage

    def move_to_objects(
        self,
        execution_id: str | None = None,
        *,
        progress: Callable[[str, Moved], None] | None = None,
    ) -> Moved:
        """Move older and larger content to object storage, and remove there what isn't needed.

        Others may use the store meanwhile. After an interruption it may simply be called again.

        Args:
            execution_id: Whose content; None: that of all executions.
            progress: With all: called after each one with its id and the sums so far.

        Returns:
            What was done.

        Raises:
            InvalidInput: The store has no object storage.
            StoreUnavailable: The database or the object storage can't be reached.
            StoreMisconfigured: There is no such bucket, or the credentials are wrong.
        """
        return self.run(self._moving(execution_id, progress))

    async def amove_to_objects(
        self,
        execution_id: str | None = None,
        *,
        progress: Callable[[str, Moved], None] | None = None,
    ) -> Moved:
        """Do as `move_to_objects`."""
        return await self.arun(self._moving(execution_id, progress))

    def _moving(
        self, execution_id: str | None, progress: Callable[[str, Moved], None] | None
    ) -> Operation[Moved]:
        if execution_id is not None:
            execution_id = valid_execution_id(execution_id)
        backend = self.tiered()
        if backend is None:
            raise InvalidInput("this store has no object storage: open it with objects=…")
        return backend.moving(self.codec.format, execution_id, progress)

"""Several saves and deletes, of any executions, that happen all together or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from langcairn import maintenance
from langcairn.backends import base
from langcairn.backends.base import Expected
from langcairn.cache import Caches
from langcairn.errors import InvalidInput
from langcairn.operations import Codec, CommitBuilder
from langcairn.records import draft_of, valid_execution_id, valid_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from langcairn.backends.base import CheckpointRow, ChunkId, Commit
    from langcairn.checkpoint import Checkpoint
    from langcairn.operations import Operation
    from langcairn.store import CheckpointStore


class _Key(NamedTuple):
    execution_id: str
    namespace: str
    id: str


class Transaction:
    """A block of saves and deletes: all or nothing. Made by `CheckpointStore.transaction`.

    ::

        with store.transaction() as tx:
            tx.save(checkpoint, expected_version=1)
            tx.delete("draft", execution_id="thread-1")

    Nothing is sent before the block ends; an exception that leaves it means that nothing happens.
    The store shows within the block what it did before it. What is saved is what a state holds
    when `save` is called. Of several saves and deletes of one checkpoint the last counts.

    It serves one block. Errors of the commit are raised at the block's end:

    Raises:
        VersionConflict: A version isn't the expected one; nothing happened.
        LeaseHeld: Someone else has a lease on one of the executions; nothing happened.
        LeaseLost: The store's own lease on one of them is lost; nothing happened.
        InvalidInput: The executions can't be changed together: on a Redis Cluster, each must be in
            the same slot. Nothing happened.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self._store = store
        # With no memory of what is stored: its commits carry every chunk, and never are stale.
        format = store.codec.format
        self._codec = Codec(store.codec.serde, Caches(0, format), format)
        self._saved: dict[_Key, tuple[CheckpointRow, Sequence[tuple[ChunkId, bytes]]] | None] = {}
        self._expected: dict[_Key, int | None] = {}
        self._is_open = self._is_over = False

    def save(self, checkpoint: Checkpoint, *, expected_version: int | None = None) -> None:
        """Save a checkpoint when the block ends.

        Args:
            checkpoint: The checkpoint; its state is looked at now.
            expected_version: As for `CheckpointStore.save`: what must be stored before the block's
                changes are made.

        Raises:
            InvalidInput: A field can't be stored, or the transaction isn't open.
            Unserializable: A value can't be stored.
        """
        self._refuse_unless_open()
        draft = draft_of(checkpoint)
        key = _Key(draft.execution_id, draft.namespace, draft.id)
        builder = CommitBuilder(self._codec, key.execution_id)
        builder.add(draft)
        commit = builder.request()
        self._expect(key, expected_version)
        self._saved[key] = commit.checkpoints[0], commit.chunks

    def delete(
        self,
        checkpoint_id: str,
        *,
        execution_id: str,
        namespace: str = "",
        expected_version: int | None = None,
    ) -> None:
        """Delete a checkpoint, with its pending writes, when the block ends.

        One that isn't there is no error, as with `CheckpointStore.delete`, unless a version of it
        is expected.

        Args:
            checkpoint_id: Its id.
            execution_id: Its execution.
            namespace: Its namespace; the root's if it isn't given.
            expected_version: The version that must be stored.

        Raises:
            InvalidInput: An argument can't be used, or the transaction isn't open.
        """
        self._refuse_unless_open()
        key = _Key(
            valid_execution_id(execution_id),
            valid_name(namespace, "namespace"),
            valid_name(checkpoint_id, "checkpoint id", empty=False),
        )
        self._expect(key, expected_version)
        self._saved[key] = None

    def _expect(self, key: _Key, version: int | None) -> None:
        for expected in expectation(key.namespace, key.id, version):
            if self._expected.setdefault(key, expected.version) != expected.version:
                raise InvalidInput(
                    f"checkpoint {key.id!r} is expected in two versions by one transaction; a "
                    "version that is expected is the one before the transaction"
                )

    def _refuse_unless_open(self) -> None:
        if self._is_over:
            raise InvalidInput("this transaction is over; begin another with store.transaction()")
        if not self._is_open:
            raise InvalidInput("use a transaction in a block: with store.transaction() as tx")

    def _begin(self) -> Self:
        if self._is_open or self._is_over:
            raise InvalidInput("a transaction serves one block; begin another")
        self._is_open = True
        return self

    def _end(self) -> Operation[None]:
        self._is_open, self._is_over = False, True
        return _commit(self._store.codec, self._commits())

    def _commits(self) -> list[Commit]:
        commits: dict[str, Commit] = {}
        for key, saved in self._saved.items():
            id = key.execution_id
            commit = commits.get(id) or base.Commit(id, None, expected=self._expected_of(id))
            if saved is None:
                commit = commit._replace(removals=[*commit.removals, key[1:]])
            else:
                row, chunks = saved
                commit = commit._replace(
                    checkpoints=[*commit.checkpoints, row],
                    chunks=list(dict([*commit.chunks, *chunks]).items()),
                )
            commits[id] = commit
        return list(commits.values())

    def _expected_of(self, execution_id: str) -> list[Expected]:
        return [
            Expected(key.namespace, key.id, version)
            for key, version in self._expected.items()
            if key.execution_id == execution_id
        ]

    def __enter__(self) -> Self:
        return self._begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        changes = self._end()
        if kind is None:
            self._store.run(changes)

    async def __aenter__(self) -> Self:
        return self._begin()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        changes = self._end()
        if kind is None:
            await self._store.arun(changes)


def expectation(namespace: str, id: str, version: int | None) -> list[Expected]:
    """Return the condition that ``expected_version`` of a save or delete means; none if None.

    Raises:
        InvalidInput: It is no version.
    """
    if version is None:
        return []
    if type(version) is not int or not 0 <= version < 2**31:
        raise InvalidInput(
            f"expected_version={version!r}: give the version that is stored, 0 if there must be no "
            "such checkpoint yet, or None"
        )
    return [Expected(namespace, id, version or None)]


def _commit(codec: Codec, commits: Sequence[Commit]) -> Operation[None]:
    """Make commits to different executions, all or none, and free what they removed."""
    if not commits:
        return
    epochs: list[int] = (
        [(yield commits[0])] if len(commits) == 1 else (yield base.Transaction(commits))
    )
    for commit in commits:
        codec.caches.drop(commit.execution_id)
    for commit, epoch in zip(commits, epochs, strict=True):
        if commit.removals:
            yield from maintenance.free(codec, commit.execution_id, epoch)

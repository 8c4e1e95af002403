"""Encoding saves ahead of their commits, each on top of those before it.

A `WriteBehind` must keep what a state is at the moment of the save. It does so by encoding it there
and then, as a direct save would: only what differs from the last save of the execution costs
anything, and what can't be stored is refused at once. A `Session` remembers, like
`langcairn.cache`, what the execution's saves have encoded; unlike there, that is not stored yet. So
it keeps every chunk that it has made: when it turns out that one of its commits failed, or that
chunks were removed meanwhile, the next commit carries all of them, and depends on nothing.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from langcairn import operations
from langcairn.backends.base import Commit, FetchChunks, FindCheckpoints, FoundCheckpoint
from langcairn.cache import Caches
from langcairn.checkpoint import Checkpoint
from langcairn.operations import Codec, CommitBuilder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langcairn.backends.base import CheckpointRow, ChunkId
    from langcairn.codec.chunks import Payload
    from langcairn.records import Draft, Loaded

# A session that has grown by this beyond twice its beginning holds much that no state needs any
# more; then the next save begins a new one. So memory and large commits stay in proportion.
_GROWTH = 2**20  # [bytes]
_ENDLESS = 2**62
# The cache of a session is of no epoch in storage: it runs ahead of it.
_AHEAD = 0


class Save:
    """One save that was accepted: its row, and the chunks that no save before it had.

    Attributes:
        session: What it was encoded on.
        row: The row to store.
        size: The bytes that it keeps in memory until it is stored, about.
        accepted: When it was [s, monotonic].
        number: Its place in the queue, counted from 1.
        alone: It must not share a commit: one in which it was has failed.
    """

    __slots__ = ("_chunks", "_sealed", "accepted", "alone", "number", "row", "session", "size")

    def __init__(
        self, session: Session, row: CheckpointRow, chunks: list[tuple[ChunkId, Payload]]
    ) -> None:
        self.session = session
        self.row = row
        self._chunks: list[tuple[ChunkId, Payload]] = chunks
        self._sealed: list[tuple[ChunkId, bytes]] | None = None
        self.size = (
            len(row.state)
            + len(row.metadata)
            + len(row.graph)
            + sum(len(payload.data) for _, payload in chunks)
        )
        self.accepted = time.monotonic()
        self.number = 0
        self.alone = False

    def without_state(self) -> Checkpoint:
        """Return what names this save, for a state that can't be told."""
        row = self.row
        return Checkpoint(
            id=row.id,
            execution_id=row.execution_id,
            namespace=row.namespace,
            parent_id=row.parent_id,
            node_name=row.node_name,
            state=None,
            timestamp=row.timestamp,
            version=row.version,
        )

    def sealed(self) -> list[tuple[ChunkId, bytes]]:
        """Return the chunks as they are stored. They are compressed here, once."""
        if self._sealed is None:
            self._sealed = [(id, self.session.format.seal(payload)) for id, payload in self._chunks]
            self._chunks = []
        return self._sealed


class Session:
    """Consecutive saves of one execution.

    `encode` is for callers, one at a time; everything else for the thread that stores.

    Attributes:
        execution_id: The execution.
        format: How its chunks are stored.
        size: The bytes that it keeps in memory, about.
    """

    def __init__(self, codec: Codec, execution_id: str) -> None:
        self.execution_id = execution_id
        self.format = codec.format
        self.size = 0
        self._first = 0  # [bytes] of its first save
        self._codec = _with_caches_of_its_own(codec)
        self._epoch: int | None = None  # None: the next commit must carry everything
        self._made: dict[ChunkId, bytes] = {}
        self._witnesses: tuple[ChunkId, ...] = ()  # of what was stored last
        self._over = False

    @property
    def over(self) -> bool:
        """Whether the next save must begin a new session."""
        return self._over or self.size > 2 * self._first + _GROWTH

    def encode(self, draft: Draft) -> Save:
        """Encode a checkpoint on top of those before it.

        If this raises anything, the session must not be used for another save.

        Raises:
            Unserializable: A value can't be stored.
        """
        builder = CommitBuilder(self._codec, self.execution_id)
        builder.add(draft)
        cache = builder.cache
        new = [item for item in builder.encoder.chunks.items() if item[0] not in cache.known]
        self._codec.caches.publish(
            self.execution_id,
            cache,
            _AHEAD,
            chunks=[id for id, _ in new],
            values=builder.values,
            heads=builder.heads,
            grown=sum(len(payload.data) for _, payload in new),
        )
        self.size = cache.size
        self._first = self._first or self.size
        return Save(self, builder.checkpoints[0], new)

    # Storing

    def commit(self, saves: Sequence[Save]) -> Commit:
        """Return the commit of saves, which come in the order in which they were encoded.

        Of those with the same key it stores only the last.
        """
        new = [chunk for save in saves for chunk in save.sealed()]
        self._made.update(new)
        chunks = new if self._epoch is not None else list(self._made.items())
        rows = {(save.row.namespace, save.row.id): save.row for save in saves}
        witnesses = () if self._epoch is None else self._witnesses
        return Commit(
            self.execution_id, self._epoch, chunks, list(rows.values()), witnesses=witnesses
        )

    def committed(self, commit: Commit, epoch: int) -> None:
        """Note that a commit was made, and the epoch that it was answered with."""
        self._witnesses = tuple(id for id, _ in commit.chunks[-1:]) or self._witnesses
        # Another epoch than expected: something was replaced, and what only that referred to may
        # be swept from now on, though later saves may refer to it, too.
        self._epoch = epoch if commit.epoch in (None, epoch) else None

    def lost(self) -> None:
        """Note that chunks of this session may not be stored."""
        self._epoch = None

    def given_up(self) -> None:
        """Note that one of the saves won't be stored."""
        self.lost()
        # Its chunks, which may be the cause, shall not go along with those of saves to come.
        self._over = True

    def decode(self, save: Save) -> Loaded:
        """Return what was saved, as loading it would.

        Raises:
            CorruptData: It can't be loaded in this process, for one because of its types.
        """
        self._made.update(save.sealed())
        found = FoundCheckpoint(save.row, (), _AHEAD)
        codec = _with_caches_of_its_own(self._codec)
        operation = operations.find(codec, FindCheckpoints(self.execution_id))
        try:
            request = next(operation)
            while True:
                match request:
                    case FindCheckpoints():
                        request = operation.send([found])
                    case FetchChunks(_, ids):
                        request = operation.send({id: self._made[id] for id in ids})
                    case _:
                        raise NotImplementedError(f"an unforeseen request: {request}")
        except StopIteration as stop:
            return stop.value[0]  # type: ignore[no-any-return]  # what the generator returns


class Sessions:
    """The sessions of the executions saved last, within a budget. One thread at a time.

    Args:
        codec: How the store encodes.
        limit: How many bytes to keep in memory, beside what waits to be stored.
    """

    def __init__(self, codec: Codec, limit: int) -> None:
        self._codec = codec
        self._limit = limit
        self._total = 0  # [bytes]
        self._by_execution: OrderedDict[str, Session] = OrderedDict()

    def encode(self, draft: Draft) -> Save:
        """Encode a checkpoint; see `Session.encode`."""
        execution_id = draft.execution_id
        session = self._by_execution.get(execution_id)
        if session is None or session.over:
            self.forget(execution_id)
            session = Session(self._codec, execution_id)
        before = session.size
        save = session.encode(draft)
        self._total += session.size - before
        self._by_execution[execution_id] = session
        self._by_execution.move_to_end(execution_id)
        while self._total > self._limit and self._by_execution:
            self.forget(next(iter(self._by_execution)))
        return save

    def forget(self, execution_id: str) -> None:
        """Let the next save of an execution begin a new session."""
        session = self._by_execution.pop(execution_id, None)
        if session is not None:
            self._total -= session.size


def _with_caches_of_its_own(codec: Codec) -> Codec:
    return Codec(codec.serde, Caches(_ENDLESS, codec.format), codec.format)

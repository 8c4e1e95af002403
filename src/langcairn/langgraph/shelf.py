"""What an `IntervalSaver` holds back: which checkpoints, and since when.

Their content is in a store in memory, encoded: nodes may change their objects after a put.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from langcairn.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# Longer than any deadline of a store that a flush may wait for.
_PATIENCE = 120.0  # [s]


class WritesCall(NamedTuple):
    """One call of ``put_writes``, to be repeated as it was."""

    writes: Sequence[tuple[str, tuple[str, bytes]]]
    """Pairs of channel and serialized value."""
    task_id: str
    task_path: str


@dataclass(eq=False)
class Held:
    """A checkpoint that is held back.

    Attributes:
        namespace: Its namespace.
        id: Its id.
        parent_id: The checkpoint that it will continue in the store.
        versions: The channels that have changed since that one.
        caller: Namespace and id of the checkpoint whose step runs this subgraph.
        calls: What was written to it.
        saving: A flush is saving it, so it can't be skipped any more.
        saved: It is stored, but not all that was written to it.
    """

    namespace: str
    id: str
    parent_id: str | None
    versions: dict[str, Any]
    caller: tuple[str, str] | None = None
    calls: list[WritesCall] = field(default_factory=list)
    saving: bool = False
    saved: bool = False


class Saving(StoreUnavailable):
    """What is wanted must wait for a flush that the calling thread itself is in the middle of."""


class Flush:
    """A flush of a thread that is under way, for those who come after it.

    Two at once could store a write of the earlier one over its newer version of the later one.

    Attributes:
        saved: Whether everything in it is stored.
    """

    def __init__(self) -> None:
        self.saved = False
        self._owner = os.getpid(), threading.get_ident()
        self._ended: Future[None] = Future()

    @property
    def is_here(self) -> bool:
        """Whether it is of this process: a forked child inherits flushes that nobody ends."""
        return self._owner[0] == os.getpid()

    def end(self) -> None:
        """Let the others go on."""
        self._ended.set_result(None)

    def check(self) -> None:
        """Check that the calling thread may wait for it.

        Raises:
            Saving: It needs this very thread to go on.
        """
        if threading.get_ident() == self._owner[1]:
            raise Saving(
                "not possible while the same thread is saving checkpoints of this one; in a "
                "coroutine, await the method with an `a` before its name"
            )

    def wait(self) -> None:
        """Wait until it has ended.

        Raises:
            Saving: As `check`.
            StoreUnavailable: It takes too long.
        """
        self.check()
        try:
            self._ended.result(_PATIENCE)
        except TimeoutError:
            raise StoreUnavailable(
                f"checkpoints of this thread are being saved for more than {_PATIENCE:.0f} s"
            ) from None

    async def await_end(self) -> None:
        """Wait until it has ended, without blocking the event loop."""
        # Shielded: who is cancelled must not cancel what others wait for, too.
        await asyncio.shield(asyncio.wrap_future(self._ended))


class Batch(NamedTuple):
    """What one flush of a thread saves, in this order, and how many calls of each."""

    execution_id: str
    held: Sequence[tuple[Held, int]]
    flush: Flush


@dataclass
class _Thread:
    since: float
    """When the oldest of them was held back [s, monotonic]."""
    chains: dict[str, list[Held]] = field(default_factory=dict)


class Shelf:
    """The checkpoints that are held back, by thread. Callers hold `lock`.

    Attributes:
        lock: Guards the shelf and the store in memory beside it; never held during I/O.
        changed: Notified when there is something to wait for.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._threads: dict[str, _Thread] = {}
        self._flushes: dict[str, Flush] = {}

    def add(self, execution_id: str, held: Held, *, needs_parent: bool) -> None:
        """Hold back a checkpoint, in place of those that it continues.

        Args:
            execution_id: Its thread.
            held: The checkpoint, with the parent and versions that it was put with.
            needs_parent: The checkpoint that it continues stays, too, as it must where a
                `DeltaChannel` is rebuilt from its ancestors.
        """
        thread = self._threads.setdefault(execution_id, _Thread(time.monotonic()))
        chain = thread.chains.setdefault(held.namespace, [])
        if chain and chain[-1].id == held.id:  # put again
            again = chain.pop()
            held.parent_id, held.calls = again.parent_id, again.calls
            held.versions = {**again.versions, **held.versions}
            held.saved = again.saved
        while chain and chain[-1].id == held.parent_id and not needs_parent:
            if chain[-1].saving:
                break
            skipped = chain.pop()
            self._forget_calls(thread, (skipped.namespace, skipped.id))
            if skipped.saved:
                break  # it stays the parent; what its step still wrote is in this one
            held.parent_id = skipped.parent_id
            held.versions = {**skipped.versions, **held.versions}
        chain.append(held)
        self.changed.notify_all()

    def _forget_calls(self, thread: _Thread, caller: tuple[str, str]) -> None:
        """Skip the subgraphs of a step that is done: with their caller, nobody can get there."""
        for namespace, chain in list(thread.chains.items()):
            if ":" not in namespace:
                continue  # all calls share it
            for held in [held for held in chain if held.caller == caller and not held.saving]:
                chain.remove(held)
                self._forget_calls(thread, (held.namespace, held.id))

    def find(self, execution_id: str, namespace: str, id: str | None) -> Held | None:
        """Return a held checkpoint, or the newest of a namespace."""
        held = [h for h in self.all(execution_id) if h.namespace == namespace]
        if id is not None:
            held = [one for one in held if one.id == id]
        return max(held, key=lambda one: one.id, default=None)

    def all(self, execution_id: str) -> list[Held]:
        """Return all held checkpoints of a thread."""
        thread = self._threads.get(execution_id)
        return [] if thread is None else [h for chain in thread.chains.values() for h in chain]

    def executions(self) -> list[str]:
        """Return the threads that have held checkpoints."""
        return list(self._threads)

    def deadlines(self, interval: float) -> Mapping[str, float]:
        """Return until when each thread has to be saved that isn't just being [s, monotonic]."""
        return {
            name: thread.since + interval
            for name, thread in self._threads.items()
            if self.flush_of(name) is None
        }

    def flush_of(self, execution_id: str) -> Flush | None:
        """Return the flush of a thread that is under way."""
        flush = self._flushes.get(execution_id)
        return flush if flush is not None and flush.is_here else None

    def take(self, execution_id: str) -> Batch | Flush | None:
        """Begin to save what is held of a thread: until `release`, nobody else can.

        Returns:
            What is to be saved, the flush that must end before, or None if nothing is held.
        """
        if (flush := self.flush_of(execution_id)) is not None:
            return flush
        batch = sorted(
            self.all(execution_id), key=lambda held: held.id
        )  # callers before the called
        if not batch:
            return None
        flush = self._flushes[execution_id] = Flush()
        for held in batch:
            held.saving = True
        return Batch(execution_id, [(held, len(held.calls)) for held in batch], flush)

    def release(self, batch: Batch) -> bool:
        """End a flush. Returns whether nothing of the thread is held any more."""
        saved = batch.flush.saved
        if self._flushes.get(batch.execution_id) is batch.flush:
            del self._flushes[batch.execution_id]
        batch.flush.end()
        self.changed.notify_all()
        thread = self._threads.get(batch.execution_id)
        if thread is None:
            return True
        for held, calls in batch.held:
            held.saving, held.saved = False, held.saved or saved
            chain = thread.chains.get(held.namespace, [])
            # What was written to it meanwhile is saved by the next flush.
            if saved and len(held.calls) == calls and held in chain:
                chain.remove(held)
        thread.since = time.monotonic()
        if any(thread.chains.values()):
            return False
        del self._threads[batch.execution_id]
        return True

    def drop(self, executions: Iterable[str]) -> None:
        """Forget what is held of threads."""
        for execution_id in executions:
            self._threads.pop(execution_id, None)

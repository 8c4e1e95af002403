"""What a store does about compression: dictionaries trained on its own chunks."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from langcairn import dictionaries, repacking
from langcairn.codec.dictionaries import train
from langcairn.operating import Operating
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langcairn.codec.chunks import ChunkFormat
    from langcairn.dictionaries import DictionaryInfo, TrainingReport
    from langcairn.repacking import Repacked


DEFAULT_SAMPLES = 5000
# What zstd's own command line takes.
DEFAULT_SIZE = 112 * 1024  # [bytes]
LEAST_GAIN = 0.1
# So long may it take until what another process has trained or retired is known.
_PERIOD = 600  # [s]


class Lookout:
    """Tells when to look for dictionaries, for a store that doesn't wait until it meets one.

    Whoever packs with a dictionary looks, too, as it may have been retired.

    Args:
        eager: Whether to look for one before there is any.
    """

    def __init__(self, *, eager: bool) -> None:
        self._eager = eager
        # By the clock of `time.monotonic`. What was met just now needn't be looked for.
        self._next: float | None = 0.0 if eager else None

    def is_due(self, format: ChunkFormat) -> bool:
        """Tell whether it is time; for the caller that is told so, and nobody else."""
        if not (self._eager or format.packs):
            return False
        now = time.monotonic()
        if self._next is not None and now < self._next:
            return False
        first, self._next = self._next is None, now + _PERIOD
        return not first

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._next = 0.0  # let the next one look, as this one has failed


class Compressing(Operating):
    """The methods of a store that make chunks smaller."""

    def train_dictionary(
        self,
        *,
        samples: int = DEFAULT_SAMPLES,
        size: int = DEFAULT_SIZE,
        least_gain: float = LEAST_GAIN,
        executions: Sequence[str] | None = None,
    ) -> TrainingReport:
        """Train a dictionary on chunks of this store, and pack what is new with it.

        It is stored only if it makes chunks that it wasn't trained on smaller. All processes that
        use the store can read what is packed with it; see ``dictionary=`` in `StoreOptions` for
        when they begin to write with it. It holds pieces of the samples until it is retired, also
        after their executions were deleted. There may be 64 of them, retired ones included.

        Args:
            samples: On how many chunks at most, from 100 to 100,000; they are taken at random.
            size: How large it may get [bytes].
            least_gain: The part of the bytes that it must save of what chunks take now.
            executions: Take chunks of these only; None: of any.

        Raises:
            InvalidInput: An argument can't be used.
            StoreFull: There is no room.
        """
        dictionaries.check_training(samples, size, least_gain)
        format = self.codec.format
        found = self.run(dictionaries.gather_samples(format, samples, _ids(executions)))
        return self.run(dictionaries.keep(format, train(format, found, size, least_gain)))

    async def atrain_dictionary(
        self,
        *,
        samples: int = DEFAULT_SAMPLES,
        size: int = DEFAULT_SIZE,
        least_gain: float = LEAST_GAIN,
        executions: Sequence[str] | None = None,
    ) -> TrainingReport:
        """Do as `train_dictionary`. What is computed, some seconds long, is in a thread."""
        dictionaries.check_training(samples, size, least_gain)
        format = self.codec.format
        found = await self.arun(dictionaries.gather_samples(format, samples, _ids(executions)))
        trained = await asyncio.to_thread(train, format, found, size, least_gain)
        return await self.arun(dictionaries.keep(format, trained))

    def dictionaries(self) -> list[DictionaryInfo]:
        """Return the dictionaries that chunks may be packed with or are retired, the newest last.

        Raises:
            CorruptData: One is damaged.
        """
        return self.run(dictionaries.dictionaries(self.codec.format))

    async def adictionaries(self) -> list[DictionaryInfo]:
        """Do as `dictionaries`."""
        return await self.arun(dictionaries.dictionaries(self.codec.format))

    def repack(self, *, after: str = "", limit: int | None = None) -> Repacked:
        """Pack what is stored with the newest dictionary, where that makes it smaller.

        Others may use the store meanwhile. What is packed anew stays so, so after an interruption
        it may simply be called again.

        Args:
            after: Only executions whose id sorts behind this one: `Repacked.after`, to go on.
            limit: Stop after the execution with which so many chunks were packed anew.

        Raises:
            InvalidInput: ``limit`` is less than 1.
        """
        return self.run(repacking.repack(self.codec.format, after, limit))

    async def arepack(self, *, after: str = "", limit: int | None = None) -> Repacked:
        """Do as `repack`."""
        return await self.arun(repacking.repack(self.codec.format, after, limit))

    def retire_dictionary(
        self, name: str, *, progress: Callable[[Repacked], object] | None = None
    ) -> Repacked:
        """Pack nothing with a dictionary any more, and pack anew, without it, all that is.

        What is left of it in the store is encrypted, with a key that stands only in chunks that are
        packed with it: once there are none, nobody can open it, and nothing needs it.

        Others may use the store meanwhile. Processes that know the dictionary pack with it until
        they look for dictionaries the next time, ten minutes at most after they did last; what
        they pack stays readable. So call this again later, until it finds no more chunks. After an
        interruption, too, it may simply be called again.

        Args:
            name: What the dictionary is called: `DictionaryInfo.name`.
            progress: Called after each execution with what was done so far.

        Returns:
            What was packed anew.

        Raises:
            InvalidInput: There is no such dictionary.
            CorruptData: A chunk that is packed with it is damaged. The others are packed anew.
            StoreUnavailable: Others are retiring dictionaries, too, or the store can't be reached.
        """
        return self.run(repacking.retire(self.codec.format, name, progress))

    async def aretire_dictionary(
        self, name: str, *, progress: Callable[[Repacked], object] | None = None
    ) -> Repacked:
        """Do as `retire_dictionary`."""
        return await self.arun(repacking.retire(self.codec.format, name, progress))


def _ids(executions: Sequence[str] | None) -> list[str] | None:
    return None if executions is None else [valid_execution_id(id) for id in executions]

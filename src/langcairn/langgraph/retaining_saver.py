"""A saver that keeps only the newest checkpoints of each thread."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from langcairn import retention
from langcairn.errors import CairnError
from langcairn.langgraph.saver import CheckpointSaver

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata

    from langcairn.operations import Operation
    from langcairn.store import CheckpointStore

_logger = logging.getLogger(__name__)

_MOST_THREADS = 4096


class RetainingSaver(CheckpointSaver):
    """Keeps the newest checkpoints of each thread and namespace, and what these need.

    Older ones are removed after a put, many at once: at any moment there may be half as many
    again, or ten more (see `langcairn.retention.slack`). A clean-up that fails doesn't fail the
    put, which is stored by then; it is logged, and tried again some puts later.
    """

    def __init__(self, store: CheckpointStore | str, max_checkpoints: int) -> None:
        """Stand on a store.

        Args:
            store: As for `CheckpointSaver`.
            max_checkpoints: How many checkpoints to keep of each namespace of a thread.
        """
        super().__init__(store)
        self.max_checkpoints = max_checkpoints
        self._lock = threading.Lock()
        # Per thread: how many checkpoints there are beyond those to keep, about.
        self._surplus: OrderedDict[str, int] = OrderedDict()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do as `CheckpointSaver.put`, and remove old checkpoints when enough have gathered."""
        saved = super().put(config, checkpoint, metadata, new_versions)
        self.store.run(self._tidy(str(config["configurable"]["thread_id"])))
        return saved

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Do as `put`."""
        saved = await super().aput(config, checkpoint, metadata, new_versions)
        await self.store.arun(self._tidy(str(config["configurable"]["thread_id"])))
        return saved

    def _tidy(self, execution_id: str) -> Operation[None]:
        try:
            if (yield from self._is_due(execution_id)):
                yield from retention.keep_newest(self._codec, execution_id, self.max_checkpoints)
        except CairnError as error:
            # The put succeeded, and its caller must not put again. Space is all that is lost.
            _logger.warning("old checkpoints of %r were not removed: %s", execution_id, error)

    def _is_due(self, execution_id: str) -> Operation[bool]:
        """Count a put. Returns whether enough has gathered, and then begins to count anew."""
        keep, slack = self.max_checkpoints, retention.slack(self.max_checkpoints)
        with self._lock:
            surplus = self._surplus.get(execution_id)
        if surplus is None:
            # Whoever puts little per process, as a function that runs once per message does,
            # would never get there by counting alone.
            surplus = (yield from retention.count(execution_id, keep + slack)) - keep
        else:
            surplus += 1
        due = surplus >= slack
        with self._lock:
            self._surplus.pop(execution_id, None)
            self._surplus[execution_id] = 0 if due else surplus
            if len(self._surplus) > _MOST_THREADS:
                self._surplus.popitem(last=False)
        return due

"""Saving and loading records without a graph, as any program with steps may do."""

import asyncio
from datetime import UTC, datetime, timedelta

from langcairn import Checkpoint, CheckpointNotFound, open_store


async def main() -> None:
    """Save three steps, find them again, and delete one."""
    async with open_store("memory:") as store:
        for step in range(3):
            state = {"step": step, "done": [f"part {i}" for i in range(step)]}
            await store.asave(
                Checkpoint(
                    id=f"step-{step}",
                    execution_id="job-1",
                    node_name="work",
                    state=state,
                    version=step + 1,
                    metadata={"by": "hand"},
                )
            )
        since = datetime.now(UTC) - timedelta(minutes=1)
        for checkpoint in await store.alist("job-1", since=since):
            print(checkpoint.id, checkpoint.version, checkpoint.state)
        await store.adelete("step-1")
        try:
            await store.aload("step-1")
        except CheckpointNotFound as error:
            print(error)


asyncio.run(main())

"""How long the viewer's pages take at 10,000 threads, one of them of 5,000 checkpoints.

``python -m benchmarks.viewer_pages`` on a quiet machine, in half a minute. SQLite, in this process,
without HTTP. The target is 200 ms for the thread's page.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage

from langcairn import Checkpoint, SqliteCheckpointStore
from langcairn.viewer import create_app

THREADS, CHECKPOINTS = 10_000, 5_000
ROUNDS = 20
PAGES = {
    "threads": "/",
    "threads, searched": "/?q=00",
    "thread, newest checkpoint": "/thread?id=long",
    "thread, in the middle": "/thread?id=long&start=2500",
    "thread, what changed": "/thread?id=long&tab=changes",
    "storage": "/storage",
    "is it news?": "/live?id=long",
}


def fill(store: SqliteCheckpointStore) -> None:
    """Save a conversation of 5,000 steps, and 10,000 short ones."""
    begin = datetime.now(UTC) - timedelta(days=30)
    messages: list[AnyMessage] = []
    for number in range(CHECKPOINTS):
        kind = AIMessage if number % 2 else HumanMessage
        messages.append(kind(f"message {number}, " * 10, id=f"m{number}"))
        store.save(
            Checkpoint(
                execution_id="long",
                id=f"{number:08}",
                # A fork now and then.
                parent_id=f"{number - (7 if number % 500 == 499 else 1):08}" if number else None,
                node_name="agent" if number % 2 else "tools",
                state={"messages": messages, "step": number},
                metadata={"source": "loop", "step": number, "user": "ada"},
                timestamp=begin + timedelta(seconds=number),
            )
        )
    store.save_many(
        Checkpoint(
            execution_id=f"thread-{number:05}",
            id="1",
            state={"messages": messages[:3]},
            timestamp=begin + timedelta(minutes=number),
        )
        for number in range(THREADS)
    )


async def measure(store: SqliteCheckpointStore) -> None:
    """Ask for each page again and again, and print how long it took."""
    app = create_app(store)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await client.get("/storage", timeout=60)
        for name, path in PAGES.items():
            took = []
            for _ in range(ROUNDS):
                start = time.perf_counter()
                answer = await client.get(path, timeout=60)
                took.append((time.perf_counter() - start) * 1000)
                answer.raise_for_status()
            middle, worst = statistics.median(took), max(took)
            size = len(answer.content) / 1000
            print(f"{name:28} {middle:6.0f} ms  (most {worst:.0f} ms)  {size:4.0f} kB")
    await app.state.viewer.survey.aclose()


def main() -> None:
    """Fill a store and measure the pages on it."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "viewer.db"
        with SqliteCheckpointStore(path, synchronous="OFF") as store:
            fill(store)
        with SqliteCheckpointStore(path) as store:
            asyncio.run(measure(store))


if __name__ == "__main__":
    main()

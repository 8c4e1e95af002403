"""What the child processes do: ``python -m langcairn.demo.stages run|resume|approve|fork``.

Each stage is a process of its own and knows nothing of the others but the database file.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage, ToolMessage
from langgraph.types import Command

from langcairn.demo.agent import TASK, WINTER_TASK, build_graph
from langcairn.demo.journal import Journal
from langcairn.demo.storage import THREAD, AnnouncingSaver

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.graph.state import CompiledStateGraph
    from langgraph.types import StateSnapshot

    from langcairn.demo.agent import State

FORK_AFTER = 8
"""The stage of the trail that the fork goes back to."""

APPROVAL = {"publish": True, "by": "Ada", "note": "Reads well. Publish it."}
REFUSAL = {"publish": False, "by": "Ada", "note": "Not before the road is clear."}


class _Stage:
    """One process with the graph, at work on the thread."""

    def __init__(self, saver: AnnouncingSaver, journal: Journal, stall_at: str) -> None:
        self._graph: CompiledStateGraph[State, None, State, State] = build_graph(
            saver, journal, stall_at
        )
        self._journal = journal
        self._config: RunnableConfig = {
            "configurable": {"thread_id": THREAD},
            # Lands in the metadata of every checkpoint that this process writes.
            "metadata": {"pid": os.getpid()},
            "recursion_limit": 100,
        }

    def run(self) -> None:
        self._invoke({"messages": [HumanMessage(TASK)]})

    def resume(self) -> None:
        self._invoke(None)

    def approve(self) -> None:
        self._invoke(Command(resume=APPROVAL))

    def fork(self) -> None:
        old = self._find(f"weather-{FORK_AFTER}")
        self._journal.tell(
            "rewound",
            checkpoint=old.config["configurable"]["checkpoint_id"],
            messages=len(old.values["messages"]),
        )
        config: RunnableConfig = {
            **self._config,
            "configurable": {**old.config["configurable"]},
        }
        self._graph.update_state(config, {"messages": [HumanMessage(WINTER_TASK)]}, as_node="tools")
        self._invoke(None)
        self._invoke(Command(resume=REFUSAL))

    def _find(self, tool_call_id: str) -> StateSnapshot:
        """Find the checkpoint that was taken when a tool had brought its result."""
        for snapshot in self._graph.get_state_history(self._config):
            messages = snapshot.values.get("messages")
            last = messages[-1] if messages else None
            if isinstance(last, ToolMessage) and last.tool_call_id == tool_call_id:
                return snapshot
        raise LookupError(f"there is no checkpoint that ends with {tool_call_id}")

    def _invoke(self, graph_input: Any) -> None:
        result = self._graph.invoke(graph_input, self._config, durability="sync")
        waiting = result.get("__interrupt__")
        if waiting:
            self._journal.tell("waiting", **waiting[0].value)
        else:
            self._journal.tell("finished", status=result["status"])


def main() -> None:
    """Run one stage; the journal's lines go to standard output, where the parent reads them."""
    parser = argparse.ArgumentParser(prog="python -m langcairn.demo.stages")
    parser.add_argument("stage", choices=["run", "resume", "approve", "fork"])
    parser.add_argument("database", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--stall-at", default="", help="the tool call that never comes back")
    options = parser.parse_args()
    journal = Journal(options.journal, parent=sys.stdout)
    # What a library prints must not get among the events.
    with redirect_stdout(sys.stderr), AnnouncingSaver(options.database, journal) as saver:
        stage = _Stage(saver, journal, options.stall_at)
        getattr(stage, options.stage)()


if __name__ == "__main__":
    main()

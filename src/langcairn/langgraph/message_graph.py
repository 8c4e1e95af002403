"""`CheckpointableMessageGraph`: a graph over messages that knows where to save."""

from __future__ import annotations

from typing import Any

from langgraph.graph import MessagesState, StateGraph

from langcairn.errors import InvalidInput
from langcairn.langgraph.checkpointable import CheckpointableRunnable
from langcairn.langgraph.config import CheckpointConfig


class CheckpointableMessageGraph(StateGraph[Any, Any, Any, Any]):
    """A `StateGraph` over messages, to be built like any other.

    For example::

        graph = CheckpointableMessageGraph()
        graph.add_node("chat", chat)
        graph.add_edge(START, "chat")
        graph.set_checkpoint_config(CheckpointConfig("sqlite:///chat.db"))
        runnable = graph.compile_checkpointable()
    """

    def __init__(self, state_schema: Any = MessagesState, **options: Any) -> None:
        """Begin a graph.

        Args:
            state_schema: Its state; by default `MessagesState`.
            **options: What `StateGraph` takes besides.
        """
        super().__init__(state_schema, **options)
        self._checkpoint_config: CheckpointConfig | None = None

    def set_checkpoint_config(self, config: CheckpointConfig) -> None:
        """Say how the graph's checkpoints are saved.

        Raises:
            InvalidInput: It is no `CheckpointConfig`.
        """
        if not isinstance(config, CheckpointConfig):
            raise InvalidInput(
                f"expected a CheckpointConfig, not {type(config).__name__}: "
                "pass CheckpointConfig(store)"
            )
        self._checkpoint_config = config

    def get_checkpoint_config(self) -> CheckpointConfig | None:
        """Return what `set_checkpoint_config` was given; None if nothing yet."""
        return self._checkpoint_config

    def compile_checkpointable(
        self, *, execution_id: str | None = None, **compile_options: Any
    ) -> CheckpointableRunnable:
        """Compile the graph.

        Args:
            execution_id: The execution to begin or to continue; None: a new one.
            **compile_options: What ``compile`` takes, but ``checkpointer``.

        Raises:
            InvalidInput: Nothing was set by `set_checkpoint_config`.
        """
        if self._checkpoint_config is None:
            raise InvalidInput(
                "the graph has no checkpoint config: call "
                "set_checkpoint_config(CheckpointConfig(store)) first"
            )
        return CheckpointableRunnable(
            self, self._checkpoint_config, execution_id=execution_id, **compile_options
        )

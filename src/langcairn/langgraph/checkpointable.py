"""`CheckpointableRunnable`: a graph together with its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langgraph.graph import StateGraph
from langgraph.pregel import Pregel

from langcairn.closing import Closing
from langcairn.errors import InvalidInput
from langcairn.langgraph.config import CheckpointConfig
from langcairn.langgraph.executions import Executions, named_after
from langcairn.langgraph.steps import arun, run
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.runnables import RunnableConfig
    from langgraph.types import StateSnapshot

    from langcairn.checkpoint import Checkpoint
    from langcairn.comparing import StateDiff
    from langcairn.forks import Fork


def new_execution_id() -> str:
    """Return an id for an execution to which the caller gave none."""
    return str(uuid4())


class CheckpointableRunnable(Closing):
    """A LangGraph graph whose runs are checkpointed, and can be looked at, resumed and forked.

    ::

        config = CheckpointConfig("sqlite:///agent.db")
        with CheckpointableRunnable(builder, config) as runnable:
            runnable.invoke({"messages": [("user", "hello")]})
            runnable.list_checkpoints()

    It runs one execution (a LangGraph thread), `execution_id`; a LangGraph config with another
    ``thread_id`` may be passed to every method, so that one object serves any number of them.
    Every method has an async twin with the prefix ``a``. What isn't here is found at `graph`.

    Runs are made with ``durability="sync"``, if the caller doesn't say otherwise: a super-step
    begins when the one before it is saved. At the end of a run, however it ends, everything that
    is held back (see `CheckpointConfig.auto_save`) is saved.

    Attributes:
        graph: The compiled graph, a copy of the one that was passed, with a saver on the store.
        checkpoint_config: How it is saved.
        saver: Its saver.
        store: Its store.
        execution_id: The execution that is meant when no config names another.
    """

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any] | StateGraph[Any, Any, Any, Any],
        config: CheckpointConfig,
        *,
        execution_id: str | None = None,
        **compile_options: Any,
    ) -> None:
        """Put a graph on a store.

        Args:
            graph: A compiled graph, an ``@entrypoint``, or a `StateGraph` builder. It isn't
                changed; a checkpointer that it was compiled with isn't used.
            config: Where and when to save.
            execution_id: The execution to begin or to continue; None: a new one.
            **compile_options: What ``compile`` of a builder takes, but ``checkpointer``.

        Raises:
            InvalidInput: The graph is none; there is no config; or compile options are given for
                a graph that is compiled already.
        """
        if not isinstance(config, CheckpointConfig):
            raise InvalidInput(
                f"expected a CheckpointConfig, not {type(config).__name__}: "
                "pass CheckpointConfig(store)"
            )
        if "checkpointer" in compile_options:
            raise InvalidInput("checkpointer: the saver is made from the CheckpointConfig")
        if isinstance(graph, Pregel) and compile_options:
            given = ", ".join(compile_options)
            raise InvalidInput(f"{given}: the graph is compiled already; pass its builder instead")
        if not isinstance(graph, (Pregel, StateGraph)):
            raise InvalidInput(
                "expected a compiled graph, an @entrypoint or a StateGraph, "
                f"not {type(graph).__name__}"
            )
        self.execution_id = (
            new_execution_id() if execution_id is None else valid_execution_id(execution_id)
        )
        self.checkpoint_config = config
        self.saver = config.saver()
        self.store = self.saver.store
        self.graph: Pregel[Any, Any, Any, Any] = (
            graph.copy(update={"checkpointer": self.saver})
            if isinstance(graph, Pregel)
            else graph.compile(checkpointer=self.saver, **compile_options)
        )
        self._executions = Executions(
            self.graph, self.saver, self.execution_id, config.max_checkpoints
        )

    # Running

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        """Run the graph, and return its output.

        Args:
            input: What the graph takes; None: continue where the execution stopped; or a `Command`.
            config: LangGraph's config; its ``thread_id`` is the execution.
            **options: What the graph's ``invoke`` takes, such as ``stream_mode`` or ``durability``.

        Raises:
            CheckpointNotFound: The config names a checkpoint that doesn't exist.
            GraphChanged: The execution waits for a node that the graph doesn't have.
        """
        config = self._executions.config_for(config)
        run(self._executions.check(input, config))
        try:
            return self.graph.invoke(input, config, **_sync(options))
        finally:
            self.flush(config)

    async def ainvoke(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Any:
        """Do as `invoke`."""
        config = self._executions.config_for(config)
        await arun(self._executions.check(input, config))
        try:
            return await self.graph.ainvoke(input, config, **_sync(options))
        finally:
            await self.aflush(config)

    def stream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[Any]:
        """Run the graph, and yield what LangGraph's ``stream`` yields; else as `invoke`."""
        config = self._executions.config_for(config)
        run(self._executions.check(input, config))
        try:
            yield from self.graph.stream(input, config, **_sync(options))
        finally:
            self.flush(config)

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[Any]:
        """Do as `stream`."""
        config = self._executions.config_for(config)
        await arun(self._executions.check(input, config))
        try:
            async for part in self.graph.astream(input, config, **_sync(options)):
                yield part
        finally:
            await self.aflush(config)

    def resume_from_checkpoint(
        self,
        checkpoint_id: str,
        input: Any = None,
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Any:
        """Run on from a checkpoint, and return the graph's output.

        From the newest checkpoint the run continues: nodes of its step that have finished don't
        run again. From an older one a fork begins; the old branch stays as it is.

        Args:
            checkpoint_id: The checkpoint.
            input: None; a `Command` that answers an interrupt; or new input.
            config: Names the execution, if it isn't `execution_id`.
            **options: As for `invoke`.

        Raises:
            CheckpointNotFound: The execution has no such checkpoint.
            InvalidInput: A run ended there, so nothing is left to do; or it is a subgraph's.
            GraphChanged: It waits for a node that the graph doesn't have.
        """
        config = run(self._executions.resumable(checkpoint_id, input, config))
        return self.invoke(input, config, **options)

    async def aresume_from_checkpoint(
        self,
        checkpoint_id: str,
        input: Any = None,
        config: RunnableConfig | None = None,
        **options: Any,
    ) -> Any:
        """Do as `resume_from_checkpoint`."""
        config = await arun(self._executions.resumable(checkpoint_id, input, config))
        return await self.ainvoke(input, config, **options)

    # Checkpoints

    def save_checkpoint(
        self, node_name: str, state: Any, config: RunnableConfig | None = None
    ) -> str:
        """Save a state by hand, as if a node had just finished with it; returns the new id.

        The next run continues behind that node. ``state`` is the whole state: a key with a reducer
        (such as messages) gets exactly this value. A key that isn't given keeps its value.

        Args:
            node_name: The node.
            state: A dict, or an instance of the graph's state class.
            config: Names the execution, or the checkpoint to continue.

        Raises:
            InvalidInput: The graph has no such node or no such key; or it isn't a `StateGraph`.
        """
        return run(self._executions.save(node_name, state, config))

    async def asave_checkpoint(
        self, node_name: str, state: Any, config: RunnableConfig | None = None
    ) -> str:
        """Do as `save_checkpoint`."""
        return await arun(self._executions.save(node_name, state, config))

    def load_checkpoint(
        self, checkpoint_id: str, config: RunnableConfig | None = None
    ) -> Checkpoint:
        """Return a checkpoint of the execution.

        Raises:
            CheckpointNotFound: The execution has no such checkpoint.
        """
        return run(self._executions.load(checkpoint_id, config))

    async def aload_checkpoint(
        self, checkpoint_id: str, config: RunnableConfig | None = None
    ) -> Checkpoint:
        """Do as `load_checkpoint`."""
        return await arun(self._executions.load(checkpoint_id, config))

    def list_checkpoints(
        self,
        config: RunnableConfig | None = None,
        *,
        namespace: str | None = "",
        limit: int | None = None,
    ) -> list[Checkpoint]:
        """Return the checkpoints of the execution, the newest first.

        Of each namespace at most ``max_checkpoints`` are returned, also when older ones are still
        to be removed.

        Args:
            config: Names the execution.
            namespace: Those of this namespace; ``""``: of the graph itself; None: of the graph and
                all its subgraphs.
            limit: The most to return.
        """
        return run(self._executions.list(config, namespace, limit))

    async def alist_checkpoints(
        self,
        config: RunnableConfig | None = None,
        *,
        namespace: str | None = "",
        limit: int | None = None,
    ) -> list[Checkpoint]:
        """Do as `list_checkpoints`."""
        return await arun(self._executions.list(config, namespace, limit))

    def clear_checkpoints(self, config: RunnableConfig | None = None) -> None:
        """Delete all checkpoints of the execution."""
        self.saver.delete_thread(self._executions.thread(config))

    async def aclear_checkpoints(self, config: RunnableConfig | None = None) -> None:
        """Do as `clear_checkpoints`."""
        await self.saver.adelete_thread(self._executions.thread(config))

    def flush(self, config: RunnableConfig | None = None) -> None:
        """Save what is held back of the execution; returns when it is stored.

        Raises:
            StoreError: It could not be saved; it is still held back.
        """
        run(self._executions.flush(self._executions.thread(config)))

    async def aflush(self, config: RunnableConfig | None = None) -> None:
        """Do as `flush`."""
        await arun(self._executions.flush(self._executions.thread(config)))

    # State

    def get_state(
        self, config: RunnableConfig | None = None, *, subgraphs: bool = False
    ) -> StateSnapshot:
        """Return LangGraph's snapshot of the newest checkpoint, or of the one that is named."""
        return self.graph.get_state(self._executions.config_for(config), subgraphs=subgraphs)

    async def aget_state(
        self, config: RunnableConfig | None = None, *, subgraphs: bool = False
    ) -> StateSnapshot:
        """Do as `get_state`."""
        return await self.graph.aget_state(self._executions.config_for(config), subgraphs=subgraphs)

    def update_state(
        self,
        config: RunnableConfig | None,
        values: Any,
        as_node: str | None = None,
        task_id: str | None = None,
    ) -> RunnableConfig:
        """Save a state to which values were added as a node would, as LangGraph does."""
        config = self._executions.config_for(config)
        try:
            return self.graph.update_state(named_after(as_node, config), values, as_node, task_id)
        finally:
            self.flush(config)

    async def aupdate_state(
        self,
        config: RunnableConfig | None,
        values: Any,
        as_node: str | None = None,
        task_id: str | None = None,
    ) -> RunnableConfig:
        """Do as `update_state`."""
        config = self._executions.config_for(config)
        try:
            named = named_after(as_node, config)
            return await self.graph.aupdate_state(named, values, as_node, task_id)
        finally:
            await self.aflush(config)

    def get_state_history(
        self, config: RunnableConfig | None = None, **options: Any
    ) -> Iterator[StateSnapshot]:
        """Yield LangGraph's snapshots, the newest first; options as there (``limit``, …)."""
        return self.graph.get_state_history(self._executions.config_for(config), **options)

    def aget_state_history(
        self, config: RunnableConfig | None = None, **options: Any
    ) -> AsyncIterator[StateSnapshot]:
        """Do as `get_state_history`."""
        return self.graph.aget_state_history(self._executions.config_for(config), **options)

    # Branches

    def forks(self, config: RunnableConfig | None = None) -> list[Fork]:
        """Return the branches of the execution, by the age of their first checkpoint."""
        return run(self._executions.forks(config))

    async def aforks(self, config: RunnableConfig | None = None) -> list[Fork]:
        """Do as `forks`."""
        return await arun(self._executions.forks(config))

    def name_fork(
        self, checkpoint_id: str, name: str | None, config: RunnableConfig | None = None
    ) -> None:
        """Name the branch to which a checkpoint belongs; None takes the name away.

        Raises:
            CheckpointNotFound: The execution has no such checkpoint.
            InvalidInput: Another branch has the name.
        """
        run(self._executions.name(checkpoint_id, name, config))

    async def aname_fork(
        self, checkpoint_id: str, name: str | None, config: RunnableConfig | None = None
    ) -> None:
        """Do as `name_fork`."""
        await arun(self._executions.name(checkpoint_id, name, config))

    def compare(
        self, before_id: str, after_id: str, config: RunnableConfig | None = None
    ) -> StateDiff:
        """Return what is different between two checkpoints of the execution.

        Channels of LangGraph's own are left out; a `DeltaChannel` has its whole value.

        Raises:
            CheckpointNotFound: The execution has no such checkpoint.
        """
        return run(self._executions.compare(before_id, after_id, config))

    async def acompare(
        self, before_id: str, after_id: str, config: RunnableConfig | None = None
    ) -> StateDiff:
        """Do as `compare`."""
        return await arun(self._executions.compare(before_id, after_id, config))

    # Closing

    def close(self) -> None:
        """Save what is held back, and close the store, if it was opened from a URL."""
        self.saver.close()

    async def aclose(self) -> None:
        """Do as `close`."""
        await self.saver.aclose()


def _sync(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run, with a super-step saved before the next one begins."""
    return {"durability": "sync", **options}

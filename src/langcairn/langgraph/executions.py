"""What a `CheckpointableRunnable` does in several calls, for both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command

from langcairn.comparing import StateDiff, compare_states
from langcairn.errors import CheckpointNotFound, InvalidInput
from langcairn.langgraph.changed_graph import check_nodes, open_subgraphs
from langcairn.langgraph.interval_saver import IntervalSaver
from langcairn.langgraph.saver import NODE_NAME, CheckpointSaver, thread_of
from langcairn.langgraph.steps import Call, Steps
from langcairn.langgraph.whole_state import whole_state
from langcairn.records import valid_name

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import CheckpointTuple
    from langgraph.pregel import Pregel
    from langgraph.types import StateSnapshot

    from langcairn.checkpoint import Checkpoint
    from langcairn.forks import Fork

# Inside the class, `list` is a method.
_Checkpoints = list["Checkpoint"]
_Forks = list["Fork"]


class Executions:
    """The executions of one graph on one store.

    What the methods take, return and raise is said at `CheckpointableRunnable`.
    """

    def __init__(
        self,
        graph: Pregel[Any, Any, Any, Any],
        saver: CheckpointSaver | IntervalSaver,
        default: str,
        most: int | None,
    ) -> None:
        """Look after the executions of a graph.

        Args:
            graph: The graph, with the saver.
            saver: The saver.
            default: The execution that is meant when a config names none.
            most: How many checkpoints of each namespace are kept; None: all.
        """
        self._graph = graph
        self._saver = saver
        self._default = default
        self._most = most

    def config_for(
        self, config: RunnableConfig | None, checkpoint_id: str | None = None
    ) -> RunnableConfig:
        """Return a config that names the execution, and a checkpoint if one is given."""
        configurable = dict((config or {}).get("configurable") or {})
        configurable.setdefault("thread_id", self._default)
        if checkpoint_id is not None:
            id = valid_name(checkpoint_id, "checkpoint id", empty=False)
            configurable.update(checkpoint_id=id, checkpoint_ns="")
        return {**(config or {}), "configurable": configurable}

    def thread(self, config: RunnableConfig | None) -> str:
        """Return the execution that a config names."""
        return thread_of(self.config_for(config))[0]

    def flush(self, thread_id: str) -> Steps[None]:
        """Save what is held back of an execution."""
        if isinstance(self._saver, IntervalSaver):
            yield Call(self._saver, "flush", (thread_id,))

    def check(self, input: Any, config: RunnableConfig) -> Steps[None]:
        """Check, before a run, that what it is to continue exists, and fits the graph."""
        named = config["configurable"].get("checkpoint_id")
        goes_on = input is None or isinstance(input, Command)
        if not named and not goes_on:
            return
        found: CheckpointTuple | None = yield Call(self._saver, "get_tuple", (config,))
        if found is None:
            if named:
                raise self._not_found(named, config)
            return
        if not goes_on:
            return
        check_nodes(self._graph, found)
        if next(iter(self._graph.get_subgraphs()), None) is None:
            return
        options = {"subgraphs": True}
        snapshot: StateSnapshot = yield Call(self._graph, "get_state", (config,), options)
        for subgraph, place in open_subgraphs(self._graph, snapshot):
            inside: CheckpointTuple | None = yield Call(self._saver, "get_tuple", (place,))
            if inside is not None:
                check_nodes(subgraph, inside)

    def resumable(
        self, checkpoint_id: str, input: Any, config: RunnableConfig | None
    ) -> Steps[RunnableConfig]:
        """Check that a run can go on from a checkpoint. Returns the config for it."""
        at = self.config_for(config, checkpoint_id)
        record = yield from self.load(checkpoint_id, config)
        if record.namespace:
            raise InvalidInput(
                f"checkpoint {checkpoint_id!r} is one of the subgraph {record.namespace!r}; resume "
                "from the graph's own, or call invoke with the config that "
                "get_state(…, subgraphs=True) has for it"
            )
        if input is None:
            yield from self.check(input, at)
            snapshot: StateSnapshot = yield Call(self._graph, "get_state", (at,))
            if not snapshot.next:
                raise InvalidInput(
                    f"checkpoint {checkpoint_id!r} is the end of a finished run: nothing is left "
                    "to do there. Pass input=… to begin a new turn from it, or resume from an "
                    "earlier checkpoint"
                )
        latest = self.config_for(config)
        configurable = {k: v for k, v in latest["configurable"].items() if k != "checkpoint_id"}
        latest = {**latest, "configurable": configurable}
        newest: CheckpointTuple | None = yield Call(self._saver, "get_tuple", (latest,))
        if newest is not None and newest.checkpoint["id"] == checkpoint_id:
            # LangGraph takes a config that names a checkpoint for time travel, and would run the
            # finished nodes of its step again.
            return latest
        return at

    def save(self, node_name: str, state: Any, config: RunnableConfig | None) -> Steps[str]:
        """Save a state by hand. Returns the id of its checkpoint."""
        at, graph = self.config_for(config), self._graph
        if not isinstance(graph, CompiledStateGraph):
            raise InvalidInput(
                "save_checkpoint needs a StateGraph: what an @entrypoint is about to do can't be "
                "told from a state; use the store's save for a record of your own"
            )
        known = [name for name in graph.nodes if not name.startswith("__")]
        if node_name not in known:
            named = ", ".join(map(repr, known))
            raise InvalidInput(f"the graph has no node {node_name!r:.80}; its nodes are {named}")
        arguments = (named_after(node_name, at), whole_state(graph, state), node_name)
        saved: RunnableConfig = yield Call(graph, "update_state", arguments)
        yield from self.flush(self.thread(config))
        return str(saved["configurable"]["checkpoint_id"])

    def load(self, checkpoint_id: str, config: RunnableConfig | None) -> Steps[Checkpoint]:
        """Return a checkpoint."""
        at = self.config_for(config, checkpoint_id)
        thread = thread_of(at)[0]
        held = [one for one in self._held(thread) if one.id == checkpoint_id]
        if held:
            return held[0]
        try:
            record: Checkpoint = yield Call(
                self._saver.store, "load", (checkpoint_id,), {"execution_id": thread}
            )
        except CheckpointNotFound:
            raise self._not_found(checkpoint_id, at) from None
        return record

    def list(
        self, config: RunnableConfig | None, namespace: str | None, limit: int | None
    ) -> Steps[_Checkpoints]:
        """Return checkpoints, the newest first."""
        if limit is not None and limit < 0:
            raise InvalidInput(f"limit must not be negative: {limit}")
        thread, most = self.thread(config), self._most
        options: dict[str, Any] = {"namespace": namespace}
        if namespace is not None:  # else the limit counts in each namespace
            options["limit"] = min((n for n in (limit, most) if n is not None), default=None)
        listed: _Checkpoints = yield Call(self._saver.store, "list", (thread,), options)
        found = {(one.namespace, one.id): one for one in listed}
        found |= {
            (one.namespace, one.id): one
            for one in self._held(thread)
            if namespace is None or one.namespace == namespace
        }
        newest = sorted(found.values(), key=lambda one: (one.id, one.namespace), reverse=True)
        seen: dict[str, int] = {}
        kept = []
        for one in newest:
            seen[one.namespace] = seen.get(one.namespace, 0) + 1
            if most is None or seen[one.namespace] <= most:
                kept.append(one)
        return kept if limit is None else kept[:limit]

    def _held(self, thread: str) -> _Checkpoints:
        return self._saver.held_records(thread) if isinstance(self._saver, IntervalSaver) else []

    def forks(self, config: RunnableConfig | None) -> Steps[_Forks]:
        """Return the branches of an execution."""
        thread = self.thread(config)
        yield from self.flush(thread)
        found: _Forks = yield Call(self._saver.store, "forks", (thread,))
        return found

    def name(
        self, checkpoint_id: str, name: str | None, config: RunnableConfig | None
    ) -> Steps[None]:
        """Name a branch."""
        at = self.config_for(config, checkpoint_id)
        thread = thread_of(at)[0]
        yield from self.flush(thread)
        options = {"execution_id": thread, "namespace": ""}
        try:
            yield Call(self._saver.store, "name_fork", (checkpoint_id, name), options)
        except CheckpointNotFound:
            raise self._not_found(checkpoint_id, at) from None

    def compare(
        self, before_id: str, after_id: str, config: RunnableConfig | None
    ) -> Steps[StateDiff]:
        """Return what is different between two checkpoints."""
        states = []
        for id in (before_id, after_id):
            at = self.config_for(config, id)
            if (yield Call(self._saver, "get_tuple", (at,))) is None:
                raise self._not_found(id, at)
            snapshot: StateSnapshot = yield Call(self._graph, "get_state", (at,))
            states.append(snapshot.values)
        return StateDiff(before_id, after_id, compare_states(*states))

    def _not_found(self, checkpoint_id: str, config: RunnableConfig) -> CheckpointNotFound:
        most = self._most
        removed = "" if most is None else f"; of older ones only the newest {most} are kept"
        return CheckpointNotFound(
            f"execution {thread_of(config)[0]!r} has no checkpoint {checkpoint_id!r}{removed}"
        )


def named_after(node_name: str | None, config: RunnableConfig) -> RunnableConfig:
    """Return a config for an update whose checkpoint is one after a node, if one is named."""
    if node_name is None:
        return config
    return {**config, "configurable": {**config["configurable"], NODE_NAME: node_name}}

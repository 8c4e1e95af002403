"""Checkpoints as LangGraph would put them, and what has come back of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from langgraph.checkpoint.base import empty_checkpoint

from langcairn.forms import Form, form

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import Checkpoint, CheckpointMetadata, CheckpointTuple


def config_of(thread: object, namespace: str = "", id: str | None = None) -> RunnableConfig:
    """Return the config that names a thread, or a checkpoint in it."""
    configurable = {"thread_id": thread, "checkpoint_ns": namespace}
    return {"configurable": configurable if id is None else {**configurable, "checkpoint_id": id}}


def checkpoint_id(number: int) -> str:
    """Return a checkpoint id that sorts by number, in the form of LangGraph's."""
    return f"1f000000-0000-6000-8000-{number:012x}"


def checkpoint_of(
    number: int, values: dict[str, Any], versions: dict[str, Any] | None = None
) -> Checkpoint:
    """Return a checkpoint whose channels all have the version ``number``, if not told otherwise."""
    checkpoint = empty_checkpoint()
    checkpoint["id"] = checkpoint_id(number)
    checkpoint["channel_values"] = values
    checkpoint["channel_versions"] = versions or dict.fromkeys(values, number)
    return checkpoint


def put(
    saver: Any,
    number: int,
    values: dict[str, Any],
    *,
    thread: object = "thread",
    namespace: str = "",
    parent: int | None = None,
    changed: Sequence[str] | None = None,
    versions: dict[str, Any] | None = None,
    **metadata: Any,
) -> RunnableConfig:
    """Put a checkpoint through a saver; returns its config.

    Args:
        saver: A saver, or a `Caller` of one.
        number: Makes its id and, if not told otherwise, the versions of its channels.
        values: Its channels.
        thread: Its thread.
        namespace: Its namespace.
        parent: The number of its parent.
        changed: The channels that are new in it; None: all.
        versions: The versions of its channels.
        **metadata: Its metadata.
    """
    checkpoint = checkpoint_of(number, values, versions)
    all_versions = checkpoint["channel_versions"]
    facts = {"source": "loop", "step": number, "parents": {}, **metadata}
    return cast(
        "RunnableConfig",
        saver.put(
            config_of(thread, namespace, None if parent is None else checkpoint_id(parent)),
            checkpoint,
            cast("CheckpointMetadata", facts),
            all_versions if changed is None else {key: all_versions[key] for key in changed},
        ),
    )


def values_of(saver: Any, config: RunnableConfig) -> dict[str, Any]:
    """Return the channel values of the checkpoint that a config names, which must exist."""
    found = saver.get_tuple(config)
    assert found is not None, config  # noqa: S101 -- a test's
    return cast("dict[str, Any]", found.checkpoint["channel_values"])


def ids_of(found: Sequence[CheckpointTuple]) -> list[str]:
    """Return the ids of checkpoints."""
    return [one.checkpoint["id"] for one in found]


def numbers_of(found: Sequence[CheckpointTuple]) -> list[int]:
    """Return the numbers that made the ids of checkpoints."""
    return [int(id.rpartition("-")[2], 16) for id in ids_of(found)]


def facts_of(found: CheckpointTuple) -> Form:
    """Return all that a saver has to give back of a checkpoint."""
    parent: Any = found.parent_config and found.parent_config["configurable"]
    facts = {
        **found.config["configurable"],
        **found.checkpoint,
        # In no order: two savers read channels in different ones.
        "channel_values": dict(sorted(found.checkpoint["channel_values"].items())),
        "metadata": dict(sorted(found.metadata.items())),
        "parent": parent and parent["checkpoint_id"],
        "writes": list(found.pending_writes or ()),
    }
    return form(dict(sorted(facts.items())))

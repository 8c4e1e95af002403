"""A whole state as the update that makes it one."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from langgraph import channels
from langgraph.types import Overwrite
from pydantic import BaseModel

from langcairn.errors import InvalidInput

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

_ROOT = "__root__"
# DeltaChannel came with LangGraph 1.2.
_REDUCING = (
    channels.BinaryOperatorAggregate,
    getattr(channels, "DeltaChannel", channels.BinaryOperatorAggregate),
)


def whole_state(graph: CompiledStateGraph[Any, Any, Any, Any], state: Any) -> Any:
    """Return the update after which a graph has exactly these values.

    Args:
        graph: The graph.
        state: A dict, or an instance of a state class; of a pydantic model the fields that were
            set. For a graph whose state is a single value, that value.

    Raises:
        InvalidInput: It is something else, or has a key that the graph's state lacks.
    """
    if _ROOT in graph.channels:
        return _replacing(graph, _ROOT, state)
    if isinstance(state, BaseModel):
        values = {name: getattr(state, name) for name in state.model_fields_set}
    elif is_dataclass(state) and not isinstance(state, type):
        values = {field.name: getattr(state, field.name) for field in fields(state)}
    elif isinstance(state, dict):
        values = state
    else:
        raise InvalidInput(
            f"a state must be a dict or an instance of the state class, not {type(state).__name__}"
        )
    known = [name for name in graph.channels if name in graph.builder.channels]
    if unknown := [key for key in values if key not in known]:
        raise InvalidInput(
            f"the graph's state has no {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(map(repr, known))}"
        )
    return {key: _replacing(graph, key, value) for key, value in values.items()}


def _replacing(graph: CompiledStateGraph[Any, Any, Any, Any], key: str, value: Any) -> Any:
    """Return the write that replaces a channel's value, also where a reducer would add to it."""
    if isinstance(value, Overwrite) or not isinstance(graph.channels[key], _REDUCING):
        return value
    return Overwrite(value)

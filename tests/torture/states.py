"""States that grow and change in place, each with a seal over its content."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

if TYPE_CHECKING:
    import random

SEAL = "seal"


def seal_of(values: dict[str, Any]) -> str:
    """Return a hash of a state's whole content but its seal."""
    content = {key: value for key, value in values.items() if key != SEAL}
    return blake2b(json.dumps(content, default=_plain, sort_keys=True).encode()).hexdigest()[:32]


def is_sound(values: dict[str, Any]) -> bool:
    """Tell whether a state is one that was put, whole and unmixed."""
    return values.get(SEAL) == seal_of(values)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return [value.type, value.id, value.content, value.additional_kwargs]
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(type(value).__name__)


def first() -> dict[str, Any]:
    """Return the state that a run begins with."""
    return {"messages": [], "facts": {}, "blob": b"", "count": 0, SEAL: ""}


def change(values: dict[str, Any], chance: random.Random) -> set[str]:
    """Do to a state what a step of a graph may do, in place. Returns the changed channels."""
    messages, facts = values["messages"], values["facts"]
    changed = {"messages", "count", SEAL}
    kind = chance.choice((HumanMessage, AIMessage))
    messages.append(kind(_text(chance), id=f"m{len(messages)}-{chance.randrange(10**6)}"))
    if chance.random() < 0.3:
        old = chance.choice(messages)
        old.content += " edited"
        old.additional_kwargs["edits"] = old.additional_kwargs.get("edits", 0) + 1
    if chance.random() < 0.2:
        del messages[chance.randrange(len(messages))]
    if chance.random() < 0.5:
        facts.setdefault(f"key {chance.randrange(30)}", []).append({"text": _text(chance)})
        changed.add("facts")
    if chance.random() < 0.1:
        values["blob"] = chance.randbytes(chance.choice((10, 2_000, 40_000)))
        changed.add("blob")
    values["count"] += 1
    values[SEAL] = seal_of(values)
    return changed


def _text(chance: random.Random) -> str:
    return f"{chance.randrange(10**9)} " * chance.choice((1, 3, 20, 300))

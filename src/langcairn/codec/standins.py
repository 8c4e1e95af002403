"""Reading states for people to look at: what can't be built is shown, not refused."""

from __future__ import annotations

from typing import Any

from langcairn.codec.revive import SECRETS, TypePolicy
from langcairn.codec.serde import SafeSerializer
from langcairn.errors import UnsafeType


class StandIn:
    """What a value was made of whose type isn't to be had here.

    Attributes:
        arguments: What its constructor would be given by position.
        fields: Likewise by name.
    """

    type_name = "?"

    def __init__(self, *arguments: Any, **fields: Any) -> None:
        self.arguments = arguments
        self.fields = fields

    def __repr__(self) -> str:
        parts = [*map(repr, self.arguments), *(f"{k}={v!r}" for k, v in self.fields.items())]
        return f"{self.type_name}({', '.join(parts)})"

    def __hash__(self) -> int:
        return hash(self.type_name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StandIn) and self._parts() == other._parts()

    def _parts(self) -> tuple[object, ...]:
        return self.type_name, self.arguments, self.fields


class _StandInPolicy(TypePolicy):
    def resolve(self, code: int, module: str, name: str) -> type:
        try:
            return super().resolve(code, module, name)
        except UnsafeType:
            found = self.find(module, name)
            if found is not None and issubclass(found, SECRETS):
                return found  # which hides what it holds
            # Nothing of the type is called or imported; the class is one of ours.
            return type("StandIn", (StandIn,), {"type_name": f"{module}.{name}"})


class InspectingSerializer(SafeSerializer):
    """A `SafeSerializer` that loads values of unknown types as `StandIn`.

    These can't be written again: a store with it is for looking.
    """

    def __init__(self) -> None:
        super().__init__()
        self._use(_StandInPolicy(only_allowed=self._policy.only_allowed))

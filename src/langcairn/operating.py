"""What the parts of a store share: `CheckpointStore` consists of classes that each add methods."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from langcairn.backends.base import Backend
    from langcairn.objects import TieredBackend
    from langcairn.operations import Codec, Operation

T = TypeVar("T")


class Operating(ABC):
    """Runs operations. Those who only add methods to a store know no more of it than this."""

    backend: Backend
    codec: Codec

    @abstractmethod
    def run(self, operation: Operation[T], backend: Backend | None = None) -> T:
        """Run an operation to its end, blocking; if not on the store's backend, on another one."""

    @abstractmethod
    async def arun(self, operation: Operation[T], backend: Backend | None = None) -> T:
        """Do as `run`, without blocking the event loop."""

    @abstractmethod
    def tiered(self) -> TieredBackend | None:
        """Return the backend that has the object storage; None if there is none."""

"""The branches of an execution, as a store shows, names and compares them."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from langcairn import forks
from langcairn.comparing import StateDiff, compare_states
from langcairn.operating import Operating
from langcairn.queries import by_id
from langcairn.records import valid_execution_id

if TYPE_CHECKING:
    from langcairn.checkpoint import Checkpoint

# Inside the class, `forks` is a method.
_Forks = list[forks.Fork]


class Branching(Operating):
    """The methods of a store that are about branches."""

    @abstractmethod
    def load(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> Checkpoint:
        """Return the checkpoint with this id."""

    @abstractmethod
    async def aload(
        self, checkpoint_id: str, *, execution_id: str | None = None, namespace: str | None = None
    ) -> Checkpoint:
        """Do as `load`."""

    def forks(self, execution_id: str, *, namespace: str = "") -> _Forks:
        """Return the branches of an execution, by the age of their first checkpoint."""
        execution_id = valid_execution_id(execution_id)
        return self.run(forks.find_forks(self.codec, execution_id, namespace))

    async def aforks(self, execution_id: str, *, namespace: str = "") -> _Forks:
        """Do as `forks`."""
        execution_id = valid_execution_id(execution_id)
        return await self.arun(forks.find_forks(self.codec, execution_id, namespace))

    def name_fork(
        self,
        checkpoint_id: str,
        name: str | None,
        *,
        execution_id: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Name the branch to which a checkpoint belongs; None takes the name away.

        Raises:
            CheckpointNotFound: There is no such checkpoint.
            AmbiguousCheckpoint: There are several.
            InvalidInput: Another branch has the name.
        """
        query = by_id(checkpoint_id, execution_id, namespace)
        self.run(forks.name_fork(self.codec, query, name))

    async def aname_fork(
        self,
        checkpoint_id: str,
        name: str | None,
        *,
        execution_id: str | None = None,
        namespace: str | None = None,
    ) -> None:
        """Do as `name_fork`."""
        query = by_id(checkpoint_id, execution_id, namespace)
        await self.arun(forks.name_fork(self.codec, query, name))

    def compare(
        self,
        before_id: str,
        after_id: str,
        *,
        execution_id: str | None = None,
        namespace: str | None = None,
    ) -> StateDiff:
        """Return what is different between two checkpoints, see `compare_states`.

        Raises:
            CheckpointNotFound: There is no such checkpoint.
            AmbiguousCheckpoint: There are several.
        """
        before = self.load(before_id, execution_id=execution_id, namespace=namespace)
        after = self.load(after_id, execution_id=execution_id, namespace=namespace)
        return StateDiff(before_id, after_id, compare_states(before.state, after.state))

    async def acompare(
        self,
        before_id: str,
        after_id: str,
        *,
        execution_id: str | None = None,
        namespace: str | None = None,
    ) -> StateDiff:
        """Do as `compare`."""
        before = await self.aload(before_id, execution_id=execution_id, namespace=namespace)
        after = await self.aload(after_id, execution_id=execution_id, namespace=namespace)
        return StateDiff(before_id, after_id, compare_states(before.state, after.state))

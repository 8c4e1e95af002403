"""A backend that keeps content in two places: a database, and objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, get_args

from typing_extensions import override

from langcairn.backends.base import (
    Backend,
    Clear,
    Commit,
    FetchChunks,
    FindExecutions,
    Survey,
    Transaction,
)
from langcairn.backends.measures import Measure, MeasureExecutions
from langcairn.objects.background import Background
from langcairn.objects.naming import find_executions, measure, measure_executions, survey
from langcairn.objects.operations import (
    clear_objects,
    move_all,
    move_one,
    move_touched,
    objects_left,
)
from langcairn.objects.reading import Recent, fetch
from langcairn.objects.requests import Below, ObjectRequest
from langcairn.objects.transport import open_objects
from langcairn.running import arun, run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from datetime import datetime

    from langcairn.backends.base import Request
    from langcairn.backends.measures import Load
    from langcairn.codec.chunks import ChunkFormat
    from langcairn.objects.background import Touched
    from langcairn.objects.moving import Moved
    from langcairn.objects.settings import ObjectStorage

_OBJECT_REQUESTS = frozenset(get_args(ObjectRequest))


class TieredBackend(Backend):
    """Stores in a database, and reads from there or from packs that content was moved to.

    Saving asks the database alone. Reading asks the object store only for what isn't in the
    database any more, all packs at once.

    Args:
        inner: The database.
        settings: Where objects are, and what goes there.

    Attributes:
        inner: The database.
        settings: As given.
        objects: The object store.

    Raises:
        ImportError: obstore is not installed.
        InvalidInput: The settings can't be used.
    """

    def __init__(self, inner: Backend, settings: ObjectStorage) -> None:
        self.inner = inner
        self.settings = settings
        self.objects = open_objects(settings.url, settings.options)
        self._recent = Recent(settings.cache_bytes) if settings.cache_bytes else None
        self._background: Background | None = None
        self._operations: dict[type, Callable[[Any], Generator[Any, Any, object]]] = {
            FetchChunks: lambda request: fetch(self.objects.name, request, self._recent),
            FindExecutions: find_executions,
            Survey: survey,
            Measure: measure,
            MeasureExecutions: measure_executions,
            Clear: self._clear,
        }

    # Requests

    @override
    def execute(self, request: Request) -> object:
        operation = self._operations.get(type(request))
        if operation is not None:
            return run(self._step, operation(request))[0]
        self._note_in(request)
        return self._step(request)

    @override
    async def aexecute(self, request: Request) -> object:
        operation = self._operations.get(type(request))
        if operation is not None:
            return (await arun(self._astep, operation(request)))[0]
        self._note_in(request)
        return await self._astep(request)

    @override
    def execute_all(self, commits: Sequence[Commit]) -> Sequence[int | Exception]:
        self._note(commits)
        return self.inner.execute_all(commits)

    def _step(self, request: object) -> object:
        if type(request) in _OBJECT_REQUESTS:
            return self.objects.execute(cast("ObjectRequest", request))
        return self.inner.execute(_below(request))

    async def _astep(self, request: object) -> object:
        if type(request) in _OBJECT_REQUESTS:
            return await self.objects.aexecute(cast("ObjectRequest", request))
        return await self.inner.aexecute(_below(request))

    def _clear(self, clear: Clear) -> Generator[Any, Any, bool]:
        existed: bool = yield Below(clear)
        if clear.only_empty and not existed:
            return False  # it is in use
        yield from clear_objects(self.settings, self.objects.name, clear, self._recent)
        return existed

    def objects_left(self, execution_id: str) -> Generator[Any, Any, int]:
        """Return the operation that removes all objects of an execution that was cleared.

        Its result is how many are left. It is to be run on what stands before this backend.
        """
        return objects_left(self.settings, self.objects.name, execution_id)

    @property
    @override
    def name(self) -> str:
        return self.inner.name

    @override
    def load(self) -> Load:
        return self.inner.load()

    # Moving

    def moving(
        self,
        format: ChunkFormat,
        execution_id: str | None,
        progress: Callable[[str, Moved], None] | None,
    ) -> Generator[Any, Any, Moved]:
        """Return the operation that moves content, to be run on what stands before this one.

        Args:
            format: How chunks are stored.
            execution_id: Whose content; None: everybody's.
            progress: Called after each execution with its id and the sums.
        """
        where = self.objects.name
        if execution_id is not None:
            return move_one(self.settings, format, where, execution_id)
        return move_all(self.settings, format, where, progress)

    def move_in_background(self, top: Backend, format: ChunkFormat) -> None:
        """Move what this process stores, at intervals, from its first commit on.

        Args:
            top: What stands before this backend, or itself: it reads what rows refer to.
            format: How chunks are stored.
        """
        interval = self.settings.interval
        if interval is None:
            return

        def work(
            execution_id: str, touched: Touched, execute: Callable[[Request], object]
        ) -> datetime | None:
            return run(
                execute,
                move_touched(
                    self.settings,
                    format,
                    self.objects.name,
                    execution_id,
                    touched.since,
                    touched.large,
                ),
            )[0]

        self._background = Background(interval, top.execute, work)

    def _note_in(self, request: Request) -> None:
        if type(request) is Commit:
            self._note([request])
        elif type(request) is Transaction:
            self._note(request.commits)

    def _note(self, commits: Sequence[Commit]) -> None:
        if self._background is not None:
            for commit in commits:
                if commit.checkpoints or commit.chunks:
                    large = [id for id, data in commit.chunks if len(data) >= self.settings.larger]
                    self._background.note(commit.execution_id, large)

    # Closing

    @override
    def close(self) -> None:
        if self._background is not None:
            self._background.close()
        self.objects.close()
        self.inner.close()

    @override
    async def aclose(self) -> None:
        if self._background is not None:
            await self._background.aclose()
        self.objects.close()
        await self.inner.aclose()


def _below(request: object) -> Request:
    return request.request if isinstance(request, Below) else cast("Request", request)

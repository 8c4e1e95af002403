"""Work that reaches over stores, savers and files, written once for blocking and async callers.

As the operations of a store are generators that yield requests, those here yield `At` (a request
to one of several stores), `Ask` (a call of any LangGraph saver) or `Work` (a piece of work that
blocks, as on a file). `run` and `arun` do them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from langcairn.errors import InvalidInput, StoreUnavailable

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

    from langcairn.backends.base import Request
    from langcairn.operations import Operation
    from langcairn.store import CheckpointStore

T = TypeVar("T")

_FOUND = 500  # [rows of an index asked for at a time]


class At(NamedTuple):
    """A request to a store's backend; the answer is the request's."""

    store: CheckpointStore
    request: Request


class Work(NamedTuple):
    """Something that blocks for a moment. The answer is what it returns."""

    call: Callable[[], Any]


class Ask(NamedTuple):
    """A call of a saver's method, by its blocking name. The answer of an iterator is a list."""

    saver: BaseCheckpointSaver[Any]
    method: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] | None = None


class Use(NamedTuple):
    """A look past a saver's methods.

    The answer to SQL is its rows, as tuples, from the saver's own connection. To a config, or None
    for everything, it is the set of threads and namespaces of the checkpoints that are listed:
    those may be too many to be held.
    """

    saver: BaseCheckpointSaver[Any]
    what: str | RunnableConfig | None


class Look(NamedTuple):
    """A query of redisvl to the index of checkpoints that langgraph-checkpoint-redis has.

    The answer is all that it finds, as dicts. Raises `StoreUnavailable` while an index is made.
    """

    saver: BaseCheckpointSaver[Any]
    query: Any


Step = At | Work | Ask | Use | Look
Steps = Generator[Step, Any, T]


def on(store: CheckpointStore, operation: Operation[T]) -> Steps[T]:
    """Do an operation of one store."""
    try:
        request = next(operation)
        while True:
            try:
                answer = yield At(store, request)
            except BaseException as error:  # noqa: BLE001 -- handed to the operation, which may handle it
                request = operation.throw(error)
            else:
                request = operation.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


def run(steps: Steps[T]) -> T:
    """Take steps to their end, blocking."""
    try:
        step = next(steps)
        while True:
            try:
                answer = _take(step)
            except BaseException as error:  # noqa: BLE001 -- as in on
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


async def arun(steps: Steps[T]) -> T:
    """Take steps to their end without blocking the event loop."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await _atake(step)
            except BaseException as error:  # noqa: BLE001 -- as in on
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # what the generator returns


def _take(step: Step) -> Any:
    if type(step) is At:
        return step.store.execute(step.request)
    if type(step) is Work:
        return step.call()
    if type(step) is Use:
        return _use(step)
    if type(step) is Look:
        return _look(step)
    return _ask(step)  # type: ignore[arg-type]  # the only one left


def _ask(ask: Ask) -> Any:
    method = getattr(ask.saver, ask.method)
    try:
        answer = method(*ask.args, **(ask.options or {}))
        return list(answer) if ask.method == "list" else answer
    except (NotImplementedError, asyncio.InvalidStateError) as error:
        raise _only_coroutines(ask.saver) from error


async def _atake(step: Step) -> Any:
    if type(step) is At:
        return await step.store.aexecute(step.request)
    if type(step) is Work:
        return await _in_thread(step.call)
    if type(step) is Use:
        return await _ause(step)
    if type(step) is Look:
        return await _alook(step)
    return await _aask(step)  # type: ignore[arg-type]  # the only one left


async def _in_thread(call: Callable[[], T]) -> T:
    """Do in a thread what blocks; if the task is cancelled, wait until the thread is done.

    Else it would still be at work on a file that its caller removes.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        if not work.cancelled():
            work.exception()  # it is of no interest any more
        raise


async def _aask(ask: Ask) -> Any:
    method = getattr(ask.saver, f"a{ask.method}")
    options = ask.options or {}
    try:
        if ask.method == "list":
            return [one async for one in method(*ask.args, **options)]
        return await method(*ask.args, **options)
    except NotImplementedError:  # a saver that only blocks
        return await asyncio.to_thread(_ask, ask)


def _use(use: Use) -> Any:
    saver: Any = use.saver
    if isinstance(use.what, str):
        if _is_async(saver):
            raise _only_coroutines(saver)
        # PostgresSaver has no public one.
        cursor = saver.cursor if hasattr(saver, "cursor") else saver._cursor  # noqa: SLF001 -- as above
        with cursor() as cur:
            return _tuples(cur.execute(use.what).fetchall())
    try:
        return {_place(one) for one in saver.list(use.what)}
    except (NotImplementedError, asyncio.InvalidStateError) as error:
        raise _only_coroutines(saver) from error


async def _ause(use: Use) -> Any:
    saver: Any = use.saver
    if isinstance(use.what, str):
        if not _is_async(saver):
            return await asyncio.to_thread(_use, use)
        await saver.setup()
        if not hasattr(saver, "_cursor"):
            async with saver.lock, saver.conn.execute(use.what) as cur:
                return _tuples(await cur.fetchall())
        async with saver._cursor() as cur:  # noqa: SLF001 -- AsyncPostgresSaver has no other way
            return _tuples(await (await cur.execute(use.what)).fetchall())
    try:
        return {_place(one) async for one in saver.alist(use.what)}
    except NotImplementedError:  # a saver that only blocks
        return await asyncio.to_thread(_use, use)


def _look(look: Look) -> list[dict[str, str]]:
    saver: Any = look.saver
    if _is_async(saver):
        raise _only_coroutines(saver)
    for index in (saver.checkpoints_index, saver.checkpoint_writes_index):
        _check_made(index.info())
    pages = saver.checkpoints_index.paginate(look.query, _FOUND)
    return [row for page in pages for row in page]


async def _alook(look: Look) -> list[dict[str, str]]:
    saver: Any = look.saver
    if not _is_async(saver):
        return await asyncio.to_thread(_look, look)
    for index in (saver.checkpoints_index, saver.checkpoint_writes_index):
        _check_made(await index.info())
    pages = saver.checkpoints_index.paginate(look.query, _FOUND)
    return [row async for page in pages for row in page]


def _check_made(index: dict[str, Any]) -> None:
    """Refuse an index that a server makes anew in the background: it finds only a part as yet."""
    if int(index["indexing"]):
        raise StoreUnavailable(
            f"the server is still making its index {index['index_name']!r}, without which not all "
            "checkpoints are found; try again in a while"
        )


def _is_async(saver: Any) -> bool:
    return any(one.__name__.startswith("Async") for one in type(saver).mro())


def _tuples(rows: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values() if isinstance(row, dict) else row) for row in rows]


def _place(one: CheckpointTuple) -> tuple[str, str]:
    configurable = one.config["configurable"]
    return configurable["thread_id"], configurable.get("checkpoint_ns") or ""


def _only_coroutines(saver: Any) -> InvalidInput:
    return InvalidInput(
        f"{type(saver).__name__} serves only coroutines here; await the function whose name "
        "begins with an a (amigrate) instead"
    )

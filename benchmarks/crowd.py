"""Many users at once in one process: runs a second of a short chat, by tasks and by threads.

Each user has a thread of the graph and talks in it for some turns, one run (`ainvoke` or
`invoke`) after the other; all users talk at the same time. The graphs have LangGraph's default
durability. Savers take turns, and who begins changes from round to round; each round has new users,
and the first one isn't timed. Each saver on PostgreSQL has a database of its own there and a pool
of its own.
"""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass, field, replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from benchmarks.replay import WrongStateError
from benchmarks.savers.postgres import new_database
from benchmarks.targets import crowd_verdicts
from benchmarks.words import text
from langcairn import CheckpointSaver, PostgresCheckpointStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver

    from benchmarks.targets import Verdict

POOL_SIZE = 20
HUMAN_LENGTH = 100
ANSWER_LENGTH = 200


@dataclass(frozen=True)
class Crowd:
    """Users, and how they are served.

    Attributes:
        name: What the report calls it.
        threads: How many threads serve them; 0: tasks of one event loop.
        users: How many talk at the same time.
        turns: How many runs each of them makes.
        rounds: How often it is timed.
    """

    name: str
    threads: int
    users: int = 50
    turns: int = 10
    rounds: int = 3

    @property
    def description(self) -> str:
        served = f"{self.threads} threads, invoke" if self.threads else "one event loop, ainvoke"
        return f"{self.users} users, {self.turns} short turns each; {served}; a pool of {POOL_SIZE}"

    def quick(self) -> Crowd:
        return replace(self, users=4, turns=2)


CROWDS: dict[str, Crowd] = {crowd.name: crowd for crowd in (Crowd("tasks", 0), Crowd("threads", 8))}


@dataclass(frozen=True)
class CrowdResult:
    """Runs a second by saver, one figure for each round."""

    crowd: Crowd
    rounds: dict[str, list[float]] = field(default_factory=dict)

    def runs(self) -> dict[str, float]:
        """Give each saver's median."""
        return {name: median(rounds) for name, rounds in self.rounds.items()}

    def judged(self) -> dict[tuple[str, str], Verdict]:
        """Judge by saver and what it is set against; those of a quick run say nothing."""
        if self.crowd.users < CROWDS[self.crowd.name].users:
            return {}
        return crowd_verdicts(self.crowd.name, self.runs())


def measure_crowd(crowd: Crowd, savers: Sequence[str], progress: Callable[[], None]) -> CrowdResult:
    """Measure a crowd on some of `CROWD_SAVERS`. `progress` is called `crowd_steps` times."""
    result = CrowdResult(crowd, {name: [] for name in savers})
    if crowd.threads:
        _measure_threads(result, progress)
    else:
        asyncio.run(_measure_tasks(result, progress))
    return result


def crowd_steps(crowd: Crowd, savers: Sequence[str]) -> int:
    return (crowd.rounds + 1) * len(savers)


async def _measure_tasks(result: CrowdResult, progress: Callable[[], None]) -> None:
    crowd = result.crowd
    async with AsyncExitStack() as stack:
        graphs = {
            name: _graph(await stack.enter_async_context(_ASYNC_SAVERS[name]()), _aanswer)
            for name in result.rounds
        }

        async def talk(graph: Any, user: str) -> None:
            for turn in range(crowd.turns):
                await graph.ainvoke(_question(user, turn), _config(user))

        for number, name in _taking_turns(result):
            users = _users(crowd, number)
            gc.collect()
            begin = perf_counter()
            await asyncio.gather(*(talk(graphs[name], user) for user in users))
            _note(result, name, number, perf_counter() - begin)
            state = await graphs[name].aget_state(_config(users[-1]))
            _check(name, state.values, crowd)
            progress()


def _measure_threads(result: CrowdResult, progress: Callable[[], None]) -> None:
    crowd = result.crowd
    with ExitStack() as stack, ThreadPoolExecutor(crowd.threads) as executor:
        graphs = {
            name: _graph(stack.enter_context(_SAVERS[name]()), _answer) for name in result.rounds
        }

        def talk(graph: Any, user: str) -> None:
            for turn in range(crowd.turns):
                graph.invoke(_question(user, turn), _config(user))

        for number, name in _taking_turns(result):
            users = _users(crowd, number)
            gc.collect()
            begin = perf_counter()
            for future in [executor.submit(talk, graphs[name], user) for user in users]:
                future.result()
            _note(result, name, number, perf_counter() - begin)
            _check(name, graphs[name].get_state(_config(users[-1])).values, crowd)
            progress()


def _taking_turns(result: CrowdResult) -> Iterator[tuple[int, str]]:
    names = list(result.rounds)
    for number in range(result.crowd.rounds + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            yield number, name


def _note(result: CrowdResult, name: str, number: int, seconds: float) -> None:
    if number > 0:
        result.rounds[name].append(result.crowd.users * result.crowd.turns / seconds)


def _check(name: str, values: dict[str, Any], crowd: Crowd) -> None:
    if len(values.get("messages", ())) != 2 * crowd.turns:
        raise WrongStateError(f"{name} gave back another conversation than was had")


# --- the graph -----------------------------------------------------------------------------------


def _graph(saver: BaseCheckpointSaver[Any], node: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", node)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    return builder.compile(checkpointer=saver)


def _answer(state: MessagesState) -> dict[str, Any]:
    messages = state["messages"]
    question = messages[-1].content
    answer = f"{question:.40}, turn {len(messages)}: {_ANSWER}"
    return {"messages": [AIMessage(answer, id=f"answer {len(messages)}")]}


async def _aanswer(state: MessagesState) -> dict[str, Any]:
    return _answer(state)


# Made once, so that making texts is no part of a run.
_QUESTION = text("crowd question", HUMAN_LENGTH)
_ANSWER = text("crowd answer", ANSWER_LENGTH)


def _question(user: str, turn: int) -> dict[str, Any]:
    return {"messages": [HumanMessage(f"{user}, question {turn}: {_QUESTION}")]}


def _users(crowd: Crowd, number: int) -> list[str]:
    return [f"user {number}-{user}" for user in range(crowd.users)]


def _config(user: str) -> RunnableConfig:
    return {"configurable": {"thread_id": user}}


# --- the savers ----------------------------------------------------------------------------------

# What LangGraph's documentation asks of connections for its savers.
_OFFICIAL_CONNECTIONS = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
# All of them open before the clock runs, for all savers.
_OFFICIAL_POOL = {"min_size": POOL_SIZE, "max_size": POOL_SIZE, "kwargs": _OFFICIAL_CONNECTIONS}


@asynccontextmanager
async def _official_postgres_async() -> AsyncIterator[AsyncPostgresSaver]:
    options: dict[str, Any] = dict(_OFFICIAL_POOL)
    with new_database() as url:
        async with AsyncConnectionPool(url, open=False, **options) as pool:
            await pool.wait()
            saver = AsyncPostgresSaver(pool)
            await saver.setup()
            yield saver


@contextmanager
def _official_postgres() -> Iterator[PostgresSaver]:
    options: dict[str, Any] = dict(_OFFICIAL_POOL)
    with new_database() as url, ConnectionPool(url, open=False, **options) as pool:
        pool.wait()
        saver = PostgresSaver(pool)
        saver.setup()
        yield saver


def _store(url: str) -> PostgresCheckpointStore:
    return PostgresCheckpointStore(url, pool_min_conns=POOL_SIZE, pool_max_conns=POOL_SIZE)


@asynccontextmanager
async def _langcairn_postgres_async() -> AsyncIterator[CheckpointSaver]:
    with new_database() as url:
        async with _store(url) as store:
            yield CheckpointSaver(store)


@contextmanager
def _langcairn_postgres() -> Iterator[CheckpointSaver]:
    with new_database() as url, _store(url) as store:
        yield CheckpointSaver(store)


@asynccontextmanager
async def _official_memory_async() -> AsyncIterator[InMemorySaver]:
    yield InMemorySaver()


@contextmanager
def _official_memory() -> Iterator[InMemorySaver]:
    yield InMemorySaver()


_ASYNC_SAVERS: dict[str, Callable[[], AbstractAsyncContextManager[BaseCheckpointSaver[Any]]]] = {
    "official postgres": _official_postgres_async,
    "official memory": _official_memory_async,
    "langcairn postgres": _langcairn_postgres_async,
}
_SAVERS: dict[str, Callable[[], AbstractContextManager[BaseCheckpointSaver[Any]]]] = {
    "official postgres": _official_postgres,
    "official memory": _official_memory,
    "langcairn postgres": _langcairn_postgres,
}
CROWD_SAVERS = tuple(_SAVERS)

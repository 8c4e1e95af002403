"""Executions that expire: all of one at one moment, and never while it is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.sqlite_rows import chunk, fetch, find, ids, put, row, write
from tests.valkey_server import ValkeyServer, wait_until

from langcairn import CheckpointSaver
from langcairn.backends.base import RESERVED, Clear, Commit, FindExecutions, Remove
from langcairn.backends.redis import RedisBackend, table
from langcairn.backends.redis.keys import Keys
from langcairn.errors import InvalidInput, StaleEpoch
from langcairn.store import CheckpointStore
from langcairn.testing.dictionaries import some_checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

KEYS = Keys("langgraph:")
E_KEY = KEYS.execution("e")
TTL = 10_000  # [s] long enough for any test
MARGIN = 500  # [s] that a test may take


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        client.flushall()
        yield client


@pytest.fixture
def make(server: ValkeyServer, client: redis.Redis) -> Iterator[Callable[..., RedisBackend]]:
    made = []

    def make(ttl: Any = TTL, **options: Any) -> RedisBackend:
        made.append(RedisBackend(server.url, ttl=ttl, **options))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def left(client: redis.Redis, key: bytes) -> float:
    """Return how long a key will live yet [s]; -0.001: for ever."""
    milliseconds: Any = client.pttl(key)
    return float(milliseconds) / 1000


def test_for_ever(make: Callable[..., RedisBackend], client: redis.Redis) -> None:
    put(make(0), row("c1"))
    assert all(left(client, key) < 0 for key in client.scan_iter())


def test_everything_of_an_execution_expires(
    make: Callable[..., RedisBackend], client: redis.Redis
) -> None:
    backend = make()
    epoch = put(backend, row("c1"))
    backend.execute(Commit("e", epoch, [chunk("a")], [row("c2")], [write("c2", "t", 0)]))
    assert TTL - MARGIN < left(client, E_KEY) <= TTL
    for id in ("c1", "c2"):
        assert 4 * TTL - MARGIN < left(client, KEYS.checkpoint(id)) <= 4 * TTL


def test_it_is_gone_at_once_and_may_begin_anew(
    make: Callable[..., RedisBackend], client: redis.Redis
) -> None:
    backend = make(0.3)
    commit = Commit("e", None, [chunk("a")], [row("c1")], [write("c1", "t", 0)])
    epoch: Any = backend.execute(commit)
    wait_until(lambda: not client.exists(E_KEY))
    assert find(backend, "e") == find(backend, id="c1") == find(backend) == []
    assert fetch(backend, "a") == {}
    with pytest.raises(StaleEpoch):
        put(backend, row("c2"), epoch=epoch)
    assert backend.execute(FindExecutions()) == []
    assert backend.execute(Clear("e")) is False
    wait_until(lambda: not client.keys("*"))


def test_a_saver_begins_anew_when_its_thread_has_expired(
    make: Callable[..., RedisBackend], client: redis.Redis
) -> None:
    from langgraph.checkpoint.base import empty_checkpoint

    with CheckpointSaver(CheckpointStore(make())) as saver:
        config: Any = {"configurable": {"thread_id": "e", "checkpoint_ns": ""}}
        for text in ("x" * 1000, "y" * 1000):
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"kept": ["long" * 100], "text": text}
            config = saver.put(config, checkpoint, {}, {"text": 1})
            assert client.pexpire(E_KEY, 0)
            assert saver.get_tuple(config) is None
        config = saver.put(config, checkpoint, {}, {"text": 2})
        found = saver.get_tuple(config)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"kept": ["long" * 100], "text": "y" * 1000}


def test_writing_renews(make: Callable[..., RedisBackend], client: redis.Redis) -> None:
    backend = make()
    epoch = put(backend, row("c1"))
    client.expire(E_KEY, 1000)
    assert ids(find(backend, "e")) == ["c1"]
    backend.execute(Remove("e", []))
    assert left(client, E_KEY) <= 1000
    epoch = put(backend, row("c1"))
    assert left(client, E_KEY) > TTL - MARGIN
    client.expire(E_KEY, 1000)
    backend.execute(Commit("e", epoch, (), (), [write("c1", "t", 0)]))
    assert left(client, E_KEY) > TTL - MARGIN


def test_reading_renews_if_asked_to(make: Callable[..., RedisBackend], client: redis.Redis) -> None:
    backend = make(renew_on_read=True)
    put(backend, row("c1"))
    for query in ({"execution_id": "e"}, {"id": "c1"}):
        client.expire(E_KEY, 1000)
        assert ids(find(backend, **query)) == ["c1"]
        assert left(client, E_KEY) > TTL - MARGIN
    client.expire(E_KEY, 1000)
    assert ids(find(backend)) == ["c1"]
    assert left(client, E_KEY) <= 1000  # a look at everything keeps nothing alive


@pytest.mark.parametrize("reading", [False, True])
def test_notes_are_renewed_before_they_expire(
    make: Callable[..., RedisBackend], client: redis.Redis, reading: bool
) -> None:
    backend = make(renew_on_read=reading)
    epoch = put(backend, *[row(f"c{i}") for i in range(1000)])
    old = KEYS.checkpoint("c7")
    use: Callable[[], Any] = (
        (lambda: find(backend, "e", limit=1)) if reading else (lambda: put(backend, epoch=epoch))
    )
    _age(client, old, 2 * TTL + MARGIN)
    use()
    assert left(client, old) <= 2 * TTL + MARGIN  # not yet
    _age(client, old, 2 * TTL - MARGIN)
    use()
    assert left(client, old) > 4 * TTL - MARGIN
    client.expire(old, 1000)
    use()
    assert left(client, old) <= 1000  # not again so soon: the horizon has moved on
    assert ids(find(backend, id="c7")) == ["c7"]


def _age(client: redis.Redis, note: bytes, seconds: int) -> None:
    """Let it seem that an execution's notes were written long ago."""
    client.expire(note, seconds)
    now: Any = client.time()
    members: Any = client.zrangebylex(E_KEY, *table.beginning_with(b"h\0"))
    client.zrem(E_KEY, *members)
    client.zadd(E_KEY, {b"h\0%d" % ((now[0] + seconds) * 1000): 0})


def test_stores_with_and_without_expiry_on_the_same_keys(
    make: Callable[..., RedisBackend], client: redis.Redis
) -> None:
    lasting, passing = make(0), make()
    put(lasting, row("c1"))
    put(lasting, row("c1", "other"))
    put(passing, row("c2"))
    assert left(client, E_KEY) > 0
    # "other" needs its note for ever.
    assert left(client, KEYS.checkpoint("c1")) < 0
    # Whoever writes last says how long.
    put(lasting, row("c3"))
    assert all(left(client, key) < 0 for key in client.scan_iter())
    put(passing, row("c3"))
    assert left(client, E_KEY) > 0
    assert left(client, KEYS.checkpoint("c2")) > 0
    assert find(lasting, "e")
    assert left(client, E_KEY) > 0


def test_registers_do_not_fill_up(make: Callable[..., RedisBackend], client: redis.Redis) -> None:
    backend = make()
    for i in range(600):
        put(backend, row("c", f"e{i}"))
        client.unlink(KEYS.execution(f"e{i}"))  # as if it had expired
    names: Any = sum(client.zcard(register) for register in KEYS.registers())
    assert names < 200
    put(backend, row("c"))
    assert backend.execute(FindExecutions()) == ["e"]
    assert sum(client.zcard(register) for register in KEYS.registers()) == 1


@pytest.mark.parametrize("ttl", [-1, float("nan"), float("inf"), 1e-9, 1e10, "x", None, True])
def test_times_that_are_refused(ttl: Any) -> None:
    with pytest.raises(InvalidInput, match="ttl"):
        RedisBackend("localhost", ttl=ttl)


def test_dictionaries_do_not_expire(make: Callable[..., RedisBackend], client: redis.Redis) -> None:
    store = CheckpointStore(make())
    store.save_many(some_checkpoints(0, 10))
    assert store.train_dictionary(samples=100, size=4096).stored
    assert store.repack().chunks
    assert left(client, KEYS.execution(RESERVED)) == -0.001
    assert left(client, KEYS.execution("thread-1")) > TTL - MARGIN
    assert CheckpointStore(make()).load("1", execution_id="thread-1").state["log"]

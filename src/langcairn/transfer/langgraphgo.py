"""Reading what LangGraphGo's checkpoint stores wrote, for `migrate`."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson

from langcairn.checkpoint import Checkpoint
from langcairn.errors import CorruptData, InvalidInput, StoreMisconfigured, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PAGE = 200  # [records read at a time]
_COLUMNS = ("id", "execution_id", "node_name", "state", "metadata", "timestamp", "version")
# As Go's drivers write a time.Time: to the nanosecond, with a zone and perhaps its name behind.
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?.*"
)


class LangGraphGo:
    """Checkpoints in a table or in keys that LangGraphGo wrote. They are only read.

    Args:
        url: ``sqlite:///path``, ``postgresql://…`` or ``redis://…``, as for `open_store`.
        table_name: The table, in a database.
        prefix: What every key begins with, on Redis.

    Raises:
        InvalidInput: The URL has none of these forms.
    """

    def __init__(
        self, url: str, *, table_name: str = "checkpoints", prefix: str = "langgraph:"
    ) -> None:
        parts = urlsplit(url)
        self._reader: _Sql | _Redis
        match parts.scheme:
            case "sqlite" if not parts.netloc and len(parts.path) > 1:
                self._reader = _Sqlite(unquote(parts.path)[1:], table_name)
            case "postgresql" | "postgres":
                self._reader = _Postgres(url, table_name)
            case "redis" | "rediss" | "valkey" | "valkeys":
                self._reader = _Redis(url.replace("valkey", "redis", 1), prefix)
            case _:
                raise InvalidInput(
                    f"LangGraphGo({url!r}): use sqlite:///path, postgresql://… or redis://…; its "
                    "file store keeps nothing"
                )

    def executions(self) -> list[str]:
        """Return the ids of all executions, in ascending order.

        Raises:
            StoreMisconfigured: The table can't be read.
        """
        return self._reader.executions()

    def records(self, execution_id: str, after: str = "") -> list[Checkpoint]:
        """Return some records of an execution whose ids come behind one, in ascending order.

        Raises:
            CorruptData: A record isn't what LangGraphGo writes; the message says which.
            StoreMisconfigured: The table can't be read.
        """
        return [_record(row) for row in self._reader.rows(execution_id, after)]


class _Sql:
    """A table, whatever the database."""

    place = "?"

    def __init__(self, table_name: str) -> None:
        self._table = '"' + table_name.replace('"', '""') + '"'

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        raise NotImplementedError

    def executions(self) -> list[str]:
        rows = self.ask(f"SELECT DISTINCT execution_id FROM {self._table}")  # noqa: S608 -- quoted
        return sorted(id for (id,) in rows)

    def rows(self, execution_id: str, after: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(_COLUMNS)
        return self.ask(
            f"SELECT {columns} FROM {self._table} WHERE execution_id = {self.place} "  # noqa: S608 -- quoted
            f"AND id > {self.place} ORDER BY id LIMIT {_PAGE}",
            (execution_id, after),
        )


class _Sqlite(_Sql):
    def __init__(self, path: str, table_name: str) -> None:
        super().__init__(table_name)
        self._path = path

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        uri = f"file:{_quoted(self._path)}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                return connection.execute(sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise StoreMisconfigured(f"{self._path}: {error}") from error


class _Postgres(_Sql):
    place = "%s"

    def __init__(self, url: str, table_name: str) -> None:
        super().__init__(table_name)
        # LangGraphGo takes the options of its pool in the URL, which libpq doesn't know.
        self._url = re.sub(r"pool_\w+=[^&]*&?", "", url).rstrip("?&")

    def ask(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        psycopg = import_module("psycopg")
        try:
            with closing(psycopg.connect(self._url)) as connection:
                # As text: what psycopg parses, a string isn't told from JSON that holds one.
                sql = sql.replace("state, metadata,", "state::text, metadata::text,")
                sql = sql.replace("ORDER BY id", 'ORDER BY id COLLATE "C"')
                sql = sql.replace("id > %s ORDER", 'id COLLATE "C" > %s ORDER')
                rows: list[tuple[Any, ...]] = connection.execute(sql, parameters or None).fetchall()
                return rows
        except psycopg.Error as error:
            said = " ".join(str(error).split())
            if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
                raise StoreUnavailable(
                    f"LangGraphGo's database can't be reached: {said}"
                ) from error
            raise StoreMisconfigured(f"LangGraphGo's table can't be read: {said}") from error


class _Redis:
    """A JSON text for each checkpoint, and a set of ids for each execution."""

    def __init__(self, url: str, prefix: str) -> None:
        self._url = url
        self._prefix = prefix

    @contextmanager
    def _client(self) -> Iterator[Any]:
        redis = import_module("redis")
        try:
            with redis.Redis.from_url(self._url) as client:
                yield client
        except redis.ConnectionError as error:
            raise StoreUnavailable(f"LangGraphGo's server can't be reached: {error}") from error
        except redis.RedisError as error:
            raise StoreMisconfigured(f"LangGraphGo's keys can't be read: {error}") from error

    def executions(self) -> list[str]:
        start, end = f"{self._prefix}execution:", ":checkpoints"
        escaped = re.sub(r"([\[\]*?\\])", r"\\\1", start)
        with self._client() as client:
            keys = [key.decode() for key in client.scan_iter(f"{escaped}*{end}", count=1000)]
        return sorted({key.removeprefix(start).removesuffix(end) for key in keys})

    def rows(self, execution_id: str, after: str) -> list[tuple[Any, ...]]:
        with self._client() as client:
            members = client.smembers(f"{self._prefix}execution:{execution_id}:checkpoints")
            ids = sorted(id for id in map(bytes.decode, members) if id > after)[:_PAGE]
            texts = client.mget([f"{self._prefix}checkpoint:{id}" for id in ids]) if ids else []
        rows = []
        for id, text in zip(ids, texts, strict=True):
            if text is None:
                continue  # it has expired; the set of ids lives on
            fields = _json(text, f"checkpoint {id!r}")
            if not isinstance(fields, dict):
                raise CorruptData(f"checkpoint {id!r} of LangGraphGo is no JSON object")
            named = {key.lower().replace("_", ""): value for key, value in fields.items()}
            values = [named.get(column.replace("_", "")) for column in _COLUMNS]
            values[:2] = id, execution_id
            values[3:5] = (None if one is None else orjson.dumps(one) for one in values[3:5])
            rows.append(tuple(values))
        return rows


def _record(row: tuple[Any, ...]) -> Checkpoint:
    id, execution_id, node_name, state, metadata, timestamp, version = row
    what = f"checkpoint {id!r} of execution {execution_id!r}"
    facts = None if metadata is None else _json(metadata, what)
    if facts is not None and not isinstance(facts, dict):
        raise CorruptData(f"{what} of LangGraphGo has metadata that is no JSON object")
    return Checkpoint(
        id=id,
        execution_id=execution_id,
        node_name=node_name or "",
        state=None if state is None else _json(state, what),
        metadata=facts or {},
        timestamp=_time(timestamp, what),
        version=version if isinstance(version, int) and version >= 0 else 0,
    )


def _json(text: str | bytes, what: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CorruptData(f"{what} of LangGraphGo holds no JSON: {error}") from error


def _time(value: Any, what: str) -> datetime:
    """Return a time to the microsecond."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise CorruptData(f"{what} of LangGraphGo has the timestamp {value!r}")
    *numbers, fraction, zone = found.groups()
    offset = timedelta()
    if zone and zone != "Z":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        offset = timedelta(minutes=-minutes if zone[0] == "-" else minutes)
    microseconds = int((fraction or "0").ljust(6, "0")[:6])
    try:
        year, month, day, hour, minute, second = map(int, numbers)
        zoned = timezone(offset)
        moment = datetime(year, month, day, hour, minute, second, microseconds, zoned)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise CorruptData(f"{what} of LangGraphGo has the timestamp {value!r}") from error


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")

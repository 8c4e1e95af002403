"""The contract's storage on PostgreSQL: a schema of its own for each test."""

from __future__ import annotations

import itertools
from typing import Any

import psycopg

from langcairn.backends.postgres import PostgresBackend
from langcairn.options import StoreOptions
from langcairn.store import CheckpointStore
from langcairn.testing import Storage

_numbers = itertools.count()


_TABLES = ("checkpoints", "checkpoint_chunks", "checkpoint_writes", "checkpoint_executions")


class PostgresStorage(Storage):
    """A schema of a server's database.

    Args:
        url: The server.
        kept: A schema that is only emptied at the end, which is faster; None: a new one, dropped
            at the end.
        prepare: Whether the stores use prepared statements.
    """

    def __init__(self, url: str, kept: str | None = None, *, prepare: bool = True) -> None:
        super().__init__()
        self._server = url
        self._kept = kept is not None
        self.schema = kept or f"test_{next(_numbers)}"
        self._options = {
            "schema": self.schema, "pool_min_conns": 0, "pool_max_conns": 10, "prepare": prepare,
        }  # fmt: skip
        # There may be a pooler between, so without a prepared statement, and see below.
        self._direct = psycopg.connect(url, autocommit=True, prepare_threshold=None)

    @property
    def process_url(self) -> str:
        search = f"options=-csearch_path%3D{self.schema}"
        return f"{self._server}{'&' if '?' in self._server else '?'}{search}"

    def _open(self, **options: Any) -> CheckpointStore:
        kept: Any = {
            key: options.pop(key) for key in StoreOptions.__annotations__.keys() & options.keys()
        }
        backend = PostgresBackend(self._server, **{**self._options, **options})
        return CheckpointStore(backend, **kept)

    def close(self) -> None:
        super().close()
        if not self._kept:
            self.ask(f'DROP SCHEMA IF EXISTS "{self.schema}" CASCADE')
        elif self.ask("SELECT to_regclass('checkpoints')") != [(None,)]:
            self.ask("; ".join(f"DELETE FROM {table}" for table in _TABLES))
        self._direct.close()

    def ask(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run a statement beside the stores, with the test's schema as the search path."""
        with self._direct.transaction():
            self._direct.execute(f'SET LOCAL search_path = "{self.schema}"')
            cursor = self._direct.execute(sql.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []

    def vacuum(self, table: str) -> None:
        """Let the server look at a table anew, which it doesn't within a transaction."""
        self._direct.execute(f'VACUUM ANALYZE "{self.schema}".{table}'.encode())

    def chunks(self, execution_id: str) -> dict[str, bytes]:
        sql = "SELECT id, data FROM checkpoint_chunks WHERE execution_id = %s"
        return dict(self.ask(sql, execution_id))

    def replace_chunk(self, execution_id: str, id: str, data: bytes) -> None:
        self.ask(
            "INSERT INTO checkpoint_chunks (execution_id, id, epoch, data) VALUES (%s, %s, 0, %s)"
            " ON CONFLICT (execution_id, id) DO UPDATE SET data = excluded.data",
            execution_id, id, data,
        )  # fmt: skip

    def drop_chunk(self, execution_id: str, id: str) -> None:
        self.ask(
            "DELETE FROM checkpoint_chunks WHERE execution_id = %s AND id = %s", execution_id, id
        )

    def replace_column(
        self, execution_id: str, namespace: str, id: str, column: str, data: bytes
    ) -> None:
        kind = "json" if column == "graph" else "jsonb"
        try:
            self.ask(
                f"UPDATE checkpoints SET {column} = %s::{kind}"
                " WHERE execution_id = %s AND namespace = %s AND id = %s",
                data.decode(), execution_id, namespace, id,
            )  # fmt: skip
        except (psycopg.DataError, UnicodeDecodeError) as error:
            raise ValueError(f"PostgreSQL refuses to hold {data!r}") from error

"""The PostgreSQL backend.

Modules, each of which knows only those below it: `backend` (callers, threads, event loops),
`lenders`, `pool` and `options` (connections), `running` and `errors` (statements over either side
of psycopg), `queries`, `reads`, `commits` and `drafts` (what a request takes), `schema` and
`values` (tables and types).
"""

try:
    import psycopg as _psycopg  # noqa: F401 -- only to say what to install
except ImportError as error:
    raise ImportError(
        "PostgreSQL needs the psycopg package: pip install 'langcairn[postgres]'"
    ) from error

from langcairn.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]

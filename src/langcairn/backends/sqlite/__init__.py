"""The SQLite backend.

Modules, each of which knows only those below it: `backend` (connections, transactions, processes),
`appending`, `queries` and `measures` (what answers a request), `statements` (the SQL), `schema`
(the tables) and `values` (rows and columns).
"""

from langcairn.backends.sqlite.backend import SqliteBackend, Synchronous

__all__ = ["SqliteBackend", "Synchronous"]

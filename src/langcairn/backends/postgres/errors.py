"""Errors of PostgreSQL and psycopg as langcairn's.

What may pass becomes `StoreUnavailable`, which is repeated (see `langcairn.backends.retry`);
whatever won't change by itself is said at once.
"""

from __future__ import annotations

import psycopg

from langcairn.errors import (
    CairnError,
    CorruptData,
    InvalidInput,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)

_KINDS: dict[str, type[CairnError]] = {
    "08": StoreUnavailable,  # connection
    "0A": StoreMisconfigured,  # not supported, as by a server that isn't quite PostgreSQL
    "22": InvalidInput,  # data
    "22021": InvalidInput,  # NUL in a text
    "23": InvalidInput,  # constraint
    "25006": StoreUnavailable,  # read only: a replica, perhaps about to be promoted
    "25": StoreUnavailable,  # transaction state: left by something else on this connection
    "26": StoreMisconfigured,  # prepared statement unknown, see _HINTS
    "28": StoreMisconfigured,  # password, role
    "3D": StoreMisconfigured,  # no such database
    "3F": StoreMisconfigured,  # no such schema
    "40": StoreUnavailable,  # serialization failure, deadlock
    "42": StoreMisconfigured,  # no rights, no such table or column
    "42P05": StoreMisconfigured,  # prepared statement known, see _HINTS
    "53": StoreUnavailable,  # too many connections, out of memory
    "53100": StoreFull,  # disk full
    "53400": StoreUnavailable,
    "54": InvalidInput,  # too large
    "55": StoreUnavailable,  # locked by something else
    "57": StoreUnavailable,  # cancelled by an administrator or a timeout, shut down, starting up
    "57P04": StoreMisconfigured,  # the database was dropped
    "58": StoreUnavailable,  # files of the server's
    "58030": StoreUnavailable,
    "P0": InvalidInput,  # raised by a trigger
    "XX": StoreError,
    "XX001": CorruptData,
    "XX002": CorruptData,
}
"""Errors by SQLSTATE; its first two characters stand for the whole class."""

_POOLER = "is there a pooler in transaction mode between? Then open the store with prepare=False"
_HINTS = {
    "25006": "the server is a replica, or set to be read-only",
    "26000": _POOLER,
    "42P05": _POOLER,
    "42501": "see docs/postgresql.md for the rights that a role needs",
    "42P01": "the tables were dropped or can't be seen; a new store makes them",
}

# Without a connection there is no SQLSTATE, only a text. These can't pass by themselves.
_LASTING = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "pg_hba.conf",
    "is not permitted to log in",
    "permission denied",
    "not currently accepting connections",
    "does not support SSL",
    "certificate",
    "SSL error",
    "sslmode",
    "channel binding",
    "authentication method",
    "unsupported frontend protocol",
    "invalid ",
    "unrecognized configuration parameter",
    "unsupported startup parameter",
)


def translated(error: Exception) -> CairnError:
    """Return an error of psycopg's as one of langcairn's, to be raised from it."""
    message = " ".join(str(error).split()) or type(error).__name__
    state = getattr(error, "sqlstate", None)
    if state is not None:
        kind = _KINDS.get(state) or _KINDS.get(state[:2], StoreError)
        hint = f" ({_HINTS[state]})" if state in _HINTS else ""
        return kind(f"PostgreSQL: {message}{hint}")
    if isinstance(error, psycopg.OperationalError):
        return _lost(message)
    if isinstance(error, (psycopg.DataError, UnicodeError)):
        return InvalidInput(f"PostgreSQL can't store this: {message}")
    if isinstance(error, psycopg.InterfaceError):
        return StoreUnavailable(f"PostgreSQL: {message}")  # the connection is closed
    if isinstance(error, psycopg.ProgrammingError):
        return StoreMisconfigured(f"PostgreSQL: {message}")  # an option of the DSN
    return StoreError(f"PostgreSQL: {message}")


def _lost(message: str) -> CairnError:
    if any(part in message for part in _LASTING) and "closed" not in message:
        return StoreMisconfigured(f"PostgreSQL can't be used as configured: {message}")
    return StoreUnavailable(f"PostgreSQL can't be reached: {message}")

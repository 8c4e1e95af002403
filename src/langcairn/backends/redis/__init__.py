"""The Redis and Valkey backend.

Modules, each of which knows only those below it: `backend` (callers, threads, event loops),
`links` and `settings` (redis-py's clients), `exchange` and `faults` (what is sent and what came
back), `plans`, `finding` and `registers` (what a request takes), `table` and `keys` (how it is
stored), `commands` and ``lua/`` (scripts).
"""

try:
    import redis as _redis  # noqa: F401 -- only to say what to install
except ImportError as error:
    raise ImportError("Redis needs the redis package: pip install 'langcairn[redis]'") from error

from langcairn.backends.redis.backend import RedisBackend

__all__ = ["RedisBackend"]

"""The names of the keys, all below one prefix.

`langgraph:execution:{thread-1}:checkpoints`
    Everything of one execution: a sorted set, see `langcairn.backends.redis.table`. One key, so
    that an execution lives in one slot of a cluster, expires at one moment, is evicted whole or
    not at all, and can be removed, renamed, dumped and copied with one command.
`langgraph:checkpoint:1f0c…`
    Which executions may hold a checkpoint with this id: a hash of execution id to a token. It
    says where to look and is never believed: see `langcairn.backends.redis.plans`.
`langgraph:executions:0` to `langgraph:executions:15`
    Which executions there may be: sorted sets of their ids, spread by a hash of the id.

Ids are escaped such that no id, and no id below a longer prefix, can make the key of another.
"""

from __future__ import annotations

from zlib import crc32

from langcairn.errors import InvalidInput

_ESCAPES = str.maketrans({character: f"%{ord(character):02X}" for character in "%:{}"})
_REGISTERS = 16


class Keys:
    """Makes the keys of one store.

    Args:
        prefix: What all keys begin with.

    Raises:
        InvalidInput: The prefix can't be used.
    """

    def __init__(self, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise InvalidInput(f"prefix must be a string, not {type(prefix).__name__}")
        # Of two braces in a key, Redis Cluster hashes what is between the first ones.
        if "{" in prefix or "}" in prefix:
            raise InvalidInput(f"prefix {prefix!r} has braces, which mark the slot in a cluster")
        self._prefix = encoded(prefix, "prefix")

    def execution(self, execution_id: str) -> bytes:
        """Return the key of an execution."""
        return b"%bexecution:{%b}:checkpoints" % (self._prefix, _escaped(execution_id))

    def checkpoint(self, id: str) -> bytes:
        """Return the key that says which executions may have a checkpoint with this id."""
        return b"%bcheckpoint:%b" % (self._prefix, _escaped(id))

    def register(self, execution_id: str) -> bytes:
        """Return the key of the set that an execution's id is noted in."""
        return self._register(crc32(encoded(execution_id, "execution id")) % _REGISTERS)

    def registers(self) -> list[bytes]:
        """Return the keys of all such sets."""
        return [self._register(number) for number in range(_REGISTERS)]

    def _register(self, number: int) -> bytes:
        return b"%bexecutions:%d" % (self._prefix, number)


def encoded(text: str, what: str) -> bytes:
    """Return a text in UTF-8.

    Raises:
        InvalidInput: It has NUL, which ends names in Redis, or half a surrogate pair.
    """
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} {text!r:.80} can't be encoded: {error.reason}") from error
    if b"\0" in data:
        raise InvalidInput(f"{what} {text!r:.80} has a NUL character")
    return data


def _escaped(id: str) -> bytes:
    return encoded(id.translate(_ESCAPES), "id")

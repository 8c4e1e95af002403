"""Commands to a server, scripts among them, and the steps that a request takes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

Argument = bytes | str | int
Words = tuple[Argument, ...]
"""A command as it is sent."""


class Command(NamedTuple):
    """A command on one key."""

    key: bytes
    """In a cluster, it says which node."""
    words: Words
    """What is sent."""
    full: Words | None = None
    """What is sent if the server doesn't know the script that ``words`` names."""


class Step(NamedTuple):
    """Commands that are sent together. The answer is a list of their replies.

    Commands to one node are done in this order. If one fails, an error is raised; others may
    have been done.
    """

    commands: Sequence[Command]
    writes: bool = False
    """Whether something is changed, so that the step may wait for company (group commit)."""
    optional: bool = False
    """Whether the user may lack the right to do this: then the reply is the error that says so."""
    again: Sequence[Command] | None = None
    """What is sent instead if an attempt has failed, so that it isn't known what was done."""


Plan = Generator[Step, list[Any], object]
"""What it takes to answer a request: it yields steps, is sent their replies, returns the answer."""


def command(word: str, key: bytes, *words: Argument) -> Command:
    """Return a command that has its key as the first argument."""
    return Command(key, (word, key, *words))


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield a sequence in parts of at most some size."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Script:
    """A Lua script, which a server knows by its hash.

    Args:
        parts: The names of the files that it consists of.
    """

    def __init__(self, *parts: str) -> None:
        folder = files(__package__) / "lua"
        text = "\n".join((folder / f"{part}.lua").read_text() for part in parts)
        self._text = text.encode()
        self._hash = sha1(self._text, usedforsecurity=False).hexdigest()

    def on(self, key: bytes, *words: Argument) -> Command:
        """Return the command that runs the script on a key."""
        return self.on_all([key], *words)

    def on_all(self, keys: Sequence[bytes], *words: Argument) -> Command:
        """Return the command that runs the script on keys, which are all in one slot."""
        rest = (len(keys), *keys, *words)
        return Command(keys[0], ("EVALSHA", self._hash, *rest), ("EVAL", self._text, *rest))


COMMIT = Script("common", "commit")
FIND = Script("common", "find")
FETCH = Script("common", "fetch")
REMOVE = Script("common", "remove")
CLEAR = Script("common", "clear")
LEASE = Script("common", "lease")
SWEEP = Script("common", "sweep")
REWRITE = Script("common", "rewrite")
MOVE = Script("common", "move")
NOTE = Script("note")
FORGET = Script("forget")

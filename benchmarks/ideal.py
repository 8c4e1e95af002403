"""The ideal that no saver can beat by much: each distinct value kept once, compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from benchmarks.recording import PutCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benchmarks.recording import Call, Recording


class Ideal(NamedTuple):
    """Bytes of the distinct content: every message, section and value that differs, once.

    A human message differs from itself: the checkpoint of a run's input holds it without an id,
    the later ones with the id that `add_messages` gave it. Both have to be given back as they
    were. The bookkeeping of checkpoints (ids, versions, metadata) isn't counted; a saver needs it
    too.
    """

    values: int
    serialized: int
    one_by_one: int
    """Each value compressed by itself if that helps, as a saver has to that shares values."""
    one_stream: int
    """All values compressed together, as an archive could."""


def ideal_of(recording: Recording) -> Ideal:
    contents = _distinct(recording.calls)
    compressor = zstandard.ZstdCompressor()
    return Ideal(
        values=len(contents),
        serialized=sum(map(len, contents)),
        one_by_one=sum(
            min(len(content), len(compressor.compress(content))) for content in contents
        ),
        one_stream=len(compressor.compress(b"".join(contents))),
    )


def _distinct(calls: Iterable[Call]) -> list[bytes]:
    serde = JsonPlusSerializer()
    # The recording keeps all values alive, so no id is used twice. Skipping the ids already seen
    # saves nearly all of the serializing.
    seen: set[int] = set()
    contents: dict[bytes, None] = {}
    for value in _values(calls):
        for element in _elements(value):
            if id(element) not in seen:
                seen.add(id(element))
                contents[serde.dumps_typed(element)[1]] = None
    return list(contents)


def _values(calls: Iterable[Call]) -> Iterator[Any]:
    for call in calls:
        if isinstance(call, PutCall):
            yield from call.checkpoint["channel_values"].values()
        else:
            yield from (value for _, value in call.writes)


def _elements(value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict):
        for element in value.values() if isinstance(value, dict) else value:
            yield from _elements(element)
    else:
        yield value

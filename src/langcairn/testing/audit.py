"""Whether the stored chunks are exactly those that something refers to.

The walk follows the grammar in `langcairn.codec.nodes` on its own, so that a reference which the
library overlooks, or imagines, shows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from langcairn.backends.base import FindCheckpoints, FindWrites
from langcairn.codec.chunks import ID_LENGTH, ChunkFormat, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn.testing.storage import Storage


class Audit(NamedTuple):
    """What is wrong with an execution's chunks."""

    dangling: set[str]
    """Referred to, but not stored."""
    garbage: set[str]
    """Stored, but not referred to."""


CLEAN = Audit(set(), set())

# Ids are taken as they are, also if made with a key: that readers check them is tested elsewhere.
_FORMAT = ChunkFormat(secret=str.encode)


def audit(storage: Storage, execution_id: str) -> Audit:
    """Compare what an execution's rows refer to with the chunks it has."""
    found: Any = storage.backend.execute(FindCheckpoints(execution_id))
    writes: Any = storage.backend.execute(FindWrites(execution_id))
    chunks = storage.chunks(execution_id)
    nodes = [one.row.state for one in found] + [write.value for write in writes]
    used = {id for node in nodes for id in _ids(json.loads(node), chunks)}
    return Audit(used - chunks.keys(), chunks.keys() - used)


def _ids(node: Any, chunks: dict[str, bytes]) -> Iterator[str]:  # noqa: C901 -- one way for each node
    if isinstance(node, list):
        for member in node:
            yield from _ids(member, chunks)
    if not isinstance(node, dict):
        return
    tag, *rest = node.get("$cairn", ["o"])
    if tag == "o":
        for key, member in node.items():
            if key != "$cairn":
                yield from _ids(member, chunks)
    elif tag == "s":
        yield from _ids(rest[0], chunks)
    elif tag == "c":
        yield rest[0]
    elif tag == "n":
        yield rest[0]
        yield from _ids(_page(rest[0], chunks), chunks)
    elif tag in ("l", "d"):
        yield from _elements(tag, rest[0], chunks)
        for level, tail in enumerate(rest[1:]):
            yield from _pages(tag, tail, level, chunks)


def _pages(tag: str, ids: Any, level: int, chunks: dict[str, bytes]) -> Iterator[str]:
    for id in _cut(ids):
        yield id
        page = _page(id, chunks)
        if page is None:
            continue
        if level:
            yield from _pages(tag, page, level - 1, chunks)
        else:
            yield from _elements(tag, page, chunks)


def _elements(tag: str, page: Any, chunks: dict[str, bytes]) -> Iterator[str]:
    content = page if tag == "l" else page[1]
    yield from _cut(content) if isinstance(content, str) else _ids(content, chunks)


def _page(id: str, chunks: dict[str, bytes]) -> Any:
    """Return a page, None if it isn't there: then it is dangling itself."""
    if id not in chunks:
        return None
    kind, data = _FORMAT.unseal(id, chunks[id])  # type: ignore[arg-type]  # NewType of str
    assert kind is Kind.PAGE, id  # noqa: S101 -- a test's
    return json.loads(data)


def _cut(ids: str) -> list[str]:
    return [ids[i : i + ID_LENGTH] for i in range(0, len(ids), ID_LENGTH)]

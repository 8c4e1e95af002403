"""How large values are when nothing is shared: what a saver of whole states would store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from langcairn.backends.base import ChunkId
from langcairn.codec.chunks import ChunkFormat, Kind
from langcairn.codec.nodes import MARK
from langcairn.codec.reader import Content, Ids, references, split
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langcairn.codec.nodes import Node


class Sizes:
    """The sizes of one execution's chunks, opened, and of the nodes that refer to them.

    Only pages are kept. Of every other chunk, a number is.

    Args:
        format: How chunks are stored.
    """

    def __init__(self, format: ChunkFormat) -> None:
        self._format = format
        self._pages = Content(format)
        self._chunks: dict[ChunkId, int] = {}
        self._known: dict[tuple[ChunkId, int, bool], int] = {}  # what a page holds, in its role

    def missing(self, nodes: Iterable[Node]) -> set[ChunkId]:
        """Return the chunks that `of` needs next for these nodes, see `Reader.missing`."""
        pages, values = references(nodes, self._pages.pages)
        return (pages - self._pages.pages.keys()) | (values - self._chunks.keys())

    def add(self, chunks: Mapping[ChunkId, bytes]) -> None:
        """Take in stored chunks.

        Raises:
            CorruptData: One isn't what was stored under its id.
        """
        for id, sealed in chunks.items():
            payload = self._format.unseal(id, sealed)
            self._chunks[id] = len(payload.data)
            if payload.kind is Kind.PAGE:
                self._pages.keep(id, payload)

    def of(self, node: Node) -> int:
        """Return the size of a node's value: serialized, not compressed, nothing shared [bytes].

        Raises:
            CorruptData: The node is malformed, or something is missing.
        """
        try:
            return self._of(node)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise CorruptData(f"a stored node is malformed: {error}") from error

    def _of(self, node: Node) -> int:  # noqa: PLR0911 -- one case for each form of a node
        if type(node) is list:
            return 2 + sum(map(self._of, node))
        if type(node) is not dict:
            return len(orjson.dumps(node))
        match node.get(MARK):
            case None | ["o", *_]:
                members = ((key, member) for key, member in node.items() if key != MARK)
                return 2 + sum(len(key) + 3 + self._of(member) for key, member in members)
            case ["c", str(id)]:
                return self._chunks[ChunkId(id)]
            case ["n", str(id)]:
                return self._held(ChunkId(id), 0)
            case ["m" | "u", str(text)]:
                return len(text) * 3 // 4
            case ["s", inner]:
                return self._of(inner)
            case ["l" | "d" as tag, first, *tails]:
                return self._page(first, keyed=tag == "d") + sum(
                    self._held(id, height, keyed=tag == "d")
                    for height, tail in enumerate(tails, start=1)
                    for id in split(tail)
                )
        raise CorruptData(f"a stored node has an unknown form: {str(node.get(MARK))[:80]}")

    def _held(self, id: ChunkId, height: int, *, keyed: bool = False) -> int:
        """Return the size of what a page holds: at 0 a node, at 1 elements, above pages."""
        known = self._known.get((id, height, keyed))
        if known is None:
            page = self._pages.pages[id]
            if height == 0:
                known = self._of(page)
            elif height == 1:
                known = self._page(page, keyed=keyed)
            else:
                known = sum(self._held(lower, height - 1, keyed=keyed) for lower in split(page))
            self._known[id, height, keyed] = known
        return known

    def _page(self, page: Any, *, keyed: bool) -> int:
        """Return the size of a page's elements, or of a tail's."""
        if keyed:
            keys, elements = page
            return sum(len(key) + 3 for key in keys) + self._page(elements, keyed=False)
        if type(page) is str or type(page) is Ids:
            return sum(self._chunks[id] for id in split(page))
        return sum(map(self._of, page))

"""The same content under other ids: nodes and pages whose references are changed.

Ids of chunks depend on a store's key (see `langcairn.codec.chunks`). Values know nothing of ids, so
only what refers to them is made anew, without decoding a value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from langcairn.codec.chunks import Kind, Payload
from langcairn.codec.nodes import MARK, Node
from langcairn.codec.reader import Ids, split
from langcairn.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langcairn.backends.base import ChunkId

_NODE = 0  # the level of a page that holds a node; those of trees have 1 and more


class Renamer:
    """Changes references.

    Args:
        pages: All pages of an execution, as in `langcairn.codec.reader.Content`.
        values: From the old id of each other chunk to its new one.
        name: Gives pages their new ids.

    Attributes:
        made: The new pages.
    """

    def __init__(
        self,
        pages: Mapping[ChunkId, Node],
        values: Mapping[ChunkId, ChunkId],
        name: Callable[[Payload], ChunkId],
    ) -> None:
        self._pages = pages
        self._values = values
        self._name = name
        self._renamed: dict[tuple[ChunkId, int, bool], ChunkId] = {}
        self.made: dict[ChunkId, Payload] = {}

    def rename(self, node: Node) -> Node:
        """Return a node with other references.

        Raises:
            CorruptData: It is malformed.
        """
        try:
            return self._node(node)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise CorruptData(f"a stored node is malformed: {error!r:.100}") from error

    def _node(self, node: Node) -> Node:  # noqa: PLR0911 -- one case for each form of a node
        if type(node) is list:
            return [self._node(member) for member in node]
        if type(node) is not dict:
            return node
        match node.get(MARK):
            case None:
                return {key: self._node(member) for key, member in node.items()}
            case ["o", *_] as order:
                return {**{k: self._node(m) for k, m in node.items() if k != MARK}, MARK: order}
            case ["c", id]:
                return {MARK: ["c", self._values[id]]}
            case ["n", id]:
                return {MARK: ["n", self._page(id, _NODE, keyed=False)]}
            case ["s", inner]:
                return {MARK: ["s", self._node(inner)]}
            case [("l" | "d") as kind, first, *tails]:
                keyed = kind == "d"
                above = [self._pages_in(ids, n, keyed=keyed) for n, ids in enumerate(tails, 1)]
                return {MARK: [kind, self._content(first, 1, keyed=keyed), *above]}
        return node  # a value that stands here

    def _page(self, id: ChunkId, level: int, *, keyed: bool) -> ChunkId:
        known = self._renamed.get((id, level, keyed))
        if known is None:
            content = self._content(self._pages[id], level, keyed=keyed)
            payload = Payload(Kind.PAGE, orjson.dumps(content))
            known = self._renamed[id, level, keyed] = self._name(payload)
            self.made[known] = payload
        return known

    def _pages_in(self, ids: Node, level: int, *, keyed: bool) -> str:
        return "".join(self._page(id, level, keyed=keyed) for id in split(ids))

    def _content(self, content: Node, level: int, *, keyed: bool) -> Node:
        """Return what stands in a page; in a tree's first tail it is as in a page of level 1."""
        if level == _NODE:
            return self._node(_joined(content))
        if level > 1:
            return self._pages_in(content, level - 1, keyed=keyed)
        if keyed:
            keys, elements = content
            return [keys, self._elements(elements)]
        return self._elements(content)

    def _elements(self, elements: Node) -> Node:
        if type(elements) is str or type(elements) is Ids:
            return "".join(self._values[id] for id in split(elements))
        return [self._node(node) for node in elements]


def _joined(content: Node) -> Node:
    """Return what stood in a page that holds a node, where ids were split."""
    if type(content) is Ids:
        return "".join(content)
    if type(content) is list and len(content) == 2 and type(content[1]) is Ids:
        return [content[0], "".join(content[1])]
    return content

"""Signatures: what is stored can be read by all, but not made or changed without a key.

Stored format, version 1. A signature is a keyed blake2b of 128 bits over everything in a row, its
key included, so that no row can be changed, or stand for another. Chunks need none: rows name
them by the hash of their content. It stands at the beginning of a JSON column: in a checkpoint's
``graph`` as ``{"$cairn": ["h", signature], …}``, and for a pending write as
``{"$cairn": ["h", signature, value]}``. Both columns are kept by every backend as they are written.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from typing import TYPE_CHECKING

import orjson
import ormsgpack
from typing_extensions import override

from langcairn.backends.base import WriteRow
from langcairn.codec.nodes import MARK
from langcairn.errors import ForgedData
from langcairn.security.keys import read_keys
from langcairn.security.standing_before import StandingBefore

if TYPE_CHECKING:
    from langcairn.backends.base import Backend, CheckpointRow
    from langcairn.security.keys import Keys

_BYTES = 16
_HEAD = b'{"%s":["h","' % MARK.encode()
_SIGNED = len(_HEAD) + 2 * _BYTES  # where the signature ends, which is in hexadecimal digits


class SignedBackend(StandingBefore):
    """Signs what another backend stores, and refuses what isn't signed.

    That a row was removed, or an older version of the very same row put back, can't be seen.

    Args:
        inner: The backend that stores.
        keys: The keys. The first signs; each is good for what was signed with it.

    Raises:
        InvalidInput: This is no key.
        StoreMisconfigured: The variable or file with the keys isn't there.
    """

    def __init__(self, inner: Backend, keys: Keys) -> None:
        super().__init__(inner)
        self.keys = read_keys(keys)

    @override
    def seal_row(self, row: CheckpointRow) -> CheckpointRow:
        signature = _signature(self.keys[0], row)
        rest = b"" if row.graph == b"{}" else b","
        return row._replace(graph=_HEAD + signature + b'"]' + rest + row.graph[1:])

    @override
    def open_row(self, row: CheckpointRow) -> CheckpointRow:
        signature, rest = _taken_off(row.graph, b'"]')
        opened = row._replace(graph=b"{" + rest.removeprefix(b","))
        what = f"checkpoint {row.id!r} of {row.execution_id!r}"
        self._check(signature, opened, what)
        return opened

    @override
    def seal_write(self, write: WriteRow) -> WriteRow:
        signature = _signature(self.keys[0], write)
        return write._replace(value=_HEAD + signature + b'",' + write.value + b"]}")

    @override
    def open_write(self, write: WriteRow) -> WriteRow:
        signature, rest = _taken_off(write.value, b'",')
        opened = write._replace(value=rest[:-2])
        what = f"a pending write to {write.channel!r} of {write.execution_id!r}"
        self._check(signature, opened, what)
        return opened

    def _check(self, signature: bytes | None, row: CheckpointRow | WriteRow, what: str) -> None:
        if signature is None:
            raise ForgedData(f"{what} is not signed, though everything in this store should be")
        try:
            if any(hmac.compare_digest(signature, _signature(key, row)) for key in self.keys):
                return
        except orjson.JSONDecodeError:
            pass  # damaged, then
        raise ForgedData(
            f"{what} is not what was signed with a key of this store: it was changed, moved from "
            "another place, or signed with another key"
        )


def _taken_off(column: bytes, end: bytes) -> tuple[bytes | None, bytes]:
    """Return the signature at the beginning of a column, and what comes behind it."""
    if not column.startswith(_HEAD) or column[_SIGNED : _SIGNED + len(end)] != end:
        return None, column
    return column[len(_HEAD) : _SIGNED], column[_SIGNED + len(end) :]


def _signature(key: bytes, row: CheckpointRow | WriteRow) -> bytes:
    content = blake2b(_content(row), digest_size=_BYTES, key=key, person=b"cairn signature")
    return content.hexdigest().encode()


def _content(row: CheckpointRow | WriteRow) -> bytes:
    """Return all that a row says, in a form that doesn't depend on how a database writes JSON."""
    if isinstance(row, WriteRow):
        return ormsgpack.packb(("write", *row))
    same = row._replace(state=_canonical(row.state), metadata=_canonical(row.metadata))
    return ormsgpack.packb(("row", *same[:7], row.timestamp.isoformat(), *same[8:]))


def _canonical(json: bytes) -> bytes:
    return orjson.dumps(orjson.loads(json), option=orjson.OPT_SORT_KEYS)

"""Encryption of what is stored: AES-256-GCM over rows, pending writes and chunks.

Stored format, version 1. An envelope is::

    0xCE  version  key id (4 bytes)  nonce (12 bytes)  ciphertext and tag

What it belongs to (the execution, and the key of the row or the id of the chunk) is authenticated
with it: in another place it can't be decrypted. In a row it stands in base64 as
``{"$cairn": ["e", …]}``: in ``state`` one envelope holds state, metadata and graph together, and
authenticates the other columns; ``graph`` is empty, and ``metadata`` holds a copy of what is to be
searched.
"""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import orjson
import ormsgpack
from typing_extensions import override

from langcairn.codec.chunks import ENVELOPE
from langcairn.codec.nodes import MARK
from langcairn.errors import DecryptionFailed, InvalidInput, TamperedData
from langcairn.security.keys import ID_BYTES
from langcairn.security.standing_before import StandingBefore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langcairn.backends.base import (
        Backend,
        CheckpointRow,
        ChunkId,
        FindCheckpoints,
        WriteRow,
    )
    from langcairn.security.keys import Keyring

_HEAD = ENVELOPE + b"\x01"
_NONCE_BYTES = 12
_KEY_AT = len(_HEAD)
_NONCE_AT = _KEY_AT + ID_BYTES
_BODY_AT = _NONCE_AT + _NONCE_BYTES
_COLUMN, _COLUMN_END = b'{"%s":["e","' % MARK.encode(), b'"]}'


class EncryptedBackend(StandingBefore):
    """Encrypts what another backend stores.

    Ids of executions, namespaces, checkpoints and tasks, names of nodes and of the channels of
    pending writes, times and versions stay readable: the database finds rows by them.

    Args:
        inner: The backend that stores.
        keyring: The keys.
        readable_metadata: The metadata that stays searchable; None: all of it.
    """

    def __init__(
        self,
        inner: Backend,
        keyring: Keyring,
        readable_metadata: Iterable[str] | None = None,
    ) -> None:
        super().__init__(inner)
        self.keyring = keyring
        if isinstance(readable_metadata, str):
            raise InvalidInput("readable_metadata is a set of keys, not a string")
        self._readable = None if readable_metadata is None else frozenset(readable_metadata)

    # Chunks

    @override
    def seal_chunk(self, execution_id: str, id: ChunkId, data: bytes) -> bytes:
        return self._encrypted(execution_id, data, ("chunk", execution_id, id))

    @override
    def open_chunk(self, execution_id: str, id: ChunkId, data: bytes) -> bytes:
        return self._decrypted(
            execution_id, data, ("chunk", execution_id, id), f"chunk {id} of {execution_id!r}"
        )

    # Rows

    @override
    def seal_row(self, row: CheckpointRow) -> CheckpointRow:
        content = ormsgpack.packb((row.state, row.metadata, row.graph))
        envelope = self._encrypted(row.execution_id, content, _place(row))
        return row._replace(
            state=_column(envelope), metadata=self._shown(row.metadata), graph=b"{}"
        )

    @override
    def open_row(self, row: CheckpointRow) -> CheckpointRow:
        what = f"checkpoint {row.id!r} of {row.execution_id!r}"
        content = self._decrypted(row.execution_id, _envelope(row.state), _place(row), what)
        state, metadata, graph = ormsgpack.unpackb(content)
        if orjson.loads(row.metadata) != orjson.loads(self._shown(metadata)):
            raise DecryptionFailed(
                f"the metadata of {what} is not what was stored with it: it was changed, or the "
                "store was opened with another encrypt_metadata or readable_metadata than it was "
                "written with"
            )
        return row._replace(state=state, metadata=metadata, graph=graph)

    def _shown(self, metadata: bytes) -> bytes:
        """Return the part of the metadata that stays readable."""
        if self._readable is None:
            return metadata
        fields = orjson.loads(metadata)
        return orjson.dumps({key: fields[key] for key in self._readable & fields.keys()})

    @override
    def searchable(self, query: FindCheckpoints) -> FindCheckpoints:
        if self._readable is None or not query.metadata:
            return query
        seen = {key: query.metadata[key] for key in self._readable & query.metadata.keys()}
        return query._replace(metadata=seen or None)

    # Pending writes

    @override
    def seal_write(self, write: WriteRow) -> WriteRow:
        envelope = self._encrypted(write.execution_id, write.value, ("write", *write[:7]))
        return write._replace(value=_column(envelope))

    @override
    def open_write(self, write: WriteRow) -> WriteRow:
        what = f"a pending write to {write.channel!r} of {write.execution_id!r}"
        value = self._decrypted(
            write.execution_id, _envelope(write.value), ("write", *write[:7]), what
        )
        return write._replace(value=value)

    # Envelopes

    def is_outdated(self, stored: bytes) -> bool:
        """Tell whether a chunk or column isn't encrypted with the key for what is new."""
        envelope = stored if stored.startswith(ENVELOPE) else _envelope(stored)
        return envelope[:_NONCE_AT] != _HEAD + self.keyring.current

    def _encrypted(self, execution_id: str, data: bytes, place: tuple[object, ...]) -> bytes:
        id, nonce = self.keyring.current, secrets.token_bytes(_NONCE_BYTES)
        cipher = self.keyring.cipher(id, execution_id)
        head = _HEAD + id
        return head + nonce + cipher.encrypt(nonce, data, head + ormsgpack.packb(place))

    def _decrypted(
        self, execution_id: str, envelope: bytes, place: tuple[object, ...], what: str
    ) -> bytes:
        if not envelope.startswith(ENVELOPE):
            raise DecryptionFailed(
                f"{what} is not encrypted, though everything in this store should be: it was "
                "written without encryption, or forged"
            )
        if not envelope.startswith(_HEAD):
            raise DecryptionFailed(f"{what} was encrypted by a newer langcairn: update it")
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 -- optional

        head = envelope[:_NONCE_AT]
        cipher = self.keyring.cipher(head[_KEY_AT:], execution_id)
        nonce = envelope[_NONCE_AT:_BODY_AT]
        try:
            return cipher.decrypt(nonce, envelope[_BODY_AT:], head + ormsgpack.packb(place))
        except (InvalidTag, ValueError) as error:
            raise TamperedData(
                f"{what} can't be decrypted: it was damaged, forged, or moved from another place"
            ) from error


def _place(row: CheckpointRow) -> tuple[object, ...]:
    """Return what a row's envelope belongs to: all columns but those that are in it."""
    return (
        "row",
        row.execution_id,
        row.namespace,
        row.id,
        row.parent_id,
        row.node_name,
        row.timestamp.isoformat(),
        row.version,
    )


def _column(envelope: bytes) -> bytes:
    return _COLUMN + b64encode(envelope) + _COLUMN_END


def _envelope(column: bytes) -> bytes:
    """Return the envelope in a column; a database may have changed the spaces around it."""
    try:
        match orjson.loads(column):
            case {"$cairn": ["e", str(text)]}:
                return b64decode(text, validate=True)
    except ValueError:
        pass
    return column

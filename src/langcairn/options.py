"""The options that every store has, and what is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from langcairn.cache import Caches
from langcairn.codec.chunks import DEFAULT_LEVEL, ChunkFormat
from langcairn.errors import InvalidInput
from langcairn.objects import ObjectStorage, TieredBackend
from langcairn.operations import Codec
from langcairn.security.encrypted import EncryptedBackend
from langcairn.security.keys import Keyring, Keys
from langcairn.security.signed import SignedBackend

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from langgraph.checkpoint.serde.base import SerializerProtocol

    from langcairn.backends.base import Backend
    from langcairn.retention import Retention

DEFAULT_CACHE_BYTES = 64 * 2**20


class StoreOptions(TypedDict, total=False):
    """What every store's constructor takes, whatever its backend.

    Attributes:
        serde: How to serialize values; by default LangGraph's msgpack, loaded safely.
        cache_bytes: How much to remember about executions used last [bytes, about]; 64 MiB by
            default.
        compression: Level of zstd's, from -7 (fast) to 22 (small); 3 by default.
        dictionary: Whether to look for a dictionary (see docs/compression.md) before the first
            operation, and every ten minutes, for packing what is new with it. By default a store
            learns of dictionaries when it reads something that was packed with one.
        encryption: The key or keys that everything is encrypted with: see
            `langcairn.security.keys.Keys`. None: it isn't.
        encrypt_metadata: With ``encryption``: whether metadata is encrypted, too. It is
            authenticated in any case.
        readable_metadata: With ``encryption``: encrypt all metadata but these, which stay
            searchable in the database.
        retention: What `CheckpointStore.maintain` keeps, one `Retention` or several for different
            threads; nothing is removed before that is called. Everything by default.
        slow_operation: What takes longer is a warning in the log ``langcairn.slow``, as a
            timedelta or in seconds; None: nothing is. A second by default.
        signing_key: The key or keys that everything is signed with, so that nobody without one can
            make or change what is loaded. With ``encryption`` that is so already.
        objects: The URL of the object storage that older and larger content is moved to, or an
            `langcairn.ObjectStorage` that says more.
    """

    serde: SerializerProtocol | None
    cache_bytes: int
    compression: int
    dictionary: bool
    encryption: Keys | None
    encrypt_metadata: bool
    readable_metadata: Iterable[str] | None
    retention: Retention | Iterable[Retention] | None
    signing_key: Keys | None
    slow_operation: timedelta | float | None
    objects: str | ObjectStorage | None


def assembled(backend: Backend, options: StoreOptions) -> tuple[Backend, Codec]:
    """Return what a store consists of: the backend as it is seen from above, and its codec.

    Raises:
        ImportError: cryptography or obstore is not installed.
        InvalidInput: An option can't be used as it is.
        StoreMisconfigured: The variable or file with the keys isn't there.
    """
    if unknown := options.keys() - StoreOptions.__annotations__.keys():
        raise InvalidInput(f"a store has no option {min(unknown)!r}")
    cache_bytes = options.get("cache_bytes", DEFAULT_CACHE_BYTES)
    if cache_bytes < 0:
        raise InvalidInput(f"cache_bytes must not be negative: {cache_bytes}")
    tiers = None
    if (objects := options.get("objects")) is not None:
        # Closest to the database: packs hold what the database held.
        backend = tiers = TieredBackend(backend, ObjectStorage.of(objects))
    keys, signing_key = options.get("encryption"), options.get("signing_key")
    readable = options.get("readable_metadata")
    secret = None
    if keys is not None:
        if signing_key is not None:
            raise InvalidInput("what is encrypted is authentic: leave out signing_key")
        if readable is None and options.get("encrypt_metadata"):
            readable = ()
        keyring = Keyring(keys)
        backend, secret = EncryptedBackend(backend, keyring, readable), keyring.id_secret
    elif readable is not None or options.get("encrypt_metadata"):
        raise InvalidInput("metadata is encrypted with a key: give one as encryption=…")
    elif signing_key is not None:
        backend = SignedBackend(backend, signing_key)
    format = ChunkFormat(options.get("compression", DEFAULT_LEVEL), secret)
    if tiers is not None:
        tiers.move_in_background(backend, format)
    return backend, Codec(options.get("serde"), Caches(cache_bytes, format), format)

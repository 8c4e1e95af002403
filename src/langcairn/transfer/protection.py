"""What keeps backups of encrypted stores secret, and those of signed ones authentic.

Each frame's payload is sealed with the store's key. Where it stands, in which backup, and what the
backup says about itself are authenticated with it: nothing can be changed, moved or added.
"""

from __future__ import annotations

import hmac
import secrets
from abc import ABC, abstractmethod
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple, Self

import ormsgpack
from typing_extensions import override

from langcairn.errors import DecryptionFailed, ForgedData
from langcairn.security.encrypted import EncryptedBackend
from langcairn.security.keys import key_id
from langcairn.security.signed import SignedBackend

if TYPE_CHECKING:
    from langcairn.backends.base import Backend
    from langcairn.security.keys import Keyring
    from langcairn.store import CheckpointStore
    from langcairn.transfer.backup_format import Header

ENCRYPTED, SIGNED = "encrypted", "signed"
_NONCE_BYTES = 12
_SIGNATURE_BYTES = 16
# In the place of an execution's id, of which none has a NUL: backups have a key of their own.
_PURPOSE = "\0backup"


class Protection(ABC):
    """Seals the payloads of a backup's frames."""

    @abstractmethod
    def seal(self, place: bytes, payload: bytes) -> bytes:
        """Return a payload as it stands in the file at a place."""

    @abstractmethod
    def open(self, place: bytes, sealed: bytes) -> bytes:
        """Return a payload that stood at a place.

        Raises:
            DecryptionFailed: It wasn't encrypted with this key for this place.
            ForgedData: It wasn't signed with this key for this place.
        """


class _Plain(Protection):
    @override
    def seal(self, place: bytes, payload: bytes) -> bytes:
        return payload

    @override
    def open(self, place: bytes, sealed: bytes) -> bytes:
        return sealed


PLAIN = _Plain()


class _Encrypted(Protection):
    def __init__(self, keyring: Keyring, key: bytes, context: bytes) -> None:
        self._cipher = keyring.cipher(key, _PURPOSE)
        self._context = context

    @override
    def seal(self, place: bytes, payload: bytes) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, payload, self._context + place)

    @override
    def open(self, place: bytes, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 -- optional

        nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, content, self._context + place)
        except (InvalidTag, ValueError) as error:
            raise DecryptionFailed("a part of the backup was forged or moved") from error


class _Signed(Protection):
    """Signs, and with no key only takes signatures off."""

    def __init__(self, key: bytes | None, context: bytes) -> None:
        self._key = key
        self._context = context

    def _signature(self, place: bytes, payload: bytes) -> bytes:
        size, person = _SIGNATURE_BYTES, b"cairn backup"
        signed = blake2b(self._context, digest_size=size, key=self._key or b"", person=person)
        signed.update(place)
        signed.update(payload)
        return signed.digest()

    @override
    def seal(self, place: bytes, payload: bytes) -> bytes:
        return self._signature(place, payload) + payload

    @override
    def open(self, place: bytes, sealed: bytes) -> bytes:
        signature, payload = sealed[:_SIGNATURE_BYTES], sealed[_SIGNATURE_BYTES:]
        if self._key is not None and not hmac.compare_digest(
            signature, self._signature(place, payload)
        ):
            raise ForgedData("a part of the backup was forged or moved")
        return payload


class Keychain(NamedTuple):
    """The keys of a store: for encryption, or for signatures, or none."""

    keyring: Keyring | None = None
    signing: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, store: CheckpointStore) -> Self:
        """Return a store's keys."""
        backend: Backend | None = store.backend
        while backend is not None:
            if isinstance(backend, EncryptedBackend):
                return cls(backend.keyring)
            if isinstance(backend, SignedBackend):
                return cls(None, tuple(backend.keys))
            backend = getattr(backend, "inner", None)
        return cls()

    @property
    def protects(self) -> str:
        """What the store's backups are: encrypted, signed, or nothing of it."""
        return ENCRYPTED if self.keyring is not None else SIGNED if self.signing else ""

    @property
    def key(self) -> bytes:
        """The id of the key for what is new; empty for none."""
        if self.keyring is not None:
            return self.keyring.current
        return key_id(self.signing[0]) if self.signing else b""

    def verifies(self, protection: str) -> bool:
        """Tell whether these keys tell backups that are protected so from forged ones."""
        return protection == ENCRYPTED or (protection == SIGNED and bool(self.signing))

    def protection(self, header: Header, backup_id: bytes, name: str) -> Protection:
        """Return what seals and opens the frames of a backup.

        Args:
            header: What the backup says about itself.
            backup_id: Its id.
            name: What to call it.

        Raises:
            DecryptionFailed: It is encrypted with another key than these.
            ForgedData: It is signed with another key than these.
        """
        context = blake2b(backup_id + ormsgpack.packb(tuple(header)), digest_size=32).digest()
        if header.protection == ENCRYPTED:
            return self._encrypted(header.key, context, name)
        if header.protection == SIGNED:
            return self._signed(header.key, context, name)
        return PLAIN

    def _encrypted(self, key: bytes, context: bytes, name: str) -> Protection:
        if self.keyring is None:
            raise DecryptionFailed(
                f"{name} is encrypted: restore it into a store with its key, or give that as "
                "restore(…, encryption=…)"
            )
        try:
            return _Encrypted(self.keyring, key, context)
        except DecryptionFailed as error:
            raise DecryptionFailed(
                f"{name} is encrypted with key {key.hex()}, which the store doesn't have: give it "
                "as restore(…, encryption=…)"
            ) from error

    def _signed(self, key: bytes, context: bytes, name: str) -> Protection:
        if not self.signing:
            return _Signed(None, context)
        for known in self.signing:
            if key_id(known) == key:
                return _Signed(known, context)
        raise ForgedData(
            f"{name} is signed with key {key.hex()}, which is none of the store's: add that to "
            "its signing_key"
        )

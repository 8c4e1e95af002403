"""Keys: where they come from, what they are called, and what is derived from them."""

from __future__ import annotations

import os
import re
import secrets
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from langcairn.errors import DecryptionFailed, InvalidInput, StoreMisconfigured

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
ID_BYTES = 4

Keys = bytes | str | Sequence[bytes] | Callable[[], "Keys"]
"""How a key is given, or several, of which the first is for what is written from now on:

- 32 bytes, or a sequence of such;
- ``"env:NAME"`` or ``"file:PATH"``: a variable of the environment or a file that holds keys in
  base64, separated by commas or white space;
- a function that returns one of these. It is called again if something was written with a key that
  is not known yet, so that a running process learns of new keys.
"""


def generate_key() -> str:
    """Return a new random key in base64."""
    return b64encode(secrets.token_bytes(KEY_BYTES)).decode()


class _Derived(NamedTuple):
    """What stands for a key in one execution."""

    cipher: AESGCM
    ids: bytes
    """The key of chunk ids."""


class Keyring:
    """The keys of a store. The first encrypts; each is used for what was encrypted with it.

    A key is called by a hash of it, so ids can neither be mixed up nor given to two keys.

    Raises:
        ImportError: cryptography is not installed.
        InvalidInput: This is no key.
        StoreMisconfigured: The variable or file with the keys isn't there.
    """

    def __init__(self, source: Keys) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415 -- optional
        except ImportError as error:
            raise ImportError(
                "encryption needs cryptography: pip install 'langcairn[encryption]'"
            ) from error
        self._aead = aead
        self._source = source
        self._keys: dict[bytes, bytes] = {}
        self._load()
        # Deriving takes 20 µs; a process works on the same executions again and again.
        self._derive = lru_cache(maxsize=4096)(self._derived)

    def _load(self) -> None:
        keys = read_keys(self._source)
        self._keys = {key_id(key): key for key in keys}
        self.current = key_id(keys[0])

    def cipher(self, id: bytes, execution_id: str) -> AESGCM:
        """Return what encrypts an execution's data with a key.

        Raises:
            DecryptionFailed: There is no such key.
        """
        if id not in self._keys and callable(self._source):
            self._load()
        if id not in self._keys:
            known = ", ".join(known.hex() for known in self._keys)
            raise DecryptionFailed(
                f"something of execution {execution_id!r} was encrypted with key {id.hex()}, and "
                f"the keys given are {known}: give the store the key that it was written with"
            )
        return self._derive(id, execution_id).cipher

    def id_secret(self, execution_id: str) -> bytes:
        """Return the key of the ids of an execution's chunks."""
        return self._derive(self.current, execution_id).ids

    def _derived(self, id: bytes, execution_id: str) -> _Derived:
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 -- as above
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        # A key for each execution: random nonces are safe for 2**32 messages with one key.
        info = b"langcairn execution " + execution_id.encode()
        both = HKDF(SHA256(), 2 * KEY_BYTES, salt=None, info=info).derive(self._keys[id])
        return _Derived(self._aead.AESGCM(both[:KEY_BYTES]), both[KEY_BYTES:])


def key_id(key: bytes) -> bytes:
    """Return what a key is called: 4 bytes."""
    return blake2b(key, digest_size=ID_BYTES, person=b"cairn key id").digest()


def read_keys(source: Keys) -> list[bytes]:
    """Return the keys that are meant, at least one.

    Raises:
        InvalidInput: What is there is no key.
        StoreMisconfigured: There is nothing.
    """
    if callable(source):
        return read_keys(source())
    if isinstance(source, str):
        return _parsed(*_text(source))
    if isinstance(source, (bytes, bytearray)):
        source = [bytes(source)]
    if not isinstance(source, Sequence):
        raise InvalidInput(f"a key is {KEY_BYTES} bytes, not {type(source).__name__}")
    keys = list(source)
    if not keys:
        raise InvalidInput("no key was given")
    return [_checked(key) for key in keys]


def _checked(key: object) -> bytes:
    if isinstance(key, bytes) and len(key) == KEY_BYTES:
        return key
    size = f"{len(key)}" if isinstance(key, bytes) else f"a {type(key).__name__}"
    raise InvalidInput(f"a key has {KEY_BYTES} bytes, not {size}: make one with generate_key()")


def _text(source: str) -> tuple[str, str]:
    """Return the text that a source stands for, and what to call it. A key is never named."""
    kind, _, name = source.partition(":")
    if kind == "env" and name:
        if name not in os.environ:
            raise StoreMisconfigured(f"there is no environment variable {name} with a key")
        return os.environ[name], f"the environment variable {name}"
    if kind == "file" and name:
        try:
            return Path(name).read_text(), f"the file {name}"
        except (OSError, UnicodeDecodeError) as error:
            raise StoreMisconfigured(f"the key file {name} can't be read: {error}") from error
    raise InvalidInput(
        "keys come from 'env:NAME', 'file:PATH', bytes or a function; what generate_key() returns "
        "is text to keep there"
    )


def _parsed(text: str, what: str) -> list[bytes]:
    words = re.split(r"[\s,]+", text.strip())
    try:
        keys = [b64decode(word, validate=True) for word in words if word]
    except NoBase64:
        raise InvalidInput(f"{what} doesn't hold keys in base64") from None
    if not keys:
        raise StoreMisconfigured(f"{what} is empty; it should hold a key")
    try:
        return read_keys(keys)
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from None

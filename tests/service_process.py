"""The reference service as a process of its own, that signals can be sent to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import httpx
from tests.ports import HOST, hold_port, number_of

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[1]
PATIENCE = 60  # [s]


class ServiceProcess:
    """``python -m examples.service`` on a port that the system chose. It trusts this host's x-user.

    Args:
        store: URL of the store.
        log: Where its output goes.
        **settings: More variables of its environment, without SERVICE_.
    """

    def __init__(self, store: str, log: Path, **settings: object) -> None:
        self._holder = hold_port()
        self._log = log
        self.url = f"http://{HOST}:{number_of(self._holder)}"
        environment = {
            **{name: value for name, value in os.environ.items() if "SERVICE_" not in name},
            "LANGCAIRN_STORE": store,
            "SERVICE_PORT": str(number_of(self._holder)),
            "SERVICE_USER_HEADER": "X-User",
            "SERVICE_TRUSTED_PROXIES": f"{HOST}/32",
            **{f"SERVICE_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "error", "-m", "examples.service"],
                env=environment, cwd=ROOT, stdout=output, stderr=output,
            )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    def wait_until_ready(self) -> None:
        for _ in range(PATIENCE * 20):
            assert self._process.poll() is None, self._log.read_text()
            try:
                if httpx.get(f"{self.url}/ready", timeout=PATIENCE).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the service is not ready:\n{self._log.read_text()}")

    def catches(self, number: signal.Signals) -> bool:
        """Return whether a signal is handled by the process, and not by default."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        return bool(caught >> (number - 1) & 1)

    def kill(self) -> None:
        """End it at once, if it hasn't ended."""
        self._process.kill()
        self._process.wait(PATIENCE)
        self._holder.close()

    def terminate(self) -> None:
        """Tell it to end."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait until it has ended. Returns its exit code."""
        return self._process.wait(PATIENCE)

    def client(self, user: str) -> httpx.AsyncClient:
        """Return a client of a user's."""
        return httpx.AsyncClient(base_url=self.url, headers={"x-user": user}, timeout=PATIENCE)

"""A child process of the demo: started, followed line by line, killed, never waited for in vain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from langcairn.demo.narrate import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

TIMEOUT = 30.0  # [s] for a whole stage, which takes about 2

_NO_NETWORK = dict.fromkeys(
    ("LANGSMITH_TRACING", "LANGSMITH_TRACING_V2", "LANGCHAIN_TRACING", "LANGCHAIN_TRACING_V2"),
    "false",
)


class Child:
    """One stage in a process of its own; its standard output is a line of JSON per event."""

    def __init__(self, arguments: Sequence[str], timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._timed_out = False
        # Standard input stays open and silent: a stalled tool waits on it, and ends with us.
        self._process = subprocess.Popen(  # noqa: S603 -- our own module, no shell
            [sys.executable, "-m", "langcairn.demo.stages", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, **_NO_NETWORK},
            # Ctrl-C is for us, who then kill it: on its own it would tell where it was interrupted.
            start_new_session=True,
        )
        self._watchdog = threading.Timer(timeout, self._expire)
        self._watchdog.daemon = True
        self._watchdog.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the process tells, as it comes, until it ends or is killed.

        Raises:
            DemoError: It did not end in time, or said something else than an event.
        """
        assert self._process.stdout is not None  # noqa: S101 -- it is a PIPE, see above
        for line in self._process.stdout:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                raise DemoError(f"process {self.pid} said {line!r}") from None
        if self._timed_out:
            raise DemoError(f"process {self.pid} did not end within {self._timeout:g} s")

    def kill(self) -> None:
        """Send SIGKILL: the process can neither catch it nor clean up."""
        self._process.kill()

    def wait(self) -> int:
        """Wait for the end, at most until the timeout, and return the exit code."""
        return self._process.wait(self._timeout)

    def _expire(self) -> None:
        self._timed_out = True
        self._process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave no process, thread or pipe behind, whatever happened."""
        self._watchdog.cancel()
        with self._process:  # closes the pipes and waits
            self._process.kill()

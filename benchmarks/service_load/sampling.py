"""Where the CPU time of a process goes, by package: a sampler that costs next to nothing."""

from __future__ import annotations

import json
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

EVERY = 0.002  # [s] of CPU time
_PLACES = 400

_STANDARD = sysconfig.get_path("stdlib")
_SITES = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
_ROOT = str(Path(__file__).parents[2])
_HTTP = frozenset({"fastapi", "starlette", "uvicorn", "httptools", "pydantic", "anyio"})


class Sampler:
    """Looks every 2 ms of CPU time what the process does, and writes it down when it is left.

    Time is counted for the innermost function that isn't the standard library's, and so for whoever
    called it there. What C code takes counts for its caller, too.

    Args:
        file: Where to write; empty: nothing is sampled.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._packages: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._file:
            signal.signal(signal.SIGPROF, self._look)
            signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file:
            signal.setitimer(signal.ITIMER_PROF, 0)
            found = {"packages": self._packages, "places": dict(self._places.most_common(_PLACES))}
            Path(self._file).write_text(json.dumps(found))

    def _look(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- signal's
        package = "event loop"
        while frame is not None:
            code = frame.f_code
            name = self._names.get(code.co_filename)
            if name is None:
                name = self._names[code.co_filename] = _package(code.co_filename)
            if name:
                # The places of the process' main module are nobody's: the loop itself waits there.
                if name != "load":
                    package = name
                    self._places[f"{name} {Path(code.co_filename).name} {code.co_qualname}"] += 1
                break
            frame = frame.f_back
        self._packages[package] += 1


def _package(filename: str) -> str:
    """Return what a file belongs to; empty for the standard library."""
    for site in _SITES:
        if filename.startswith(site):
            name = filename[len(site) + 1 :].split("/", maxsplit=1)[0].removesuffix(".py")
            return "http" if name in _HTTP else name
    if filename.startswith((_STANDARD, "<", sys.prefix)):  # <string>: made by dataclasses
        return ""
    if "/src/langcairn/" in filename:
        return "langcairn"
    return "load" if filename.startswith(f"{_ROOT}/benchmarks") else "service"

"""The results of a run, and the machine they come from, as JSON."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from benchmarks.figures import windows
from benchmarks.targets import verdicts
from benchmarks.workloads import WORKLOADS

if TYPE_CHECKING:
    from benchmarks.crowd import CrowdResult
    from benchmarks.figures import SaverFigures
    from benchmarks.ideal import Ideal
    from benchmarks.objects import ObjectsResult
    from benchmarks.parts import Part
    from benchmarks.singles import Single, Singles
    from benchmarks.targets import Verdict
    from benchmarks.workloads import Workload

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "langcairn",
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-sqlite",
    "langgraph-checkpoint-postgres",
    "psycopg",
    "psycopg-pool",
    "redis",
    "langchain-core",
    "ormsgpack",
    "orjson",
    "zstandard",
)


@dataclass(frozen=True)
class WorkloadResult:
    part: Part
    workload: Workload
    calls: int
    ideal: Ideal
    figures: dict[str, SaverFigures]

    def judged(self) -> dict[tuple[str, str], Verdict]:
        """Judge the figures by saver and measure; those of a quick run say nothing."""
        if self.workload.turns < WORKLOADS[self.workload.name].turns:
            return {}
        return verdicts(self.part, self.workload.name, self.figures)


@dataclass
class RunResult:
    rounds: int
    fresh_processes: int
    machine: dict[str, Any]
    servers: dict[str, dict[str, Any]]
    workloads: list[WorkloadResult] = field(default_factory=list)
    crowds: list[CrowdResult] = field(default_factory=list)
    objects: ObjectsResult | None = None
    singles: list[Singles] = field(default_factory=list)

    def judged(self) -> list[Verdict | Single]:
        """Give all that has a target to reach."""
        results: list[WorkloadResult | CrowdResult] = [*self.workloads, *self.crowds]
        verdicts = [verdict for one in results for verdict in one.judged().values()]
        return [*verdicts, *(one for several in self.singles for one in several.judged())]


def as_json(result: RunResult) -> str:
    parts: dict[str, dict[str, Any]] = {}
    for one in result.workloads:
        parts.setdefault(one.part.name, {})[one.workload.name] = _workload(one)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": result.machine,
        "servers": result.servers,
        "versions": _versions(),
        "rounds": result.rounds,
        "fresh_processes": result.fresh_processes,
        "units": {
            "bytes_kept": "bytes",
            "put, put_writes, replay, get, fresh": "seconds",
            "runs": "runs a second",
        },
        "parts": parts,
        "crowds": {one.crowd.name: _crowd(one) for one in result.crowds},
        "objects": None if result.objects is None else asdict(result.objects),
        "singles": {one.name: _singles(one) for one in result.singles},
    }
    return json.dumps(document, indent=1) + "\n"


def _workload(result: WorkloadResult) -> dict[str, Any]:
    turns = result.workload.turns
    early, late = windows(turns)
    return {
        "description": result.workload.description,
        "turns": turns,
        "calls": result.calls,
        "put_early_turns": [early[0], early[-1]],
        "put_late_turns": [late[0], late[-1]],
        "ideal": result.ideal._asdict(),
        "savers": {
            name: {
                **asdict(figures),
                "put_growth": figures.put_growth,
                "fresh_total": figures.fresh_total,
            }
            for name, figures in result.figures.items()
        },
        "targets": [_verdict(verdict) for verdict in result.judged().values()],
    }


def _crowd(result: CrowdResult) -> dict[str, Any]:
    return {
        "description": result.crowd.description,
        **asdict(result.crowd),
        "savers": {
            name: {"runs": runs, "rounds": result.rounds[name]}
            for name, runs in result.runs().items()
        },
        "targets": [_verdict(verdict) for verdict in result.judged().values()],
    }


def _singles(result: Singles) -> dict[str, Any]:
    return {
        "description": result.description,
        "figures": {
            one.name: {"value": one.value, "unit": one.unit, "target": one.goal}
            for one in result.figures
        },
        "reached": {one.name: one.reached for one in result.judged()},
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {
        "saver": verdict.target.saver,
        "against": verdict.target.against,
        "measure": verdict.target.measure,
        "target": str(verdict.target),
        "value": verdict.value,
        "reached": verdict.reached,
    }


def describe_machine(place: Path) -> dict[str, Any]:
    """Describe what the figures depend on. `place` is where the savers keep their files."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "place": str(place),
        "fsync_us": round(_fsync_time(place) * 1e6, 1),
    }


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _fsync_time(place: Path) -> float:
    """Time appending 4 kB and making it durable: what a commit can't go below [s]."""
    times = []
    with tempfile.TemporaryFile(dir=place, buffering=0) as file:
        for _ in range(50):
            file.write(bytes(4096))
            begin = perf_counter()
            os.fsync(file.fileno())
            times.append(perf_counter() - begin)
    return median(times)


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def _commit() -> str | None:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    return done.stdout.strip() or None

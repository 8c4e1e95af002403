"""A real Prometheus, with the rules of deploy/, that scrapes every second: `make rules` gets it."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from tests.ports import HOST, hold_port, number_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

ROOT = Path(__file__).parents[2]
_CONFIGURED = ROOT / "deploy/prometheus"
_UNPACKED = ROOT / ".promtool/unpacked/usr/bin/prometheus"
PATIENCE = 60  # [s]


class Prometheus:
    """A server with our configuration, but for the targets, and for a second where that says more.

    Args:
        directory: An empty one, for its files.
        targets: Whom to scrape, as ``127.0.0.1:8000``.
    """

    def __init__(self, directory: Path, targets: Sequence[str]) -> None:
        self._directory = directory
        self._holder = hold_port()
        address = f"{HOST}:{number_of(self._holder)}"
        self._client = httpx.Client(base_url=f"http://{address}/api/v1", timeout=PATIENCE)
        self._configure(targets)
        with (directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    shutil.which("prometheus") or _UNPACKED,
                    f"--config.file={directory / 'prometheus.yml'}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=log,
                cwd=directory,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        self._client.close()
        self._holder.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an expression, each with ``metric`` and ``value``."""
        return list(self._ask("/query", query=expression)["result"])

    def values_of(self, label: str, selector: str) -> list[str]:
        """Return the values of a label, as Grafana's ``label_values``."""
        return list(self._ask(f"/label/{label}/values", **{"match[]": selector}))

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules, each with what became of it."""
        groups = self._ask("/rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _ask(self, path: str, **parameters: str) -> Any:
        for _ in range(PATIENCE * 20):
            assert self._process.poll() is None, (self._directory / "log").read_text()
            try:
                answer = self._client.get(path, params=parameters)
            except httpx.TransportError:  # it is starting
                time.sleep(0.05)
                continue
            if answer.status_code == 503:  # it reads its storage
                time.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            return answer.json()["data"]
        raise AssertionError("Prometheus is not ready:\n" + (self._directory / "log").read_text())

    def _configure(self, targets: Sequence[str]) -> None:
        config = yaml.safe_load((_CONFIGURED / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        for name in config["rule_files"]:
            rules = yaml.safe_load((_CONFIGURED / name).read_text())
            for group in rules["groups"]:
                group["interval"] = "1s"
            (self._directory / name).write_text(yaml.safe_dump(rules))
        (job,) = config["scrape_configs"]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": list(targets)}]
        (self._directory / "prometheus.yml").write_text(yaml.safe_dump(config))

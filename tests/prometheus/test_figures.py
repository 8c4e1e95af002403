"""Every panel and every rule has figures, asked of a real Prometheus that scrapes what is real.

It scrapes the reference service on PostgreSQL, and a SQLite store with a monitor, whose file system
says how much room is left, and which measures sharing.
"""

from __future__ import annotations

import json
import math
import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, start_http_server
from tests.ports import HOST
from tests.postgres_server import PostgresServer
from tests.prometheus.server import PATIENCE, ROOT, Prometheus
from tests.service_process import ServiceProcess

from langcairn import Checkpoint, Monitor, VersionConflict, open_store
from langcairn.metrics import instrument

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langcairn import CheckpointStore

BOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/langcairn.json").read_text())
RUNS = 5


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A server that has scraped both for a while, during which they were used."""
    directory = tmp_path_factory.mktemp("prometheus")
    postgres = PostgresServer()
    registry = CollectorRegistry()
    exporter, thread = start_http_server(0, HOST, registry)
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('store') / 'agent.db'}")
    instrument(store, registry)
    try:
        url = postgres.start().url()
        with (
            ServiceProcess(url, directory / "service", monitor_seconds=1) as service,
            Monitor(store, every=1, on_alert=print, logical=True),
            Prometheus(
                directory, [service.url.removeprefix("http://"), f"{HOST}:{exporter.server_port}"]
            ) as server,
        ):
            expected = [expression for _, expression, _ in panels()]
            for _ in range(PATIENCE):
                use(store)
                talk(service)
                if all(has_figures(server, one) for one in [*expected, *recorded(server)]):
                    break
                time.sleep(1)
            yield server
    finally:
        exporter.shutdown()
        exporter.server_close()
        thread.join(PATIENCE)
        store.close()
        postgres.remove()


def use(store: CheckpointStore) -> None:
    """Save; also what is refused, whose outcome isn't ``ok``."""
    one = Checkpoint(id="one", execution_id="run", state={"text": "again and again"})
    store.save(one)
    with pytest.raises(VersionConflict):
        store.save(one, expected_version=7)


def talk(service: ServiceProcess) -> None:
    """Make some runs."""
    with httpx.Client(base_url=service.url, headers={"x-user": "ada"}, timeout=PATIENCE) as ada:
        thread = ada.post("/threads").json()["thread_id"]
        for number in range(RUNS):
            body = {"input": {"messages": [{"content": f"order {number}"}]}}
            assert ada.post(f"/threads/{thread}/runs/wait", json=body).status_code == 200


def panels() -> list[tuple[str, str, str]]:
    """Return title, expression and legend of whatever a panel shows, as Grafana asks for it."""
    return [
        (panel["title"], asked(target["expr"]), target["legendFormat"])
        for panel in BOARD["panels"]
        for target in panel.get("targets", ())
    ]


def asked(expression: str) -> str:
    """Put in what Grafana would for its variables, and now for the day before: nothing is older."""
    for name, value in (("$job", ".*"), ("$backend", ".*"), ("$__rate_interval", "30s")):
        expression = expression.replace(name, value)
    return re.sub(r" offset 1d\b", "", expression)


def has_figures(server: Prometheus, expression: str) -> bool:
    return any(math.isfinite(float(one["value"][1])) for one in server.query(expression))


@pytest.mark.parametrize(("title", "expression", "legend"), panels())
def test_panel(prometheus: Prometheus, title: str, expression: str, legend: str) -> None:
    assert has_figures(prometheus, expression), title
    for series in prometheus.query(expression):
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= series["metric"].keys()


def test_variables(prometheus: Prometheus) -> None:
    values = {}
    for variable in BOARD["templating"]["list"]:
        if variable["type"] == "query":
            query = variable["query"]["query"].removeprefix("label_values(").removesuffix(")")
            selector, label = query.rsplit(", ", 1)
            values[variable["name"]] = prometheus.values_of(label, asked(selector))
    assert values == {"job": ["service"], "backend": ["postgres", "sqlite"]}


def recorded(server: Prometheus) -> list[str]:
    """Return the names of what rules record."""
    return [rule["name"] for rule in server.rules() if rule["type"] == "recording"]


def test_recorded_rules(prometheus: Prometheus) -> None:
    names = recorded(prometheus)
    assert len(names) >= 11
    for name in names:
        assert has_figures(prometheus, name), name


def test_alerts(prometheus: Prometheus) -> None:
    """None would fire, though each of their conditions has figures to compare."""
    alerts = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
    # The disk of the machine that tests may really be full.
    assert {rule["name"] for rule in alerts if rule["state"] != "inactive"} <= {"LangcairnSpace"}
    for rule in alerts:
        for condition in re.split(r"\b(?:and|or)\b", without_days(rule["query"])):
            told = re.sub(r"(==|<|>)", r"\1 bool", condition)  # keeps what isn't so, as 0
            assert has_figures(prometheus, told), told


def test_rules_can_be_evaluated(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert [rule for rule in rules if rule["health"] != "ok"] == []


def without_days(expression: str) -> str:
    """Take away what looks at the day before."""
    return re.sub(r"(\[1d\])? offset \w+", "", expression).replace("avg_over_time", "")

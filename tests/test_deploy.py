"""Rules and dashboard ask for metrics that exist. `make rules` has Prometheus test the rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from prometheus_client import CollectorRegistry

from langcairn import open_store
from langcairn.metrics import BUCKETS, instrument
from langcairn.observing import FAULTS, HOUSEKEEPING

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
BOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "langcairn.json").read_text())


def rules() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> list[str]:
    found = [rule["expr"] for rule in rules()]
    for panel in BOARD["panels"]:
        found += [target["expr"] for target in panel.get("targets", [])]
    found += [variable["query"]["query"] for variable in BOARD["templating"]["list"][1:]]
    return found


def exported() -> dict[str, set[str]]:
    """Return the names of all metrics, with their labels."""
    registry = CollectorRegistry()
    instrument(open_store("memory:"), registry)
    collector: Any = next(iter(registry._collector_to_names))
    names: dict[str, set[str]] = {}
    for family in collector.describe():
        labels = set(family._labelnames)
        match family.type:
            case "counter":
                names[f"{family.name}_total"] = labels
            case "histogram":
                names[f"{family.name}_bucket"] = labels | {"le"}
                names[f"{family.name}_sum"] = names[f"{family.name}_count"] = labels
            case _:
                names[family.name] = labels
    return names


@pytest.mark.parametrize("expression", expressions())
def test_metrics_exist(expression: str) -> None:
    known = exported()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    names = set(re.findall(r"langcairn[:_][\w:]+", expression))
    assert names
    assert names <= known.keys() | recorded
    for name, selector in re.findall(r"(langcairn_\w+)\{([^}]*)\}", expression):
        asked = set(re.findall(r"(\w+)\s*[=!]", selector)) - {"job", "instance"}
        assert asked <= known[name]


def test_every_metric_is_on_the_dashboard() -> None:
    shown = "\n".join(expressions())
    for name in exported():
        if not name.endswith(("_sum", "_count")):
            assert name in shown


def test_levels_of_alerts() -> None:
    alerts = {rule["alert"]: rule["labels"]["severity"] for rule in rules() if "alert" in rule}
    assert set(alerts.values()) == {"P0", "P1", "P2"}
    tested = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    fired = {
        one["alertname"]
        for test in tested
        for one in test.get("alert_rule_test", [])
        if one["exp_alerts"]
    }
    assert fired == alerts.keys()


def test_failures_are_the_faults_of_the_store() -> None:
    (rule,) = (one for one in rules() if one.get("record") == "langcairn:failures:rate5m")
    (outcomes,) = re.findall(r'outcome=~"([^"]*)"', rule["expr"])
    assert set(outcomes.split("|")) == FAULTS


def test_times_leave_housekeeping_out() -> None:
    found = {
        outcome for rule in rules() for outcome in re.findall(r'operation!~"([^"]*)"', rule["expr"])
    }
    assert {frozenset(one.split("|")) for one in found} == {HOUSEKEEPING}


def test_thresholds_are_ends_of_buckets() -> None:
    assert {0.5, 1.0} <= set(BUCKETS)


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])

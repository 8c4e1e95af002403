"""What deploys the service fits the service. `make manifests` checks the files themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from tests.postgres_server import PostgresServer

from examples.service.metrics import BUCKETS, Metrics
from examples.service.settings import Settings, variables
from langcairn import Checkpoint, open_store

if TYPE_CHECKING:
    from langcairn import CheckpointStore

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS: dict[str, dict[str, Any]] = {
    file.stem: yaml.safe_load(file.read_text()) for file in (DEPLOY / "kubernetes").glob("*.yaml")
}
POD: dict[str, Any] = MANIFESTS["deployment"]["spec"]["template"]["spec"]
DEFAULTS = Settings("memory:")
# uvicorn's own for connections, see examples/service/serving.py.
ENDING = (
    DEFAULTS.finish_seconds + DEFAULTS.step_seconds + DEFAULTS.store_deadline + 5.0
)  # [s] that a process may take


def known() -> set[str]:
    return {variable for variable, _ in variables.values()}


def test_every_variable_is_one_that_is_read() -> None:
    compose = COMPOSE["services"]["service"]["environment"]
    kubernetes = {one["name"] for one in POD["containers"][0]["env"]}
    image = set(re.findall(r"\bSERVICE_[A-Z_]+", (DEPLOY / "Dockerfile").read_text()))
    for names in (set(compose), kubernetes, image):
        assert names
        # Those of AWS are obstore's.
        assert {name for name in names if not name.startswith("AWS_")} <= known()


def test_processes_are_given_the_time_that_their_end_takes() -> None:
    assert float(COMPOSE["services"]["service"]["stop_grace_period"].rstrip("s")) > ENDING
    (container,) = POD["containers"]
    before = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert POD["terminationGracePeriodSeconds"] > ENDING + before
    assert container["readinessProbe"]["timeoutSeconds"] > DEFAULTS.ready_seconds
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"


def test_everything_has_limits_and_only_this_machine_reaches_it() -> None:
    for name, service in COMPOSE["services"].items():
        assert set(service["deploy"]["resources"]["limits"]) >= {"cpus", "memory"}, name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        assert service["networks"], name
    assert COMPOSE["networks"]["store"]["internal"] is True
    for manifest in ("deployment", "maintenance"):
        spec = MANIFESTS[manifest]["spec"]
        pod = spec.get("jobTemplate", {}).get("spec", spec)["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert set(container["resources"]["limits"]) == {"cpu", "memory"}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_selectors_select_the_pods() -> None:
    labels = MANIFESTS["deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        MANIFESTS["deployment"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["service"]["spec"]["selector"],
        MANIFESTS["disruption"]["spec"]["selector"]["matchLabels"],
        MANIFESTS["network"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert (
        MANIFESTS["disruption"]["spec"]["minAvailable"]
        < MANIFESTS["deployment"]["spec"]["replicas"]
    )
    resources = set(MANIFESTS["kustomization"]["resources"])
    assert resources == {
        f"{name}.yaml" for name in MANIFESTS if name not in ("kustomization", "secret.example")
    }


def test_what_the_image_is_made_of_is_there_and_sent() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    sent = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    copied = [
        word
        for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE)
        for word in line.split()[:-1]
    ]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert any(f"!{parent}" in sent for parent in (path, *map(str, Path(path).parents))), path
    uid = re.search(r"--uid (\d+)", dockerfile)
    assert uid is not None
    assert POD["securityContext"]["runAsUser"] == int(uid[1])
    assert f"USER {uid[1]}:{uid[1]}" in dockerfile


def test_maintenance_runs_and_keeps_what_it_should() -> None:
    """As the CronJob and the compose file run it, on PostgreSQL; twice, as the second night."""
    job = MANIFESTS["maintenance"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = job["containers"]
    command = [*container["command"], *container["args"]]
    compose = COMPOSE["services"]["maintenance"]
    assert [*compose["entrypoint"], *compose["command"]] == command
    server = PostgresServer()
    try:
        url = server.start().url()
        with open_store(url) as store:
            # The newest of "used" is young; of "idle" the oldest has been there for too long.
            save(store, "used", every_days=10, newest=0)
            save(store, "many", every_days=1, newest=2)
            save(store, "idle", every_days=10, newest=2)
            save(store, "gone", every_days=1, newest=91)
        for _ in range(2):
            subprocess.run(command, env=environment(url), check=True, timeout=60)
        with open_store(url) as store:
            left = {thread: len(store.list(thread)) for thread in store.executions()}
    finally:
        server.remove()
    assert left == {"used": 30, "many": 20, "idle": 9}


def save(store: CheckpointStore, thread: str, *, every_days: int, newest: int) -> None:
    """Save 30 checkpoints, whose newest is so many days old."""
    store.save_many(
        Checkpoint(
            id=f"{30 - number:03}",
            execution_id=thread,
            state={"number": number},
            timestamp=datetime.now(UTC) - timedelta(days=newest + every_days * number),
        )
        for number in range(30)
    )


def environment(url: str) -> dict[str, str]:
    """Return one in which the program is found, as it is in the image."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "LANGCAIRN_STORE": url}


def test_files_that_are_mounted_are_there() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).exists(), source


def test_rules_ask_for_metrics_that_the_service_has() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "service.yml").read_text())
    text = " ".join(rule["expr"] for group in rules["groups"] for rule in group["rules"])
    asked = set(re.findall(r"\bservice_[a-z_]+", text))
    exported = {
        sample + suffix
        for family in Metrics().registry.collect()
        for sample in [family.name]
        for suffix in ("", "_total", "_sum", "_count", "_bucket")
    }
    assert asked
    assert asked <= exported
    assert {0.3, 0.5} <= set(BUCKETS)

"""The image of `make image`, run as the compose file says: its limits, its rights, its secrets."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import httpx
import yaml  # type: ignore[import-untyped]  # PyYAML has no types
from tests.ports import HOST, hold_port, number_of

if TYPE_CHECKING:
    from types import TracebackType

ROOT = Path(__file__).parents[2]
IMAGE = "langcairn-service"
TOKEN = "a-token-of-the-tests-and-of-nobody-else"
USER = "ada"
PATIENCE = 60  # [s]
_COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())


def podman(*words: str) -> str:
    """Run podman. Returns what it says.

    Raises:
        AssertionError: It failed, or what it ran did.
    """
    said = subprocess.run(
        [ROOT / ".image/podman", *words],
        check=False, capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert said.returncode == 0, f"podman {' '.join(words)}:\n{said.stdout}{said.stderr}"
    return said.stdout


def configuration() -> dict[str, Any]:
    """Return what the image says of itself."""
    (image,) = json.loads(podman("image", "inspect", IMAGE))
    return dict(image)


def options(name: str, store: str) -> list[str]:
    """Return how podman runs a service of the compose file as compose would."""
    service = _COMPOSE["services"][name]
    limits = service["deploy"]["resources"]["limits"]
    words = ["--cpus", limits["cpus"], "--memory", limits["memory"]]
    if "pids" in limits:
        words += ["--pids-limit", str(limits["pids"])]
    if service["read_only"]:
        # podman alone puts something writable at /tmp, /run and /var/tmp.
        words += ["--read-only", "--read-only-tmpfs=false"]
    words += [f"--cap-drop={one}" for one in service["cap_drop"]]
    words += [f"--security-opt={one.removesuffix(':true')}" for one in service["security_opt"]]
    given = {key: value for key, value in service["environment"].items() if "$" not in value}
    words += environment({**given, "LANGCAIRN_STORE": store})
    # The store is on this machine's own loopback. And no timers of systemd, which may not be there.
    words += ["--network", "host", "--no-healthcheck"]
    # Those that podman chooses are more than it may give without CAP_SYS_RESOURCE.
    words += ["--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"]
    return words


def environment(variables: dict[str, object]) -> list[str]:
    """Return words for variables."""
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


def run_maintenance(store: str) -> str:
    """Run the compose file's maintenance to its end. Returns what it says."""
    service = _COMPOSE["services"]["maintenance"]
    (entrypoint,) = service["entrypoint"]
    words = [*options("maintenance", store), "--entrypoint", entrypoint, IMAGE]
    return podman("run", "--rm", *words, *service["command"])


class ServiceContainer:
    """The service in a container, at a port of 127.0.0.1 that the system chose.

    Beside the tokens it believes this host's x-user.

    Args:
        store: URL of the store.
        directory: Where to put the file with tokens.
        **settings: More variables of its environment, without SERVICE_.
    """

    def __init__(self, store: str, directory: Path, **settings: object) -> None:
        self._holder = hold_port()
        self.port = number_of(self._holder)
        self.url = f"http://{HOST}:{self.port}"
        self._name = f"langcairn-{self.port}"
        tokens = directory / "tokens"
        tokens.write_text(f"{TOKEN} {USER}\n")
        variables = {
            "HOST": HOST,
            "PORT": self.port,
            "USER_HEADER": "x-user",
            "TRUSTED_PROXIES": f"{HOST}/32",
            **{name.upper(): value for name, value in settings.items()},
        }
        self._words = [
            *options("service", store),
            *environment({f"SERVICE_{name}": value for name, value in variables.items()}),
            *("--volume", f"{tokens}:/run/secrets/tokens:ro"),
        ]

    def __enter__(self) -> Self:
        try:
            podman("run", "--detach", "--name", self._name, *self._words, IMAGE)
            self._wait_until_ready()
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

    def client(self) -> httpx.AsyncClient:
        """Return a client of the user's."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=PATIENCE)

    def run(self, *command: str, **variables: object) -> str:
        """Run a command in the container. Returns what it prints."""
        return podman("exec", *environment(variables), self._name, *command)

    def logs(self) -> str:
        """Return what it logged, which is what it has written to standard error."""
        return subprocess.run(
            [ROOT / ".image/podman", "logs", self._name],
            check=True, capture_output=True, text=True, timeout=PATIENCE,
        ).stderr  # fmt: skip

    def stop(self) -> int:
        """Stop it as compose does. Returns its exit code."""
        grace = _COMPOSE["services"]["service"]["stop_grace_period"].removesuffix("s")
        podman("stop", "--time", grace, self._name)
        return int(podman("wait", self._name))

    def control(self, *paths: str) -> str:
        """Return the text of the first of some files of its cgroups that is there."""
        names = " ".join(f"/sys/fs/cgroup/{path}" for path in paths)
        script = f'for one in {names}; do [ -e "$one" ] && exec cat "$one"; done; exit 1'
        return self.run("sh", "-c", script)

    def _remove(self) -> None:
        podman("rm", "--force", "--ignore", "--time", "0", self._name)
        self._holder.close()

    def _wait_until_ready(self) -> None:
        for _ in range(PATIENCE * 20):
            try:
                if httpx.get(f"{self.url}/ready", timeout=PATIENCE).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise RuntimeError(f"the service is not ready:\n{self.logs()}")

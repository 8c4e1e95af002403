"""What can be set, and the environment variables that set it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OneWriter = Literal["lease", "check", "process"]
Durability = Literal["sync", "async", "exit"]
Network = IPv4Network | IPv6Network


class BadSetting(ValueError):
    """A variable of the environment can't be used; says which, and what it may be."""


@dataclass(frozen=True)
class Settings:
    """How the service runs; `variables` has the name in the environment of each.

    Attributes:
        store: URL of the store.
        objects: URL of the object storage that older content moves to; None: none does.
        host: Address to listen on.
        port: Port to listen on; 0: one that the system chooses.
        tokens_file: File with a bearer token and its user on each line.
        user_header: Header in which a proxy that is trusted names the user.
        trusted_proxies: Networks whose `user_header` is believed.
        one_writer: What happens to a second run of a thread in another process (in the same one it
            is always refused): with ``lease`` it is refused before it begins; with ``check`` when
            it saves, so its tools may have run; with ``process`` it isn't noticed: only for a
            single process, or a load balancer that sends a thread always to the same one.
        lease_seconds: After which time the lease of a process that died is free [s].
        durability: LangGraph's: when checkpoints are saved.
        max_runs: The most runs at the same time; more are refused.
        max_runs_per_user: The most runs of one user at the same time.
        max_body_bytes: The largest body of a request [bytes].
        runs_kept: How many runs that have ended are remembered, for clients that come back.
        store_deadline: How long a call to the store may take, repetitions included [s].
        ready_seconds: How long the readiness probe waits for the store [s].
        finish_seconds: How long runs may go on after SIGTERM [s].
        step_seconds: How long their last step may take after that [s].
        monitor_seconds: How long a monitor waits before it looks after the store again [s]; 0: none
            does, and metrics of the store's size and state are absent.
        model_seconds: How long the scripted model takes for an answer [s].
    """

    store: str
    objects: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    tokens_file: Path | None = None
    user_header: str | None = None
    trusted_proxies: tuple[Network, ...] = ()
    one_writer: OneWriter = "lease"
    lease_seconds: float = 15.0
    durability: Durability = "async"
    max_runs: int = 1000
    max_runs_per_user: int = 20
    max_body_bytes: int = 1 << 20
    runs_kept: int = 1000
    store_deadline: float = 10.0
    ready_seconds: float = 2.0
    finish_seconds: float = 10.0
    step_seconds: float = 5.0
    monitor_seconds: float = 60.0
    model_seconds: float = 0.0

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read the settings.

        Raises:
            BadSetting: One is missing or can't be used.
        """
        values: dict[str, Any] = {}
        for name, (variable, read) in variables.items():
            text = environment.get(variable, "").strip()
            if not text:
                continue
            try:
                values[name] = read(text)
            except ValueError as error:
                raise BadSetting(f"{variable}={text!r}: {error}") from error
        if "store" not in values:
            raise BadSetting(
                "LANGCAIRN_STORE is not set: the URL of the store, such as sqlite:///agent.db"
            )
        settings = cls(**values)
        if settings.user_header is not None and not settings.trusted_proxies:
            raise BadSetting(
                "SERVICE_USER_HEADER needs SERVICE_TRUSTED_PROXIES: without it anybody could say "
                "who he is. Give the networks of your proxy, as in 10.0.0.0/8"
            )
        if settings.user_header is None and settings.tokens_file is None:
            raise BadSetting(
                "nobody could log in: set SERVICE_TOKENS_FILE, or SERVICE_USER_HEADER and "
                "SERVICE_TRUSTED_PROXIES"
            )
        return settings


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError("must be a number of seconds, 0 or more")
    return number


def _count(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(text)
        if not least <= number <= most:
            raise ValueError(f"must be a number from {least} to {most}")
        return number

    return read


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return text

    return read


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(ip_network(word.strip()) for word in text.split(","))


variables: dict[str, tuple[str, Callable[[str], object]]] = {
    "store": ("LANGCAIRN_STORE", str),
    "objects": ("SERVICE_OBJECTS", str),
    "host": ("SERVICE_HOST", str),
    "port": ("SERVICE_PORT", _count(0, 65535)),
    "tokens_file": ("SERVICE_TOKENS_FILE", cast("Callable[[str], object]", Path)),
    "user_header": ("SERVICE_USER_HEADER", str.lower),
    "trusted_proxies": ("SERVICE_TRUSTED_PROXIES", _networks),
    "one_writer": ("SERVICE_ONE_WRITER", _one_of("lease", "check", "process")),
    "lease_seconds": ("SERVICE_LEASE_SECONDS", _seconds),
    "durability": ("SERVICE_DURABILITY", _one_of("sync", "async", "exit")),
    "max_runs": ("SERVICE_MAX_RUNS", _count(1, 1_000_000)),
    "max_runs_per_user": ("SERVICE_MAX_RUNS_PER_USER", _count(1, 1_000_000)),
    "max_body_bytes": ("SERVICE_MAX_BODY_BYTES", _count(1, 1 << 30)),
    "runs_kept": ("SERVICE_RUNS_KEPT", _count(0, 1_000_000)),
    "store_deadline": ("SERVICE_STORE_DEADLINE", _seconds),
    "ready_seconds": ("SERVICE_READY_SECONDS", _seconds),
    "finish_seconds": ("SERVICE_FINISH_SECONDS", _seconds),
    "step_seconds": ("SERVICE_STEP_SECONDS", _seconds),
    "monitor_seconds": ("SERVICE_MONITOR_SECONDS", _seconds),
    "model_seconds": ("SERVICE_MODEL_SECONDS", _seconds),
}
"""Fields of `Settings` to their variables, and how the text of one is read."""

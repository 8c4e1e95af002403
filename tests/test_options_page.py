"""The page of options names each, with its default as it is."""

from __future__ import annotations

import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from langcairn import CheckpointConfig, Monitor, WriteBehind
from langcairn.backends.file import FileBackend
from langcairn.backends.postgres import PostgresBackend
from langcairn.backends.redis import RedisBackend
from langcairn.backends.sqlite import SqliteBackend
from langcairn.options import StoreOptions

_PAGE = (Path(__file__).parents[1] / "docs" / "options.md").read_text()


def section(title: str) -> str:
    """Return what stands under a heading that begins like this."""
    found = re.search(rf"^## {title}.*?\n(.*?)(?=^## |\Z)", _PAGE, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def rows(text: str) -> dict[str, str]:
    """Return the defaults in a table, by option."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        at = next((i for i, cell in enumerate(cells) if re.fullmatch(r"(`\w+`(, )?)+", cell)), None)
        if at is not None and len(cells) > at + 1:
            if re.fullmatch("`[A-Z].*", cells[at]):  # the class that has the options
                at += 1
            names = re.findall(r"`(\w+)`", cells[at])
            found.update(dict.fromkeys(names, cells[at + 1].strip("`")))
    return found


def defaults(function: Any, *left_out: str) -> dict[str, str]:
    """Return the defaults of a function's parameters as the page writes them."""
    return {
        name: _written(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in left_out
    }


def _written(value: object) -> str:
    return f"{value.total_seconds():.0f} s" if isinstance(value, timedelta) else str(value)


@pytest.mark.parametrize(
    ("title", "backend"),
    [
        ("SQLite", SqliteBackend),
        ("Files", FileBackend),
        ("PostgreSQL", PostgresBackend),
        ("Redis", RedisBackend),
    ],
)
def test_options_of_backends(title: str, backend: Any) -> None:
    assert rows(section(title)) == defaults(backend, "address")


def test_options_of_every_store() -> None:
    assert rows(section("Every store")).keys() == StoreOptions.__annotations__.keys()


@pytest.mark.parametrize(
    ("object", "left_out"),
    [
        (CheckpointConfig, ["store"]),
        (WriteBehind, ["on_error", "cache_bytes"]),
        (Monitor, ["thresholds", "stats", "logical", "baseline"]),
    ],
)
def test_options_of_others(object: Any, left_out: list[str]) -> None:
    known = rows(section("Savers"))
    for name, default in defaults(object, *left_out).items():
        assert known[name] == default

"""Crash tests in small; `make torture` runs them in large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.torture.referee import Referee

if TYPE_CHECKING:
    from pathlib import Path

URLS = {"file": "file://{}/store", "sqlite": "sqlite:///{}/store.db"}


@pytest.mark.parametrize("store", URLS)
def test_nothing_acknowledged_is_lost(store: str, tmp_path: Path) -> None:
    with Referee(URLS[store].format(tmp_path), seed=1) as referee:
        referee.run(kills=8)
        counts = referee.counts
    for what in ("puts acknowledged", "removals acknowledged", "states compared after a kill"):
        assert counts[what] > 0, counts

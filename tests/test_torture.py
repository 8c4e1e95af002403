"""Crash tests in small; `make torture` runs them in large."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.torture.ledger import Failure
from tests.torture.referee import Referee
from tests.torture.servers import STORES, Forgetful, target

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("store", STORES)
def test_nothing_acknowledged_is_lost(store: str, tmp_path: Path) -> None:
    with target(store, tmp_path) as (url, server), Referee(url, 1, server) as referee:
        referee.run(kills=5)
        counts = referee.counts
    for what in ("puts acknowledged", "removals acknowledged", "states compared after a kill"):
        assert counts[what] > 0, counts
    if server is not None:
        assert sum(counts[what] for what in counts if what.endswith("of the server")) == 1


def test_a_server_that_forgets_is_found_out() -> None:
    """Else the tests above would prove nothing."""
    with Forgetful() as server, Referee(server.url, 1, server) as referee:
        with pytest.raises(Failure, match="acknowledged and is not there"):
            referee.run(kills=5)
        assert referee.counts["puts acknowledged"] > 0

"""The contract of `CheckpointSaver`, beyond LangGraph's conformance suite."""

from __future__ import annotations

from langcairn.testing.hostile import SaverUnderAttack
from langcairn.testing.one_writer import SaverOneWriter
from langcairn.testing.round_trips import RoundTrips
from langcairn.testing.saver_crowds import SaverCrowds
from langcairn.testing.saver_graphs import SaverGraphs
from langcairn.testing.saver_lists import SaverLists
from langcairn.testing.saver_puts import SaverParity, SaverPuts
from langcairn.testing.saver_removals import SaverRemovals
from langcairn.testing.two_writers import TwoWriters


class SaverContract(
    SaverPuts,
    SaverParity,
    SaverLists,
    SaverRemovals,
    SaverGraphs,
    SaverCrowds,
    RoundTrips,
    TwoWriters,
    SaverOneWriter,
    SaverUnderAttack,
):
    """What every `CheckpointSaver` does, on whatever it stores.

    Needs a fixture ``storage`` that yields a fresh `langcairn.testing.Storage`.
    """

"""The checks of rows: every column counts, and the order of keys that jsonb changes doesn't."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from langcairn.backends.base import CheckpointRow, WriteRow
from langcairn.checks import (
    checked_graph,
    checked_write,
    moved,
    moved_write,
    with_check,
    write_with_check,
)
from langcairn.errors import CorruptData

_STATE, _METADATA = b'{"aa":{"x":"\xc3\xa9","y":[1.5,null]},"b":1}', b'{"by":"test","step":1}'
_TIMES = st.datetimes(
    datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)
)  # fmt: skip


def row_at(timestamp: datetime, graph: bytes = b'{"v":4}') -> CheckpointRow:
    return with_check(
        CheckpointRow("thread", "ns", "c2", "c1", "node", _STATE, _METADATA, timestamp, 3, graph)
    )


def check(row: CheckpointRow) -> bytes:
    return checked_graph(row)


@given(_TIMES, st.sampled_from([b"{}", b'{"v":4}']))
def test_what_is_unchanged_passes(timestamp: datetime, graph: bytes) -> None:
    row = row_at(timestamp, graph)
    assert check(row) == graph
    spaced = b'{"b": 1, "aa": {"y": [1.50, null], "x": "\xc3\xa9"}}'
    assert check(row._replace(state=spaced)) == graph
    assert check(row._replace(metadata=b'{"step": 1, "by": "test"}')) == graph


@given(_TIMES, st.integers(0, 40))
def test_any_time_counts(timestamp: datetime, bit: int) -> None:
    row = row_at(timestamp)
    try:
        other = timestamp + timedelta(microseconds=2**bit)
    except OverflowError:
        return
    with pytest.raises(CorruptData, match="isn't what was written"):
        check(row._replace(timestamp=other))


@pytest.mark.parametrize(
    "change",
    [
        {"execution_id": "thread2"}, {"namespace": ""}, {"id": "c3"}, {"parent_id": None},
        {"parent_id": "c0"}, {"node_name": "nod"}, {"state": b'{"aa":{"y":[1.5,null]},"b":1}'},
        {"state": _STATE.replace(b"1.5", b"2.5")}, {"state": _STATE.replace(b":1}", b":true}")},
        {"metadata": b'{"by":"test","step":2}'}, {"version": 4},
    ],
)  # fmt: skip
def test_every_column_counts(change: dict[str, Any]) -> None:
    row = row_at(datetime(2026, 1, 2, 3, 4, 5, 691977, tzinfo=UTC))
    with pytest.raises(CorruptData, match="isn't what was written"):
        check(row._replace(**change))


@given(st.data())
def test_any_byte_of_the_graph_counts(data: st.DataObject) -> None:
    row = row_at(datetime(2026, 1, 2, tzinfo=UTC), data.draw(st.sampled_from([b"{}", b'{"v":4}'])))
    graph = bytearray(row.graph)
    graph[data.draw(st.integers(0, len(graph) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorruptData):
        check(row._replace(graph=bytes(graph)))


def test_rows_of_others_have_no_check() -> None:
    row = row_at(datetime(2026, 1, 2, tzinfo=UTC))._replace(graph=b"{}", state=b'"anything"')
    assert check(row) == b"{}"
    assert check(moved(row, "other")) == b"{}"


def test_moving_compares_first() -> None:
    row = row_at(datetime(2026, 1, 2, tzinfo=UTC))
    there = moved(row, "other")
    assert check(there) == b'{"v":4}'
    assert there.execution_id == "other"
    with pytest.raises(CorruptData):
        check(row._replace(execution_id="other"))
    with pytest.raises(CorruptData):
        moved(row._replace(version=1), "other")


@given(st.data())
def test_pending_writes(data: st.DataObject) -> None:
    write = WriteRow("thread", "", "c1", "task", -1, "path", "out", b'{"n":[1,"x"]}')
    stored = write_with_check(write)
    assert orjson.loads(stored.value)[1] == {"n": [1, "x"]}
    assert checked_write(stored) == write.value
    assert checked_write(moved_write(stored, "other")) == write.value
    value = bytearray(stored.value)
    value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
    for change in (
        {"value": bytes(value)}, {"value": b""}, {"value": write.value}, {"idx": 0},
        {"task_id": "t"}, {"task_path": ""}, {"channel": "ou"}, {"checkpoint_id": "c2"},
        {"namespace": "n"}, {"execution_id": "other"},
    ):  # fmt: skip
        changed: dict[str, Any] = change
        with pytest.raises(CorruptData, match="isn't what was written"):
            checked_write(stored._replace(**changed))

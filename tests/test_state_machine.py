"""The saver against a plain dict, and the encoder's fast path against its slow one."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langcairn.codec.chunks import ChunkFormat
from langcairn.codec.nodes import standing
from langcairn.codec.reader import Content, Reader
from langcairn.codec.serde import SafeSerializer
from langcairn.codec.tree import Encoded, Encoder
from langcairn.forms import form
from langcairn.testing import MemoryStorage, SaverMachine, SqliteStorage, Storage
from langcairn.testing.mutations import Mutation, mutations
from langcairn.testing.values import SAMPLES, SMALL_SAMPLES, WRAPPINGS

# A failing run is first made small, for which Hypothesis takes up to five minutes.
pytestmark = pytest.mark.timeout(400)


class MemoryMachine(SaverMachine):
    def make_storage(self) -> Storage:
        return MemoryStorage()


class SqliteMachine(SaverMachine):
    def make_storage(self) -> Storage:
        self.directory = tempfile.TemporaryDirectory()
        return SqliteStorage(Path(self.directory.name) / "machine.db")

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            self.directory.cleanup()


TestMemoryMachine = MemoryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=settings().max_examples * 3)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = settings(max_examples=settings().max_examples)

SERDE = SafeSerializer()
FORMAT = ChunkFormat()


def encode(value: Any, old: Encoded | None) -> tuple[Encoded, dict[Any, Any]]:
    encoder = Encoder(SERDE)
    return encoder.encode(value, old, "value"), encoder.chunks


def decode(encoded: Encoded, chunks: dict[Any, Any]) -> Any:
    content = Content(FORMAT)
    for id, payload in chunks.items():
        content.add(id, FORMAT.seal(payload))
    return Reader(content, SERDE).build_complete(standing(encoded.node))


def assert_fast_path_equals_slow_path(versions: list[Any]) -> None:
    """Encode versions of a value one after the other, and each from nothing."""
    old: Encoded | None = None
    stored: dict[Any, Any] = {}
    for value in versions:
        fast, added = encode(value, old)
        slow, chunks = encode(value, None)
        assert standing(fast.node) == standing(slow.node)
        stored.update(added)
        # What the fast path left out is stored already, and it adds nothing else.
        assert {id: stored[id] for id in chunks} == chunks
        assert added.keys() <= chunks.keys()
        assert form(decode(fast, stored)) == form(decode(slow, chunks))
        old = fast


@given(
    rounds=st.lists(st.lists(mutations(), min_size=1, max_size=4), min_size=1, max_size=6),
    together=st.booleans(),
)
@settings(max_examples=settings().max_examples * 5)
def test_encoding_with_an_old_version_equals_encoding_from_nothing(
    rounds: list[list[Mutation]], *, together: bool
) -> None:
    state: dict[str, Any] = {}
    versions: dict[str, list[Any]] = {}
    for changes in rounds:
        for change in changes:
            channel = change.apply(state)
            versions.setdefault(channel, []).append(copy.deepcopy(state[channel]))
        versions.setdefault("all", []).append(copy.deepcopy(state))
    for channel, values in versions.items():
        if together is (channel == "all"):
            assert_fast_path_equals_slow_path(values)


@pytest.mark.parametrize("wrapping", ["alone", "16 times", "two levels down", "in a dict of 17"])
def test_any_value_may_be_the_old_version_of_any_other(wrapping: str) -> None:
    samples = SAMPLES if wrapping == "alone" else SMALL_SAMPLES
    versions = [WRAPPINGS[wrapping](make) for make in samples.values()]
    assert_fast_path_equals_slow_path([*versions, *reversed(versions)])

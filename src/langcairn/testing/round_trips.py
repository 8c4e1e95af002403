"""Values of every type, in every place, come back equal and of the same type."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from langcairn.errors import InvalidInput
from langcairn.forms import form
from langcairn.testing.audit import audit
from langcairn.testing.cases import case
from langcairn.testing.checkpoints import config_of, put, values_of
from langcairn.testing.fixtures import Fixtures
from langcairn.testing.models import Mood
from langcairn.testing.values import (
    KEPT_BETTER,
    MARKERS,
    MESSAGES,
    OBJECTS,
    SAMPLES,
    SMALL_SAMPLES,
    WRAPPINGS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.forms import Form
    from langcairn.testing.calling import Caller
    from langcairn.testing.storage import Storage


def _forms(values: dict[str, Any]) -> dict[str, Form]:
    return {name: form(value) for name, value in values.items()}


def _wrapped(wrapping: str) -> dict[str, Any]:
    # Many times a large value is only slow.
    samples = SAMPLES if wrapping in _ANY_SIZE else SMALL_SAMPLES
    return {name: WRAPPINGS[wrapping](make) for name, make in samples.items()}


@cache  # for all backends and sides, and their modules, the same
def _given_and_expected(wrapping: str) -> tuple[dict[str, Form], dict[str, Form]]:
    """Return the forms of the wrapped samples, and those in which the reference returns them."""
    values = _wrapped(wrapping)
    given = _forms(values)
    reference = InMemorySaver()
    put(reference, 1, {n: value for n, value in values.items() if n not in KEPT_BETTER})
    expected = _forms(values_of(reference, config_of("thread")))
    # Where the reference's serializer loses something, ours has to keep it.
    if wrapping in _TRANSPARENT:
        expected |= {name: given[name] for name in KEPT_BETTER & given.keys()}
    return given, expected


class RoundTrips(Fixtures):
    """Tests of what comes back of a value."""

    @pytest.mark.parametrize("wrapping", WRAPPINGS)
    def test_values_come_back_as_from_the_reference(
        self, saver: Caller, another: Callable[[], Caller], storage: Storage, wrapping: str
    ) -> None:
        values = _wrapped(wrapping)
        given, expected = _given_and_expected(wrapping)
        put(saver, 1, values)
        assert _forms(values) == given  # nothing was done to the caller's objects
        put(saver, 2, values, parent=1)
        for number, reader in enumerate((saver, saver, another())):
            found = _forms(values_of(reader, config_of("thread")))
            wrong = {
                n: (found.get(n), expected[n]) for n in expected if found.get(n) != expected[n]
            }
            assert wrong == {}, (number, sorted(wrong))
            assert found.keys() == values.keys()
        assert audit(storage, "thread").dangling == set()

    @pytest.mark.parametrize("name", ["set of tuples", "root model", "surrogate"])
    def test_pending_writes_keep_types(self, saver: Caller, name: str) -> None:
        config = put(saver, 1, {})
        saver.put_writes(config, [("x", SAMPLES[name]())], "task")
        assert form(saver.get_tuple(config).pending_writes[0][2]) == form(SAMPLES[name]())

    def test_models_know_which_fields_were_set_as_in_the_reference(self, saver: Caller) -> None:
        models = {
            name: make()
            for name, make in {**OBJECTS, **MESSAGES}.items()
            if isinstance(make(), BaseModel) and name not in KEPT_BETTER
        }
        found = []
        savers: tuple[Any, ...] = (saver, InMemorySaver())
        for writer in savers:
            put(writer, 1, models)
            values = values_of(writer, config_of("thread"))
            found.append({name: model.model_fields_set for name, model in values.items()})
        assert found[0] == found[1]

    def test_all_values_as_pending_writes(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        values = {name: make() for name, make in SAMPLES.items() if name not in KEPT_BETTER}
        found = []
        savers: tuple[Any, ...] = (saver, InMemorySaver())
        for writer in savers:
            config = put(writer, 1, {})
            writer.put_writes(config, list(values.items()), "task")
            reader = another() if writer is saver else writer
            found.append({c: form(v) for _, c, v in reader.get_tuple(config).pending_writes})
        assert {n: v for n, v in found[0].items() if v != found[1][n]} == {}
        assert found[0].keys() == values.keys()

    def test_all_values_as_metadata(self, saver: Caller, another: Callable[[], Caller]) -> None:
        values = {name: make() for name, make in SAMPLES.items() if name not in KEPT_BETTER}
        found = []
        savers: tuple[Any, ...] = (saver, InMemorySaver())
        for writer in savers:
            config = put(writer, 1, {}, **values)
            reader = another() if writer is saver else writer
            metadata = reader.get_tuple(config).metadata
            found.append({name: form(metadata[name]) for name in values})
        assert {n: v for n, v in found[0].items() if v != found[1][n]} == {}

    def test_what_looks_like_a_marker_stays_what_it_is(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        stranger = another()
        for name, make in MARKERS.items():
            value = make()
            values = {"$cairn": value, "a": {"b": value, "pad": "x" * 2000}, "l": [value] * 20}
            config = put(saver, 1, values, thread=name, looks=value)
            put(saver, 2, {**values, "b": 1}, thread=name, parent=1, changed=["b"])
            saver.put_writes(config, [("$cairn", value)], "$cairn", "$cairn")
            for reader in (saver, stranger):
                with case(name):
                    assert form(values_of(reader, config)) == form(values)
                    newest = values_of(reader, config_of(name))
                    assert {**newest, "b": 1} == {**values, "b": 1}
                    found = reader.get_tuple(config)
                    assert form(found.metadata["looks"]) == form(value)
                    assert found.pending_writes == [("$cairn", "$cairn", value)]

    def test_a_marker_as_a_metadata_key_is_kept_or_refused(self, saver: Caller) -> None:
        marker: dict[str, Any] = {"$cairn": ["c", "A" * 22]}
        try:
            config = put(saver, 1, {"a": 1}, **marker)
        except InvalidInput:
            assert saver.get_tuple(config_of("thread")) is None
        else:
            assert saver.get_tuple(config).metadata["$cairn"] == marker["$cairn"]

    def test_dicts_keep_their_order(self, saver: Caller, another: Callable[[], Caller]) -> None:
        stranger = another()
        for count, size in product((2, 15, 16, 17, 33, 300), (1, 80, 200)):
            keys = [f"{(i * 7919) % count:x}" * (1 + i % 3) for i in range(count)]
            one = dict.fromkeys(keys, "v" * size)
            other = dict(reversed(one.items()))
            thread = f"{count} of {size}"
            put(saver, 1, {"one": one, "other": other}, thread=thread)
            put(saver, 2, {"one": other, "other": one}, thread=thread, parent=1)
            for reader in (saver, stranger):
                with case(thread):
                    found = values_of(reader, config_of(thread))
                    assert list(found["one"]) == list(other)
                    assert list(found["other"]) == list(one)

    def test_values_may_share_objects(self, saver: Caller, another: Callable[[], Caller]) -> None:
        shared: dict[str, Any] = {"text": "x" * 150, "list": ["y" * 150]}
        message = HumanMessage("z" * 150, id="1")
        for number in range(1, 4):
            values = {
                "a": [shared] * 20,
                "b": {"one": shared, "two": [shared, message]},
                "c": shared["list"],
                "d": [message] * 3,
            }
            put(saver, number, values, parent=number - 1 or None)
            for reader in (saver, another()):
                found = values_of(reader, config_of("thread"))
                assert found == values
                found["a"][0]["list"].append("changed")
                assert found["a"][1] == shared
                assert found["c"] == shared["list"]
            shared["list"].append(f"{number}" * 150)
            message.content = f"{message.content}!"

    def test_equal_values_of_different_types_replace_each_other(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        def values(one: Any, text: Any, zero: Any) -> dict[str, Any]:
            return {
                "alone": [one, text, zero],
                "in a tree": [*("x" * 200 for _ in range(20)), one, text, zero],
                "in a dict": {"one": one, "text": text, "zero": zero, "pad": "x" * 2000},
                "in a message": HumanMessage("a", additional_kwargs={"v": [one, text, zero]}),
            }

        steps = [(1, "calm", 0.0), (True, Mood.CALM, -0.0), (1.0, b"calm", 0), (1, "calm", False)]
        for number, step in enumerate(steps, start=1):
            put(saver, number, values(*step), parent=number - 1 or None)
            expected = {channel: form(value) for channel, value in values(*step).items()}
            for reader in (saver, another()):
                found = values_of(reader, config_of("thread"))
                # Channels come in no order, as a database may sort them.
                assert {channel: form(value) for channel, value in found.items()} == expected


_ANY_SIZE = frozenset({"alone", "in a dict", "in a large list", "in a snapshot"})
# The wrappings that go through containers only; inside other objects the reference's serializer
# decides, and what it loses there is its loss or ours to keep.
_TRANSPARENT = frozenset(
    {
        "alone",
        "in a list",
        "in a dict",
        "beside 90 bytes",
        "beside 1000 bytes",
        "in a large list",
        "16 times",
        "in a dict of 17",
        "in the middle of 257",
        "in a snapshot",
        "two levels down",
    }
)

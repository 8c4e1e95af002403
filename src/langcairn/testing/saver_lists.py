"""What a saver lists."""
# ruff: noqa: S101, D102 -- tests assert, and their names say what

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from langcairn.testing.cases import case
from langcairn.testing.checkpoints import (
    checkpoint_id,
    config_of,
    ids_of,
    numbers_of,
    put,
    values_of,
)
from langcairn.testing.fixtures import Fixtures
from langcairn.testing.models import Level, Mood

if TYPE_CHECKING:
    from collections.abc import Callable

    from langcairn.testing.calling import Caller

# Metadata of checkpoints 1, 2, 3, …
_METADATA: list[dict[str, Any]] = [
    {"kind": "a", "n": 1, "none": None, "a.b": 1, 'quo"te': "q", "it's": 2, "both": True},
    {"kind": "a", "n": 2, "flag": True, "a": {"b": 1}, "$.kind": "x", "[0]": "y"},
    {"kind": "b", "n": 1, "flag": False, "f": 1.5, "list": [1, {"x": None}], "": "empty"},
    {"kind": "B", "n": "1", "f": 1.0, "list": [], "text": "a%b_c*", "a\\b": "back"},
    {"kind": Mood.CALM, "n": Level.LOW, "text": "Ä 🪨", "big": 2**63, "f": 1e16, "ta\tb": "t"},
    {"kind": "calm", "n": 1.0, "text": "", "big": 2**62, "nan": float("nan"), "pair": [1, 2]},
    {"text": "a\ud800b", "keys": {1: 2}, "nested": {"$cairn": ["c", "x"]}, "long": "x" * 2000},
]
_FILTERS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in ("a", "b", "B", "calm", Mood.CALM, "", None, 1)),
    *({"n": n} for n in (1, 2, "1", 1.0, True, Level.LOW, None, 3)),
    *({"flag": flag} for flag in (True, False, None, 1, 0, "true")),
    {"kind": "a", "n": 1},
    {"kind": "a", "n": 2, "flag": True},
    {"kind": "a", "flag": None},
    {"kind": "a", "absent": None},
    {"absent": None},
    {"absent": "x"},
    *({"none": none} for none in (None, "None", "null", 0)),
    {"a.b": 1},
    {"a": {"b": 1}},
    {"a": {"b": 2}},
    {'quo"te': "q"},
    {"it's": 2},
    {"$.kind": "x"},
    {"kind": "x"},
    {"[0]": "y"},
    {"": "empty"},
    {"a\\b": "back"},
    {"ta\tb": "t"},
    *({"f": f} for f in (1.5, 1, 1.0, 1e16, 10**16, float("nan"))),
    *({"list": value} for value in ([1, {"x": None}], [], [1], (), None)),
    {"pair": [1, 2]},
    {"pair": (1, 2)},
    *({"text": text} for text in ("a%b_c*", "a%", "Ä 🪨", "", "a\ud800b", "%", "A%B_C*")),
    *({"big": big} for big in (2**63, 2**62, 2**64, 2.0**63)),
    {"keys": {1: 2}},
    {"keys": {"1": 2}},
    {"nested": {"$cairn": ["c", "x"]}},
    {"long": "x" * 2000},
    {"step": 3},
    {"source": "loop", "step": 2},
]


class SaverLists(Fixtures):
    """Tests of list."""

    @pytest.fixture
    def five(self, saver: Caller) -> Caller:
        """Return a saver with five checkpoints, 1 to 5, in a thread."""
        for number in range(1, 6):
            put(saver, number, {"n": number}, parent=number - 1 or None)
        return saver

    def test_filters_find_what_they_find_in_the_reference(self, saver: Caller) -> None:
        reference = InMemorySaver()
        for target in (saver, reference):
            for number, metadata in enumerate(_METADATA, start=1):
                # A lone surrogate doesn't survive the reference's serializer: ours is asked alone.
                put(target, number, {}, **metadata)
        for where in _FILTERS:
            with case(where):
                found = ids_of(list(saver.list(config_of("thread"), filter=where)))
                expected = ids_of(list(reference.list(config_of("thread"), filter=where)))
                if where == {"text": "a\ud800b"}:
                    expected = [checkpoint_id(7)]
                elif where == {"text": None}:
                    expected = []
                assert found == expected

    def test_limit_and_before(self, five: Caller) -> None:
        for before in (None, 1, 3, 9):
            bound = None if before is None else config_of("thread", id=checkpoint_id(before))
            expected = [n for n in (5, 4, 3, 2, 1) if before is None or n < before]
            for limit in (None, 0, -1, 1, 2, 4, 5, 6, 1000):
                with case(before, limit):
                    listed = five.list(config_of("thread"), before=bound, limit=limit)
                    assert numbers_of(list(listed)) == (
                        expected if limit is None else expected[: max(limit, 0)]
                    )

    def test_filter_comes_before_limit(self, saver: Caller) -> None:
        for number in range(1, 101):
            put(saver, number, {}, even=number % 2 == 0, mod=number % 50)
        config = config_of("thread")
        assert numbers_of(list(saver.list(config, filter={"mod": 1}, limit=2))) == [51, 1]
        assert numbers_of(list(saver.list(config, filter={"mod": 1}, limit=1))) == [51]
        assert len(list(saver.list(config, filter={"even": True}))) == 50
        bound = config_of("thread", id=checkpoint_id(51))
        assert numbers_of(list(saver.list(config, filter={"mod": 1}, before=bound))) == [1]

    def test_a_checkpoint_id_finds_one(self, five: Caller) -> None:
        config = config_of("thread", id=checkpoint_id(3))
        assert numbers_of(list(five.list(config))) == [3]
        assert list(five.list(config, filter={"step": 4})) == []

    def test_all_threads_and_namespaces(self, saver: Caller) -> None:
        for number, (thread, namespace) in enumerate(
            [("a", ""), ("b", ""), ("a", "child:1"), ("a", "child:1|x:2"), ("b", "child:1")],
            start=1,
        ):
            put(saver, number, {"n": [thread, namespace]}, thread=thread, namespace=namespace)
        assert numbers_of(list(saver.list(None))) == [5, 4, 3, 2, 1]
        assert numbers_of(list(saver.list(None, limit=2))) == [5, 4]
        assert numbers_of(list(saver.list(None, filter={"step": 3}))) == [3]
        bound = config_of("elsewhere", id=checkpoint_id(3))
        assert numbers_of(list(saver.list(None, before=bound))) == [2, 1]
        assert numbers_of(list(saver.list({"configurable": {"thread_id": "a"}}))) == [4, 3, 1]
        assert numbers_of(list(saver.list(config_of("a", "")))) == [1]
        assert numbers_of(list(saver.list(config_of("a", "child:1")))) == [3]
        for one in saver.list(None):
            place = one.config["configurable"]
            assert one.checkpoint["channel_values"]["n"] == [
                place["thread_id"],
                place["checkpoint_ns"],
            ]
            assert saver.get_tuple(one.config).checkpoint == one.checkpoint

    def test_one_id_in_many_places(self, saver: Caller) -> None:
        places = [(thread, namespace) for thread in "abc" for namespace in ("", "x", "y")]
        for thread, namespace in places:
            put(saver, 1, {"n": [thread, namespace]}, thread=thread, namespace=namespace)
        found = [one.checkpoint["channel_values"]["n"] for one in saver.list(None)]
        assert sorted(found) == sorted([list(place) for place in places])

    def test_more_than_fits_a_page_or_statement(self, saver: Caller) -> None:
        for number in range(1, 301):
            put(saver, number, {"n": number, "same": "x" * 300}, thread=number % 2)
        numbers = list(range(300, 0, -1))
        assert numbers_of(list(saver.list(None))) == numbers
        assert numbers_of(list(saver.list(config_of(1)))) == numbers[1::2]
        assert numbers_of(list(saver.list(None, limit=33))) == numbers[:33]

    def test_the_saver_may_be_used_inside_the_loop(self, saver: Caller) -> None:
        for number in range(1, 71):
            put(saver, number, {"n": number, "pad": f"{number:>200}"})
        seen = []
        for one in saver.list(config_of("thread")):
            number = one.checkpoint["channel_values"]["n"]
            assert values_of(saver, one.config)["n"] == number
            assert numbers_of(list(saver.list(config_of("thread"), limit=1))) == [70]
            saver.put_writes(one.config, [("x", number)], "task")
            put(saver, number, {"n": number}, thread="other")
            seen.append(number)
        assert seen == list(range(70, 0, -1))

    def test_deleting_inside_the_loop(self, saver: Caller) -> None:
        for number in range(1, 101):
            put(saver, number, {"n": number, "pad": f"{number:>200}"})
        seen = 0
        for one in saver.list(config_of("thread")):
            assert one.checkpoint["channel_values"]["n"] == 100 - seen
            seen += 1
            if seen == 5:
                saver.delete_thread("thread")
        assert 5 <= seen < 100
        assert list(saver.list(config_of("thread"))) == []

    def test_pruning_inside_the_loop(self, saver: Caller) -> None:
        for number in range(1, 101):
            put(saver, number, {"n": number, "pad": f"{number:>200}"}, parent=number - 1 or None)
        for seen, one in enumerate(saver.list(config_of("thread"))):
            assert one.checkpoint["channel_values"]["n"] == 100 - seen
            if seen == 3:
                saver.prune(["thread"])
        assert numbers_of(list(saver.list(config_of("thread")))) == [100]

    def test_a_list_may_be_left_early(self, five: Caller) -> None:
        listed = five.list(config_of("thread"))
        assert numbers_of(list(islice(listed, 2))) == [5, 4]
        five.delete_thread("thread")
        assert list(five.list(None)) == []

    def test_listed_is_what_get_tuple_returns(
        self, saver: Caller, another: Callable[[], Caller]
    ) -> None:
        config = put(saver, 1, {"a": ["x" * 200]}, note="n")
        saver.put_writes(config, [("a", "y" * 200)], "task", "path")
        put(saver, 2, {"a": ["x" * 200, 2]}, parent=1)
        for reader in (saver, another()):
            for one in reader.list(config_of("thread", "")):
                assert one == reader.get_tuple(one.config)

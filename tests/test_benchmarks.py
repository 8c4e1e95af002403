"""The benchmark runs: its recordings are what a graph passes, its figures come out as JSON."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from benchmarks import cli, moving
from benchmarks.behind import RATE
from benchmarks.crowd import CROWD_SAVERS, CROWDS, measure_crowd
from benchmarks.figures import SaverFigures
from benchmarks.ideal import ideal_of
from benchmarks.markdown import NAMES
from benchmarks.parts import PARTS
from benchmarks.recording import PutCall, RecordingSaver, record
from benchmarks.replay import WrongStateError, measure, record_for
from benchmarks.savers import ADAPTERS
from benchmarks.savers.valkey import payloads_of
from benchmarks.servers import VARIABLES
from benchmarks.singles import Single, Singles
from benchmarks.targets import TARGETS, Target, Verdict, crowd_verdicts, verdicts
from benchmarks.words import text
from benchmarks.workloads import WORKLOADS
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from tests.postgres_server import PostgresServer
from tests.valkey_server import ValkeyServer

from langcairn import CheckpointSaver, MemoryCheckpointStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _quick_run(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    output = tmp_path / "out" / "figures.json"
    options = ["--quick", "--rounds", "1", "--place", str(tmp_path), "--output", str(output)]
    assert cli.main([*options, *arguments]) == 0
    document: dict[str, Any] = json.loads(output.read_text())
    return document


def test_quick_run_writes_all_figures_of_all_savers(tmp_path: Path) -> None:
    document = _quick_run(tmp_path, "--only", "embedded", "--fresh", "0", "--no-picture")

    assert {"date", "machine", "versions", "servers", "rounds", "parts"} <= document.keys()
    assert document["parts"].keys() == {"embedded"}
    assert document["parts"]["embedded"].keys() == WORKLOADS.keys()
    assert document["crowds"] == {}
    for workload in document["parts"]["embedded"].values():
        assert workload["savers"].keys() == set(PARTS["embedded"].savers)
        assert 0 < workload["ideal"]["one_by_one"] <= workload["ideal"]["serialized"]
        for figures in workload["savers"].values():
            assert figures["bytes_kept"] > 0
            assert figures["put"] > 0
            assert figures["put_writes"] > 0
            assert figures["get"] > 0
            assert figures["put_growth"] == figures["put_late"] / figures["put_early"]
            assert figures["bytes_series"][-1][0] == figures["put_series"][-1][0]
            assert figures["replay"] > figures["put"]
            assert figures["fresh_get"] is None
            assert figures["fresh_total"] is None


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PostgresServer, ValkeyServer]]:
    """Servers as of a user's own, which a run must leave as it found them."""
    postgres = PostgresServer()
    try:
        monkeypatch.setenv(VARIABLES["postgres"], postgres.start().url())
        with ValkeyServer() as valkey:
            monkeypatch.setenv(VARIABLES["valkey"], valkey.url)
            yield postgres, valkey
    finally:
        postgres.remove()


def test_parts_on_servers_and_crowds_leave_nothing_behind(
    tmp_path: Path, servers: tuple[PostgresServer, ValkeyServer]
) -> None:
    postgres, valkey = servers
    others = ("--only", "valkey", "--only", "files", "--fresh", "0")

    figures = _quick_run(tmp_path, "--only", "postgres", "--workload", "agent", "--fresh", "1")
    tables = (tmp_path / "out" / "figures.md").read_text()
    others_figures = _quick_run(tmp_path, *others)
    crowds = _quick_run(tmp_path, "--only", "crowd", "--rounds", "2")["crowds"]
    workflow = _quick_run(tmp_path, "--only", "workflow")

    assert figures["servers"]["postgres"]["fsync"] == "off"
    assert others_figures["servers"].keys() == {"valkey"}
    for name, part in {**figures["parts"], **others_figures["parts"]}.items():
        savers = part["agent"]["savers"]
        assert savers.keys() == set(PARTS[name].savers)
        for saver, measured in savers.items():
            assert measured["bytes_kept"] > 0
            assert measured["bytes_to_ideal"] > 1
            assert measured["replay"] > measured["put"] > 0
            assert (measured["get"] is not None) == ADAPTERS[saver].reads
            assert (measured["fresh_total"] is not None) == (name == "postgres")
    assert crowds.keys() == CROWDS.keys()
    for crowd in crowds.values():
        assert crowd["savers"].keys() == set(CROWD_SAVERS)
        assert all(saver["runs"] > 0 for saver in crowd["savers"].values())
        assert all(len(saver["rounds"]) == 2 for saver in crowd["savers"].values())
    assert workflow["parts"]["workflow"]["agent"]["savers"].keys() == set(PARTS["workflow"].savers)
    assert workflow["crowds"] == {}
    kept = workflow["singles"]["max_checkpoints"]["figures"]
    assert kept["peak"]["value"] > kept["final"]["value"] > 0
    behind = workflow["singles"]["write-behind"]["figures"]
    assert behind["dropped"] == {"value": 0, "unit": "saves", "target": "≤ 0 saves"}
    assert behind["rate"]["value"] <= RATE
    assert behind["direct"]["value"] > 0
    assert behind["share"]["value"] == behind["own"]["value"] / behind["direct"]["value"]
    assert (
        "| agent, 6 turns | langgraph-checkpoint-postgres | langcairn on PostgreSQL | |" in tables
    )
    with psycopg.connect(postgres.url()) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'bench%'")
        assert left.fetchall() == []
    assert valkey.ask("DBSIZE") == 0


def test_objects_are_counted(tmp_path: Path) -> None:
    document = _quick_run(tmp_path, "--only", "objects", "--fresh", "0", "--no-picture")
    assert document["parts"].keys() == {"objects"}
    counted = document["objects"]
    assert counted["moving"]["put"] > 0
    assert counted["moving"]["out"] >= counted["bytes_moved"] > 0
    assert 1 <= counted["longest"] <= 3
    assert "| GET to read 120 messages |" in (tmp_path / "out" / "figures.md").read_text()


def test_security_and_transfer(tmp_path: Path) -> None:
    document = _quick_run(tmp_path, "--only", "security", "--only", "transfer")

    savers = document["parts"]["security"]["agent"]["savers"]
    assert savers.keys() == set(PARTS["security"].savers)
    assert all(figures["get"] > 0 for figures in savers.values())
    plain, encrypted = savers["langcairn memory"], savers["encrypted memory"]
    assert encrypted["bytes_kept"] > plain["bytes_kept"]
    moved = document["singles"]["transfer"]["figures"]
    assert moved["logical"]["value"] > 2 * moved["backup_distinct"]["value"]
    for operation in ("backup", "restore", "migrate"):
        assert moved[f"{operation}_rate"]["value"] > 0
        assert moved[f"{operation}_memory"]["value"] > 10e6
    assert document["singles"]["transfer"]["reached"] == {}  # a quick run's figures say nothing
    assert not list(tmp_path.glob("*/*.db"))
    tables = (tmp_path / "out" / "figures.md").read_text()
    assert "| agent, 6 turns | langcairn on SQLite | signed, on SQLite | |" in tables
    assert "| backup: peak memory | " in tables


@pytest.mark.parametrize(
    ("value", "most", "least", "reached"),
    [(2, 2, None, True), (2.1, 2, None, False), (20, None, 20, True), (19, None, 20, False)],
)
def test_figures_of_ours_alone_have_bounds(
    value: float, most: float | None, least: float | None, reached: bool
) -> None:
    one = Single("rate", "a rate", value, "MB/s", most, least)

    assert one.reached is reached
    assert Singles("one", "", False, [one]).judged() == [one]
    assert Singles("one", "", True, [one]).judged() == []


def test_a_backup_that_fails_has_no_figures(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        moving._run("restore", tmp_path / "none", tmp_path / "target.db")


def test_the_floor_sends_what_ours_stores_and_nothing_twice() -> None:
    recording = record(WORKLOADS["agent"].quick(), CheckpointSaver(MemoryCheckpointStore()))
    with MemoryCheckpointStore() as store:
        for call in recording.calls:
            call.replay(CheckpointSaver(store))
        stored = store.stored_bytes()

    payloads = payloads_of(recording.calls)

    names = [name for payload in payloads for name, _ in payload]
    sent = sum(len(data) for payload in payloads for _, data in payload)
    assert len(payloads) == len(recording.calls)
    assert all(payloads)
    assert len(names) == len(set(names))
    assert ideal_of(recording).one_by_one < sent < stored


def test_a_crowd_whose_saver_forgets_has_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InMemorySaver, "put", lambda _, config, *__: config)

    with pytest.raises(WrongStateError, match="official memory"):
        measure_crowd(CROWDS["threads"].quick(), ["official memory"], lambda: None)


def test_fresh_processes_and_picture(tmp_path: Path) -> None:
    picture = tmp_path / "images" / "growth.png"

    document = _quick_run(
        tmp_path,
        *("--only", "embedded", "--fresh", "1", "--workload", "agent"),
        *("--picture", str(picture)),
        *("--savers", "official sqlite,official memory"),
    )

    savers = document["parts"]["embedded"]["agent"]["savers"]
    assert savers["official sqlite"]["fresh_get"] > 0
    assert savers["official memory"]["fresh_get"] is None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_partial_run_leaves_the_published_figures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "RESULTS", tmp_path / "latest.json")
    monkeypatch.setattr(cli, "PICTURE", tmp_path / "growth.png")

    cli.main(["--quick", "--workload", "counter", "--savers", "official memory", "--rounds", "1"])

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["put", "put_writes", "get_tuple"])
def test_profile_prints_functions_and_files(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["profile", "--quick", "--saver", "official memory", "--method", method])

    printed = capsys.readouterr().out
    assert "tottime" in printed
    assert "langgraph/checkpoint/memory/__init__.py" in printed


def test_savers_that_no_chosen_part_has_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--only", "valkey", "--savers", "official sqlite"])

    assert "no part of the benchmark has such savers" in capsys.readouterr().err


def test_stages_are_timed_only_inside_the_method(capsys: pytest.CaptureFixture[str]) -> None:
    stage = "langgraph.checkpoint.memory:InMemorySaver.put_writes"

    cli.main(["profile", "--quick", "--saver", "official memory", "--time", stage])

    assert stage not in capsys.readouterr().out


def test_unknown_saver_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--savers", "no such"])

    assert "none of: official sqlite" in capsys.readouterr().err


class _SerializingRecorder(RecordingSaver):
    """Also serializes what it is given at the moment it is given it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.as_given: list[tuple[str, bytes]] = []

    def put(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        self.as_given.append(JsonPlusSerializer().dumps_typed((checkpoint, metadata)))
        return super().put(config, checkpoint, metadata, new_versions)


@pytest.mark.parametrize("name", WORKLOADS)
def test_recorded_puts_stay_as_they_were_given(name: str) -> None:
    workload = WORKLOADS[name].quick()
    recorder = _SerializingRecorder(InMemorySaver(), workload.turn_begins)

    workload.drive(recorder, workload.turns)

    puts = [call for call in recorder.calls if isinstance(call, PutCall)]
    as_recorded = [JsonPlusSerializer().dumps_typed((put.checkpoint, put.metadata)) for put in puts]
    assert as_recorded == recorder.as_given


def test_messages_are_the_same_objects_within_a_turn_and_new_ones_in_the_next() -> None:
    recording = record(WORKLOADS["agent"].quick(), InMemorySaver())

    first_of_turn: dict[int, set[int]] = {}
    for call in recording.calls:
        if isinstance(call, PutCall) and "messages" in call.checkpoint["channel_values"]:
            identity = id(call.checkpoint["channel_values"]["messages"][0])
            first_of_turn.setdefault(call.turn, set()).add(identity)

    assert [len(identities) for identities in first_of_turn.values()] == [1] * recording.turns
    assert len(set.union(*first_of_turn.values())) == recording.turns


def test_recordings_of_equal_version_forms_are_shared(tmp_path: Path) -> None:
    workload = WORKLOADS["counter"].quick()

    recordings = record_for(workload, ["official sqlite", "official memory"], tmp_path)

    assert recordings["official sqlite"] is recordings["official memory"]


def test_a_saver_that_gives_back_another_state_has_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forget(*_: object) -> None: ...

    recordings = record_for(WORKLOADS["counter"].quick(), ["official memory"], tmp_path)
    monkeypatch.setattr(InMemorySaver, "put", forget)

    with pytest.raises(WrongStateError, match="official memory"):
        measure(recordings, 1, tmp_path, lambda: None)


def test_ideal_counts_each_distinct_message_once() -> None:
    workload = WORKLOADS["chat"].quick()

    ideal = ideal_of(record(workload, InMemorySaver()))

    # An answer, and a human message before and after it is given its id; and once, the None in
    # the channel that starts the node.
    assert ideal.values == 3 * workload.turns + 1


def test_verdicts_compare_ours_with_the_official_saver() -> None:
    def figures(bytes_kept: int, late: float) -> SaverFigures:
        return SaverFigures(bytes_kept, 2, 1, 1, late, 1, 1, 1, None, None, [], [])

    judged = verdicts(
        PARTS["embedded"],
        "agent",
        {"official sqlite": figures(10_000, 10), "langcairn sqlite": figures(100, 1.5)},
    )

    size = judged["langcairn sqlite", "bytes_kept"]
    assert (size.value, size.reached, size.shortfall) == (100, False, 1.5)
    assert judged["langcairn sqlite", "put_growth"].reached
    assert not judged["langcairn sqlite", "put"].reached
    assert ("langcairn sqlite", "fresh_get") not in judged
    assert Verdict(Target("agent", "langcairn sqlite", "put", 8, "official sqlite"), 8.0).reached


def test_verdicts_compare_runs_a_second_with_each_other_saver() -> None:
    runs = {"official postgres": 100.0, "official memory": 500.0, "langcairn postgres": 375.0}

    judged = crowd_verdicts("tasks", runs)

    assert not judged["langcairn postgres", "official postgres"].reached
    assert judged["langcairn postgres", "official memory"].value == 0.75
    assert judged["langcairn postgres", "official memory"].reached


def test_text_is_seeded() -> None:
    assert text("one", 500) == text("one", 500) != text("two", 500)
    assert len(text("one", 500)) == 500


def test_every_target_is_of_a_saver_and_a_workload_there_is() -> None:
    measured = {
        (workload, ours, reference)
        for part in PARTS.values()
        for workload in part.workloads
        for ours, reference in part.pairs.items()
    }
    measured |= {
        (crowd, ours, other) for crowd in CROWDS for ours in CROWD_SAVERS for other in CROWD_SAVERS
    }

    assert {(target.workload, target.saver, target.against) for target in TARGETS} <= measured
    assert {name for part in PARTS.values() for name in part.savers} == ADAPTERS.keys()
    assert NAMES.keys() == ADAPTERS.keys() | set(CROWD_SAVERS)

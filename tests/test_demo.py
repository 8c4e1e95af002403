"""The demo does what it says, and says so when it doesn't."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from langchain_core.messages import HumanMessage
from rich.console import Console

from langcairn.checkpoint import Checkpoint
from langcairn.demo import __main__ as command_line
from langcairn.demo.conductor import CUT_OFF, KEPT, Conductor
from langcairn.demo.journal import BEGUN, DONE, Entry, Journal, find_repetitions, read_journal
from langcairn.demo.narrate import DemoError, Narrator, format_bytes
from langcairn.demo.process import TIMEOUT, Child
from langcairn.demo.timeline import build_timeline, find_tips

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 80


def test_the_whole_demo(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    finished = subprocess.run(
        [sys.executable, "-m", "langcairn.demo", "--keep", str(kept)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "COLUMNS": str(WIDTH), "PYTHONIOENCODING": "utf-8"},
        timeout=90,
        check=False,
    )
    told = finished.stdout
    assert finished.returncode == 0, told + finished.stderr
    assert finished.stderr == ""
    assert "\x1b" not in told
    assert max(map(len, told.partition("Kept in")[0].splitlines())) <= WIDTH

    words = " ".join(told.split())
    pids = re.findall(r"is process (\d+)", words)
    assert len(set(pids)) == 4
    assert f"killed: process {pids[0]} ended with -9" in words
    assert f"resumed: process {pids[1]} began with {CUT_OFF}, where {pids[0]} stopped" in words
    assert f"nothing repeated: the 14 tool and model calls that {pids[0]} had finished" in words
    assert "waited: the question was read from the file" in words
    assert "forked: the thread has two branches now" in words
    assert "both files give back the same checkpoints" in words
    smaller = re.search(r"(\d+) times smaller", words)
    assert smaller is not None
    assert int(smaller[1]) >= 8
    assert re.search(r"All \d+ checks held", words)

    journal = read_journal(kept / "journal.jsonl")
    assert find_repetitions(journal, cut_off=CUT_OFF) == []
    assert {str(entry.pid) for entry in journal} == set(pids)
    begun = [entry for entry in journal if entry.event == BEGUN]
    assert [str(entry.pid) for entry in begun if entry.work == CUT_OFF] == pids[:2]
    assert [str(entry.pid) for entry in begun if entry.work == KEPT] == pids[:1]

    timeline = told.partition("trail-guide: 32 checkpoints")[2].partition("process ids:")[0]
    lines = re.findall(r"(P\d) +(-?\d+) (\S.*?) +([0-9a-f]{6}) ", timeline)
    assert len(lines) == 32
    assert len({short_id for *_, short_id in lines}) == 32
    assert {process for process, *_ in lines} == {"P1", "P2", "P3", "P4"}
    nodes = [node for _, _, node, _ in lines]
    assert nodes[:4] == ["__start__", "__start__", "agent", "tools"]
    assert Counter(nodes) == {
        "__start__": 2,
        "agent": 12 + 2,
        "tools": 11 + 1,
        "review": 2,
        "publish": 1,
        "(update)": 1,
    }
    assert timeline.count("⏸ waits for a person") == 2
    assert timeline.count("✗ P1 killed") == 1
    assert timeline.count("⑂") == 1
    assert f"open_store('sqlite:///{kept}/cairn.db')" in told


def _entries(*lines: tuple[int, str, str]) -> list[Entry]:
    return [Entry(*line) for line in lines]


GOOD = (
    (1, BEGUN, "a"),
    (1, DONE, "a"),
    (1, BEGUN, "cut"),
    (2, BEGUN, "cut"),
    (2, DONE, "cut"),
)


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ([], None),
        ([(2, BEGUN, "a")], "a was begun 2 times"),
        ([(2, DONE, "a")], "a was finished 2 times"),
        ([(2, DONE, "cut")], "cut was finished 2 times"),
        ([(3, BEGUN, "cut")], "cut was begun 3 times"),
        ([(2, BEGUN, "b")], "b was never finished"),
        ([(2, DONE, "model"), (3, DONE, "model")], "model was finished 2 times"),
    ],
)
def test_repetitions_are_found(more: list[tuple[int, str, str]], problem: str | None) -> None:
    problems = find_repetitions(_entries(*GOOD, *more), cut_off="cut")
    assert problems == ([] if problem is None else [problem])


def test_work_that_was_cut_off_must_be_done_again() -> None:
    problems = find_repetitions(_entries(*GOOD[:3]), cut_off="cut")
    assert "cut was never finished" in problems
    assert "cut was cut off but never begun again" in problems


def test_repeated_work_stops_the_demo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def conduct(self: Conductor) -> None:
        journal = Journal(self.journal, parent=io.StringIO())
        for event in (BEGUN, BEGUN, DONE, DONE):
            journal.record(event, "logbook-1")
        self._check_journal()

    monkeypatch.setattr(Conductor, "conduct", conduct)
    monkeypatch.setattr(sys, "argv", ["demo", "--directory", str(tmp_path)])
    assert command_line.main() == 1
    told = " ".join(capsys.readouterr().out.split())
    assert "FAILED" in told
    assert "logbook-1 was begun 2 times" in told
    assert list(tmp_path.iterdir()) == [], "the temporary directory was removed"


def test_a_child_that_hangs_is_an_error(tmp_path: Path) -> None:
    arguments = ["run", str(tmp_path / "cairn.db"), str(tmp_path / "journal.jsonl")]
    with (
        Child([*arguments, "--stall-at", "logbook-1"], timeout=2) as child,
        pytest.raises(DemoError, match="did not end within 2 s"),
    ):
        list(child.events())


def test_a_child_that_crashes_is_an_error(tmp_path: Path) -> None:
    conductor = Conductor(tmp_path, Narrator())
    # An empty database has nothing to go back to.
    with conductor._start("fork") as child, pytest.raises(DemoError, match="exit code 1"):
        conductor._finish(child, "finished")


def test_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "langcairn.demo", "--directory", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a terminal has one for each command
    ) as demo:
        assert demo.stdout is not None
        while "step" not in demo.stdout.readline():
            assert demo.poll() is None
        os.killpg(demo.pid, signal.SIGINT)
        _, errors = demo.communicate(timeout=TIMEOUT)
    assert (demo.returncode, errors) == (130, "")
    assert list(tmp_path.iterdir()) == [], "the temporary directory was removed"


def test_a_directory_with_content_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "precious").touch()
    monkeypatch.setattr(sys, "argv", ["demo", "--keep", str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        command_line.main()
    assert "is not empty" in capsys.readouterr().err


def test_without_the_official_saver_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "langgraph.checkpoint.sqlite", None)
    Conductor(tmp_path, Narrator())._compare()
    assert "pip install langgraph-checkpoint-sqlite" in " ".join(capsys.readouterr().out.split())


def test_forks_are_branches() -> None:
    def checkpoint(id: str, parent_id: str | None) -> Checkpoint:
        state = {"messages": [HumanMessage(f"said {id}\nand more")]}
        return Checkpoint(
            execution_id="t", id=id, parent_id=parent_id, state=state, metadata={"step": int(id)}
        )

    line = [("1", None), ("2", "1"), ("3", "2"), ("4", "2"), ("5", "4"), ("6", "2"), ("7", "3")]
    checkpoints = [checkpoint(*ids) for ids in line]
    assert [tip.id for tip in find_tips(checkpoints)] == ["5", "6", "7"]

    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(build_timeline(checkpoints, {}, Narrator()))
    assert isinstance(console.file, io.StringIO)
    drawn = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert drawn[0] == "t: 7 checkpoints"
    outline = [(re.split(r"\?\?|⑂", line)[0], line[-6:]) for line in drawn[1:]]
    assert outline == [
        ("├── ", "said 1"),
        ("├── ", "said 2"),
        ("│   ├── ", "m here"),
        ("│   ├── ", "said 4"),
        ("│   ├── ", "said 5"),
        ("│   ├── ", "m here"),
        ("│   └── ", "said 6"),
        ("├── ", "said 3"),
        ("└── ", "said 7"),
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (4123, "4.1 kB"), (104_000, "104 kB"), (2_036_000, "2.04 MB")],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert format_bytes(size) == text

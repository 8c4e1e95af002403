"""The demo from start to end: four processes, one database, and what is left to see of them."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from langcairn.demo.agent import TASK, WINTER_TASK
from langcairn.demo.comparison import build_bars, measure, replay_officially
from langcairn.demo.journal import BEGUN, DONE, find_repetitions, read_journal
from langcairn.demo.narrate import DemoError, Narrator, format_bytes
from langcairn.demo.process import Child
from langcairn.demo.stages import APPROVAL, FORK_AFTER, REFUSAL
from langcairn.demo.storage import SHORT_ID, look_at_latest, read_history
from langcairn.demo.timeline import build_timeline, find_tips, mark

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from langcairn.checkpoint import Checkpoint

KILL_STAGE = 5
CUT_OFF = f"weather-{KILL_STAGE}"
"""The tool call during which the first process is killed."""
KEPT = f"logbook-{KILL_STAGE}"
"""The tool call of the same step that was finished by then."""


class Conductor:
    """Starts the processes, follows them, and tells what happens."""

    def __init__(self, directory: Path, narrator: Narrator) -> None:
        self.database = directory / "cairn.db"
        self.journal = directory / "journal.jsonl"
        self.official = directory / "official.db"
        self._tell = narrator
        self._killed_at = ""

    def conduct(self) -> None:
        """Run the whole demo.

        Raises:
            DemoError: Something that it promises did not happen.
        """
        killed = self._kill()
        self._resume(killed)
        self._approve()
        self._fork()
        self._show_timeline()
        self._compare()

    def _kill(self) -> int:
        self._tell.section("An agent at work, killed in the middle of a step")
        self._tell.say(
            f"""A LangGraph agent gets a task: [bold]“{TASK}”[/] For each stage of the trail its
            model asks for two texts, and two tools fetch them at the same time. After every step
            langcairn writes a checkpoint to a SQLite file. While {CUT_OFF} is being fetched, the
            process gets SIGKILL, which no program can catch: no clean-up, no last words."""
        )
        awaited = {(BEGUN, CUT_OFF), ("kept", KEPT)}
        with self._start("run", "--stall-at", CUT_OFF) as child:
            for event in self._follow(child):
                works = event.get("calls") or [event.get("work")]
                awaited -= {(event["event"], work) for work in works}
                if not awaited:
                    child.kill()
                    break
            code, pid = child.wait(), child.pid
        if awaited:
            raise DemoError(f"process {pid} ended with exit code {code} before it was killed")
        self._tell.live(pid, f"          {KEPT} fetched and kept, {CUT_OFF} begun …")
        self._tell.live(pid, f"✗ SIGKILL to process {pid}", "bold red")
        self._tell.verify(code == -signal.SIGKILL, f"killed: process {pid} ended with {code}")
        found = look_at_latest(self.database)
        self._killed_at = found.checkpoint_id
        self._tell.verify(
            found.kept == [KEPT],
            f"the file holds the last checkpoint ({found.messages} messages) and, for the step "
            f"that was cut off, the result of {KEPT}",
        )
        return pid

    def _resume(self, killed: int) -> None:
        self._tell.section("A second process carries on")
        self._tell.say(
            """A new process opens the same file and calls [bold]graph.invoke(None, config)[/].
            It should fetch the one text that was cut off, not its twin, which was kept, and
            nothing that was finished before. A journal outside the database, to which every tool
            and the model write what they do, would show it."""
        )
        with self._start("resume") as child:
            self._finish(child, "waiting")
            pid = child.pid
        journal = read_journal(self.journal)
        self._tell.verify(
            next(entry.work for entry in journal if entry.pid == pid) == CUT_OFF,
            f"resumed: process {pid} began with {CUT_OFF}, where {killed} stopped",
        )
        finished = {entry.work for entry in journal if entry.pid == killed and entry.event == DONE}
        again = sorted(finished & {entry.work for entry in journal if entry.pid == pid})
        self._tell.verify(
            not again,
            f"nothing repeated: the {len(finished)} tool and model calls that {killed} had "
            f"finished were not made again {', '.join(again)}".rstrip(),
        )
        self._check_journal()

    def _approve(self) -> None:
        self._tell.section("It waits for a person")
        found = look_at_latest(self.database)
        self._tell.say(
            f"""Now the graph has called [bold]interrupt(…)[/] and P2 has ended. Nothing
            runs; the question lies in the file and can wait for days:
            [bold]“{found.question}”[/] Then somebody answers, and a third process continues with
            [bold]Command(resume=…)[/]."""
        )
        self._tell.verify(bool(found.question), "waited: the question was read from the file")
        with self._start("approve") as child:
            self._tell.answer(APPROVAL)
            self._finish(child, "finished")

    def _fork(self) -> None:
        self._tell.section("Back in time, and another way from there")
        self._tell.say(
            f"""Every checkpoint is still there. A fourth process goes back to the one after
            stage {FORK_AFTER}, adds a message with [bold]graph.update_state(old, …)[/] and goes
            on from there: [bold]“{WINTER_TASK}”[/] The first branch must not notice."""
        )
        before = self._read_tips()
        with self._start("fork") as child:
            self._finish(child, "finished", answer=REFUSAL)
        tips = self._read_tips()
        self._tell.verify(len(tips) == 2, "forked: the thread has two branches now")
        self._tell.verify(tips[0] == before[0], "the first branch is what it was before")
        self._check_journal()
        table = Table.grid(padding=(0, 2))
        for name, tip in zip(("branch 1", "branch 2"), tips, strict=True):
            guide = next(
                message.content.partition("\n")[0]
                for message in reversed(tip.state["messages"])
                if str(message.id).startswith("draft")
            )
            count = f"{len(tip.state['messages'])} messages"
            table.add_row(f"  {name}", tip.id[-SHORT_ID:], count, guide)
            table.add_row("", "", "", Text(tip.state["status"], style="bold"))
        self._tell.console.print()
        self._tell.console.print(table)

    def _show_timeline(self) -> None:
        self._tell.section("The timeline of the thread, read from the file")
        self._tell.say(
            """A line for each checkpoint: the process that wrote it, step, node, the end of its
            id, number of messages, and what was said last."""
        )
        checkpoints, questions = read_history(self.database)
        marks = {
            asked_at: [mark("⏸", f"waits for a person: {question}", "bold yellow")]
            for asked_at, question in questions.items()
        }
        text = f"P1 killed during {CUT_OFF}; {KEPT} was kept"
        marks.setdefault(self._killed_at, []).append(mark("✗", text, "bold red"))
        self._tell.console.print(build_timeline(checkpoints, marks, self._tell))
        self._tell.console.print(self._tell.legend())

    def _compare(self) -> None:
        self._tell.section("What it weighs")
        ours = measure(self.database)
        checkpoints, _ = read_history(self.database)
        try:
            replay = replay_officially(self.database, self.official)
        except ImportError:
            self._tell.say(
                f"""langcairn stored {format_bytes(ours)}. To see beside it what the official
                saver would have stored: pip install langgraph-checkpoint-sqlite"""
            )
            return
        self._tell.say(
            f"""The same {replay.checkpoints} checkpoints, with all their pending writes, were put
            into a file of the official SqliteSaver. It writes the whole conversation again with
            each of them, {format_bytes(replay.largest_row)} for the longest; langcairn writes
            what is new, once. Both files were closed, then measured."""
        )
        texts = {m.id: m.content for c in checkpoints for m in c.state.get("messages", ())}
        distinct = sum(len(content.encode()) for content in texts.values())
        rows = [
            ("official SqliteSaver", replay.official_bytes, "red"),
            ("the texts alone, each once", distinct, "dim"),
            ("langcairn", ours, "green"),
        ]
        self._tell.console.print(build_bars(rows))
        self._tell.console.print()
        self._tell.verify(replay.equal, "both files give back the same checkpoints")
        self._tell.verify(
            ours < replay.official_bytes, f"{replay.official_bytes / ours:.0f} times smaller"
        )
        self._tell.say("The longer a thread gets, the larger the difference: see `make bench`.")

    def _start(self, stage: str, *arguments: str) -> Child:
        child = Child([stage, str(self.database), str(self.journal), *arguments])
        self._tell.introduce(child.pid)
        self._tell.live(child.pid, f"is process {child.pid}")
        return child

    def _follow(self, child: Child) -> Iterator[dict[str, Any]]:
        """Yield a process's events and print what a person wants to see of them."""
        done: dict[str, str] = {}
        for event in child.events():
            match event:
                case {"event": "done", "work": work, "size": size}:
                    done[work] = f"{work:<11}{format_bytes(size)}"
                case {"event": "done", "work": work} if not work.startswith("ask"):
                    done[work] = work
                case {"event": "saved", "step": step} if done:
                    line = "   ".join(done[work] for work in sorted(done))
                    self._tell.live(child.pid, f"step {step:>2}   {line}")
                    done.clear()
                case {"event": "rewound", "checkpoint": id, "messages": count}:
                    self._tell.live(
                        child.pid, f"goes back to checkpoint {id[-SHORT_ID:]}, {count} messages"
                    )
                case {"event": "waiting", "question": question}:
                    self._tell.live(child.pid, f"⏸ asks: {question}", "bold yellow")
                case {"event": "finished", "status": status}:
                    self._tell.live(child.pid, f"ends: {status}", "bold")
            yield event

    def _finish(self, child: Child, expected: str, answer: Mapping[str, Any] | None = None) -> None:
        """Follow a process to its end, which must be a good one.

        Args:
            child: The process.
            expected: The last thing that it must tell.
            answer: What the process answers itself when its graph waits for a person.
        """
        last = ""
        for event in self._follow(child):
            last = event["event"]
            if last == "waiting" and answer is not None:
                self._tell.answer(answer)
        code = child.wait()
        if code != 0 or last != expected:
            raise DemoError(f"process {child.pid} ended with exit code {code} after {last!r}")

    def _check_journal(self) -> None:
        """Fail if any work in the journal was done again, but for what the kill cut off."""
        problems = find_repetitions(read_journal(self.journal), cut_off=CUT_OFF)
        if problems:
            raise DemoError("work was repeated: " + "; ".join(problems))

    def _read_tips(self) -> list[Checkpoint]:
        return find_tips(read_history(self.database)[0])

"""What looks at a store from the command line: each command, in text and in JSON."""

from __future__ import annotations

import shutil
import sys
import types
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.channels import DeltaChannel
from langgraph.graph import START, StateGraph
from pydantic import BaseModel, SecretStr
from tests.cli_calls import HOSTILE, build, call, fill, fill_hostile, is_safe, thread

from langcairn.checkpoint import Checkpoint
from langcairn.cli import completing
from langcairn.cli.commands import COMMANDS, hoisted
from langcairn.cli.escaping import escaped, json_escaped, without_passwords
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.opening import open_store
from langcairn.thread_id import ThreadId

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with threads of a real graph; each test gets a copy."""
    path = tmp_path_factory.mktemp("cli") / "agent.db"
    with open_store(f"sqlite:///{path}") as store:
        fill(store)
    return path


@pytest.fixture
def url(filled: Path, tmp_path: Path) -> str:
    path = tmp_path / "agent.db"
    shutil.copy(filled, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("hostile") / "agent.db"
    with open_store(f"sqlite:///{path}") as store:
        fill_hostile(store)
    return f"sqlite:///{path}"


# The program


def test_help_names_every_command() -> None:
    said = call("--help")
    assert said.code == 0
    for name, (_, line) in COMMANDS.items():
        assert f"{name} " in said.out
        assert line in said.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str) -> None:
    if name == "bench":
        return  # passes --help on; see test_cli_process
    said = call(name, "--help")
    assert said.code == 0
    text = " ".join(said.out.split())
    assert text.startswith(f"Usage: langcairn {name}")
    assert f" {COMMANDS[name][1]} " in text
    assert "langcairn --help" in text


def test_global_options_may_stand_behind(url: str) -> None:
    first = call("--store", url, "--json", "threads").json
    assert first == call("threads", "--json", f"--store={url}").json
    assert first == call("threads", "--json", LANGCAIRN_STORE=url).json


def test_hoisting_stops_at_two_dashes() -> None:
    assert hoisted(["show", "--json", "x", "--store", "u", "--", "--json"]) == [
        "--json", "--store", "u", "show", "x", "--", "--json",
    ]  # fmt: skip
    assert hoisted(["show", "--store"]) == ["--store", "show"]


# threads


def test_threads(url: str) -> None:
    said = call("--store", url, "threads")
    assert said.code == 0
    assert [line.split()[0] for line in said.out.splitlines()[1:]] == ["done", "waiting"]
    found = call("--store", url, "threads", "--json").json
    assert [one["thread"] for one in found] == ["done", "waiting"]
    with open_store(url) as store:
        assert found[0]["checkpoints"] == len(store.list("done"))
    assert found[0]["stored_bytes"] > 0
    assert found[0]["oldest"].endswith("+00:00")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("id", ["done", "waiting"]),
        ("newest", ["waiting", "done"]),
        ("oldest", ["done", "waiting"]),
        ("size", ["done", "waiting"]),
        ("checkpoints", ["done", "waiting"]),
    ],
)
def test_threads_sorted(url: str, sort: str, expected: list[str]) -> None:
    found = call("--store", url, "threads", "--sort", sort, "--json").json
    assert [one["thread"] for one in found] == expected


def test_threads_searched(url: str) -> None:
    for search, expected in (("WAIT", 1), ("*one", 1), ("?one", 1), ("one?", 0), ("nobody", 0)):
        assert len(call("--store", url, "threads", search, "--json").json) == expected
    said = call("--store", url, "threads", "-n", "1")
    assert "there are more threads" in said.err
    assert "1 of 2 threads" in call("--store", url, "threads", "-n", "1", "-s", "size").err
    assert "no threads match" in call("--store", url, "threads", "nobody").err


def test_threads_of_a_user(url: str) -> None:
    with open_store(url) as store:
        for user in ("ada", "bob"):
            id = str(ThreadId.new(user, "chat"))
            store.save(Checkpoint(execution_id=id, state={}))
    found = call("--store", url, "threads", "--user", "ada", "--since", "1h", "--json").json
    assert [ThreadId.parse(one["thread"]).user_id for one in found] == ["ada"]
    assert call("--store", url, "threads", "--user", "ada", "--until", "1h", "--json").json == []
    assert "whose id is a ThreadId" in call("--store", url, "threads", "--until", "1h").err
    assert call("--store", url, "threads", "--since", "yesterday").code == 2


# show, state, writes


def test_show(url: str) -> None:
    said = call("--store", url, "show", "done")
    assert said.code == 0
    for part in ("Hello?", "Answer 1.", "Instead?", "messages", "checkpoints", "branches"):
        assert part in said.out
    found = call("--store", url, "show", "done", "--json").json
    assert found["thread"] == "done"
    assert found["thread_stats"]["branches"] == 2
    assert found["state"]["messages"][0]["content"] == "Hello?"
    assert found["state"]["messages"][0]["$type"].endswith("HumanMessage")


def test_show_folds_what_is_long(url: str) -> None:
    with open_store(url) as store:
        text = "x" * 5000 + "the end"
        long = [HumanMessage(f"{number} {text}") for number in range(40)]
        store.save(Checkpoint(execution_id="long", id="c", state={"messages": long}))
    folded = call("--store", url, "show", "long", "c").out
    assert "20 earlier messages" in folded
    assert "the end" not in folded
    whole = call("--store", url, "show", "long", "c", "--full").out.replace("\n", "")
    assert whole.count("the end") == 40


def test_state(url: str) -> None:
    with open_store(url) as store:
        newest = store.list("done", namespace="", limit=1)[0]
    found = call("--store", url, "state", "done").json
    assert found.keys() == newest.state.keys()
    for path, expected in (
        ("messages[-1].content", "Instead?"),
        ("messages[0].id", "h-1"),
        ('["topic"]', "cairns"),
    ):
        assert call("--store", url, "state", "done", "--path", path).json == expected


@pytest.mark.parametrize(
    ("path", "code", "part"),
    [
        ("nothing", 3, "has the keys"),
        ("messages[9]", 3, "is a list of 3"),
        ("topic.more", 3, "has no parts"),
        ("messages[", 2, "is no path"),
        ('["\\q"]', 2, "no JSON string"),
    ],
)
def test_bad_paths(url: str, path: str, code: int, part: str) -> None:
    said = call("--store", url, "state", "done", "-p", path)
    assert said.code == code
    assert part in said.err
    assert not said.out


def test_writes(url: str) -> None:
    found = call("--store", url, "writes", "waiting", "latest", "--json").json
    (asked,) = [one for one in found if one["channel"] == "__interrupt__"]
    assert asked["node"] == "approve"
    every = call("--store", url, "writes", "waiting", "--json").json
    assert {"__start__", "answer", "research"} <= {one["node"] for one in every}
    assert "May I go on?" in call("--store", url, "writes", "waiting").out
    with open_store(url) as store:
        store.save(Checkpoint(execution_id="byhand", state={}))
    assert "no pending writes" in call("--store", url, "writes", "byhand").err


def test_types_that_are_not_loaded_are_shown(url: str) -> None:
    module = types.ModuleType("tests_cli_gone")
    model: Any = type("Plan", (BaseModel,), {"__module__": "tests_cli_gone",
                      "__annotations__": {"steps": list[str]}})  # fmt: skip
    module.Plan = model  # type: ignore[attr-defined]  # a module made here
    sys.modules["tests_cli_gone"] = module
    try:
        with open_store(url) as store:
            store.save(
                Checkpoint(execution_id="typed", id="c", state={"p": model(steps=["a", "b"])})
            )
    finally:
        del sys.modules["tests_cli_gone"]
    said = call("--store", url, "state", "typed")
    assert said.json == {"p": {"$type": "tests_cli_gone.Plan", "steps": ["a", "b"]}}
    assert "tests_cli_gone" not in sys.modules
    assert call("--store", url, "show", "typed").code == 0


def test_secrets_stay_hidden(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(url) as store:
        store.save(Checkpoint(execution_id="secret", state={"key": SecretStr("open sesame")}))
    for strict in (False, True):
        monkeypatch.setattr("langgraph.checkpoint.serde._msgpack.STRICT_MSGPACK_ENABLED", strict)
        for command in ("show", "state"):
            said = call("--store", url, command, "secret")
            assert said.code == 0
            assert "sesame" not in said.out


def test_import_names_a_module(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests_cli_models.py").write_text("LOADED = True\n")
    monkeypatch.chdir(tmp_path)
    assert call("--store", url, "--import", "tests_cli_models", "threads").code == 0
    assert sys.modules.pop("tests_cli_models").LOADED
    said = call("--store", url, "--import", "tests_cli_nowhere", "threads")
    assert said.code == 2
    assert "tests_cli_nowhere" in said.err


# log, diff


def test_log(url: str) -> None:
    said = call("--store", url, "log", "done")
    assert said.code == 0
    lines = said.out.splitlines()
    assert "(latest)" in lines[0]
    assert "update" in lines[0]
    assert any(line.startswith("├─┘") for line in lines)
    found = call("--store", url, "log", "done", "--json").json
    with open_store(url) as store:
        steps = [one.metadata["step"] for one in store.list("done") if not one.namespace]
    assert sorted(one["step"] for one in found) == sorted(steps)
    drawn = [int(line.split()[line.split().index("●") + 2]) for line in lines if "●" in line]
    assert drawn == [one["step"] for one in found]
    newest = call("--store", url, "show", "done").out
    assert f"step {found[0]['step']}" in " ".join(newest.split())
    assert "namespace of subgraphs (--all)" in said.err
    assert "waits" in call("--store", url, "log", "waiting").out.splitlines()[0]


def test_log_of_subgraphs(url: str) -> None:
    found = call("--store", url, "log", "done", "--all", "--json").json
    with open_store(url) as store:
        assert {one["checkpoint"] for one in found} == {one.id for one in store.list("done")}
    spaces = {one["namespace"] for one in found}
    assert len(spaces) > 1
    inner = max(spaces, key=len)
    assert "dig" in call("--store", url, "log", "done", "-N", inner).out
    assert inner in call("--store", url, "log", "done", "--all").out


def test_log_in_ascii_and_limited(url: str) -> None:
    said = call("--store", url, "log", "done", "-n", "2", PYTHONIOENCODING="ascii")
    assert len(said.out.splitlines()) == 2


def test_diff(url: str) -> None:
    said = call("--store", url, "diff", "done")
    assert "+ human h-2" in said.out
    assert "Instead?" in said.out
    found = call("--store", url, "diff", "done", "--json").json
    (messages,) = [one for one in found["channels"] if one["channel"] == "messages"]
    assert [(item["kind"], item["key"]) for item in messages["items"]] == [("added", "h-2")]
    assert messages["items"][0]["after"]["content"] == "Instead?"
    assert "same" in call("--store", url, "diff", "done", "latest", "latest").err


def test_diff_of_two_threads(url: str) -> None:
    found = call(
        "--store", url, "diff", "done", "latest", "latest", "--other", "waiting", "--json"
    ).json
    assert found["after"]["thread"] == "waiting"
    assert "messages" in [one["channel"] for one in found["channels"]]


def test_diff_shows_where_long_texts_differ(url: str) -> None:
    long = "same " * 100_000
    replies = [AIMessage(f"{long}{word}", id="1") for word in ("before", "after")]
    tokens = [
        AIMessage("short", id="2", additional_kwargs={"tokens": number}) for number in (111, 222)
    ]
    with open_store(url) as store:
        for id, reply, token in zip("ab", replies, tokens, strict=True):
            state = {"text": f"{long}{id}-end", "messages": [reply, token], "data": [[long, id]]}
            store.save(Checkpoint(execution_id="long", id=id, state=state))
    said = call("--store", url, "diff", "long", "a", "b").out
    for part in ("a-end", "b-end", "same before", "same after", "111", "222", '"a"', '"b"'):
        assert part in said
    assert max(map(len, said.splitlines())) < 200


def test_delta_channels_are_told(url: str) -> None:
    class Log(TypedDict):
        lines: Annotated[list[str], DeltaChannel(lambda old, new: [*old, *new])]

    builder = StateGraph(Log)
    builder.add_node("write", lambda _: {"lines": ["b"]})
    builder.add_edge(START, "write")
    with CheckpointSaver(url) as saver:
        builder.compile(checkpointer=saver).invoke({"lines": ["a"]}, thread("delta"))
    for words in (["state", "delta"], ["show", "delta"], ["diff", "delta"]):
        assert "lines is a DeltaChannel" in call("--store", url, *words).err, words


# Which checkpoint is meant


def test_names_of_checkpoints(url: str) -> None:
    with open_store(url) as store:
        rows = store.list("waiting", namespace="")
    newest, before = rows[0], rows[1]
    for name, expected in (
        ("latest", newest.id),
        ("latest~1", before.id),
        ("latest~", before.id),
        ("~1", before.id),
        (newest.id, newest.id),
        (newest.id[-8:], newest.id),
        (f"{newest.id[-8:]}~1", before.id),
    ):
        found = call("--store", url, "show", "waiting", name, "--json")
        assert found.json["checkpoint"] == expected, name


def test_names_that_mean_none_or_several(url: str) -> None:
    for name, code, part in (
        ("nothing-like-it", 3, "latest~2"),
        ("latest~99", 3, "before it"),
        ("1f", 4, "Give more of the id"),
    ):
        said = call("--store", url, "show", "done", name)
        assert (said.code, part in said.err) == (code, True), name
    said = call("--store", url, "show", "don")
    assert said.code == 3
    assert "did you mean 'done'?" in said.err
    said = call("--store", url, "show", "done", "--namespace", "nowhere")
    assert said.code == 3
    assert "research" in said.err


# stats, watch


def test_stats(url: str) -> None:
    found = call("--store", url, "stats", "--logical", "--json").json
    assert found["executions"] == 2
    assert found["sharing_ratio"] > 0
    said = call("--store", url, "stats", "--logical")
    assert "without sharing" in said.out
    assert call("--store", url, "stats", "done", "--json").json["executions"] == 1
    assert call("--store", url, "stats", "nobody").code == 3


def test_watch_begins_with_the_last_few(url: str) -> None:
    said = call("--store", url, "watch", "--count", "3", "--json")
    lines = said.out.splitlines()
    assert len(lines) == 3
    assert all(line.startswith('{"thread":') for line in lines)
    text = call("--store", url, "watch", "waiting", "-n", "2").out.splitlines()
    assert len(text) == 2
    assert text[-1].endswith("waits")


# Bad terminals, bad strings


@pytest.mark.parametrize("width", ["40", "20"])
def test_narrow_terminals(url: str, width: str) -> None:
    for words in (
        ["threads"], ["show", "done"], ["log", "done"], ["diff", "done"], ["writes", "done"],
        ["stats"], ["doctor"],
    ):  # fmt: skip
        said = call("--store", url, *words, COLUMNS=width)
        assert said.out
        assert max(map(len, said.out.splitlines())) <= int(width), words


def test_no_colour_unless_asked_for(url: str) -> None:
    for words in (["threads"], ["log", "done"], ["show", "done"]):
        assert is_safe(call("--store", url, *words, NO_COLOR="1").out)
    assert "\x1b[" in call("--store", url, "log", "done", FORCE_COLOR="1").out


@pytest.mark.parametrize(
    "words",
    [
        ["threads"], ["threads", "*\x1b[31m*"], ["show", HOSTILE], ["show", HOSTILE, "--full"],
        ["log", HOSTILE], ["log", HOSTILE, "--all"], ["diff", HOSTILE], ["state", HOSTILE],
        ["writes", HOSTILE], ["watch", "-n", "1"], ["stats", HOSTILE], ["verify"],
        ["prune", HOSTILE, "--dry-run"], ["delete", HOSTILE], ["fork", HOSTILE, "--to", HOSTILE],
        ["show", HOSTILE, "0-by-hand"], ["diff", HOSTILE, "0-by-hand"],
        ["show", HOSTILE, HOSTILE + "~9"], ["show", "nobody" + HOSTILE], [HOSTILE],
        ["threads", "--sort", HOSTILE], ["state", HOSTILE, "--path", HOSTILE],
        ["--store", "sqlite:///" + HOSTILE, "threads"], ["--import", HOSTILE, "threads"],
        ["threads", "--since", HOSTILE], ["log", HOSTILE, "-N", HOSTILE],
    ],
    ids=lambda words: escaped(" ".join(words))[:30],
)  # fmt: skip
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_hostile_strings_never_reach_the_terminal(
    hostile: str, words: list[str], json: bool
) -> None:
    said = call(*(["--json"] if json else []), *words, answer="n\n", LANGCAIRN_STORE=hostile)
    assert is_safe(said.out), ascii(said.out)
    assert is_safe(said.err), ascii(said.err)
    assert said.out or said.err
    if json and said.code == 0 and words[0] != "watch":
        assert said.json is not None


def test_hostile_strings_come_back_from_json(hostile: str) -> None:
    found = call("threads", "--json", LANGCAIRN_STORE=hostile).json
    assert [one["thread"] for one in found] == [HOSTILE]
    state = call("state", HOSTILE, LANGCAIRN_STORE=hostile).json
    assert state["__root__"] == {HOSTILE: {HOSTILE: [HOSTILE]}}


def test_ids_that_are_no_text(url: str) -> None:
    said = call("--store", url, "show", "\udcff")
    assert said.code == 2
    assert is_safe(said.err)


def test_escaping() -> None:
    assert without_passwords("no 'x://u:p:w@h/d' or y://:p@h") == "no 'x://u:***@h/d' or y://:***@h"
    assert without_passwords("see https://host:80/path, a@b") == "see https://host:80/path, a@b"
    assert escaped("a\tb\nc", lines=True) == "a    b\nc"
    assert escaped("a\u00a0b") == "a b"
    assert escaped("\ud800") == "\\ud800"
    assert escaped("a\u3164b") == "a\\u3164b"
    assert escaped("👩\u200d🚀 é\u200c") == "👩\u200d🚀 é\u200c"
    assert json_escaped('"\x9b\U000e0041"') == '"\\u009b\\udb40\\udc41"'


# Completion


def test_completion(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completing, "PATIENCE", 60.0)  # this machine may be busy

    def complete(words: str, store: str = url) -> list[str]:
        said = call(
            LANGCAIRN_STORE=store,
            _LANGCAIRN_COMPLETE="complete_bash",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split(" ")) - 1),
        )
        return said.out.split()

    assert "threads" in complete("langcairn th")
    assert complete("langcairn show wai") == ["waiting"]
    assert "latest" in complete("langcairn show done lat")
    assert complete("langcairn show ", "sqlite:////nowhere/x.db") == []


def test_graph_goes_on_in_the_copied_thread(url: str) -> None:
    assert call("--store", url, "fork", "waiting", "--to", "copy").code == 0
    with open_store(url) as store:
        graph = build(CheckpointSaver(store))
        assert graph.get_state(thread("copy")).next == ("approve",)

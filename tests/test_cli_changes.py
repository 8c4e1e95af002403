"""What changes stores from the command line, and how it ends when it can't."""

from __future__ import annotations

import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.cli_calls import ask, build, call, fill, mount, thread

from langcairn import errors
from langcairn.checkpoint import Checkpoint
from langcairn.cli import running
from langcairn.cli.advising import Candidate, Loss, Shared, leaders
from langcairn.cli.failing import NotThere, code_of
from langcairn.cli.graph import ASCII, UNICODE, drawn
from langcairn.cli.trials import Trial
from langcairn.forks import Step
from langcairn.langgraph.saver import CheckpointSaver
from langcairn.opening import open_store
from langcairn.security.keys import generate_key
from langcairn.stores import MemoryCheckpointStore
from langcairn.testing.dictionaries import some_checkpoints


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


def ids(url: str, id: str) -> list[str]:
    with open_store(url) as store:
        return [one.id for one in store.list(id)]


# fork


def test_fork_copies_the_line_of_a_checkpoint(url: str) -> None:
    said = call("--store", url, "fork", "done", "latest~1", "--to", "new", "--json")
    assert said.code == 0
    with open_store(url) as store:
        newest = store.list("done", namespace="", limit=1)[0]
        line = store.list("new", namespace="")
        assert line[0].id == newest.parent_id
        by_id = {one.id: one for one in store.list("done", namespace="")}
        assert [one.state for one in line] == [by_id[one.id].state for one in line]
        assert all(one.parent_id in by_id or one.parent_id is None for one in line)
        assert said.json["checkpoints"] == len(store.list("new"))
        assert len(store.forks("new")) == 1
    assert call("--store", url, "verify").code == 0


def test_a_copy_does_the_finished_step_again_and_keeps_what_waits(url: str) -> None:
    old = next(one for one in call("--store", url, "log", "done", "--json").json
               if one["node"] == "answer")  # fmt: skip
    assert call("--store", url, "fork", "done", old["checkpoint"], "--to", "again").code == 0
    assert call("--store", url, "fork", "waiting", "--to", "waits").code == 0
    with open_store(url) as store:
        graph = build(CheckpointSaver(store))
        assert graph.get_state(thread("again")).next == ("research",)
        assert "__interrupt__" in graph.invoke(None, thread("again"))
        (waiting,) = graph.get_state(thread("waits")).tasks
        assert waiting.interrupts[0].value == "May I go on?"


def test_fork_names(url: str) -> None:
    assert call("--store", url, "fork", "done", "--name", "other").code == 0
    assert "[other]" in call("--store", url, "log", "done").out.splitlines()[0]
    latest = call("--store", url, "show", "done", "--json").json["checkpoint"]
    assert call("--store", url, "show", "done", "other", "--json").json["checkpoint"] == latest
    assert call("--store", url, "fork", "done", "--name", "").code == 0
    assert call("--store", url, "show", "done", "other").code == 3


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["done"], 2),
        (["done", "--to", "x", "--name", "y"], 2),
        (["done", "--to", "waiting"], 10),
        (["nobody", "--to", "x"], 3),
        (["done", "--to", "x" * 2000], 2),
        (["done", "--to", "x", "-N", "research"], 2),
    ],
)
def test_forks_that_are_refused(url: str, words: list[str], code: int) -> None:
    before = ids(url, "waiting")
    assert call("--store", url, "fork", *words).code == code
    assert ids(url, "waiting") == before


# delete and prune


def test_delete_asks(url: str) -> None:
    said = call("--store", url, "delete", "done", answer="n\n")
    assert said.code == 1
    assert "Delete 1 thread with" in said.err
    assert "kB" in said.err
    assert ids(url, "done")
    assert call("--store", url, "delete", "done", answer="").code == 2
    assert ids(url, "done")
    assert call("--store", url, "delete", "done", answer="y\n").code == 0
    assert not ids(url, "done")
    assert ids(url, "waiting")


def test_delete_matching_and_idle(url: str) -> None:
    assert call("--store", url, "delete", "--matching", "don*", "-y").code == 0
    assert not ids(url, "done")
    with open_store(url) as store:
        old = datetime.now(UTC) - timedelta(days=40)
        store.save(Checkpoint(execution_id="old", state={}, timestamp=old))
    told = call("--store", url, "delete", "--idle", "30d", "-y", "--json").json
    assert told["threads"] == ["old"]
    assert ids(url, "waiting")
    assert call("--store", url, "delete", "--idle", "soon", "-y").code == 2


def test_deleting_nothing_in_particular_is_refused(url: str) -> None:
    assert call("--store", url, "delete", "-y").code == 2
    assert call("--store", url, "prune", "-y").code == 2
    assert call("--store", url, "delete", "done", "--matching", "x", "-y").code == 2
    assert call("--store", url, "delete", "done", "nobody", "-y").code == 3
    assert ids(url, "done")


def test_delete_a_checkpoint(url: str) -> None:
    before = ids(url, "waiting")
    said = call("--store", url, "delete", "waiting", "-c", "latest~1", answer="y\n")
    assert said.code == 0
    assert "others continue it" in said.err
    assert len(ids(url, "waiting")) == len(before) - 1
    assert call("--store", url, "delete", "-c", "latest", "-y").code == 2


def test_prune(url: str) -> None:
    planned = call("--store", url, "prune", "--all", "--dry-run", "--json").json
    assert planned["dry_run"]
    before = {name: ids(url, name) for name in ("done", "waiting")}
    assert call("--store", url, "prune", "--all", answer="n\n").code == 1
    assert {name: ids(url, name) for name in before} == before
    told = call("--store", url, "prune", "--all", "--yes", "--json").json
    left = sum(len(ids(url, name)) for name in before)
    assert told["checkpoints"] == planned["checkpoints"] == sum(map(len, before.values())) - left
    assert told["freed_bytes"] > 0
    with open_store(url) as store:
        graph = build(CheckpointSaver(store))
        assert graph.get_state(thread("waiting")).next == ("approve",)
    assert call("--store", url, "prune", "--all", "--yes", "--json").json["checkpoints"] == 0


def test_maintain(url: str) -> None:
    rules = ("maintain", "--max-checkpoints", "2")
    planned = call("--store", url, *rules, "--dry-run", "--json").json
    assert planned["checkpoints"] > 0
    before = {name: ids(url, name) for name in ("done", "waiting")}
    assert call("--store", url, *rules, answer="n\n").code == 1
    assert call("--store", url, *rules, answer="").code == 2
    assert {name: ids(url, name) for name in before} == before
    assert call("--store", url, *rules, "--threads", "nobody-*", "--yes").code == 0
    assert call("--store", url, *rules, "--idle", "1h", "--yes").code == 0
    assert {name: ids(url, name) for name in before} == before
    told = call("--store", url, *rules, "--yes", "--json").json
    left = sum(len(ids(url, name)) for name in before)
    assert told["checkpoints"] == planned["checkpoints"] == sum(map(len, before.values())) - left
    assert "deleted 0 checkpoints" in call("--store", url, *rules, "--yes").out


def test_maintain_by_age_and_by_parts(url: str) -> None:
    with open_store(url) as store:
        old = datetime.now(UTC) - timedelta(days=40)
        store.save(Checkpoint(execution_id="old", state={}, timestamp=old))
    said = call("--store", url, "maintain", "--max-age", "30d", "--drop-idle", answer="y\n")
    assert said.code == 0
    assert "old: all of it" in said.err
    with open_store(url) as store:
        assert store.executions() == ["done", "waiting"]
    first = call("--store", url, "maintain", "--limit", "1", "-y", "--json").json
    assert (first["threads"], first["next"]) == (1, "done")
    rest = call("--store", url, "maintain", "--after", "done", "-y", "--json").json
    assert (rest["threads"], rest["next"]) == (1, None)
    assert call("--store", url, "maintain", "--drop-idle", "-y").code == 2


# backup, restore, verify, migrate, rotate-keys


def test_backup_and_restore(url: str, tmp_path: Path) -> None:
    file, other = str(tmp_path / "b.cairn"), f"sqlite:///{tmp_path}/new.db"
    told = call("--store", url, "backup", file, "--json").json
    assert (told["ok"], told["threads"]) == (True, 2)
    assert call("--store", url, "backup", file, answer="n\n").code == 1
    assert call("--store", url, "backup", file, "--yes").code == 0
    assert call("--store", other, "restore", file).code == 0
    assert ids(other, "done") == ids(url, "done")
    again = call("--store", other, "restore", file)
    assert (again.code, "--existing skip" in again.err) == (10, True)
    told = call("--store", other, "restore", file, "--existing", "skip", "--json").json
    assert told["skipped"] == 2
    replace = ("--store", other, "restore", file, "--existing", "replace")
    assert call(*replace, answer="n\n").code == 1
    assert call(*replace, "-y", "-t", "done").code == 0
    assert call("--store", other, "restore", str(tmp_path / "nothing")).code == 7


def test_backups_of_other_keys(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", generate_key())
    plain, sealed = str(tmp_path / "plain.cairn"), str(tmp_path / "sealed.cairn")
    secret = ("--store", f"sqlite:///{tmp_path}/secret.db", "--encryption", "env:KEYS")
    assert call("--store", url, "backup", plain).code == 0
    said = call(*secret, "restore", plain)
    assert (said.code, "restore --trusted" in said.err) == (5, True)
    assert call(*secret, "restore", plain, "--trusted").code == 0
    assert call(*secret, "backup", sealed).code == 0
    other = f"sqlite:///{tmp_path}/new.db"
    said = call("--store", other, "restore", sealed)
    assert (said.code, "restore --backup-key" in said.err) == (5, True)
    assert call("--store", other, "restore", sealed, "--backup-key", "env:KEYS").code == 0
    assert ids(other, "done") == ids(url, "done")


def test_incremental_backup(url: str, tmp_path: Path) -> None:
    first, second = str(tmp_path / "1.cairn"), str(tmp_path / "2.cairn")
    assert call("--store", url, "backup", first).code == 0
    said = call("--store", url, "backup", second, "--since", first)
    assert "2 threads unchanged" in said.out
    away = (tmp_path / "1.cairn").rename(tmp_path / "away.cairn")
    restore = ("--store", f"sqlite:///{tmp_path}/new.db", "restore", second)
    said = call(*restore)
    assert (said.code, "restore --parent FILE" in said.err) == (2, True)
    assert call(*restore, "--parent", str(away)).code == 0


def test_a_backup_that_is_cut_off(url: str, tmp_path: Path) -> None:
    file = tmp_path / "b.cairn"
    assert call("--store", url, "backup", str(file)).code == 0
    file.write_bytes(file.read_bytes()[: -file.stat().st_size // 20])
    restore = ("--store", f"sqlite:///{tmp_path}/new.db", "restore", str(file))
    said = call(*restore)
    assert (said.code, "restore --salvage" in said.err) == (5, True)
    assert call(*restore, "--salvage", "--json").json["threads"] > 0


def damage(url: str) -> None:
    """Damage a chunk of a thread in the file."""
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE checkpoint_chunks SET data = x'00' WHERE rowid IN "
                           "(SELECT rowid FROM checkpoint_chunks LIMIT 1)")  # fmt: skip
    connection.close()


def test_verify_and_repair(url: str, tmp_path: Path) -> None:
    assert call("--store", url, "verify").code == 0
    damage(url)
    said = call("--store", url, "verify")
    assert said.code == 1
    assert "lost" in said.out
    told = call("--store", url, "verify", "--json")
    assert told.code == 1
    assert not told.json["ok"]
    assert told.json["findings"][0]["thread"]
    file = tmp_path / "before.cairn"
    assert call("--store", url, "verify", "--repair", str(file), answer="n\n").code == 1
    assert not file.exists()
    call("--store", url, "verify", "--repair", str(file), "--yes")
    assert file.exists()
    assert call("--store", url, "verify").code == 0


def test_damage_is_an_error_of_its_own(url: str) -> None:
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE checkpoint_chunks SET data = x'00'")
    connection.close()
    assert call("--store", url, "state", "done").code == 5


def official(path: Path) -> str:
    """Make a database of the official saver's."""
    with SqliteSaver.from_conn_string(str(path)) as saver:
        graph = build(saver)  # type: ignore[arg-type]  # any saver will do
        graph.invoke(ask("Hello?", "h-1"), thread("theirs"))
    return f"sqlite:///{path}"


def test_official_savers_are_recognized_and_taken_over(tmp_path: Path) -> None:
    theirs, ours = official(tmp_path / "old.db"), f"sqlite:///{tmp_path}/new.db"
    before = (tmp_path / "old.db").read_bytes()
    said = call("--store", theirs, "threads")
    assert said.code == 7
    assert "migrate" in said.err
    said = call("--store", theirs, "doctor")
    assert said.code == 1
    assert "migrate" in said.out
    told = call("--store", ours, "migrate", theirs, "--json").json
    assert told["ok"]
    assert told["compared"] == told["checkpoints"] == len(ids(ours, "theirs"))
    assert call("--store", ours, "migrate", theirs, "--json").json["skipped"] == told["checkpoints"]
    assert (tmp_path / "old.db").read_bytes() == before
    assert call("--store", ours, "migrate", f"sqlite:///{tmp_path}/none.db").code == 7


def test_migrate_between_stores(url: str, tmp_path: Path) -> None:
    target = f"file://{tmp_path}/files"
    assert call("--store", target, "migrate", url, "-t", "done").code == 0
    assert ids(target, "done") == ids(url, "done")
    assert not ids(target, "waiting")
    assert call("--store", url, "migrate", url).code == 2
    for bad, code in ((url, 7), ("redis+cluster://x", 2), (f"file://{tmp_path}", 2)):
        assert call("--store", target, "migrate", bad, "--from", "langgraph").code == code


def test_migrate_from_langgraphgo(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "go.db", f"sqlite:///{tmp_path}/new.db"
    with sqlite3.connect(theirs) as connection:
        connection.execute(
            "CREATE TABLE checkpoints (id TEXT PRIMARY KEY, execution_id TEXT, node_name TEXT, "
            "state TEXT, metadata TEXT, timestamp DATETIME, version INTEGER)"
        )
        connection.execute(
            "INSERT INTO checkpoints VALUES ('c1', 'go', 'n', '{\"a\": 1}', '{}', ?, 1)",
            ("2025-11-20 10:00:00.5+00:00",),
        )
    connection.close()
    assert "migrate" in call("--store", f"sqlite:///{theirs}", "threads").err
    assert call("--store", ours, "migrate", f"sqlite:///{theirs}").code == 0
    assert call("--store", ours, "state", "go").json == {"a": 1}


def test_rotate_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/secret.db"
    old, new = generate_key(), generate_key()
    monkeypatch.setenv("CAIRN_KEYS", old)
    with open_store(url, encryption="env:CAIRN_KEYS") as store:
        store.save(Checkpoint(execution_id="a", state={"text": "x" * 3000}))
    keys = ("--encryption", "env:CAIRN_KEYS")
    assert call("--store", url, "state", "a", *keys).json == {"text": "x" * 3000}
    monkeypatch.setenv("CAIRN_KEYS", f"{new},{old}")
    assert call("--store", url, "rotate-keys", *keys, "--json").json["rewritten"] > 0
    monkeypatch.setenv("CAIRN_KEYS", new)
    assert call("--store", url, "state", "a", *keys).json == {"text": "x" * 3000}
    monkeypatch.setenv("CAIRN_KEYS", old)
    assert call("--store", url, "state", "a", *keys).code == 5
    monkeypatch.delenv("CAIRN_KEYS")
    assert call("--store", url, "state", "a", *keys).code == 7


# dictionaries


def test_dictionaries(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        store.save_many(some_checkpoints(0, 10))
        assert call("--store", url, "dictionaries").err.startswith("no dictionaries")
        assert call("--store", url, "dictionaries", "--json").json == []
        report = store.train_dictionary(samples=100, size=4096)
        store.repack()
    assert report.name is not None
    assert "in use" in call("--store", url, "dictionaries").out
    (one,) = call("--store", url, "dictionaries", "--json").json
    assert (one["name"], one["bytes"], one["retired"]) == (report.name, report.size, False)
    assert call("--store", url, "dictionaries", "--retire", "nobody").code == 2
    said = call("--store", url, "dictionaries", "--retire", report.name, "--yes")
    assert said.code == 0
    assert "looked at 10 threads; packed 1" in said.out
    assert "call this again" in said.err
    told = call("--store", url, "dictionaries", "--retire", report.name, "--json").json
    assert (told["threads"], told["chunks"]) == (10, 0)
    again = call("--store", url, "dictionaries", "--retire", report.name)
    assert not again.err
    assert "retired" in call("--store", url, "dictionaries").out
    assert call("--store", url, "verify").code == 0


def test_retiring_a_dictionary_asks(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    with open_store(url) as store:
        store.save_many(some_checkpoints(0, 10))
        name = store.train_dictionary(samples=100, size=4096).name
        assert name is not None
        retire = ("--store", url, "dictionaries", "--retire", name)
        assert call(*retire, answer="").code == 2
        said = call(*retire, answer="n\n")
        assert said.code == 1
        assert name in said.err
        assert "can't be undone" in said.err
        assert [one.retired for one in store.dictionaries()] == [False]
        assert call(*retire, answer="y\n").code == 0
        assert [one.retired for one in store.dictionaries()] == [True]


# doctor, advise


@pytest.fixture
def _on_a_disk(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    mount("ext4", tmp_path_factory.mktemp("mounts"), monkeypatch)


@pytest.mark.parametrize(
    ("kind", "check", "code"),
    [("nfs4", "file system", 1), ("tmpfs", "durability", 1), ("xfs", "file system", 0)],
)
def test_doctor_looks_at_the_file_system(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, check: str, code: int
) -> None:
    mount(kind, tmp_path, monkeypatch)
    said = call("--store", url, "doctor", "--json")
    assert said.code == code
    found = [one for one in said.json["findings"] if kind in one["what"]]
    assert [(one["check"], one["level"] == "ok") for one in found] == [(check, not code)]


@pytest.mark.usefixtures("_on_a_disk")
def test_doctor(url: str) -> None:
    said = call("--store", url, "doctor", "--write", "--json")
    assert said.code == 0
    checks = {one["check"]: one for one in said.json["findings"]}
    assert checks.keys() >= {"connection", "rights", "schema", "latency", "space", "durability"}
    assert checks["trial"]["level"] == "ok"
    with open_store(url) as store:
        assert store.executions() == ["done", "waiting"]
    for options, level in (("synchronous=NORMAL", "warning"), ("synchronous=OFF", "problem")):
        said = call("--store", f"{url}?{options}", "doctor", "--json")
        (found,) = [one for one in said.json["findings"] if one["check"] == "durability"]
        assert found["level"] == level
        assert found["remedy"]
        assert said.code == (level == "problem")


def test_doctor_finds_rights_and_missing_files(url: str, tmp_path: Path) -> None:
    Path(url.removeprefix("sqlite:///")).chmod(0o666)
    said = call("--store", url, "doctor")
    assert said.code == 1
    assert "chmod" in said.out
    said = call("--store", f"sqlite:///{tmp_path}/nowhere.db", "doctor")
    assert said.code == 1
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.usefixtures("_on_a_disk")
def test_doctor_finds_other_keys_than_those_written_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAIRN_KEYS", generate_key())
    monkeypatch.setenv("CAIRN_WRONG", generate_key())
    url = f"sqlite:///{tmp_path}/secret.db"
    hidden = ("--option", "encrypt_metadata=true")
    right, wrong = ("--encryption", "env:CAIRN_KEYS"), ("--encryption", "env:CAIRN_WRONG")
    with open_store(url, encryption="env:CAIRN_KEYS", encrypt_metadata=True) as store:
        checkpoint = Checkpoint(execution_id="b", state={"x": 1}, metadata={"source": "loop"})
        store.save(checkpoint)
        # Such as have lost their last checkpoint say nothing.
        store.save(Checkpoint(execution_id="a", id="1", state={}))
        store.delete("1", execution_id="a")
    (tmp_path / "secret.db").chmod(0o600)
    for options, remedy in (
        ((*right, *hidden), ""),
        (right, "--option encrypt_metadata=true"),
        ((*wrong, *hidden), "--encryption env:NAME"),
        ((), "--encryption env:NAME"),
    ):
        said = call("--store", url, "doctor", "--json", *options)
        found = [one for one in said.json["findings"] if one["check"] == "reading"]
        assert [one["level"] for one in found] == ["problem" if remedy else "ok"], options
        assert remedy in found[0]["remedy"]
        assert said.code == bool(remedy)


def test_doctor_of_files(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/files"
    with open_store(url) as store:
        store.save(Checkpoint(execution_id="a", state={}))
    assert "synced" in call("--store", url, "doctor").out
    assert "fsync is off" in call("--store", f"{url}?fsync=false", "doctor").out


def test_advise(url: str, tmp_path: Path) -> None:
    words = ("advise", "--directory", str(tmp_path), "--crowd", "2", "--json")
    told = call(*words, "--turns", "3").json
    assert told["steps"] == 6
    assert told["best"] in ("sqlite:///…", "file:///…")
    assert told["level"][0] == told["best"]
    assert [one["suits"] for one in told["stores"]] == [True, False, True]
    assert all(one["put_ms"] > 0 and one["thread_bytes"] > 0 for one in told["stores"])
    told = call("--store", url, *words, "--like", "done", "-c", url, "--lose", "seconds").json
    assert told["stores"][1]["suits"]
    assert told["stores"][3]["store"] == url
    with open_store(url) as store:
        assert store.executions() == ["done", "waiting"]
    assert [one.name for one in tmp_path.iterdir()] == ["agent.db"]


def test_advise_from_a_backup_and_when_nothing_suits(url: str, tmp_path: Path) -> None:
    file = str(tmp_path / "b.cairn")
    assert call("--store", url, "backup", file).code == 0
    words = ("advise", "--directory", str(tmp_path), "--crowd", "1", "--trace", file)
    said = call(*words, "--shared", "network")
    assert said.code == 1
    assert "several machines" in said.out
    said = call(*words, "--like", "waiting")
    assert said.code == 0
    assert "Use " in said.out
    assert call("advise", "--directory", str(tmp_path / "none")).code == 2


@pytest.mark.parametrize(
    ("times", "leading"),
    [
        ([2.92, 2.88, 9.0], "ab"),
        ([2.88, 2.92, 9.0], "ab"),
        ([1.19, 1.5, 1.0], "ac"),
        ([1.21, 1.0, 1.5], "b"),
        ([], ""),
    ],
)
def test_stores_about_as_quick_as_the_quickest_are_level(times: list[float], leading: str) -> None:
    pairs = [
        (Candidate(name, MemoryCheckpointStore, Shared.MACHINE, Loss.NOTHING, "memory:"),
         Trial(name, crowded=[time] * 3))
        for name, time in zip("abc", times, strict=False)
    ]  # fmt: skip
    assert "".join(one.name for one, _ in leaders(pairs)) == leading


# How errors end


def tree(kind: type[Exception] = errors.CairnError) -> list[type[Exception]]:
    return [kind, *(one for sub in kind.__subclasses__() for one in tree(sub))]


def test_every_error_of_langcairn_has_an_exit_code() -> None:
    for kind in tree():
        code = code_of(kind.__new__(kind))
        assert 1 < code < 12, kind
    assert code_of(NotThere("x")) == 3
    assert code_of(ValueError("x")) == 70


def test_no_tables_are_made_by_looking(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    before, url = path.read_bytes(), f"sqlite:///{path}"
    for words in (["threads"], ["stats"], ["verify"], ["log", "a"], ["delete", "a", "--yes"]):
        said = call("--store", url, *words)
        assert (said.code, "no table 'checkpoints'" in said.err) == (7, True)
    assert "no table" in call("--store", url, "doctor", "--json").json["findings"][0]["what"]
    for given in (f"{url}?table_name=users2", f"{url}?table_name=trail"):
        assert call("--store", given, "threads").code == 7
    assert path.read_bytes() == before
    junk = tmp_path / "junk.db"
    junk.write_bytes(b"no database" * 1000)
    assert "not a database" in call("--store", f"sqlite:///{junk}", "threads").err
    with open_store(url, table_name="trail") as store:
        store.save(Checkpoint(execution_id="a", state={}))
    assert call("--store", f"{url}?table_name=trail", "threads").code == 0
    assert call("--store", url, "--option", "table_name=trail", "threads").code == 0


def test_no_store_or_none_of_this_form() -> None:
    said = call("threads")
    assert said.code == 2
    assert "LANGCAIRN_STORE" in said.err
    assert call("doctor").code == 2
    for bad in ("mysql://me:sesame@x", "sqlite:", "nonsense", "http://[::1"):
        said = call("threads", LANGCAIRN_STORE=bad)
        assert said.code == 2, bad
        assert "sesame" not in said.err
    said = call("threads", "--option", "nothing=1", LANGCAIRN_STORE="memory:")
    assert said.code == 2
    assert call("threads", "--option", "nothing", LANGCAIRN_STORE="memory:").code == 2
    assert call("nothing").code == 2


def test_other_files_and_newer_stores(url: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 1000)
    for words, code in ((["threads"], 7), (["doctor"], 1), (["migrate", url], 7)):
        assert call("--store", f"sqlite:///{tmp_path}/text.db", *words).code == code
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute("UPDATE langcairn_schema SET version = 99")
    connection.close()
    said = call("--store", url, "threads")
    assert said.code == 7
    assert "update langcairn" in said.err
    said = call("--store", url, "doctor")
    assert said.code == 1
    assert "update langcairn" in said.out


def test_an_option_of_the_store(url: str) -> None:
    with open_store(url, table_name="trail") as store:
        store.save(Checkpoint(execution_id="elsewhere", state={}))
    found = call("--store", url, "threads", "--option", "table_name=trail", "--json").json
    assert [one["thread"] for one in found] == ["elsewhere"]


def test_debug_shows_where(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):  # `call` looks for a traceback
        call("--store", url, "--debug", "show", "nobody")
    capfd.readouterr()


def test_other_programs_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "something").touch()
    assert call("demo", "--keep", str(tmp_path)).code == 2
    monkeypatch.setattr(running, "_ROOT", tmp_path)
    said = call("bench", "--quick")
    assert said.code == 3
    assert "langcairn advise" in said.err


# Drawing


def test_drawing_of_branches() -> None:
    def step(id: str, parent: str | None) -> Step:
        return Step(id, parent, "", datetime.now(UTC), 1, "loop", None)

    steps = [
        step("9", "5"), step("8", "3"), step("7", "3"), step("6", "5"), step("5", "3"),
        step("4", "gone"), step("3", "1"), step("1", None),
    ]  # fmt: skip
    lines = [line for line, _ in drawn(steps, ASCII)]
    assert lines == [
        "*", "| *", "| | *", "| | | *", "|-+-+-'", "* | |", "| | | *", "|-'-'", "*", "*",
    ]  # fmt: skip
    assert [line for line, _ in drawn(steps, UNICODE)][4] == "├─┼─┼─┘"
    assert list(drawn([], UNICODE)) == []

"""The command as a program: how fast it starts, and how it ends."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import langcairn
from langcairn.checkpoint import Checkpoint
from langcairn.opening import open_store

SOURCE = Path(langcairn.__file__)
HEAVY = {"langgraph", "langchain_core", "pydantic", "rich", "orjson", "psycopg", "redis"}


def run(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does."""
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COLUMNS": "200", **env},
    )


def test_help_imports_nothing_heavy() -> None:
    said = run("-X", "importtime", "-m", "langcairn", "--help")
    assert said.returncode == 0
    imported = {line.split("|")[-1].strip() for line in said.stderr.splitlines()}
    assert "langcairn.cli.commands" in imported
    assert not HEAVY & imported
    assert "threads" in said.stdout


def test_exit_code_and_message_of_the_program(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        store.save(Checkpoint(execution_id="a", state={"x": 1}))
    good = run("-m", "langcairn", "threads", LANGCAIRN_STORE=f"sqlite:///{tmp_path}/a.db")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.splitlines()[1].split()[0] == "a"
    bad = run("-m", "langcairn", "threads", LANGCAIRN_STORE=f"sqlite:///{tmp_path}/b.db")
    assert bad.returncode == 7
    assert bad.stderr.startswith("langcairn: there is no ")
    assert not bad.stdout
    assert not (tmp_path / "b.db").exists()


def test_an_ascii_terminal_is_no_error(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        store.save(Checkpoint(execution_id="é→", state={"x": "é"}))
    url = f"sqlite:///{tmp_path}/a.db"
    said = run("-m", "langcairn", "log", "é→", LANGCAIRN_STORE=url, PYTHONIOENCODING="ascii")
    assert said.returncode == 0, said.stderr
    assert said.stdout.isascii()
    assert said.stdout.startswith("* ")


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/a.db") as store:
        store.save(Checkpoint(execution_id="a", state={"x": 1}))
    program = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "langcairn",
            "watch",
            "--json",
            f"--store=sqlite:///{tmp_path}/a.db",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the suite in the background has it ignored, by children, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no threads here
    )
    try:
        assert program.stdout is not None
        assert program.stdout.readline().startswith('{"thread":"a"')
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=60)
    finally:
        program.kill()
    assert (program.returncode, out, err) == (130, "", "")


def test_a_missing_extra_is_said() -> None:
    hidden = "import sys; sys.modules['typer'] = None; from langcairn.cli.app import main; main()"
    said = run("-c", hidden)
    assert said.returncode == 11
    assert "pip install 'langcairn[cli]'" in said.stderr
    assert "Traceback" not in said.stderr


def test_help_on_the_viewer_needs_no_extra() -> None:
    hidden = (
        "import sys; sys.modules['starlette'] = None; from langcairn.cli.app import main; main()"
    )
    said = run("-c", hidden, "view", "--help")
    assert said.returncode == 0
    assert "--allow-host" in said.stdout
    said = run("-c", hidden, "view", "--demo")
    assert said.returncode == 11
    assert "pip install 'langcairn[viewer]'" in said.stderr
    assert "Traceback" not in said.stderr


def test_benchmarks_are_passed_their_arguments() -> None:
    said = run("-m", "langcairn", "bench", "--help")
    assert said.returncode == 0
    assert "--workload" in said.stdout


def test_names_of_the_package_are_listed_alike() -> None:
    tree = ast.parse(SOURCE.read_text())
    for_types = {
        name.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("langcairn.")
        for name in node.names
    }
    homes = {name: module for module, names in langcairn._HOMES.items() for name in names}
    assert homes == for_types
    assert sorted(homes) == sorted(langcairn.__all__) == langcairn.__all__
    for name in langcairn.__all__:
        assert getattr(langcairn, name) is not None
    assert set(langcairn.__all__) <= set(dir(langcairn))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    said = run("-c", "import langcairn; langcairn.nothing")
    assert re.search(r"AttributeError: module 'langcairn' has no attribute 'nothing'", said.stderr)

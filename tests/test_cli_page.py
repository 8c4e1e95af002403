"""The examples of docs/cli.md show what the program prints.

`LANGCAIRN_WRITE_PAGE=1 python -m pytest tests/test_cli_page.py` writes them anew.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from langgraph.checkpoint.sqlite import SqliteSaver
from tests.cli_calls import ask, build, call, fill, mount, thread

from langcairn.checkpoint import Checkpoint
from langcairn.cli.commands import COMMANDS
from langcairn.cli.failing import _CODES, BUG
from langcairn.opening import open_store
from langcairn.security.keys import generate_key
from langcairn.testing.dictionaries import some_checkpoints

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
BLOCK = re.compile(r"^```console\n(\$ langcairn [^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What differs from run to run: ids, times, figures, and the blanks that they need.
CHANGING = [
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8}\b", "ID"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"[\d.,]+(e-\d+)? (ms|B|kB|MB|GB|TB)\b", "FIGURE"),
    (r"\d[\d.,]*", "N"),
    (r" +", " "),
]


def prepare(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the stores of the examples in the current directory."""
    mount("ext4", directory, monkeypatch)
    monkeypatch.chdir(directory)
    with open_store("sqlite:///agent.db") as store:
        fill(store)
    Path("agent.db").chmod(0o600)
    with SqliteSaver.from_conn_string("official.db") as saver:
        build(saver).invoke(ask("Hello?", "h-1"), thread("theirs"))  # type: ignore[arg-type]  # any saver will do
    with open_store("sqlite:///trained.db") as store:
        store.save_many(some_checkpoints(0, 20))
        assert store.train_dictionary().stored
    old = generate_key()
    monkeypatch.setenv("KEYS", old)
    with open_store("sqlite:///secret.db", encryption="env:KEYS") as store:
        store.save(Checkpoint(execution_id="secret", state={"x": 1}))
    monkeypatch.setenv("KEYS", f"{generate_key()},{old}")


def alike(text: str) -> list[str]:
    lines = [line.rstrip() for line in text.splitlines()]
    for pattern, name in CHANGING:
        lines = [re.sub(pattern, name, line) for line in lines]
    return [line.strip() for line in lines]


def test_examples_show_what_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    page = PAGE.read_text()
    blocks = list(BLOCK.finditer(page))
    assert blocks
    shown = set()
    for block in blocks:
        command = block[1]
        words = shlex.split(command.removeprefix("$ langcairn "))
        shown.add(words[0])
        said = call(*words, LANGCAIRN_STORE="sqlite:///agent.db", COLUMNS="100")
        assert said.code == 0, (words, said.out, said.err)
        printed = "\n".join(line.rstrip() for line in said.out.splitlines()) + "\n"
        if "LANGCAIRN_WRITE_PAGE" in os.environ:
            page = page.replace(block[0], f"```console\n{command}\n{printed}```")
        elif words[0] != "advise":  # which store is the quickest is another one each time
            assert alike(printed) == alike(block[2]), command
    if "LANGCAIRN_WRITE_PAGE" in os.environ:
        PAGE.write_text(page)
    # See test_viewer_serve and, for what needs a place of this machine, test_cli_objects.
    assert shown == set(COMMANDS) - {"demo", "bench", "view", "move-to-objects"}


def test_the_page_has_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", PAGE.read_text(), re.MULTILINE)}
    assert listed == {0, 1, 130, BUG} | {code for _, code in _CODES}

"""Every example runs, twice in the same directory, without a warning, and tells what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What each tells the first time, and the second time in the same directory.
TOLD = {
    "quickstart": (["That was message 1."], ["That was message 3."]),
    "chat_agent": (["look_up -4 °C", "10 checkpoints; the newest is after 'model'."], []),
    "human_in_the_loop": (["  order    40 m of rope: approved by Grace"], []),
    "time_travel": (["├── as forecast from the start", "    'snow' → 'sun'"], []),
    "crash_and_resume": (["It ended with -9. Another process goes on:"], []),
}
EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    # Once where a terminal can show any text, and once as the system is set up.
    for lines, encoding in zip(TOLD.get(example.stem, ([], [])), ("utf-8", ""), strict=True):
        result = subprocess.run(
            [sys.executable, "-W", "error", example],
            cwd=tmp_path, capture_output=True, encoding=encoding or None, timeout=60, check=False,
            env={**os.environ, "PYTHONIOENCODING": encoding}, text=True,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        told = result.stdout.splitlines()
        assert told
        assert [line for line in lines if line not in told] == []
        if example.stem == "crash_and_resume":
            written = [line.split()[0] for line in told if line.endswith("written")]
            assert sorted(written) == ["forest", "ridge", "summit", "valley"], "none twice"


def test_every_telling_is_of_an_example() -> None:
    assert TOLD.keys() <= {example.stem for example in EXAMPLES}

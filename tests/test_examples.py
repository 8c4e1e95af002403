"""Every example runs, twice in the same directory, without a warning."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.stem)
def test_example(example: Path, tmp_path: Path) -> None:
    outputs = []
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-W", "error", example],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        outputs.append(result.stdout)
    assert all(outputs)


def test_quickstart_continues(tmp_path: Path) -> None:
    quickstart = next(example for example in EXAMPLES if example.stem == "quickstart")
    runs = [
        subprocess.run(
            [sys.executable, quickstart],
            cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        ).stdout.splitlines()[0]
        for _ in range(2)
    ]  # fmt: skip
    assert runs == ["That was message 1.", "That was message 3."]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("chat_agent", ["look_up -4 °C", "10 checkpoints; the newest is after 'model'."]),
        ("human_in_the_loop", ["  order    40 m of rope: approved by Grace"]),
        ("time_travel", ["├── as forecast from the start", "    'snow' → 'sun'"]),
        ("crash_and_resume", ["It ended with -9. Another process goes on:"]),
    ],
)
def test_what_is_told(tmp_path: Path, name: str, lines: list[str]) -> None:
    example = next(example for example in EXAMPLES if example.stem == name)
    told = subprocess.run(
        [sys.executable, example],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ).stdout.splitlines()  # fmt: skip
    assert [line for line in lines if line not in told] == []
    if name == "crash_and_resume":
        written = [line.split()[0] for line in told if line.endswith("written")]
        assert sorted(written) == ["forest", "ridge", "summit", "valley"], "none twice"

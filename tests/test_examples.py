"""Every example runs, twice in the same directory, without a warning."""

from __future__ import annotations

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

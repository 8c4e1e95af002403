"""The code in the README and in pages of the docs runs as it stands there."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(language: str, page: str = "README.md") -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE
    )


def test_python_of_the_readme(tmp_path: Path) -> None:
    program = "\n".join(blocks("python"))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "answer" in result.stdout
    (statement,) = blocks("sql")
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        steps = [step for _, step in connection.execute(statement)]
    connection.close()
    assert steps == [-1, 0, 1]


def test_python_of_the_page_on_writers(tmp_path: Path) -> None:
    program = "\n".join(blocks("python", "docs/one-writer.md"))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    refused, log, held, conflict = result.stdout.splitlines()
    assert refused == "refused: True"
    assert log == "['slow', 'thought', 'fast', 'thought', 'answered']"
    assert held.startswith("held by ")
    assert conflict == "expected 1 found 2"


def test_links_of_the_readme() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]

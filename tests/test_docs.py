"""The code in the README runs as it stands there."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("page", ["backup", "migration", "integrity"])
def test_python_of_a_page(page: str, tmp_path: Path) -> None:
    program = "\n".join(blocks("python", f"docs/{page}.md"))
    program = program.replace("/tmp/langcairn-docs-restored", f"{tmp_path}/restored")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_links_of_the_readme() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]

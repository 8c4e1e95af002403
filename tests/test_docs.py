"""The code in the README and in pages of the docs runs as it stands there."""

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


def run_python(page: str, directory: Path, before: str = "") -> str:
    """Run the Python of a page as one program in a directory. Returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join([before, *blocks("python", page)])],
        cwd=directory, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_python_of_the_readme(tmp_path: Path) -> None:
    assert "answer" in run_python("README.md", tmp_path)
    (statement,) = blocks("sql")
    with sqlite3.connect(tmp_path / "agent.db") as connection:
        steps = [step for _, step in connection.execute(statement)]
    connection.close()
    assert steps == [-1, 0, 1]


def test_python_of_the_page_on_encryption(tmp_path: Path) -> None:
    run_python("docs/encryption.md", tmp_path, "import os")


@pytest.mark.parametrize("page", ["index", "backup", "migration", "integrity", "viewer"])
def test_python_of_a_page(page: str, tmp_path: Path) -> None:
    run_python(f"docs/{page}.md", tmp_path)


def test_python_of_the_page_on_compression(tmp_path: Path) -> None:
    figures, first, retired, after = run_python("docs/compression.md", tmp_path).splitlines()
    assert figures == "True True"
    assert first == '{"tool": "get_order_status",'
    assert "chunks packed anew" in retired
    assert after == "True 20"


def test_python_of_the_page_on_writers(tmp_path: Path) -> None:
    refused, log, held, conflict = run_python("docs/one-writer.md", tmp_path).splitlines()
    assert refused == "refused: True"
    assert log == "['slow', 'thought', 'fast', 'thought', 'answered']"
    assert held.startswith("held by ")
    assert conflict == "expected 1 found 2"


def test_python_of_the_page_on_object_storage(tmp_path: Path) -> None:
    before = f"import os; os.environ['AGENT_OBJECTS'] = 'file://{tmp_path}/objects'"
    assert "0 chunks moved, 0 objects" in run_python("docs/object-storage.md", tmp_path, before)


def test_python_of_the_page_on_retention(tmp_path: Path) -> None:
    planned, named, removed, *reports = run_python("docs/retention.md", tmp_path).splitlines()
    assert planned.startswith("looked at 1 executions; 150 checkpoints")
    assert "would go" in planned
    assert named == "[('', '0149'), ('', '0148')]"
    assert removed == "150 True"
    assert all("0 checkpoints" in line for line in reports)


def test_links_of_the_readme() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_python_of_the_workflow_guide(tmp_path: Path) -> None:
    program = "\n".join(blocks("python", "docs/workflow.md"))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "lines[0] changed: 'Written by hand' → 'About cairns'" in result.stdout

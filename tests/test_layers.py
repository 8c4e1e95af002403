"""Each layer of docs/architecture.md imports only layers below it."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "langcairn"

# From the top; a module may import its own layer and those after it.
LAYERS = [
    {"cli", "__main__"},
    {"viewer"},
    {"langgraph", "transfer", "demo", "testing", "__init__"},
    {"alerts", "caretaker", "metrics", "tracing", "logs", "monitor", "profiler", "rounds"},
    {
        "store",
        "stores",
        "opening",
        "options",
        "maintaining",
        "measuring",
        "operating",
        "branching",
        "rewriting",
        "queries",
        "compressing",
        "leases",
        "transactions",
        "write_behind",
        "write_queue",
    },
    {
        "operations",
        "maintenance",
        "keeping",
        "retention",
        "forking",
        "upkeep",
        "erasing",
        "forks",
        "headers",
        "comparing",
        "dictionaries",
        "executions",
        "figures",
        "records",
        "repacking",
        "checks",
        "cache",
        "write_sessions",
        "tasks",
        "watching",
        "slow",
        "objects",
    },
    {"security"},
    {"codec"},
    {"running"},
    {"backends"},
]
EVERYWHERE = {"errors", "checkpoint", "closing", "forms", "thread_id", "observing", "visible"}


def part_of(module: str) -> str:
    """Return the top-level part of langcairn that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports_of(file: Path) -> set[str]:
    """Return the parts of langcairn that a file imports, annotations included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "langcairn":
            found |= {
                alias.name
                if (PACKAGE / alias.name).exists() or (PACKAGE / f"{alias.name}.py").exists()
                else "__init__"
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("langcairn."):
            found.add(part_of(node.module or ""))
        elif isinstance(node, ast.Import):
            found |= {part_of(a.name) for a in node.names if a.name.startswith("langcairn")}
    return found


def layer_of(part: str) -> int:
    """Return the number of a part's layer; a part that has none is a gap in the table above."""
    return next(number for number, layer in enumerate(LAYERS) if part in layer)


def imports_up(file: Path) -> set[str]:
    """Return the parts that a file imports though they are above its own."""
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    imported = imports_of(file) - EVERYWHERE - {part}
    if part in EVERYWHERE:
        return imported
    return {other for other in imported if layer_of(other) < layer_of(part)}


def test_imports_go_down() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 200
    found = {str(file.relative_to(PACKAGE)): imports_up(file) for file in files}
    assert {file: parts for file, parts in found.items() if parts} == {}

"""The examples of docs/observability.md run as they stand there, one after the other."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tests.test_deploy import exported

PAGE = (Path(__file__).parents[1] / "docs" / "observability.md").read_text()


def test_examples(tmp_path: Path) -> None:
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "SQLite" in result.stdout
    assert re.search(r"^put +20 +0 ", result.stdout, re.MULTILINE)
    text = result.stdout[result.stdout.index("# HELP") :].rpartition("\n0.")[0] + "\n"
    (one,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "langcairn_operations_total"
    )
    assert one == 1
    assert json.loads(result.stderr.splitlines()[-1])["checkpoint_id"] == "c07"


def test_metrics_are_described() -> None:
    for name in exported():
        described = re.sub(r"(?<=operation_seconds)_\w+$", "", name)
        assert f"`{described}`" in PAGE


def test_phases_are_described() -> None:
    from langcairn.profiler import PHASES

    assert all(f"`{phase}`" in PAGE for phase in PHASES)

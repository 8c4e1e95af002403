"""Profiles of Hypothesis, readable failures of the shipped contract, and little to collect."""

from __future__ import annotations

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("langcairn.testing")

# No deadlines: a busy machine is no bug. Too slow data generation is one only of the test.
_COMMON = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("default", _COMMON, max_examples=60, stateful_step_count=25)
settings.register_profile(
    "ci", _COMMON, max_examples=60, stateful_step_count=25, derandomize=True, database=None
)
settings.register_profile("nightly", _COMMON, max_examples=5000, stateful_step_count=100)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "default")
)


def pytest_collection_finish() -> None:
    """Keep the garbage collector off what lasts for the whole run.

    Else it walks all modules and all tests again and again, a fifth of the suite's time.
    """
    gc.collect()
    gc.freeze()

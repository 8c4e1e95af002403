"""Warnings about slow operations. The threshold is the store's option ``slow_operation``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from langcairn.backends.base import Commit
from langcairn.backends.retry import seconds

if TYPE_CHECKING:
    from datetime import timedelta

    from langcairn.backends.base import Request

DEFAULT_SLOW = 1.0
"""What a checkpoint may take before it is worth a warning [s]."""

_logger = logging.getLogger("langcairn.slow")


def threshold(slow_operation: timedelta | float | None) -> float:
    """Return from when on an operation is slow [s].

    Raises:
        InvalidInput: This is no time.
    """
    return float("inf") if slow_operation is None else seconds(slow_operation, "slow_operation")


def warn_of_slow(backend: str, operation: str, last: Request | None, took: float) -> None:
    """Log that an operation was slow; never what was in it.

    Args:
        backend: The name of the backend.
        operation: What it is called.
        last: Its last request, which says what it was about.
        took: How long it took [s].
    """
    execution_id = getattr(last, "execution_id", None)
    checkpoint_id = getattr(last, "id", None)
    if isinstance(last, Commit):
        checkpoint_id = next((row.id for row in last.checkpoints), None) or next(
            (write.checkpoint_id for write in last.writes), None
        )
    _logger.warning(
        "%s on %s took %.3f s (execution %r, checkpoint %r)",
        operation,
        backend,
        took,
        execution_id,
        checkpoint_id,
        extra={
            "backend": backend,
            "operation": operation,
            "execution_id": execution_id,
            "checkpoint_id": checkpoint_id,
            "seconds": took,
        },
    )

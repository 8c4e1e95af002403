"""Structured logs: one record for each operation, with ids, counts and times, and never a state.

::

    from langcairn.logs import JsonFormatter, log_operations

    handler.setFormatter(JsonFormatter())
    log_operations(store)

What langcairn logs goes to loggers below ``langcairn``: ``langcairn.slow`` (an operation took
longer than the store's ``slow_operation``), ``langcairn.operations`` (this module), and others
named after their modules. Records bear their facts as attributes, too.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from langcairn.observing import FAULTS, Observer

if TYPE_CHECKING:
    from langcairn.observing import Observation
    from langcairn.store import CheckpointStore

_logger = logging.getLogger("langcairn.operations")

FACTS = (
    "operation", "backend", "execution_id", "checkpoint_id", "outcome", "seconds", "requests",
    "sent", "received", "retries", "refused",
)  # fmt: skip
"""The attributes of a record that say what it is about."""


def log_operations(store: CheckpointStore, level: int = logging.DEBUG) -> OperationLog:
    """Log each operation of a store, from now on, to ``langcairn.operations``.

    Args:
        store: The store; for a saver, its ``store``.
        level: At which level; operations that failed by the store's fault are warnings.

    Returns:
        What logs; its ``remove`` ends it.
    """
    return OperationLog(store, level)


class OperationLog(Observer):
    """Logs the operations of one store."""

    def __init__(self, store: CheckpointStore, level: int) -> None:
        self._store = store
        self._level = level
        store.observers.add(self)

    def remove(self) -> None:
        """Log no more."""
        self._store.observers.discard(self)

    @override
    def ended(self, observation: Observation) -> None:
        level = logging.WARNING if observation.outcome in FAULTS else self._level
        if _logger.isEnabledFor(level):
            facts = {name: getattr(observation, name) for name in FACTS}
            # Ids as Python writes strings: a line break in one must not begin a line of its own.
            _logger.log(
                level,
                "%(operation)s on %(backend)s: %(outcome)s in %(seconds).4f s"
                " (execution %(execution_id)r, checkpoint %(checkpoint_id)r)",
                facts,
                extra=facts,
            )


class JsonFormatter(logging.Formatter):
    """Writes a record as a line of JSON: time, level, logger, message, and its `FACTS`."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(
            (name, value) for name in FACTS if (value := getattr(record, name, None)) is not None
        )
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)

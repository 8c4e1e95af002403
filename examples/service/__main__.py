"""Serve: ``python -m examples.service``, set by the environment (see `settings`)."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Serve until a signal comes. Returns the exit code."""
    # What is process 1, as in a container, has no default for it: a signal that comes while modules
    # are imported would be lost, and the process killed at the end of its grace period.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from examples.service import serving  # noqa: PLC0415 -- seconds, on a small share of a CPU

    return serving.main()


if __name__ == "__main__":
    sys.exit(main())

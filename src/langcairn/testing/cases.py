"""Many cases in one test, on one store, where a failing one still says which it was."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def case(*names: object) -> Iterator[None]:
    """Name the case in whatever fails in the block."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {', '.join(map(ascii, names))}"[:300])
        raise

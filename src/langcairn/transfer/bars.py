"""A progress bar for the functions of this package (extra ``cli``)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langcairn.transfer.reports import Progress


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Progress], None]]:
    """Show a bar on the terminal; what is yielded is for ``progress=``.

    Args:
        title: What stands before it.

    Raises:
        ImportError: rich is not installed.
    """
    try:
        from rich.progress import (  # noqa: PLC0415 -- an extra
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bar  # noqa: PLC0415 -- as above
    except ImportError as error:
        raise ImportError("progress bars need rich: pip install 'langcairn[cli]'") from error
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    more = TextColumn("{task.fields[checkpoints]:,} checkpoints, {task.fields[mb]:,.1f} MB")
    with Bar(*columns, more, TimeRemainingColumn()) as bar:
        task = bar.add_task(title, total=None, checkpoints=0, mb=0.0)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.done,
                total=progress.total,
                checkpoints=progress.checkpoints,
                mb=progress.bytes / 1e6,
            )

        yield show

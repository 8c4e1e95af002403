"""The command line of the demo."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

_INTERRUPTED = 130


def main() -> int:
    """Run the demo; return 0, 1 if something that it promises did not happen, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m langcairn.demo",
        description="An agent is killed, resumed, interrupted, rewound and forked, on SQLite.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave databases and journal in DIR, a new one"
    )
    where.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="work in a temporary directory inside DIR, which is removed at the end "
        "(default: inside the system's directory for such)",
    )
    options = parser.parse_args()
    try:
        if options.keep is None:
            if options.directory is not None and not options.directory.is_dir():
                parser.error(f"{options.directory} is no directory")
            with tempfile.TemporaryDirectory(prefix="langcairn-", dir=options.directory) as path:
                return _run(Path(path).resolve())
        options.keep.mkdir(parents=True, exist_ok=True)
        if any(options.keep.iterdir()):
            parser.error(f"{options.keep} is not empty: name a new directory")
    except OSError as error:
        parser.error(str(error))
    outcome = _run(options.keep.resolve())
    _show_kept(options.keep.resolve())
    return outcome


def _run(directory: Path) -> int:
    try:
        # Imported here, so that the lack of rich has one message.
        from langcairn.demo.conductor import Conductor  # noqa: PLC0415 -- see above
        from langcairn.demo.narrate import DemoError, Narrator  # noqa: PLC0415 -- see above
    except ModuleNotFoundError as error:
        if error.name != "rich":
            raise
        print("The demo prints with rich: pip install 'langcairn[cli]'", file=sys.stderr)  # noqa: T201 -- there is no console without rich
        return 1
    start = time.perf_counter()
    narrator = Narrator()
    try:
        Conductor(directory, narrator).conduct()
    except DemoError as error:
        narrator.fail(str(error))
        return 1
    except KeyboardInterrupt:
        return _INTERRUPTED
    narrator.conclude(time.perf_counter() - start)
    return 0


def _show_kept(directory: Path) -> None:
    url = f"sqlite:///{quote(str(directory / 'cairn.db'))}"
    print(  # noqa: T201 -- paths and code are for copying: rich would wrap them
        f"""
Kept in {directory}:
  cairn.db       langcairn's database
  official.db    the same checkpoints in the official saver's
  journal.jsonl  what each process did
Look at it in Python:
  from langcairn import open_store
  for c in open_store({url!r}).list('trail-guide'):
      print(c.id, c.node_name, c.metadata)"""
    )


if __name__ == "__main__":
    sys.exit(main())

"""``python -m langcairn.viewer --store URL``: see `langcairn.viewer.serve`."""

from __future__ import annotations

import argparse
import sys

from langcairn.errors import CairnError
from langcairn.viewer.demo import fill
from langcairn.viewer.serve import open_viewed, serve, title_of


def main() -> int:
    """Serve a viewer as the arguments say. Returns the exit code."""
    parser = argparse.ArgumentParser("python -m langcairn.viewer", description="Show a store.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--store", metavar="URL", help="as for langcairn.open_store")
    what.add_argument("--demo", action="store_true", help="a store in memory, filled with examples")
    parser.add_argument("--write", action="store_true", help="allow changes")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=0, help="the port; 0: any that is free")
    parser.add_argument("--token", help="what browsers must show; made if others reach the host")
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", dest="hosts")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    given = parser.parse_args()
    url = "memory:" if given.demo else given.store
    try:
        with open_viewed(url) as store:
            if given.demo:
                fill(store)
            serve(
                store,
                host=given.host,
                port=given.port,
                write=given.write,
                token=given.token,
                hosts=given.hosts,
                title=title_of(url),
                open_browser=given.open,
                announce=lambda address: print(f"The viewer is at {address}", flush=True),  # noqa: T201 -- a command
            )
    except CairnError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 -- likewise
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

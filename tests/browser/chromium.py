"""Gets a Chromium without root: one that is installed, or Debian's, unpacked under ``.venv``.

``make browser`` calls this. Playwright's own downloads come from a server that not every machine
reaches; Debian's packages are where the rest of the machine came from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CACHE = Path(sys.prefix) / "chromium"
_PACKAGES = ("chromium", "fonts-inter", "fonts-dejavu-core")
_TIMEOUT = 400  # [s]
_FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><dir>{root}/usr/share/fonts</dir>
<cachedir>{root}/fontcache</cachedir></fontconfig>
"""


class Chromium(NamedTuple):
    """A browser to start.

    Attributes:
        path: The program.
        environment: What has to be in its environment.
    """

    path: str
    environment: dict[str, str]


def find() -> Chromium:
    """Return the Chromium of ``LANGCAIRN_CHROMIUM``, of the path, or one that was unpacked before.

    Raises:
        FileNotFoundError: There is none; says how to get one.
    """
    installed = os.environ.get("LANGCAIRN_CHROMIUM") or shutil.which("chromium")
    if installed:
        return Chromium(installed, {})
    root = CACHE / "root"
    program = root / "usr/lib/chromium/chromium"
    if not program.exists():
        raise FileNotFoundError(
            "there is no Chromium: run `make browser`, which gets Debian's; or install one, and "
            "name it in LANGCAIRN_CHROMIUM"
        )
    libraries = {str(one.parent) for one in root.rglob("*.so*") if one.parent != program.parent}
    return Chromium(
        str(program),
        {
            "LD_LIBRARY_PATH": ":".join(sorted(libraries)),
            "FONTCONFIG_FILE": str(root / "fonts.conf"),
        },
    )


def fetch() -> None:
    """Unpack Debian's Chromium, and what it needs that isn't installed, under `CACHE`."""
    root, part = CACHE / "root", CACHE / "part"
    shutil.rmtree(part, ignore_errors=True)
    for directory in ("lists/partial", "cache/archives/partial", "part"):
        (CACHE / directory).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::State::lists": CACHE / "lists",
        "Dir::Cache": CACHE / "cache",
        "Debug::NoLocking": "1",
        "APT::Sandbox::User": "root",  # the one apt would change to can't write here
        "APT::Install-Recommends": "0",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*apt, "update"], check=True, timeout=_TIMEOUT)
    subprocess.run(
        [*apt, "install", "-y", "--download-only", "--reinstall", *_PACKAGES],
        check=True,
        timeout=_TIMEOUT,
    )
    for package in sorted((CACHE / "cache" / "archives").glob("*.deb")):
        subprocess.run(["dpkg", "-x", package, part], check=True, timeout=_TIMEOUT)
    (part / "fonts.conf").write_text(_FONTS.format(root=root))
    part.rename(root)  # whole, or not there
    shutil.rmtree(CACHE / "cache")


if __name__ == "__main__":
    try:
        find()
    except FileNotFoundError:
        fetch()
    print(find().path)  # noqa: T201 -- a command

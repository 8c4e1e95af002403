"""Serve a viewer over HTTP."""

from __future__ import annotations

import secrets
import signal
import socket
import threading
import webbrowser
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn

from langcairn.errors import InvalidInput
from langcairn.opening import open_store
from langcairn.viewer.app import create_app
from langcairn.viewer.security import check_token, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

    from langcairn.store import CheckpointStore

_ENDS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 2  # [s for open requests when it ends]
_WITH_RETRIES = ("postgresql", "postgres", "redis", "rediss", "valkey", "valkeys", "unix")


def serve(
    store: CheckpointStore,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    write: bool = False,
    token: str | None = None,
    hosts: Iterable[str] = (),
    title: str = "",
    open_browser: bool = False,
    announce: Callable[[str], object] = print,
) -> None:
    """Serve a viewer until the process is told to stop (Ctrl-C or SIGTERM).

    Args:
        store: The store, which stays open.
        host: The address to listen on. For one that other machines reach, a token is made if
            none is given.
        port: The port; 0: any that is free.
        write: Whether threads may be forked, renamed, pruned and deleted.
        token: What a browser must show, at least 16 characters.
        hosts: Further names under which browsers reach it.
        title: What to call the store; by default its backend's name.
        open_browser: Open the page in a browser.
        announce: Is told the address, with the token if there is one.

    Raises:
        InvalidInput: An argument can't be used; the port is taken, for one.
    """
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    check_token(host, token)
    app = create_app(store, write=write, token=token, title=title, host=host, hosts=hosts)
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listener.getsockname()[1]}/"
    if token is not None:
        address += f"?token={token}"
    announce(address)
    if open_browser:
        webbrowser.open(address)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    with listener, _deaf():
        uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _deaf() -> Iterator[None]:
    """Let signals that end the server not end the process, too.

    uvicorn raises them anew when it has stopped: with a traceback for Ctrl-C, and before the store
    is closed for SIGTERM.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals; uvicorn leaves them alone here, too
        return
    before = {number: signal.signal(number, _nothing) for number in _ENDS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal that uvicorn has handled."""


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise InvalidInput(f"port {port} is none: use 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise InvalidInput(
            f"the viewer can't listen on {host}:{port}: {error}; choose another --host or --port"
        ) from error


def open_viewed(url: str, *, deadline: float = 6.0) -> CheckpointStore:
    """Open a store as `langcairn.open_store`, but one that is away shall say so soon.

    Args:
        url: Its URL.
        deadline: How long to try again while its server is away [s]. A person who looks at an
            empty page waits no longer.
    """
    retries = urlsplit(url).scheme.split("+")[0] in _WITH_RETRIES
    return open_store(url, deadline=deadline) if retries else open_store(url)


def title_of(url: str) -> str:
    """Return a store's URL without what is secret in it: the password and all options."""
    scheme, slashes, rest = url.partition("://")
    if not slashes:
        return url
    parts = urlsplit(url)
    netloc, path = parts.netloc, rest.removeprefix(parts.netloc).split("?")[0].split("#")[0]
    if "@" in netloc:
        user, _, place = netloc.rpartition("@")
        netloc = f"{user.split(':')[0]}@{place}"
    return f"{scheme}://{netloc}{path}"

"""Serve a viewer over HTTP."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import uvicorn

from langcairn.errors import InvalidInput
from langcairn.viewer.app import create_app
from langcairn.viewer.security import check_token, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from langcairn.store import CheckpointStore

_GRACE = 2  # [s for open requests when it ends]


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
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        raise InvalidInput(
            f"the viewer can't listen on {host}:{port}: {error}; choose another --host or --port"
        ) from error


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

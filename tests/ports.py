"""Ports for servers that are killed and started again."""

from __future__ import annotations

import socket

HOST = "127.0.0.1"


def hold_port() -> socket.socket:
    """Bind a port of 127.0.0.1 that the system chose, for a server that will listen there.

    While nobody listens, connections are refused as without it; but the system gives the port to
    nobody else. A client that tries again and again to reach a dead server could otherwise be given
    that very port as its own, and so be connected to itself.

    Returns:
        What holds the port until it is closed. It doesn't hinder a server that sets SO_REUSEADDR.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((HOST, 0))
    return holder


def number_of(holder: socket.socket) -> int:
    """Return the port that is held."""
    number: int = holder.getsockname()[1]
    return number

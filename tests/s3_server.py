"""An S3 server in this process (moto), that fails, dawdles and cuts answers when it is told to."""

from __future__ import annotations

import threading
import urllib.request
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    Fault = Callable[["Answer"], None]

HOST = "127.0.0.1"
BUCKET = "bucket"


class Answer:
    """What is about to be sent.

    Attributes:
        status: The number and its words.
        headers: Names and values.
        body: The body.
    """

    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def replace_body(self, body: bytes) -> None:
        """Send another body, with its length."""
        self.body = body
        kept = [one for one in self.headers if one[0].lower() != "content-length"]
        self.headers = [*kept, ("Content-Length", str(len(body)))]


class S3Server:
    """A server on a port of 127.0.0.1 that the system chose, with one bucket.

    Attributes:
        counts: How many requests came, by method and, for GETs of ranges, ``RANGE``.
        bytes_sent: The bytes of bodies that were sent.
        faults: By method (or ``RANGE``) what is done to each answer.
        before: By method what is done before a request is looked at.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.bytes_sent = 0
        self._lock = threading.Lock()
        self.faults: dict[str, Fault] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self._moto: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(HOST, 0, self._answer, threaded=True, request_handler=_Quiet)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    @property
    def options(self) -> dict[str, Any]:
        """What `langcairn.ObjectStorage` needs to find it, with short waits."""
        return {
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": "somebody",
            "secret_access_key": "something",
            "client_options": {"allow_http": True, "timeout": "2s", "connect_timeout": "2s"},
            "retry_config": {"max_retries": 2},
        }

    def __enter__(self) -> Self:
        self._thread.start()
        self.ask("POST", "/moto-api/reset")
        self.ask("PUT", f"/{BUCKET}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join(30)
        self._server.server_close()

    def heal(self) -> None:
        """End all faults, and count anew."""
        self.faults.clear()
        self.before.clear()
        self.counts.clear()
        self.bytes_sent = 0

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Make a request as an administrator."""
        request = urllib.request.Request(
            self.endpoint + path, body, {"Content-Type": "text/plain"}, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())

    def require_signatures(self, required: bool) -> None:
        """Refuse credentials that aren't known, which are all; or accept any."""
        self.ask("POST", "/moto-api/reset-auth", b"0" if required else b"inf")

    def _answer(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        if environ["PATH_INFO"].startswith("/moto-api"):
            return list(self._moto(environ, start))
        kind = "RANGE" if "HTTP_RANGE" in environ else method
        if kind == "GET" and environ.get("QUERY_STRING"):
            kind = "LIST"
        with self._lock:
            self.counts[kind] += 1
        if kind in self.before:
            self.before[kind]()
        head: list[Any] = []

        def begin(status: str, headers: list[tuple[str, str]], *_: object) -> None:
            head[:] = status, headers

        body = b"".join(self._moto(environ, begin))
        answer = Answer(head[0], head[1], body)
        fault = self.faults.get(kind)
        if fault is not None:
            fault(answer)
        with self._lock:
            self.bytes_sent += len(answer.body)
        start(answer.status, answer.headers)
        return [answer.body]


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client has given up
            super().handle()


def failing(status: str = "503 Service Unavailable", times: int = 1000) -> Fault:
    """Return a fault that turns answers into errors, so many times."""
    left = [times]

    def fault(answer: Answer) -> None:
        if left[0] > 0:
            left[0] -= 1
            answer.status = status
            answer.replace_body(b"<Error><Code>SlowDown</Code></Error>")

    return fault


def shortened(answer: Answer) -> None:
    """Send only half, as if that were all."""
    answer.replace_body(answer.body[: len(answer.body) // 2])


def broken_off(answer: Answer) -> None:
    """Send half of what the length says, and hang up."""
    answer.body = answer.body[: len(answer.body) // 2]
    answer.headers.append(("Connection", "close"))


def changed(answer: Answer) -> None:
    """Flip a bit."""
    middle = len(answer.body) // 2
    answer.body = (
        answer.body[:middle] + bytes((answer.body[middle] ^ 1,)) + answer.body[middle + 1 :]
    )

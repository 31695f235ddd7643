"""A real S3 server in a process of its own, over HTTP, that counts what it is asked and fails on
command."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote

REPOSITORY = Path(__file__).parents[2]
CONTROL = "/_control"

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], Any]

READING = ("list", "get", "head")
WRITING = ("put", "post", "delete")


@dataclass
class Fault:
    """What happens to requests that match, until it has happened often enough.

    Attributes:
        kinds: of request that it is about, of READING and WRITING; none for all.
        path: is a part of the request's path.
        conditional: only requests with an If-None-Match header.
        token: only those for a further page of a listing.
        times: it happens; None for always.
        status: that the server answers with; None for none.
        code: of S3 in that answer; none for a proxy's page.
        drop: the connection is reset.
        late: the connection is reset, but only after the request did its work.
        hang: seconds before anything else.
    """

    kinds: tuple[str, ...] = ()
    path: str = ""
    conditional: bool = False
    token: bool = False
    times: int | None = None
    status: int | None = None
    code: str = "InternalError"
    drop: bool = False
    late: bool = False
    hang: float = 0.0

    def takes(self, request: Environ) -> bool:
        """Tell whether it is about a request, and count that."""
        if (
            self.times == 0
            or (self.kinds and _kind(request) not in self.kinds)
            or self.path not in request["PATH_INFO"]
        ):
            return False
        if self.conditional and "HTTP_IF_NONE_MATCH" not in request:
            return False
        if self.token and "continuation-token" not in request["QUERY_STRING"]:
            return False
        if self.times:
            self.times -= 1
        return True


NO_CONDITIONS = Fault(conditional=True, kinds=("put",), status=501, code="NotImplemented")
READ_ONLY = Fault(kinds=WRITING, status=403, code="AccessDenied")


class S3Server:
    """The test's end of a server: its address, its faults, its counters."""

    def __init__(self, cache: Path) -> None:
        # it ends with its standard input, and so with this process, however that ends
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.s3"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        assert port, "the server did not start"
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "FMN_CACHE": str(cache),
        }

    def bucket(self, name: str) -> str:
        """Make a bucket; return its address."""
        self._call("PUT", f"/{name}")
        return f"s3://{name}"

    def control(self, *faults: Fault) -> None:
        """Set what goes wrong from now on, in place of what did."""
        self._call("POST", CONTROL, {"faults": [asdict(fault) for fault in faults]})

    def fill(self, bucket: str, files: Mapping[str, str]) -> None:
        """Store many small files without a request for each."""
        self._call("PUT", CONTROL, {"bucket": bucket, "files": dict(files)})

    def requests(self) -> Counter[str]:
        """Return how many requests of each kind came since the last reset."""
        return Counter(json.loads(self._call("GET", CONTROL)))

    def reset(self, *, buckets: bool = False) -> None:
        """Forget faults and counters; with ``buckets`` also all that is stored."""
        self.control()
        self._call("DELETE", CONTROL)
        if buckets:
            self._call("POST", "/moto-api/reset")

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def __enter__(self) -> S3Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _call(self, method: str, path: str, content: Any = None) -> bytes:
        body = None if content is None else json.dumps(content).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.url + quote(path), body, method=method), timeout=30
        ) as answer:
            return answer.read()  # type: ignore[no-any-return]


def start_server(cache: Path) -> S3Server:
    """Start a server; ``cache`` is what FMN_CACHE says in its environment."""
    return S3Server(cache)


class Faulty:
    """A WSGI application in front of the server's: the server's end of :class:`S3Server`."""

    def __init__(self, application: Callable[[Environ, Start], Iterable[bytes]]) -> None:
        self._application = application
        self._lock, self._puts = threading.Lock(), threading.Lock()
        self._faults: list[Fault] = []
        self._counts: Counter[str] = Counter()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer a request."""
        path = environ["PATH_INFO"]
        if path == CONTROL:
            return self._controlled(environ, start)
        if path.startswith("/moto-api"):
            return self._application(environ, start)
        fault = self._count(environ)
        time.sleep(fault.hang)
        if fault.late:
            for _ in self._application(environ, lambda *_: None):
                pass
        if fault.drop or fault.late:
            _reset(environ["werkzeug.socket"])
        if fault.status:
            error = f"<Error><Code>{fault.code}</Code><Message>told to fail</Message></Error>"
            body = (error if fault.code else "<html><body>told to fail</body></html>").encode()
            start(
                f"{fault.status} Told",
                [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))],
            )
            return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]
        if "HTTP_IF_NONE_MATCH" in environ:
            with self._puts:  # the server behind looks and writes in two steps
                return list(self._application(environ, start))
        return self._application(environ, start)

    def _count(self, environ: Environ) -> Fault:
        with self._lock:
            self._counts[_kind(environ)] += 1
            return next((fault for fault in self._faults if fault.takes(environ)), Fault())

    def _controlled(self, environ: Environ, start: Start) -> list[bytes]:
        with self._lock:
            body = json.dumps(self._counts).encode()
            if environ["REQUEST_METHOD"] == "DELETE":
                self._counts.clear()
            elif environ["REQUEST_METHOD"] in ("POST", "PUT"):
                told = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                self._faults = [Fault(**fault) for fault in told.get("faults", [])]
                _fill(told.get("bucket", ""), told.get("files", {}))
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def _fill(bucket: str, files: Mapping[str, str]) -> None:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    for path, content in files.items():
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, path, content.encode())


def _kind(environ: Environ) -> str:
    method = environ["REQUEST_METHOD"].lower()
    is_bucket = "/" not in environ["PATH_INFO"].strip("/")
    listing = is_bucket or "list-type" in parse_qs(environ["QUERY_STRING"])
    return "list" if method == "get" and listing else str(method)


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionResetError("told to drop the connection")


def serve() -> None:
    """Serve on a free port, which is printed, until the standard input ends."""
    import logging

    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        def connection_dropped(self, error: BaseException, environ: Environ | None = None) -> None:
            self.close_connection = True

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    application = Faulty(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    serve()

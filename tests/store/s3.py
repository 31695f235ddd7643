"""A real S3 server in a process of its own, over HTTP, that counts what it is asked and fails on
command."""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

from tests.once import Once

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
        chance: of each such request to fail.
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
    chance: float = 1.0
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
        if random.random() >= self.chance:
            return False
        if self.times:
            self.times -= 1
        return True


NO_CONDITIONS = Fault(conditional=True, kinds=("put",), status=501, code="NotImplemented")
READ_ONLY = Fault(kinds=WRITING, status=403, code="AccessDenied")


class Bucket:
    """The test's end of a bucket: its address, its faults, its counters; it sees no other's.

    Attributes:
        name: of the bucket.
        address: ``s3://NAME``.
        url: of the server.
        environment: that names the server, and no other.
    """

    def __init__(self, url: str, name: str) -> None:
        self.name, self.address, self.url = name, f"s3://{name}", url
        self.environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._call("PUT", f"/{name}")
        self.reset()

    def control(self, *faults: Fault) -> None:
        """Set what goes wrong from now on, in place of what did."""
        self._call("POST", self._control, {"faults": [asdict(fault) for fault in faults]})

    def fill(self, files: Mapping[str, str]) -> None:
        """Store many small files without a request for each."""
        self._call("PUT", self._control, {"files": dict(files)})

    def requests(self) -> Counter[str]:
        """Return how many requests of each kind came since the last reset."""
        return Counter(json.loads(self._call("GET", self._control))["requests"])

    def failures(self) -> int:
        """Return how many of them were told to fail."""
        return int(json.loads(self._call("GET", self._control))["failures"])

    def reset(self) -> None:
        """Forget faults and counters."""
        self.control()
        self._call("DELETE", self._control)

    def remove(self) -> None:
        """Remove the bucket with all that is stored."""
        self._call("PUT", self._control, {"remove": True})
        self.reset()

    @property
    def _control(self) -> str:
        return f"{CONTROL}/{self.name}"

    def _call(self, method: str, path: str, content: Any = None) -> bytes:
        body = None if content is None else json.dumps(content).encode()
        with urllib.request.urlopen(
            urllib.request.Request(self.url + quote(path), body, method=method), timeout=30
        ) as answer:
            return answer.read()  # type: ignore[no-any-return]


class S3Server:
    """The test's end of a server, which it shares with the other processes of the run."""

    def __init__(self, once: Once) -> None:
        self.url = once.server(
            "s3",
            [sys.executable, "-m", "tests.store.s3"],
            lambda printed: f"http://127.0.0.1:{printed.strip()}" if "\n" in printed else None,
            reads_input=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )

    def bucket(self, name: str = "bucket") -> Bucket:
        """Make a bucket; no other has its name, which begins so."""
        return Bucket(self.url, f"{name}-{uuid.uuid4().hex[:8]}")


class Faulty:
    """A WSGI application in front of the server's: the server's end of :class:`Bucket`."""

    def __init__(self, application: Callable[[Environ, Start], Iterable[bytes]]) -> None:
        self._application = application
        self._lock, self._puts = threading.Lock(), threading.Lock()
        self._faults: dict[str, list[Fault]] = {}
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._failures: Counter[str] = Counter()

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        """Answer a request."""
        path = environ["PATH_INFO"]
        if path.startswith(f"{CONTROL}/"):
            return self._controlled(path.removeprefix(f"{CONTROL}/"), environ, start)
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
        bucket = environ["PATH_INFO"].strip("/").partition("/")[0]
        with self._lock:
            self._counts[bucket][_kind(environ)] += 1
            faults = self._faults.get(bucket, [])
            fault = next((fault for fault in faults if fault.takes(environ)), None)
            self._failures[bucket] += fault is not None
            return fault or Fault()

    def _controlled(self, bucket: str, environ: Environ, start: Start) -> list[bytes]:
        with self._lock:
            counts = {"requests": self._counts[bucket], "failures": self._failures[bucket]}
            body = json.dumps(counts).encode()
            if environ["REQUEST_METHOD"] == "DELETE":
                del self._counts[bucket], self._failures[bucket]
            elif environ["REQUEST_METHOD"] in ("POST", "PUT"):
                orders = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
                self._faults[bucket] = [Fault(**fault) for fault in orders.get("faults", [])]
                _fill(bucket, orders.get("files", {}))
                if "remove" in orders:
                    _remove(bucket)
        start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


def _stored() -> Any:
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


def _fill(bucket: str, files: Mapping[str, str]) -> None:
    for path, content in files.items():
        _stored().put_object(bucket, path, content.encode())


def _remove(bucket: str) -> None:
    stored = _stored()
    if bucket in stored.buckets:
        keys = stored.get_bucket(bucket).keys
        for key in keys.values():
            key.dispose()
        keys.clear()
        stored.delete_bucket(bucket)


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

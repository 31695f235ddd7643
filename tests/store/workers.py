"""Processes that use a store at once, or are killed while they do. They are forked, as to import
fmn takes long."""

from __future__ import annotations

import functools
import os
import random
import signal
import tempfile
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from botocore.loaders import JSONFileLoader
from botocore.session import get_session

from fmn.store import Draft, Patience, Store, open_store, record_key
from fmn.store.claims import LEASE
from tests.forks import forking

PATIENCE = Patience(attempts=8, first=0.05, longest=1.0, read=20.0, connect=5.0)
LARGEST = 21
"""As a power of two."""

# megabytes of JSON for every client of S3, which forked processes need not read again
JSONFileLoader.load_file = functools.cache(JSONFileLoader.load_file)
get_session().create_client("s3", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


def context() -> ForkServerContext:
    """Return the context of all these processes."""
    return forking("s3fs", "pytest", "tests.store.workers")


def start(target: Any, *args: object) -> BaseProcess:
    """Start a process from one that has imported this module, and has no thread and no
    connection."""
    process = context().Process(target=target, args=args, daemon=True)
    process.start()
    return process


def opened(url: str, environment: Mapping[str, str], tmp: Path, lease: float = LEASE) -> Store:
    """Open a store in a new process; its temporary files are under ``tmp``, where a test removes
    them."""
    os.environ.update(environment)
    tempfile.tempdir = str(tmp)
    return open_store(url, cache=tmp / "cache", patience=PATIENCE, lease=lease)


def content(number: int) -> bytes:
    """Return the file of a key: the same bytes in every process, of a random size."""
    made = random.Random(number)
    return made.randbytes(int(2 ** made.uniform(0, LARGEST)))


def key(number: int) -> str:
    return record_key("trial", {"number": number})


def fill(store: Store, count: int, sender: Connection | None = None) -> None:
    """Compute many results, of a file and a directory each."""
    for number in range(count):

        def compute(folder: Path, number: int = number) -> Draft:
            made = content(number)
            (folder / "out").write_bytes(made)
            (folder / "tree").mkdir()
            (folder / "tree" / "half").write_bytes(made[: len(made) // 2])
            return Draft(files={"out": folder / "out", "tree": folder / "tree"})

        if sender and number == 0:
            sender.send_bytes(b"")
        store.get_or_compute("trial", {"number": number}, compute)


def die_in_a_download(url: str, environment: Mapping[str, str], tmp: Path) -> None:
    """Fetch an object, and be killed when its first bytes are here."""
    tmp.mkdir()
    store = opened(url, environment, tmp)

    def half(source: str, to: str, **more: object) -> None:
        Path(to).write_bytes(bytes(1000))
        os.kill(os.getpid(), signal.SIGKILL)

    store.objects._remote.fs.get_file = half
    record = store.get("trial", key(0))
    assert record
    store.path(record.outputs["out"])


def write_until_killed(
    url: str, environment: Mapping[str, str], tmp: Path, count: int, sender: Connection
) -> None:
    """Fill a store; say through a pipe when the first result begins."""
    fill(opened(url, environment, tmp), count, sender)


def race(
    url: str, environment: Mapping[str, str], tmp: Path, number: int, ready: Any, results: Any
) -> None:
    """Compute one result, without a claim, with bytes that no other process has; send the record
    that came of it."""
    store = opened(url, environment, tmp, lease=0)

    def compute(folder: Path) -> Draft:
        (folder / "out").write_text(f"written by {number}")
        ready.wait(60)
        return Draft(value={"by": number}, files={"out": folder / "out"})

    outcome = store.get_or_compute("trial", {"number": 0}, compute)
    results.send(
        (
            number,
            outcome.cached,
            outcome.record.model_dump(),
            store.path(outcome.record.outputs["out"]).read_text(),
        )
    )


def claim(
    url: str,
    environment: Mapping[str, str],
    tmp: Path,
    lease: float,
    events: Any,
    may_end: Any,
) -> None:
    """Compute one result, for as long as a test wants; send when it begins, and what came of it."""
    store = opened(url, environment, tmp, lease)

    def compute(folder: Path) -> Draft:
        events.send("computing")
        may_end.wait(60)
        return Draft(value={"by": os.getpid()})

    outcome = store.get_or_compute("trial", {"number": 0}, compute)
    events.send(outcome.record.value["by"])

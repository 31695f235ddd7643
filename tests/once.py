"""What is made once for all tests of a run, also where pytest-xdist spreads them over processes.

Whoever asks first makes it; the others wait for that. Servers end with the run, however that ends:
their standard input is a pipe whose other end only the run's first process holds.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

PATIENCE = 120.0
"""Seconds within which a server has to answer, on a machine that has much else to do."""

UNTIL_END = '"$@" & while read -r _; do :; done; kill $! 2>/dev/null; wait'
"""For a shell: run a program that does not read its standard input until that ends."""

ALIVE = "alive"
"""The pipe."""


class Once:
    """Directories and servers of a run, by name.

    Attributes:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def directory(self, name: str, make: Callable[[Path], object]) -> Path:
        """Return a directory that is made once; nobody may change it."""
        made, done = self.folder / name, self.folder / f"{name}.done"
        with (self.folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(made, ignore_errors=True)  # of a process that failed
                make(made)
                done.touch()
        return made

    def server(
        self,
        name: str,
        command: Sequence[str],
        address: Callable[[str], str | None],
        *,
        reads_input: bool = False,
        **settings: Any,
    ) -> str:
        """Return the address of a server that is started once.

        Args:
            name: of its directory, in which it runs.
            command: starts it.
            address: makes the address of what it has printed; None as long as it does not answer.
            reads_input: it ends by itself when its standard input ends.
            settings: for :class:`subprocess.Popen`.
        """

        def start(folder: Path) -> None:
            folder.mkdir()
            log = folder / "server.log"
            guarded = command if reads_input else ["sh", "-c", UNTIL_END, "sh", *command]
            with log.open("w") as out, (self.folder / ALIVE).open() as alive:
                process = subprocess.Popen(
                    guarded, cwd=folder, stdin=alive, stdout=out, stderr=out, **settings
                )
            (self.folder / f"{name}.pid").write_text(str(process.pid))
            end = time.monotonic() + PATIENCE
            while (url := address(log.read_text())) is None:
                assert process.poll() is None, f"{name} ended:\n{log.read_text()}"
                assert time.monotonic() < end, f"{name} does not answer:\n{log.read_text()}"
                time.sleep(0.05)
            (folder / "address").write_text(url)

        return (self.directory(name, start) / "address").read_text()


class Run:
    """The run's first process: while it lives, so do the servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        os.mkfifo(folder / ALIVE)
        # opened for both, because to open it for writing alone would wait for a reader
        self._alive = os.open(folder / ALIVE, os.O_RDWR)

    def end(self) -> None:
        """End the servers, and wait for them."""
        os.close(self._alive)
        limit = time.monotonic() + 30
        for file in self._folder.glob("*.pid"):
            while _is_running(int(file.read_text())) and time.monotonic() < limit:
                time.sleep(0.05)


def _is_running(pid: int) -> bool:
    with suppress(ChildProcessError):  # it is ours only where the run has one process
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

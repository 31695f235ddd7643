"""How a command ends when somebody asks it to: within seconds, in one line, with what it started.

Ctrl-C, SIGTERM or SIGHUP raise :class:`Stopped` in the main thread, so that what is half done is
tidied up as after an error. A thread of its own hears of the signal as well: it says the line at
once, and ends the process where the main thread does not come to its end, or is asked again.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from fmn.scratch import remove_all

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
GRACE = 2.5
"""Seconds that the main thread has to tidy up."""

ONE = 0.3
"""Seconds in which a signal that comes again is the same one: a terminal and a shell may both send
it.
"""


class Stopped(KeyboardInterrupt):
    """Somebody asked the command to end."""


class Stop:
    """The end of one command.

    Attributes:
        number: of the signal that asked for it; None while nobody did.
        advice: what is kept, and how to go on.
        endings: what is to be ended before the process, the last first.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.advice = "nothing half written is left; the same command does the rest"
        self.endings: list[Callable[[], object]] = []
        self._told, self._ending = threading.Lock(), threading.Lock()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Raise in the main thread, while the context lasts, for signals that are not ignored."""
        before = {
            number: handler
            for number in SIGNALS
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
        }
        for number in before:
            signal.signal(number, self._raise)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Let a thread hear of signals while the context lasts, whatever the main one is doing."""
        descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=self._watch, name="fmn-stop", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(descriptor)
            self._writer.close()
            thread.join()
            self._reader.close()

    def end(self) -> NoReturn:
        """End what was started, and the process."""
        assert self.number is not None
        self._tell(self.number)
        if self._ending.acquire(timeout=1):  # for good; whoever comes second waits a moment
            for ending in reversed(self.endings):
                with suppress(Exception):
                    ending()
            remove_all()
        self._leave(self.number)

    def _raise(self, number: int, frame: FrameType | None) -> None:
        if self.number is None:
            self.number = number
            raise Stopped

    def _watch(self) -> None:
        """Say the line at the first signal; end after a while, or at once at the second."""
        heard: float | None = None
        while True:
            patience = None if heard is None else max(0.0, heard + GRACE - time.monotonic())
            if not select.select([self._reader], [], [], patience)[0]:
                self.end()
            numbers = self._reader.recv(64)
            if not numbers:  # the command is done
                return
            for number in (number for number in numbers if number in SIGNALS):
                if heard is None:
                    heard, self.number = time.monotonic(), self.number or number
                    self._tell(number)
                elif time.monotonic() - heard > ONE:
                    self._leave(number)

    def _tell(self, number: int) -> None:
        if self._told.acquire(blocking=False):
            line = f"fmn: stopped by {signal.Signals(number).name}: {self.advice}\n"
            with suppress(OSError, ValueError):  # the terminal may be gone
                sys.stderr.flush()
                # where a bar is drawn, on its line, and with the cursor that it hides
                os.write(2, ("\r\x1b[2K\x1b[?25h" * os.isatty(2) + line).encode())
            with suppress(OSError):  # what else is said of an end in the middle is no news
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def _leave(self, number: int) -> NoReturn:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(128 + number)


_current: Stop | None = None


@contextmanager
def stoppable() -> Iterator[None]:
    """End the process, with 128 and the signal as its code, when it is asked to in the context."""
    global _current
    if _current or threading.current_thread() is not threading.main_thread():
        yield
        return
    _current = stop = Stop()
    try:
        with stop.watched(), stop.handled():
            try:
                yield
            finally:
                if stop.number is not None:
                    stop.end()
    finally:
        _current = None


@contextmanager
def ends_here() -> Iterator[None]:
    """End the process in this context: a runner or Prefect outside of it would wait for tasks."""
    if _current is None:
        yield
        return
    with _current.handled():
        try:
            yield
        except Stopped:
            _current.end()


@contextmanager
def at_end(ending: Callable[[], object]) -> Iterator[None]:
    """Call something before the process ends, should it be asked to end in this context."""
    if _current is None:
        yield
        return
    _current.endings.append(ending)
    try:
        yield
    finally:
        if _current is not None and _current.number is None:
            _current.endings.remove(ending)


def keeps(store: str) -> None:
    """Say in the line that what is done is in a store."""
    if _current is not None:
        _current.advice = f"what is done is in {store}; the same command goes on from there"


def _forget() -> None:
    """A forked child ends as any process does, and does not end its parent."""
    global _current
    if _current is not None:
        _current = None
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(
                    number,
                    signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL,
                )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

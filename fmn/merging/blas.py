"""Linear algebra whose bytes do not depend on the number of processors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

_LOCK = Lock()


def in_one_thread(work: Callable[[], T]) -> T:
    """Return what ``work`` returns.

    BLAS adds in one order meanwhile, whatever the number of processors.

    One call at a time, each in a thread of its own: where several threads set and restore
    OpenBLAS's number of threads, one that has set it to 1 may find another.
    """
    import scipy.linalg  # noqa: F401  brings an OpenBLAS of its own: what comes later has no limit
    from threadpoolctl import threadpool_limits

    def limited() -> T:
        with threadpool_limits(1, "blas"):
            return work()

    with _LOCK, ThreadPoolExecutor(1) as fresh:
        return fresh.submit(limited).result()


def at_once(work: Callable[[S], T], pieces: Iterable[S]) -> list[T]:
    """Return what comes of each piece, in their order, some at once; within :func:`in_one_thread`.

    What a piece is must not depend on the number of processors.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, pieces))

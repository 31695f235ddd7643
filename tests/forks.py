"""Processes that start at once, because they are forked from one that has imported what they need.

They are as real as any: they can be killed, and get nothing of the test but what it passes.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

_imported: list[str] = []


def forking(*modules: str) -> ForkServerContext:
    """Return a context whose processes have imported these modules, in the environment of now.

    A process has one server to fork from, so one that imported other modules is ended first.
    """
    if _imported != [*modules]:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        _imported[:] = modules
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*modules])
    return context

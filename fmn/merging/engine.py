"""The engine: tensor by tensor and piece by piece, from memory-mapped models to wherever the pieces go."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmn.errors import FmnError
from fmn.merging.importance import At
from fmn.merging.plan import Plan

Array = np.ndarray[Any, np.dtype[Any]]

PIECE = 2**18
"""Elements that are merged at once (but at least one row): small enough to stay in a processor's cache.

And to be written quickly: Linux spends several times as long on single writes of 4 MB as on writes of 1 or 2 MB.
"""

Put = Callable[[str, Array, int], None]
"""Takes a merged piece: the tensor's name in the result, the piece, the number of elements before it."""


@dataclass(frozen=True)
class _Piece:
    """Rows ``start`` to ``stop`` of the parameter with that backbone-relative name."""

    name: str
    start: int
    stop: int


def merge_into(plan: Plan, put: Put, progress: Callable[[int], None] | None = None) -> None:
    """Merge every backbone tensor; ``put`` is called from several threads, in no particular order.

    Private memory is a few pieces per thread, whatever the size and number of models.

    Args:
        plan: the merge.
        put: takes the pieces.
        progress: called with the number of elements of each finished piece.

    Raises:
        FmnError: NaN or infinity in a model or in a Fisher; the message names it.
    """

    def merge(piece: _Piece) -> int:
        spec = plan.specs[plan.names[piece.name]]
        merged = _merged(plan, piece).astype(spec.dtype, copy=False)
        put(plan.names[piece.name], merged, piece.start * math.prod(spec.shape[1:]))
        return merged.size

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = [pool.submit(merge, piece) for piece in _pieces(plan)]
        try:
            for future in futures:
                size = future.result()
                if progress:
                    progress(size)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _pieces(plan: Plan) -> Iterator[_Piece]:
    for name, full in plan.names.items():
        shape = plan.specs[full].shape
        rows = shape[0] if shape else 1
        step = max(1, PIECE * rows // max(1, math.prod(shape)))
        for start in range(0, rows, step):
            yield _Piece(name, start, min(start + step, rows))


def _merged(plan: Plan, piece: _Piece) -> Array:
    shape = plan.specs[plan.names[piece.name]].shape
    at: At = slice(piece.start, piece.stop) if shape else ...
    tensors = [backbone[piece.name][at] for backbone in plan.backbones]
    importances = [importance(piece.name, shape, at) for importance in plan.importances]
    if plan.rule.fisher == "diagonal-fisher":
        for source, importance in zip(plan.weighted, importances, strict=True):
            if not (np.isfinite(importance) & (importance >= 0)).all():
                raise FmnError(
                    f"{source.name}: its Fisher of {piece.name} holds NaN, infinite or negative values; compute it again"
                )
    with np.errstate(all="ignore"):
        merged = plan.rule.combine(tensors, importances, [source.weight for source in plan.weighted])
    if not np.isfinite(merged).all():
        broken = [
            s.name for s, tensor in zip(plan.weighted, tensors, strict=True) if not np.isfinite(tensor.astype(np.float32)).all()
        ]
        raise FmnError(f"{broken[0] if broken else 'the merge'}: {piece.name} holds NaN or infinite values; nothing was written")
    return merged

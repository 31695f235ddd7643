"""The engine: tensor by tensor, in pieces, from memory-mapped models to wherever they go."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmn.errors import FisherError, FmnError
from fmn.merging.plan import Plan
from fmn.merging.rules import Part, by_weight
from fmn.merging.source import Source
from fmn.statistics import At, PerParameter

Array = np.ndarray[Any, np.dtype[Any]]

PIECE = 2**18
"""Elements that are merged at once (but at least one row): small enough to stay in a processor's
cache.

And to be written quickly: Linux spends several times as long on single writes of 4 MB as on writes
of 1 or 2 MB.
"""

WHOLES = 4
"""At most so many threads where a rule must see parameters as wholes: each holds a few copies of a
parameter a model.
"""

Put = Callable[[str, Array, int], None]
"""Takes a merged piece: the tensor's name in the result, the piece, the number of elements before
it.
"""


@dataclass(frozen=True)
class _Piece:
    """Rows ``start`` to ``stop`` of the parameter with that backbone-relative name."""

    name: str
    start: int
    stop: int


def merge_into(plan: Plan, put: Put, progress: Callable[[int], None] | None = None) -> None:
    """Merge every backbone tensor; ``put`` is called from several threads, in no particular order.

    Private memory is a few pieces per thread, whatever the size and number of models; a few times
    the largest parameter of all models, in four threads at most, where the rule must see wholes.

    Args:
        plan: the merge.
        put: takes the pieces.
        progress: called with the number of elements of each finished piece.

    Raises:
        FmnError: NaN or infinity in a model or in a Fisher; the message names it.
    """

    def merge(piece: _Piece) -> int:
        spec = plan.specs[plan.names[piece.name]]
        merged = _merged(plan, piece, spec.dtype).reshape(-1)
        offset = piece.start * math.prod(spec.shape[1:])
        step = PIECE if plan.rule.whole else max(1, merged.size)
        for start in range(0, merged.size, step):
            put(plan.names[piece.name], merged[start : start + step], offset + start)
        return merged.size

    threads = min(os.cpu_count() or 1, WHOLES) if plan.rule.whole else os.cpu_count()
    with ThreadPoolExecutor(threads) as pool:
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
        step = rows if plan.rule.whole else max(1, PIECE * rows // max(1, math.prod(shape)))
        for start in range(0, rows, step):
            yield _Piece(name, start, min(start + step, rows))


def _merged(plan: Plan, piece: _Piece, dtype: np.dtype[Any]) -> Array:
    if piece.name in plan.fitted:
        return plan.fitted[piece.name][piece.start : piece.stop]
    part = _part(plan, piece)
    combine = plan.rule.combine if part.parent is not None or not plan.rule.parent else by_weight
    with np.errstate(all="ignore"):
        merged = combine(part).astype(dtype, copy=False)
    if not np.isfinite(merged).all():
        named = [
            (source.name, tensor)
            for source, tensor in zip(plan.weighted, part.tensors, strict=True)
        ]
        if part.parent is not None:
            named.append(("the parent", part.parent))
        broken = [
            name for name, tensor in named if not np.isfinite(tensor.astype(np.float32)).all()
        ]
        if not broken and dtype == np.float16:
            raise FmnError(
                f"the merge: {piece.name} holds values that float16 cannot; choose dtype bfloat16 "
                "or float32"
            )
        raise FmnError(
            f"{broken[0] if broken else 'the merge'}: {piece.name} holds NaN or infinite values; "
            "nothing was written"
        )
    return merged


def _part(plan: Plan, piece: _Piece) -> Part:
    shape = plan.specs[plan.names[piece.name]].shape
    at: At = slice(piece.start, piece.stop) if shape else ...
    return Part(
        name=piece.name,
        tensors=tuple(backbone[piece.name][at] for backbone in plan.backbones),
        weights=tuple(source.weight for source in plan.weighted),
        statistics={
            name: tuple(
                _measured(source, reader, piece.name, shape, at)
                for source, reader in zip(plan.weighted, readers, strict=True)
            )
            for name, readers in plan.statistics.items()
        },
        parent=plan.parent[piece.name][at] if piece.name in plan.parent else None,
        models=tuple(source.digest for source in plan.weighted),
        parameters=plan.settings,
        inputs=plan.inputs.get(piece.name),
    )


def _measured(
    source: Source, reader: PerParameter, name: str, shape: tuple[int, ...], at: At
) -> Any:
    try:
        return reader(name, shape, at)
    except FisherError as error:
        raise FmnError(f"{source.name}: {error}") from error

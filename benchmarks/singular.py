"""How long rules without data take on one large matrix, and how far TSV-M is from an SVD.

The matrix is one of a feed-forward block of a 7B model, of random models: a parent, and fine-tunes
whose task vectors have singular values that fall by a power law, all rounded to float32 (and given
to the rule in float64, so that its result is not rounded). Timed is the rule alone, in this
process: seconds of all processors, seconds, and the most memory that the process has had.

The singular vectors of ``tsv-m`` are eigenvectors of the smaller Gram matrix, in float64. The same
formula by LAPACK's singular value decomposition (gesdd, float64), written out here, is timed beside
it; the difference is over the norm of the change from the parent.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from _common import table
from threadpoolctl import threadpool_limits

from fmn.merging import Part, get_rule

RULES = ("tsv-m", "iso-c", "regmean-free", "della", "breadcrumbs", "consensus-ta")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", type=int, nargs=2, default=(4096, 14336))
    parser.add_argument("--models", type=int, default=4)
    parser.add_argument("--decay", type=float, default=0.5, help="σ_i falls like i^-decay [0.5]")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--without-svd", action="store_true")
    args = parser.parse_args()
    parent, models = random_models(tuple(args.shape), args.models, args.decay)
    rows = []
    for name in args.rules:
        rule = get_rule(name)
        part = Part(
            "layer.weight",
            tuple(models),
            (1.0,) * len(models),
            parent=parent,
            models=tuple(f"{number}" * 64 for number in range(len(models))),
            parameters=rule.settings({}),
            inputs=1,
        )
        merged, cost = measured(partial(rule.combine, part))
        off, reference_cost = "", None
        if name == "tsv-m" and not args.without_svd:
            reference, reference_cost = measured(partial(by_svd, models, parent))
            change = np.linalg.norm(reference - parent)
            off = f"{np.linalg.norm(merged - reference) / change:.1e}"
        rows.append((name, *cost, off))
        if reference_cost:
            rows.append((f"{name}, by SVD", *reference_cost, ""))
        print(f"{name}: {cost[0]} s of processors", file=sys.stderr)
    shape = " × ".join(map(str, args.shape))
    header = ("", "CPU seconds", "seconds", "peak of the process, GB", "off the SVD by")
    print(table(f"{args.models} models, one matrix of {shape}", header, rows))


def random_models(
    shape: tuple[int, int], count: int, decay: float
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a parent and its fine-tunes: float32's values, in float64."""
    random = np.random.default_rng(0)
    small = min(shape)
    parent = random.standard_normal(shape, np.float32) * np.float32(0.02)
    models = []
    for _ in range(count):
        left = random.standard_normal((shape[0], small), np.float32)
        left *= (np.arange(1, small + 1) ** -decay / small).astype(np.float32)
        right = random.standard_normal((small, shape[1]), np.float32)
        models.append((parent + np.float32(0.02) * (left @ right)).astype(np.float64))
    return parent.astype(np.float64), models


def measured(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, tuple[str, str, str]]:
    """Return what it returns, seconds of processors, seconds, and the process's peak so far."""
    cpu, start = time.process_time(), time.perf_counter()
    with threadpool_limits(1, "blas"):
        result = work()
    processors, took = time.process_time() - cpu, time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    return result, (f"{processors:.1f}", f"{took:.1f}", f"{peak:.1f}")


def by_svd(models: Sequence[np.ndarray], parent: np.ndarray) -> np.ndarray:
    count = max(1, min(parent.shape) // len(models))
    triples = []
    for model in models:
        u, s, vt = np.linalg.svd(model.astype(np.float64) - parent, full_matrices=False)
        triples.append((u[:, :count], s[:count], vt[:count].T))
    left, values, right = (np.concatenate(each, axis=-1) for each in zip(*triples, strict=True))
    return parent + (polar(left) * values) @ polar(right).T


def polar(matrix: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    return np.asarray(u @ vt)


if __name__ == "__main__":
    main()

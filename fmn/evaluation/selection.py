"""Rows that merges are chosen by, and rows that are reported: a validation split in two parts.

The best of many merges on some rows is best on them in part by luck, so its score on the same rows
is too high; on others it is not. The draw knows how many rows there are and nothing else. So it is
the same for every model of a split, and whatever the labels of the reported part are, the choice is
the same.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.bool_]]


def chosen_by(rows: int, share: float) -> Array:
    """Return which rows of a split merges are chosen by, [rows]; the others are reported.

    They are the first ⌊share · rows⌋ of a permutation of all, by numpy's PCG64 with the number of
    rows as its seed.

    Args:
        rows: how many there are.
        share: in (0, 1), as it was written: 0.29 of 100 is 29.
    """
    order = np.random.Generator(np.random.PCG64(rows)).permutation(rows)
    which = np.zeros(rows, dtype=bool)
    which[order[: floor(_exact(share) * rows)]] = True
    return which


def fewest(share: float) -> int:
    """Return how many rows a split has to have, so that either part has one."""
    return ceil(1 / _exact(share))


def _exact(share: float) -> Fraction:
    return Fraction(str(share))

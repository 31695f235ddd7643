"""What statistics that weight parameters share: their scale, and what sound values are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fmn.recipe import Normalize
from fmn.statistics.statistic import Array

ONE = np.ones(())


def normalized(tensors: Mapping[str, Array], how: Normalize) -> Array:
    """Return what a Fisher's values are divided by: 1, their mean, or their global norm.

    1 where that is 0.
    """
    if how == "none":
        return ONE
    # in the order of their file, so that an estimate in memory has the same sum
    ordered = [tensors[name] for name in sorted(tensors)]
    if how == "mean":
        scale = sum(tensor.sum(dtype=np.float64) for tensor in ordered) / sum(
            tensor.size for tensor in ordered
        )
    else:  # one tensor at a time: a diagonal Fisher is as large as the model
        scale = np.sqrt(sum(np.square(tensor, dtype=np.float64).sum() for tensor in ordered))
    return np.asarray(scale) if scale > 0 else ONE


def is_sound(values: Any) -> bool:
    """Tell whether Fisher values are finite, and 0 or more."""
    return bool((np.isfinite(values) & (np.asarray(values) >= 0)).all())

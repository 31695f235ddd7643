"""What reports ask of merge rules: which weight by mask nodes, and what they divide Fishers by."""

from __future__ import annotations

from fmn import merging
from fmn.errors import ParamsError
from fmn.recipe import Normalize
from fmn.report.fishers import MASK, Arrays
from fmn.statistics import scale_of

WAYS: tuple[Normalize, ...] = ("none", "mean", "l2")


def weights_by_nodes(method: str) -> bool:
    """Return whether a method weights parameters by the mask nodes that govern them.

    One that is not known here, because it came from a package that is not installed, does not.
    """
    try:
        rule = merging.get_rule(method)
    except ParamsError:
        return False
    return rule.statistics == (MASK,) and rule.combine is merging.by_importance


def scale(arrays: Arrays, normalize: Normalize) -> float:
    """Return what all values of a mask Fisher are divided by."""
    return float(scale_of(arrays, normalize))

"""Estimators: the Fisher of mask nodes, the full diagonal Fisher, Gram matrices.

An estimator from outside uses what they use: :func:`describe`, :func:`lent`, :func:`arguments`, and
:class:`PlainEstimate` for what it returns.
"""

from fmn.fisher.diagonal import diagonal_fisher
from fmn.fisher.gram import gram_matrices
from fmn.fisher.mask import mask_fisher
from fmn.fisher.result import (
    Aggregation,
    DiagonalFisher,
    Estimate,
    GramMatrices,
    Labels,
    MaskFisher,
    Placement,
    PlainEstimate,
)
from fmn.fisher.session import Subject, arguments, describe, lent

__all__ = [
    "Aggregation",
    "DiagonalFisher",
    "Estimate",
    "GramMatrices",
    "Labels",
    "MaskFisher",
    "Placement",
    "PlainEstimate",
    "Subject",
    "arguments",
    "describe",
    "diagonal_fisher",
    "gram_matrices",
    "lent",
    "mask_fisher",
]

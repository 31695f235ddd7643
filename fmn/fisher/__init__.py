"""Estimators: the Fisher of mask nodes, the full diagonal Fisher, Gram matrices."""

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
)

__all__ = [
    "Aggregation",
    "DiagonalFisher",
    "Estimate",
    "GramMatrices",
    "Labels",
    "MaskFisher",
    "Placement",
    "diagonal_fisher",
    "gram_matrices",
    "mask_fisher",
]

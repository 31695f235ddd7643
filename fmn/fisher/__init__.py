"""Estimators: Fishers of mask nodes and of parameters, inputs of linear layers, head states.

An estimator from outside uses what they use: :func:`describe`, :func:`lent`, :func:`arguments`, and
:class:`PlainEstimate` for what it returns.
"""

from fmn.fisher.diagonal import diagonal_fisher
from fmn.fisher.gram import gram_matrices, second_moments
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
from fmn.fisher.states import HeadStates, head_states, read_head

__all__ = [
    "Aggregation",
    "DiagonalFisher",
    "Estimate",
    "GramMatrices",
    "HeadStates",
    "Labels",
    "MaskFisher",
    "Placement",
    "PlainEstimate",
    "Subject",
    "arguments",
    "describe",
    "diagonal_fisher",
    "gram_matrices",
    "head_states",
    "lent",
    "mask_fisher",
    "read_head",
    "second_moments",
]

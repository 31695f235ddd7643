"""Fisher estimators: of mask nodes, and the full diagonal."""

from fmn.fisher.diagonal import diagonal_fisher
from fmn.fisher.mask import mask_fisher
from fmn.fisher.result import Aggregation, DiagonalFisher, Labels, MaskFisher, Placement

__all__ = ["Aggregation", "DiagonalFisher", "Labels", "MaskFisher", "Placement", "diagonal_fisher", "mask_fisher"]

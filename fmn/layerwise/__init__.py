"""Layer-wise merges: each layer of a merge refitted to what its models say."""

from fmn.layerwise.calibration import Calibrated, calibrate
from fmn.layerwise.experts import Expert, Regression
from fmn.layerwise.fit import Fitted, count, fit_layers

__all__ = ["Calibrated", "Expert", "Fitted", "Regression", "calibrate", "count", "fit_layers"]

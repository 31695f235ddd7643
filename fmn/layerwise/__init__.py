"""Layer-wise merges: each layer of a merge refitted to what its models say."""

from fmn.layerwise.fit import Fitted, Lesson, Pupil, count, fit_layers
from fmn.layerwise.lesson import Taught, teach

__all__ = ["Fitted", "Lesson", "Pupil", "Taught", "count", "fit_layers", "teach"]

"""The protocol of *Fisher Mask Nodes for Language Model Merging* on any zoo, and its tables."""

from fmn.steps.reproduce.protocol import (
    EVERY,
    METHODS,
    SAMPLES,
    Column,
    Protocol,
    Reproduction,
    open_reproduction,
)
from fmn.steps.reproduce.results import Results, read_results
from fmn.steps.reproduce.run import Planned, plan, run
from fmn.steps.reproduce.tables import documents, picture

__all__ = [
    "EVERY",
    "METHODS",
    "SAMPLES",
    "Column",
    "Planned",
    "Protocol",
    "Reproduction",
    "Results",
    "documents",
    "open_reproduction",
    "picture",
    "plan",
    "read_results",
    "run",
]

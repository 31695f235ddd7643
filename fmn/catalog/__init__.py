"""The team's catalog: reading, comparing and naming the merges of a store, without torch."""

from fmn.catalog.card import model_card
from fmn.catalog.catalog import Catalog, differences
from fmn.catalog.entry import Entry, MergedModel, join, together
from fmn.catalog.pairs import (
    MOST,
    Difference,
    Paired,
    against,
    against_own,
    mean_interval,
    read_paired,
    read_resampled,
)
from fmn.catalog.query import Query, in_order, task_score
from fmn.catalog.score import ELSEWHERE, Evaluation, Score
from fmn.catalog.tags import Tag

__all__ = [
    "ELSEWHERE",
    "MOST",
    "Catalog",
    "Difference",
    "Entry",
    "Evaluation",
    "MergedModel",
    "Paired",
    "Query",
    "Score",
    "Tag",
    "against",
    "against_own",
    "differences",
    "in_order",
    "join",
    "mean_interval",
    "model_card",
    "read_paired",
    "read_resampled",
    "task_score",
    "together",
]

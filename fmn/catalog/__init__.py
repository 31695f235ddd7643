"""The team's catalog: reading, comparing and naming the merges of a store, without torch."""

from fmn.catalog.card import model_card
from fmn.catalog.catalog import Catalog, differences
from fmn.catalog.entry import Entry, Evaluation, MergedModel, Score, join, together
from fmn.catalog.query import Query, in_order, task_score
from fmn.catalog.tags import Tag

__all__ = [
    "Catalog",
    "Entry",
    "Evaluation",
    "MergedModel",
    "Query",
    "Score",
    "Tag",
    "differences",
    "in_order",
    "join",
    "model_card",
    "task_score",
    "together",
]

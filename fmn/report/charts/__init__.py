"""The charts: a file for each, with what it draws (rows) and how (a Vega-Lite spec).

A new chart of a report is a file with a :class:`Board`, and a line in :data:`BOARDS`: the page has
it in its section, and ``fmn report --pictures`` as a file. Charts of one merge or one Fisher
(``scores``, ``winners``, ``shares``, ``groups``) and of several methods in a document
(``whiskers``) are drawn where they are asked for.
"""

from fmn.report.charts import curves, maps, methods, pairs, runs, sizes
from fmn.report.charts.chart import Board, Chart, Spec

BOARDS: tuple[Board, ...] = (
    sizes.BOARD,
    methods.BOARD,
    pairs.BOARD,
    maps.BOARD,
    curves.BOARD,
    runs.SECONDS,
    runs.COUNTS,
)

__all__ = ["BOARDS", "Board", "Chart", "Spec"]

"""Pictures for files: of one Fisher, of who wins what in one merge, of curves for a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmn.report.charts import Spec, curves, groups, maps, whiskers, winners
from fmn.report.charts import shares as bars
from fmn.report.fishers import DIAGONAL, MASK, Arrays, described, is_map, node_tables
from fmn.report.groups import group_means
from fmn.report.layout import CELL, Placed, beside, methods_key, models_key, total_width
from fmn.report.shares import Shares
from fmn.report.terminal import fisher_text, shares_text
from fmn.report.theme import OTHER, colour_of, letter_of

NARROW, MIDDLE, WIDE = 240, 380, 620
"""Widths of charts, in pixels."""


@dataclass(frozen=True)
class FisherPicture:
    """A Fisher, to be drawn.

    Attributes:
        title: such as the file's name.
        arrays: the Fisher.
        metadata: what it says of itself.
    """

    title: str
    arrays: Arrays
    metadata: Mapping[str, str]

    def spec(self) -> Spec:
        """Draw it; see :func:`draw_fisher`."""
        return draw_fisher(self.arrays, self.metadata, self.title)

    def text(self, width: int) -> str:
        """Write it; see :func:`fmn.report.terminal.fisher_text`."""
        return fisher_text(self.arrays, self.metadata, width)


@dataclass(frozen=True)
class SharesPicture:
    """The shares of a merge's models, to be drawn.

    Attributes:
        title: such as the merge's name.
        names: of the models.
        shares: theirs.
    """

    title: str
    names: Sequence[str]
    shares: Shares

    def spec(self) -> Spec:
        """Draw them; see :func:`draw_shares`."""
        return draw_shares(self.names, self.shares, self.title)

    def text(self, width: int) -> str:
        """Write them; see :func:`fmn.report.terminal.shares_text`."""
        return shares_text(self.names, self.shares, width)


def draw_fisher(arrays: Arrays, metadata: Mapping[str, str], title: str) -> Spec:
    """Draw a Fisher.

    A mask Fisher: of each kind of node with few in a layer a map of layers × nodes; of the others
    the values of every layer's nodes, sorted, the largest first. A diagonal Fisher: the mean over
    the parameters of every layer's query, key, value, … as a map (see
    :func:`fmn.report.groups.group_means` for what is in which). All on logarithmic scales; cells
    that are 0 are hollow.

    Args:
        arrays: of the file, see :mod:`fmn.fisher.result`.
        metadata: of the file; they go into the caption.
        title: above.

    Raises:
        ArchitectureError: a diagonal Fisher of an unknown family.
        FisherError: tensors are missing, or hold NaN, infinity or a negative value.
    """
    if metadata.get("kind") == DIAGONAL:
        chart = groups.draw(group_means(arrays, metadata))
        return beside([Placed(chart, WIDE)], title=title, caption=described(metadata))
    charts = [
        Placed(maps.map_of(table, title), _map_width(table.values.shape[1]))
        if is_map(table.values.shape[1])
        else Placed(curves.curves_of(table, title), MIDDLE)
        for table in node_tables(arrays).values()
    ]
    return beside(charts, columns=2, title=title, caption=described({"kind": MASK, **metadata}))


def _map_width(columns: int) -> int:
    """Return a width that has room for text in cells, if they are few."""
    return min(max(MIDDLE, (CELL + 1) * columns), WIDE)


def draw_shares(names: Sequence[str], shares: Shares, title: str) -> Spec:
    """Draw who wins which mask node of a merge.

    Of each kind of node with few in a layer: a map of layers × nodes in the winner's colour, the
    paler the smaller its share, with its letter and its share in %; ties are grey. Of the others:
    bars per layer, with every model's mean share, and the fraction that it wins. Models that come
    after those that have a colour are grey, and told apart by their letters.

    Args:
        names: of the models.
        shares: theirs.
        title: above.
    """
    charts: list[Placed] = []
    for each in shares.values():
        count = each.values.shape[1]
        if is_map(count):
            charts.append(Placed(winners.draw(names, each), _map_width(count)))
        else:
            charts += [Placed(bars.draw(names, each, how), NARROW) for how in bars.MEASURES]
    key = {f"{letter_of(number)}  {name}": colour_of(number) for number, name in enumerate(names)}
    if any(is_map(each.values.shape[1]) and each.tied().any() for each in shares.values()):
        key[f"{winners.TIE}  a tie"] = OTHER
    return beside(charts, title=title, key=models_key(key, total_width(charts, 3) - 60))


def draw_curves(
    panels: Sequence[whiskers.Panel], title: str, methods: Mapping[str, str] | None = None
) -> Spec:
    """Draw panels of curves side by side, with one key.

    Args:
        panels: one or more.
        title: above.
        methods: the method that each curve is of, by the curve's name: it looks as the method does
            elsewhere.
    """
    slots = whiskers.curve_slots(panels, methods or {})
    charts = [Placed(whiskers.draw(panel, slots), whiskers.WIDTH) for panel in panels]
    key = methods_key(slots, total_width(charts, 3) - 60)
    return beside(charts, title=title, key=key)

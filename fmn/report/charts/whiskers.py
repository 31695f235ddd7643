"""Curves of several methods side by side, for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fmn.report.canvas import style
from fmn.report.theme import CATEGORIES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vX"
NUDGE = 0.05
"""Of a place on the axis: whiskers of different curves lie side by side."""


@dataclass(frozen=True)
class Point:
    """A value with its range.

    Attributes:
        at: place on the axis.
        value: of the curve.
        low: end of the whisker.
        high: the other end.
    """

    at: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """Curves over one axis.

    Attributes:
        title: above.
        axis: what is along it.
        unit: of the values.
        places: along the axis, in order.
        curves: by name; those of one name have one colour in all panels.
    """

    title: str
    axis: str
    unit: str
    places: tuple[str, ...]
    curves: Mapping[str, Sequence[Point]]


def draw_curves(panels: Sequence[Panel], title: str) -> Figure:
    """Draw panels side by side, with one legend.

    Args:
        panels: one or more.
        title: above.
    """
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(4.6 * len(panels) + 0.4, 3.9), layout="constrained")
        figure.suptitle(title, x=0.01, ha="left", parse_math=False)
        names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
        handles: dict[str, Any] = {}
        for axes, panel in zip(
            figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
        ):
            handles |= _draw(axes, panel, names)
        columns = min(len(handles), 2 * len(panels))  # what fits beside each other
        legend = figure.legend(
            handles.values(), handles, loc="outside lower left", ncols=columns, frameon=False
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _draw(axes: Axes, panel: Panel, names: Sequence[str]) -> dict[str, object]:
    handles: dict[str, object] = {}
    for name, points in panel.curves.items():
        number = names.index(name)
        shift = NUDGE * (number - (len(names) - 1) / 2)
        places = [panel.places.index(point.at) + shift for point in points]
        below = [point.value - point.low for point in points]
        above = [point.high - point.value for point in points]
        handles[name] = axes.errorbar(
            places,
            [point.value for point in points],
            yerr=[below, above],
            color=CATEGORIES[number % len(CATEGORIES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            linewidth=1.4,
            elinewidth=0.6,
        )
    axes.set(
        title=panel.title,
        xlabel=panel.axis,
        ylabel=panel.unit,
        xlim=(-0.5, len(panel.places) - 0.5),
    )
    axes.set_xticks(range(len(panel.places)), panel.places)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    return handles

"""Draw the pictures of docs/method.md.

``python docs/pictures.py`` writes docs/pictures/*.svg, the same bytes every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

FOLDER = Path(__file__).parent / "pictures"
INK, GREY, PALE = "#1b2733", "#8a949e", "#e9edf0"
BLUE, ORANGE = "#0072b2", "#e69f00"
HEADS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
"""Of Okabe and Ito: they differ for eyes that do not see all colours."""

STYLE = {
    "svg.hashsalt": "fmn",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "mathtext.fontset": "stix",
}


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    with mpl.rc_context(STYLE):
        for draw in DRAWN:
            figure = draw()
            figure.savefig(
                FOLDER / f"{draw.__name__}.svg",
                metadata={"Date": None, "Creator": None},
                facecolor="white",
            )


def nodes() -> Figure:
    """One layer: its mask nodes, and which rows and columns each association lets them govern."""
    figure = Figure(figsize=(9, 3.6))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 90), ylim=(6, 42), aspect="equal")
    axes.axis("off")
    axes.text(3, 40.5, "attention", weight="bold")
    for y, name, rule in (
        (31, "$W_q, b_q$", "paper"),
        (23.5, "$W_k, b_k$", "paper"),
        (16, "$W_v, b_v$", "value"),
    ):
        _matrix(axes, 9, y, 6, HEADS, rows=True, solid=rule == "paper")
        axes.text(3, y + 3, name, va="center", fontsize=10)
    _matrix(axes, 37, 23.5, 6, HEADS, rows=False, solid=False)
    axes.text(40, 31, "$W_o$", ha="center", fontsize=10)
    for head, colour in enumerate(HEADS):
        y = 31 - 3.4 * head
        axes.add_patch(
            FancyBboxPatch(
                (20.5, y), 6.5, 2.2, boxstyle="round,pad=0.2", facecolor="white", edgecolor=colour
            )
        )
        axes.text(23.7, y + 1.1, f"head {head + 1}", ha="center", va="center", fontsize=8)
        axes.plot([30.3], [y + 1.1], "o", color=colour, markersize=10)
        axes.text(
            30.3, y + 1.1, "m", color="white", ha="center", va="center", fontsize=7, weight="bold"
        )
        _arrow(axes, (27.4, y + 1.1), (29.2, y + 1.1))
        _arrow(axes, (31.4, y + 1.1), (36.4, 26.5))
    _arrow(axes, (15.6, 26.5), (19.6, 26.5))
    axes.text(47, 40.5, "feed-forward", weight="bold")
    _matrix(axes, 52, 21.5, 10, [BLUE] * 8, rows=True, solid=True, fade=True)
    axes.text(57, 33, "$W_1, b_1$", ha="center", fontsize=10)
    _matrix(axes, 77, 21.5, 10, [BLUE] * 8, rows=False, solid=False, fade=True)
    axes.text(82, 33, "$W_2$", ha="center", fontsize=10)
    axes.text(66, 26.5, "σ", ha="center", va="center", fontsize=13)
    for neuron in range(8):
        y = 22.1 + 1.25 * neuron
        axes.plot([71], [y], "o", color=BLUE, alpha=_fade(7 - neuron, 8), markersize=6)
        _arrow(axes, (67.5, 26.5), (70.2, y))
        _arrow(axes, (71.8, y), (76.4, 26.5))
    _arrow(axes, (62.6, 26.5), (64.8, 26.5))
    _arrow(axes, (43.6, 26.5), (51.4, 26.5))
    axes.text(71, 33, "m, one a neuron", ha="center", fontsize=8)
    axes.text(30.3, 35, "m, one a head", ha="center", fontsize=8)
    _legend(axes)
    return figure


def _legend(axes: Axes) -> None:
    _matrix(axes, 9, 8, 4, HEADS, rows=True, solid=True)
    axes.text(14, 10, "filled: its node governs it, in every association", va="center")
    _matrix(axes, 52, 8, 4, HEADS, rows=True, solid=False)
    axes.text(
        57,
        10,
        "striped: rows with “value”, columns with\n“output”; otherwise they have no node",
        va="center",
    )


def _matrix(
    axes: Axes,
    x: float,
    y: float,
    size: float,
    colours: Sequence[str],
    *,
    rows: bool,
    solid: bool,
    fade: bool = False,
) -> None:
    step = size / len(colours)
    for number, colour in enumerate(colours):
        at = (x, y + size - (number + 1) * step) if rows else (x + number * step, y)
        shape = (size, step) if rows else (step, size)
        alpha = _fade(number, len(colours)) if fade else 1.0
        if solid:
            axes.add_patch(
                Rectangle(
                    at, *shape, facecolor=colour, alpha=alpha, edgecolor="white", linewidth=0.6
                )
            )
        else:
            axes.add_patch(
                Rectangle(
                    at,
                    *shape,
                    facecolor="white",
                    edgecolor=colour,
                    alpha=alpha,
                    hatch="////",
                    linewidth=0.6,
                )
            )
    axes.add_patch(Rectangle((x, y), size, size, fill=False, edgecolor=INK, linewidth=0.8))


def _fade(number: int, count: int) -> float:
    return 1.0 - 0.75 * number / (count - 1)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=6,
            color=GREY,
            linewidth=0.7,
            shrinkA=0,
            shrinkB=0,
        )
    )


def shares() -> Figure:
    """Two models' Fishers of eight heads, and the shares that they give.

    The last head has no Fisher in either.
    """
    a = np.array([9, 2, 5, 1, 0.5, 6, 3, 0]) / 1e4
    b = np.array([1, 7, 5, 3, 0.2, 0, 6, 0]) / 1e4
    total = a + b
    share = np.divide(a, total, out=np.full_like(a, 0.5), where=total > 0)
    heads = np.arange(1, len(a) + 1)
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    above.bar(heads - 0.18, a, 0.34, color=BLUE, label="model A")
    above.bar(heads + 0.18, b, 0.34, color=ORANGE, label="model B")
    above.set(ylabel="Fisher of the head")
    above.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    above.legend(frameon=False, loc="upper right", ncols=2)
    known = total > 0
    for mask, more in ((known, {}), (~known, {"hatch": "////", "alpha": 0.45})):
        below.bar(heads[mask], share[mask], 0.7, color=BLUE, edgecolor="white", **more)
        below.bar(
            heads[mask],
            1 - share[mask],
            0.7,
            bottom=share[mask],
            color=ORANGE,
            edgecolor="white",
            **more,
        )
    for head, part in zip(heads, share, strict=True):
        below.text(
            head,
            0.04,
            f"{100 * part:.0f} %",
            ha="center",
            color="white" if total[head - 1] else INK,
            fontsize=8,
        )
    below.set(
        xlabel="head; the eighth has no Fisher in either model: λ decides",
        ylabel="share of its rows",
        xticks=heads,
    )
    return figure


def aggregation() -> Figure:
    """Eight examples' gradients of one node: their mean square, and what batching makes of them.

    Batching here means that gradients are aggregated per batch.
    """
    gradients = np.array([0.9, 0.5, -0.6, 0.8, -0.7, 0.4, 1.0, -0.3])
    sizes = (1, 2, 4, 8)
    figure = Figure(figsize=(7, 2.7), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    examples = np.arange(1, len(gradients) + 1)
    left.axhline(0, color=GREY, linewidth=0.8)
    left.bar(
        examples, gradients, 0.6, color=[BLUE if gradient > 0 else ORANGE for gradient in gradients]
    )
    left.set(xlabel="example", ylabel=r"$\partial \ell / \partial m$", xticks=examples)
    left.set_title("one node's gradients, example by example", fontsize=9)
    per_batch = [np.mean(gradients.reshape(-1, size).mean(1) ** 2) for size in sizes]
    right.axhline(np.mean(gradients**2), color=INK, linewidth=1, linestyle="--")
    right.text(
        3.4, np.mean(gradients**2) * 1.03, "per example, any batch size", ha="right", fontsize=8
    )
    right.bar(range(len(sizes)), per_batch, 0.6, color=BLUE)
    right.set(xlabel="batch size", xticks=range(len(sizes)), xticklabels=sizes, ylim=(0, 0.52))
    right.set_title("what is squared per batch, averaged", fontsize=9)
    return figure


DRAWN: tuple[Callable[[], Figure], ...] = (nodes, shares, aggregation)

if __name__ == "__main__":
    main()

"""Pictures of one Fisher, or of who wins each head and neuron of one merge, by matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fmn.report.canvas import (
    MOST_ROWS,
    cells,
    check_format,
    colour_bar,
    has_room,
    map_width,
    number,
    panels,
    save_figure,
)
from fmn.report.nodes import (
    DIAGONAL,
    MASK,
    Array,
    Arrays,
    described,
    group_means,
    mask_nodes,
    printable,
)
from fmn.report.shares import Shares
from fmn.report.terminal import fisher_text, shares_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Okabe and Ito's, which colour-blind readers can tell apart; black is left out for the text."""
OTHERS, TIE = "#7F7F7F", "#D9D9D9"

MASK_UNIT = "mean of (∂ℓ/∂m)², in ℓ²"
"""The loss ℓ has a unit (nats, for cross-entropy), the mask m has none."""


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

    def figure(self) -> Figure:
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

    def figure(self) -> Figure:
        """Draw them; see :func:`draw_shares`."""
        return draw_shares(self.names, self.shares, self.title)

    def text(self, width: int) -> str:
        """Write them; see :func:`fmn.report.terminal.shares_text`."""
        return shares_text(self.names, self.shares, width)


def draw_fisher(arrays: Arrays, metadata: Mapping[str, str], title: str) -> Figure:
    """Draw a Fisher.

    A mask Fisher: on the left every head's value as a map of layers × heads; on the right the
    values of every layer's neurons, sorted, the largest first. A diagonal Fisher: the mean over the
    parameters of every layer's query, key, value, … as a map (see
    :func:`fmn.report.nodes.group_means` for what is in which). Both on logarithmic scales; cells
    that are 0 are hatched.

    Args:
        arrays: of the file, see :mod:`fmn.fisher.result`.
        metadata: of the file; they go into the caption.
        title: above.

    Raises:
        ArchitectureError: a diagonal Fisher of an unknown family.
        FisherError: tensors are missing, or hold NaN, infinity or a negative value.
    """
    if metadata.get("kind") == DIAGONAL:
        groups = group_means(arrays, metadata)
        means = np.stack(list(groups.values()), axis=1)
        with panels(title, described(metadata), len(means), [1.1 * len(groups)]) as (
            figure,
            (axes,),
        ):
            _heat_map(figure, axes, means, "parameters", "mean of (∂ℓ/∂θ)²")
            axes.set_title("Mean over the parameters of each group")
            axes.set_xticks(range(len(groups)), [group.replace(" ", "\n", 1) for group in groups])
        return figure
    nodes = mask_nodes(arrays)
    widths = [map_width(nodes.attention.shape[1]), 3.6]
    with panels(title, described({"kind": MASK, **metadata}), len(nodes.attention), widths) as (
        figure,
        (left, right),
    ):
        _heat_map(figure, left, nodes.attention, "head", MASK_UNIT)
        left.set_title("Attention heads")
        _sorted_curves(figure, right, nodes.feed_forward)
    return figure


def draw_shares(names: Sequence[str], shares: Shares, title: str) -> Figure:
    """Draw who wins which head and neuron of a merge.

    On the left a map of layers × heads in the winner's colour, the paler the smaller its share,
    with the share in %; ties are grey. Then bars per layer: every model's mean share of the
    neurons, and the fraction of the neurons that it wins. Of more models than there are colours,
    those with the greatest mean shares have one each; the others are grey together.

    Args:
        names: of the models.
        shares: theirs.
        title: above.
    """
    from matplotlib.patches import Patch

    colours = _colours(shares)
    widths = [map_width(shares.attention.shape[1]), 2.6, 2.6]
    with panels(title, "", len(shares.attention), widths) as (figure, (heads, mean, won)):
        _winners_map(heads, shares, colours)
        _bars(mean, shares.mean("feed_forward"), colours, "Neurons: mean share")
        _bars(won, shares.won("feed_forward"), colours, "Neurons: won")
        known = [
            (printable(name), colour)
            for name, colour in zip(names, colours, strict=True)
            if colour != OTHERS
        ]
        known += [(f"{colours.count(OTHERS)} others", OTHERS)] if OTHERS in colours else []
        known += [("tie", TIE)] if shares.tied("attention").any() else []
        said, patches = [name for name, _ in known], [Patch(color=colour) for _, colour in known]
        fit = int(12 * figure.get_figwidth() / (max(map(len, said)) + 6))
        legend = figure.legend(
            patches,
            said,
            loc="outside lower left",
            ncols=max(1, min(len(said), fit)),
            frameon=False,
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
    return figure


def _bars(axes: Axes, parts: Array, colours: Sequence[str], title: str) -> None:
    layers, models = parts.shape
    left = np.zeros(layers)
    for model in sorted(range(models), key=lambda model: colours[model] == OTHERS):
        axes.barh(range(layers), 100 * parts[:, model], left=left, color=colours[model], height=0.8)
        left += 100 * parts[:, model]
    axes.set(title=title, xlabel="%", xlim=(0, 100), ylim=(layers - 0.5, -0.5))
    axes.spines[["top", "right"]].set_visible(False)
    number(axes.yaxis, layers, MOST_ROWS)


def _colours(shares: Shares) -> list[str]:
    mean = (shares.mean("attention") + shares.mean("feed_forward")).mean(axis=0)
    named = sorted(np.argsort(-mean, kind="stable")[: len(COLOURS)])
    colour = dict(zip(named, COLOURS, strict=False))
    return [colour.get(model, OTHERS) for model in range(len(mean))]


def _heat_map(figure: Figure, axes: Axes, values: Array, what: str, unit: str) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    positive = values[values > 0]
    low, high = (positive.min(), positive.max()) if positive.size else (1.0, 1.0)
    norm = LogNorm(low, high) if low < high else LogNorm(low / 2, high * 2)
    shown = np.ma.masked_equal(values, 0)
    image = axes.imshow(
        shown, norm=norm, cmap=colormaps["cividis"], aspect="auto", interpolation="nearest"
    )
    axes.patch.set(
        hatch="/////", facecolor="white", edgecolor="0.6"
    )  # shows through where a value is masked
    axes.set_xlabel(what if positive.size == values.size else f"{what} (hatched: 0)")
    if positive.size:
        colour_bar(figure, axes, image, label=unit)
    digits = 1 if values.shape[1] <= 8 else 0
    cells(
        axes,
        values.shape,
        lambda at: (
            _short(values[at], digits),
            image.to_rgba(shown[at]) if values[at] else (1, 1, 1, 1),
        ),
    )


def _short(value: float, digits: int) -> str:
    """Return such as ``3e-4``, with so many digits after the point."""
    mantissa, _, exponent = f"{value:.{digits}e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def _sorted_curves(figure: Figure, axes: Axes, values: Array) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    layers, neurons = values.shape
    colours = colormaps["cividis"](
        np.linspace(0, 0.9, layers)
    )  # its last tenth is too pale for a line on white
    fraction, falling = (np.arange(neurons) + 0.5) / neurons, -np.sort(-values, axis=1)
    for colour, curve in zip(colours, falling, strict=True):
        axes.plot(
            fraction,
            np.where(curve > 0, curve, np.nan),
            color=colour,
            marker="o" if neurons == 1 else None,
        )
    axes.set(title="Feed-forward neurons, the largest first", xlim=(0, 1), ylabel=MASK_UNIT)
    zero = f" ({100 * (values == 0).mean():.3g} % are 0, not drawn)" if (values == 0).any() else ""
    axes.set_xlabel(f"fraction of the layer's neurons{zero}")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if not values.any():
        axes.set_yticks([])
        return
    axes.set_yscale("log")
    if layers > 1:
        scale = ScalarMappable(
            BoundaryNorm(np.arange(layers + 1) - 0.5, layers), ListedColormap(colours)
        )
        bar = colour_bar(figure, axes, scale, label="layer")
        number(bar.ax.yaxis, layers, MOST_ROWS)
        bar.ax.tick_params(which="both", length=0)
        bar.ax.invert_yaxis()


def _winners_map(axes: Axes, shares: Shares, colours: Sequence[str]) -> None:
    from matplotlib.colors import to_rgb

    winners, tied, part = (
        shares.winners("attention"),
        shares.tied("attention"),
        shares.attention.max(axis=2),
    )
    least = 1 / shares.attention.shape[2]
    strength = 0.3 + 0.7 * (part - least) / max(1 - least, 1e-9)
    full = np.array([to_rgb(colour) for colour in colours])[winners]
    image = 1 - strength[..., None] * (1 - full)
    image[tied] = to_rgb(TIE)
    axes.imshow(image, aspect="auto", interpolation="nearest")
    paler = "its share in %" if has_room(part.shape) else "paler where its share is smaller"
    axes.set(title=f"Attention heads: the winner, {paler}", xlabel="head")
    cells(axes, part.shape, lambda at: (f"{100 * part[at]:.0f}", (*image[at], 1)))


__all__ = [
    "FisherPicture",
    "SharesPicture",
    "check_format",
    "draw_fisher",
    "draw_shares",
    "fisher_text",
    "save_figure",
    "shares_text",
]

"""What the pictures share: panels of one style, maps in cells, and how they become files.

No state of matplotlib is changed.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fmn.checkpoint import new_file
from fmn.errors import ParamsError
from fmn.report.nodes import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
"""What files may be, and which of their metadata are left out so that the same picture is the same
file.
"""

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "figure.titlesize": 12,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "fmn",
}
MOST_ROWS, MOST_COLUMNS = 24, 16
"""Of a map whose cells have room for a number, and of an axis whose every tick has one."""


def check_format(path: Path) -> None:
    """Check that a picture can be written in the format that the file's suffix says.

    Raises:
        ParamsError: it cannot.
    """
    if path.suffix.lower() not in FORMATS:
        raise ParamsError(
            f"{path}: cannot draw a '{path.suffix}' file; expected a name that ends in "
            f"{', '.join(FORMATS)}"
        )


def save_figure(figure: Figure, path: Path, *, replace: bool = False) -> None:
    """Write a picture to a new file, atomically, in the format of its suffix.

    The same picture gives the same bytes.

    Args:
        figure: the picture.
        path: the file.
        replace: one that is there.

    Raises:
        ParamsError: another suffix than .png, .svg or .pdf.
        OutputError: the file exists (unless ``replace``), or cannot be written.
    """
    check_format(path)
    suffix = path.suffix.lower()
    with new_file(path, replace=replace) as staging, style(), warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font"
        )  # a title may be in any script
        figure.savefig(staging, format=suffix[1:], dpi=150, metadata=FORMATS[suffix])


@contextmanager
def style() -> Iterator[None]:
    """Give texts and hatches their sizes while something is drawn or written."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


@contextmanager
def panels(
    title: str, caption: str, layers: int, widths: Sequence[float]
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """Give a figure of side-by-side panels, of these widths in inches.

    It is as high as the layers ask for.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with style():
        size = (sum(widths) + 0.9 * len(widths) + 0.4, float(np.clip(2.2 + 0.3 * layers, 3.4, 10)))
        figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.05))
        figure.suptitle(
            _wrapped(printable(title), 10.5 * size[0]), x=0.01, ha="left", parse_math=False
        )
        if caption:
            figure.supxlabel(
                _wrapped(caption, 15 * size[0]),
                x=0.01,
                ha="left",
                fontsize=8,
                color="0.3",
                parse_math=False,
            )
        axes = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
        axes[0].set_ylabel("layer")
        yield figure, axes


def _wrapped(text: str, width: float) -> str:
    return "\n".join(textwrap.wrap(text, round(width)))


def map_width(columns: int) -> float:
    """Return a map's width in inches: its cells have room for a number if they are few."""
    return float(np.clip(0.36 * columns, 3.6, 6))


def colour_bar(figure: Figure, axes: Axes, of: Any, **settings: Any) -> Any:
    """Add a colour bar beside a panel, as thin in a high figure as in a low one."""
    return figure.colorbar(of, ax=axes, pad=0.02, aspect=7 * figure.get_figheight(), **settings)


def cells(
    axes: Axes, shape: tuple[int, ...], cell: Callable[[tuple[int, int]], tuple[str, Any]]
) -> None:
    """Number a map's rows and columns, part its cells, and write into them where there is room."""
    rows, columns = shape
    number(axes.yaxis, rows, MOST_ROWS)
    number(axes.xaxis, columns, MOST_COLUMNS)
    axes.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8 if has_room(shape) else 0.3)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    for row, column in np.ndindex(rows, columns) if has_room(shape) else ():
        text, (red, green, blue, _) = cell((row, column))
        ink = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink)


def has_room(shape: tuple[int, ...]) -> bool:
    """Return whether a map's cells have room for a number."""
    return shape[0] <= MOST_ROWS and shape[1] <= MOST_COLUMNS


def number(axis: Any, count: int, most: int) -> None:
    """Number an axis from 0, with ``most`` ticks at most."""
    axis.set_ticks(range(0, count, -(-count // most)))

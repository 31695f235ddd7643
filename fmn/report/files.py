"""Charts as files: .svg, .png and .pdf, the same bytes whenever they are the same picture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fmn.checkpoint import new_file
from fmn.errors import ParamsError
from fmn.report.charts import BOARDS, Board, Chart, Spec
from fmn.report.data import Report
from fmn.report.layout import Placed, beside
from fmn.report.pdf import canonical
from fmn.report.text import all_printable
from fmn.report.theme import TOKENS, config

FORMATS = (".png", ".svg", ".pdf")
SCALE = 2
"""Dots of a .png for each pixel of the picture."""


def pictures(data: Report, folder: Path) -> list[Path]:
    """Draw a report's charts into SVG files; those that were there are replaced.

    Args:
        data: the report.
        folder: gets a file for each board of charts, such as pairs.svg, where there are data.

    Returns:
        the files.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    files = []
    for board in BOARDS:
        if charts := board.draw(data):
            files.append(folder / f"{board.name}.svg")
            save(_picture(board, charts), files[-1], replace=True)
    return files


def _picture(board: Board, charts: Sequence[Chart]) -> Spec:
    return beside(
        [Placed(chart, board.width, "" if board.title else chart.label) for chart in charts]
    )


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


def save(spec: Spec, path: Path, *, replace: bool = False) -> None:
    """Write a picture to a new file, atomically, in the format of its suffix.

    The same picture gives the same bytes, where there are the same fonts.

    Args:
        spec: the picture, as Vega-Lite.
        path: the file.
        replace: one that is there.

    Raises:
        ParamsError: another suffix than .png, .svg or .pdf.
        OutputError: the file exists (unless ``replace``), or cannot be written.
    """
    check_format(path)
    with new_file(path, replace=replace) as staging:
        staging.write_bytes(drawn(spec, path.suffix.lower()))


def drawn(spec: Spec, suffix: str) -> bytes:
    """Return a picture as bytes of the format that this suffix, in small letters, stands for."""
    import vl_convert

    quiet = config("light", background=TOKENS["light"]["paper"]) | {
        "aria": False
    }  # a label per cell would double the file
    svg = _renumbered(
        vl_convert.vegalite_to_svg(
            {**all_printable(spec), "padding": 12}, config=quiet, allowed_base_urls=[]
        )
    )
    if suffix == ".svg":
        return svg.encode()
    if suffix == ".png":
        return bytes(vl_convert.svg_to_png(svg, scale=SCALE, ppi=72))
    return canonical(vl_convert.svg_to_pdf(svg))


def _renumbered(svg: str) -> str:
    """Number gradients and clips from 0, so that the same picture is the same file.

    Vega itself counts on from picture to picture.
    """
    numbers: dict[str, int] = {}
    return re.sub(
        r'(id="|url\(#)(gradient_|clip)(\d+)',
        lambda match: f"{match[1]}{match[2]}{numbers.setdefault(match[3], len(numbers))}",
        svg,
    )

"""The charts of a report as SVG files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from fmn.checkpoint import new_file
from fmn.report.charts import Chart, charts, model_labels
from fmn.report.data import Report
from fmn.report.specs import ROOM, Spec
from fmn.report.theme import TOKENS, config


def pictures(data: Report, folder: Path) -> list[Path]:
    """Draw a report's charts into SVG files; those that were there are replaced.

    Args:
        data: the report.
        folder: gets pairs.svg, sizes.svg, methods.svg, heads.svg, curves.svg, seconds.svg and
            counts.svg, where there are data.

    Returns:
        the files.

    Raises:
        OutputError: the folder or a file cannot be written.
    """
    found = charts(data)
    names = {fisher.key: model_labels(data)[fisher.model] for fisher in data.fishers}
    boards = {
        "pairs": _side_by_side({chart.title: chart for chart in found.pairs}, 300),
        "sizes": found.sizes and _alone(found.sizes, 620),
        "methods": found.methods and _alone(found.methods, 620),
        "heads": _side_by_side({names[key]: chart for key, chart in found.heads.items()}, 380),
        "curves": _side_by_side({names[key]: chart for key, chart in found.curves.items()}, 380),
        "seconds": found.seconds and _alone(found.seconds, 480),
        "counts": found.counts and _alone(found.counts, 480),
    }
    return [_draw(spec, folder / f"{name}.svg") for name, spec in boards.items() if spec]


def _alone(chart: Chart, width: int) -> Spec:
    fixed: Spec = json.loads(json.dumps(chart.spec).replace(json.dumps(ROOM), "1"))
    del fixed["autosize"]
    return fixed | {"width": width, "data": {"values": list(chart.rows)}}


def _side_by_side(found: Mapping[str, Chart], width: int) -> Spec | None:
    parts = [_alone(chart, width) | {"title": title} for title, chart in found.items()]
    scales = {"color": "independent", "fill": "independent", "x": "independent", "y": "independent"}
    return (
        {"concat": parts, "columns": 3, "spacing": 28, "resolve": {"scale": scales}}
        if parts
        else None
    )


def _draw(spec: Spec, file: Path) -> Path:
    import vl_convert

    quiet = config("light", background=TOKENS["light"]["paper"]) | {
        "aria": False
    }  # a label per cell would double the file
    svg = vl_convert.vegalite_to_svg({**spec, "padding": 12}, config=quiet)
    with new_file(file, replace=True) as staging:
        staging.write_text(_renumbered(svg), encoding="utf-8")
    return file


def _renumbered(svg: str) -> str:
    """Number gradients and clips from 0, so that the same picture is the same file.

    Vega itself counts on from picture to picture.
    """
    numbers: dict[str, int] = {}
    return re.sub(
        r'(id="|url\(#)(gradient_|clip)(\d+)',
        lambda found: f"{found[1]}{found[2]}{numbers.setdefault(found[3], len(numbers))}",
        svg,
    )

"""The report as one static page: it needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from string import Template
from typing import Any

from fmn.architectures import NodeKind, node_kind
from fmn.catalog import ELSEWHERE
from fmn.checkpoint import new_file
from fmn.errors import OutputError
from fmn.report import theme
from fmn.report.charts import BOARDS, Board, scores, winners
from fmn.report.charts import shares as bars
from fmn.report.charts.labels import method_labels, method_slots, model_labels
from fmn.report.charts.runs import MOST_RUNS
from fmn.report.data import Report
from fmn.report.fishers import MOST_CELLS
from fmn.store import cache_directory

SCRIPTS = (
    "dom",
    "data",
    "chart",
    "figures",
    "leaderboard",
    "filters",
    "home",
    "shares",
    "lineage",
    "merge",
    "model",
    "main",
)
"""The page's own, in the order in which they are joined into one."""

GLOBALS = "window.vega = vega; window.vegaLite = vegaLite; window.vegaEmbed = vegaEmbed;"
"""What the libraries are called; Vega-Embed looks the others up by these names."""

TURNING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Embeddings, overrides and isolates: one that is not closed in a name would reach out of the
element that isolates the name.
"""
INERT = {ord(character): f"\\u{ord(character):04x}" for character in "&<>"} | dict.fromkeys(
    TURNING, "\N{REPLACEMENT CHARACTER}"
)


def render(data: Report) -> str:
    """Return a report as a page of HTML in which everything is: styles, scripts, charts and data.

    No name of a model, a person or a tag becomes markup: they are in the page as JSON, and its
    script shows them as text. The page's policy lets run only the scripts that are in it, and lets
    it fetch nothing.
    """
    library, script = _library(), "\n".join(_asset(f"{name}.js") for name in SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    return Template(_asset("report.html")).substitute(
        policy=_policy(library, script),
        style=theme.css() + "\n" + _asset("report.css"),
        data=_inert(data.model_dump_json()),
        charts=_inert(json.dumps(_charts(data), separators=(",", ":"), ensure_ascii=False)),
        library=library,
        script=script,
    )


def _asset(name: str) -> str:
    return (files("fmn.report.page") / "assets" / name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _inert(text: str) -> str:
    """Return JSON that no HTML parser takes for markup.

    Nothing in its strings turns the direction of what follows.
    """
    return text.translate(INERT)


def _charts(data: Report) -> dict[str, Any]:
    kinds = dict.fromkeys(name for fisher in data.fishers for name in fisher.nodes)
    return {
        "boards": [_board(board, data) for board in BOARDS],
        "methods": list(method_slots(data).items()),
        "methodLabels": method_labels(data),
        "modelLabels": model_labels(data),
        "scores": scores.template(),
        "elsewhere": ELSEWHERE if any(m.choice is not None for m in data.merges) else "",
        "kinds": {name: _kind(node_kind(name)) for name in kinds},
        "config": {name: theme.config(name) for name in theme.TOKENS},
        "tokens": theme.TOKENS,
        "categories": theme.CATEGORIES,
        "shapes": theme.SHAPES,
        "other": theme.OTHER,
        "palest": theme.PALEST,
        "narrowest": bars.NARROWEST,
        "mostCells": MOST_CELLS,
        "mostRuns": MOST_RUNS,
    }


def _board(board: Board, data: Report) -> dict[str, Any]:
    return {
        "section": board.section,
        "title": board.title,
        "heading": board.heading,
        "note": board.note,
        "empty": board.empty,
        "charts": [chart.as_json() for chart in board.draw(data)],
    }


def _kind(kind: NodeKind) -> dict[str, Any]:
    """Return what the page calls a kind of node, and how it draws who wins what."""
    return {
        "title": kind.title,
        "heading": kind.heading,
        "unit": kind.unit,
        "winners": winners.template(kind),
        **{measure: bars.template(kind, measure) for measure in bars.MEASURES},
    }


def _library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, from this machine's cache.

    It is cached because to join them takes seconds.
    """
    file = cache_directory() / f"vega-{version('vl-convert-python')}.js"
    with suppress(OSError, UnicodeDecodeError):
        return file.read_text(encoding="utf-8")
    script = _bundle()
    with suppress(OutputError, OSError), new_file(file, replace=True) as staging:
        staging.write_text(script, encoding="utf-8")
    return script


def _bundle() -> str:
    """Join the libraries, fit for a <script> element.

    What would end or confuse the element is written in another way that means the same.
    """
    import vl_convert

    script: str = vl_convert.javascript_bundle(GLOBALS)
    return (
        script.replace("\r\n", "\n")
        .replace("\r", "\n")
        .replace("</script", r"<\/script")
        .replace("<!--", r"<\!--")
    )

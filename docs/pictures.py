"""Draw the pictures of docs/method.md.

``python docs/pictures.py`` writes docs/pictures/*.svg, the same bytes every time: charts by Vega,
as in the report, and a drawing of one layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert

FOLDER = Path(__file__).parent / "pictures"
INK, GREY = "#1b2733", "#8a949e"
BLUE, ORANGE = "#0072b2", "#e69f00"
HEADS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7")
"""Of Okabe and Ito: they differ for eyes that do not see all colours."""

FONT = "Liberation Sans, Arial, sans-serif"
"""The first comes with vl-convert, so that labels are measured the same on every machine."""

AXIS = {"grid": False, "labelColor": INK, "titleColor": INK, "titleFontWeight": "normal"}
CONFIG = {
    "font": FONT,
    "background": "white",
    "padding": 8,
    "view": {"stroke": None},
    "axis": AXIS | {"domainColor": GREY, "tickColor": GREY, "labelAngle": 0},
    "legend": {"title": None, "orient": "top-right", "direction": "horizontal", "labelColor": INK},
    "title": {"anchor": "middle", "fontSize": 12, "fontWeight": "normal", "color": INK},
}


def main() -> None:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    for draw in DRAWN:
        (FOLDER / f"{draw.__name__}.svg").write_text(draw() + "\n", encoding="utf-8")


def shares() -> str:
    """Two models' Fishers of eight heads, and the shares that they give.

    The last head has no Fisher in either.
    """
    a = np.array([9, 2, 5, 1, 0.5, 6, 3, 0])
    b = np.array([1, 7, 5, 3, 0.2, 0, 6, 0])
    total = a + b
    share = np.divide(a, total, out=np.full_like(a, 0.5), where=total > 0)
    rows = [
        {
            "head": head + 1,
            "model": model,
            "fisher": float(fisher[head]),
            "share": float(part[head]),
            "known": bool(total[head] > 0),
            "text": f"{100 * part[head]:.0f} %",
        }
        for model, fisher, part in (("model A", a, share), ("model B", b, 1 - share))
        for head in range(len(a))
    ]
    colour = {"field": "model", "scale": {"range": [BLUE, ORANGE]}, "type": "nominal"}
    head = {"field": "head", "type": "ordinal", "title": None}
    titled = head | {"title": "head; the eighth has no Fisher in either model: λ decides"}
    known = {"value": 1, "condition": {"test": "!datum.known", "value": 0.45}}
    above = {
        "mark": "bar",
        "encoding": {
            "x": head,
            "xOffset": {"field": "model"},
            "y": _axis("fisher", "Fisher of the head, 10⁻⁴", tickCount=4),
            "color": colour,
        },
    }
    stacked = {
        "mark": {"type": "bar", "stroke": "white"},
        "encoding": {
            "x": titled,
            "y": _axis("share", "share of its rows", tickCount=5),
            "color": colour,
            "order": {"field": "model", "sort": "ascending"},
            "opacity": known,
        },
    }
    percent = {
        "transform": [{"filter": "datum.model == 'model A'"}],
        "mark": {"type": "text", "dy": -8, "fontSize": 10},
        "encoding": {
            "x": titled,
            "y": {"datum": 0},
            "text": {"field": "text"},
            "color": {"value": "white", "condition": {"test": "!datum.known", "value": INK}},
        },
    }
    size = {"width": 560, "height": 120}
    views = [size | above, size | {"layer": [stacked, percent]}]
    return _chart({"data": {"values": rows}, "vconcat": views})


def aggregation() -> str:
    """Eight examples' gradients of one node: their mean square, and what batching makes of them.

    Batching here means that gradients are aggregated per batch.
    """
    gradients = np.array([0.9, 0.5, -0.6, 0.8, -0.7, 0.4, 1.0, -0.3])
    sizes = (1, 2, 4, 8)
    examples = [{"example": n + 1, "gradient": float(g)} for n, g in enumerate(gradients)]
    batches = [
        {"size": size, "square": float(np.mean(gradients.reshape(-1, size).mean(1) ** 2))}
        for size in sizes
    ]
    sign = {"value": BLUE, "condition": {"test": "datum.gradient < 0", "value": ORANGE}}
    left = {
        "title": "one node's gradients, example by example",
        "width": 300,
        "height": 150,
        "data": {"values": examples},
        "mark": "bar",
        "encoding": {
            "x": {"field": "example", "type": "ordinal"},
            "y": _axis("gradient", "∂ℓ / ∂m"),
            "color": sign,
        },
    }
    square = _axis("square", None) | {"scale": {"domain": [0, 0.52]}}
    bars = {
        "mark": {"type": "bar", "color": BLUE},
        "encoding": {"x": {"field": "size", "type": "ordinal", "title": "batch size"}, "y": square},
    }
    mean = float(np.mean(gradients**2))
    line = {"mark": {"type": "rule", "strokeDash": [4, 3]}, "encoding": {"y": {"datum": mean}}}
    words = {
        "data": {"values": [{}]},
        "mark": {"type": "text", "align": "right", "dy": -7, "fontSize": 10, "color": INK},
        "encoding": {
            "x": {"value": 240},
            "y": {"datum": mean},
            "text": {"value": "per example, any batch size"},
        },
    }
    right = {
        "title": "what is squared per batch, averaged",
        "width": 240,
        "height": 150,
        "data": {"values": batches},
        "layer": [bars, line, words],
    }
    return _chart({"hconcat": [left, right]})


def _axis(field: str, title: str | None, **axis: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, "axis": axis}


def _chart(spec: dict[str, Any]) -> str:
    return vl_convert.vegalite_to_svg({"config": CONFIG, **spec}, vl_version="5.20")


def nodes() -> str:
    """One layer: its mask nodes, and which rows and columns each association lets them govern."""
    return "\n".join(
        (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 360" width="900" height="360"'
            f' font-family="{FONT}" fill="{INK}" font-size="12">',
            '<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" '
            f'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="{GREY}"/></marker>',
            *(_stripes(colour) for colour in HEADS),
            '</defs><rect width="900" height="360" fill="white"/>',
            *_attention(),
            *_feed_forward(),
            *_legend(),
            "</svg>",
        )
    )


def _attention() -> Iterator[str]:
    yield _text(30, 22, "attention", weight="bold")
    for y, name, solid in ((50, "q", True), (125, "k", True), (200, "v", False)):
        yield from _matrix(90, y, 60, HEADS, rows=True, solid=solid)
        yield _symbol(30, y + 34, name, name)
    yield from _matrix(370, 125, 60, HEADS, rows=False, solid=False)
    yield _symbol(390, 112, "o")
    yield _text(303, 40, "m, one a head", anchor="middle", size=11)
    yield _arrow(156, 155, 198, 155)
    for number, colour in enumerate(HEADS):
        y = 82 + 36 * number
        yield _box(203, y - 13, 68, 26, f'rx="4" fill="none" stroke="{colour}"')
        yield _text(237, y + 4, f"head {number + 1}", anchor="middle", size=11)
        yield f'<circle cx="303" cy="{y}" r="8" fill="{colour}"/>'
        yield _text(303, y + 4, "m", anchor="middle", size=10, weight="bold", fill="white")
        yield _arrow(274, y, 293, y)
        yield _arrow(313, y, 364, 155)


def _feed_forward() -> Iterator[str]:
    yield _text(470, 22, "feed-forward", weight="bold")
    yield _arrow(436, 155, 514, 155)
    yield from _matrix(520, 105, 100, [BLUE] * 8, rows=True, solid=True, fade=True)
    yield _symbol(552, 90, "1", "1")
    yield _arrow(626, 155, 648, 155)
    yield _text(660, 160, "σ", anchor="middle", size=17)
    yield _text(710, 90, "m, one a neuron", anchor="middle", size=11)
    for neuron in range(8):
        y = 111 + 12.5 * neuron
        yield _arrow(672, 155, 702, y)
        yield f'<circle cx="710" cy="{y}" r="4.5" fill="{BLUE}" opacity="{_fade(neuron, 8):.2f}"/>'
        yield _arrow(717, y, 764, 155)
    yield from _matrix(770, 105, 100, [BLUE] * 8, rows=False, solid=False, fade=True)
    yield _symbol(812, 90, "2")


def _legend() -> Iterator[str]:
    yield from _matrix(90, 300, 40, HEADS, rows=True, solid=True)
    yield _text(142, 324, "filled: its node governs it, in every association")
    yield from _matrix(520, 300, 40, HEADS, rows=True, solid=False)
    yield _text(572, 316, "striped: rows with “value”, columns with “output”;")
    yield _text(572, 332, "otherwise they have no node")


def _matrix(
    x: float,
    y: float,
    size: float,
    colours: Sequence[str],
    *,
    rows: bool,
    solid: bool,
    fade: bool = False,
) -> Iterator[str]:
    step = size / len(colours)
    for number, colour in enumerate(colours):
        left, top = (x, y + number * step) if rows else (x + number * step, y)
        width, height = (size, step) if rows else (step, size)
        fill = f'fill="{colour}"' if solid else f'fill="url(#s{colour[1:]})" stroke="{colour}"'
        opacity = f' opacity="{_fade(number, len(colours)):.2f}"' if fade else ""
        yield _box(left, top, width, height, fill + opacity)
    yield _box(x, y, size, size, f'fill="none" stroke="{INK}"')


def _box(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" {style}/>'


def _stripes(colour: str) -> str:
    return (
        f'<pattern id="s{colour[1:]}" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><path d="M0 0V6" stroke="{colour}" stroke-width="3"/>'
        "</pattern>"
    )


def _fade(number: int, count: int) -> float:
    return 1.0 - 0.75 * number / (count - 1)


def _symbol(x: float, y: float, weight: str, bias: str | None = None) -> str:
    """Write the name of a matrix, and of its bias."""
    names = [("W", weight)] + ([("b", bias)] if bias else [])
    spans = '<tspan dy="-4">, </tspan>'.join(
        f'<tspan font-style="italic">{name}</tspan><tspan dy="4" font-size="10">{index}</tspan>'
        for name, index in names
    )
    return f'<text x="{x}" y="{y}" font-family="serif" font-size="15">{spans}</text>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
    fill: str = INK,
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" '
        f'fill="{fill}">{text}</text>'
    )


def _arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="{GREY}" stroke-width="0.8" '
        'marker-end="url(#tip)"/>'
    )


DRAWN: tuple[Callable[[], str], ...] = (nodes, shares, aggregation)

if __name__ == "__main__":
    main()

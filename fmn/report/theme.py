"""Colours in one place: of the page, of its charts, and of pictures in files.

As CSS properties, as Vega-Lite configurations, and as what tells models and methods apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Theme = Literal["light", "dark"]

TOKENS: dict[Theme, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "raised": "#f5f6f7",
        "ink": "#1b1f24",
        "muted": "#59626c",
        "line": "#dde1e5",
        "edge": "#868f99",
        "accent": "#0a58a5",
        "chosen": "#e3eefa",
        "alarm": "#a83a00",
    },
    "dark": {
        "paper": "#121518",
        "raised": "#1b1f24",
        "ink": "#e4e7ea",
        "muted": "#9aa4ae",
        "line": "#2c3238",
        "edge": "#6f7984",
        "accent": "#74b3f6",
        "chosen": "#1d3147",
        "alarm": "#ff9a66",
    },
}
"""Text (ink, muted, accent, alarm) has a contrast of 4.5 or more with paper, raised and chosen."""

CATEGORIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which colour-blind readers can tell apart; yellow is left out, which a line on
white is not seen in.
"""
OTHER = "#868f99"
SHAPES = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4], [4, 4])
"""The second channel of a category, for points and for lines."""

METHODS = ("average", "mask-fisher", "fisher", "published-code")
"""These have the first colours wherever they are drawn; others take what is left, in order."""

PALEST = 0.35
"""How much of its colour a winner with the smallest possible share has; the rest is paper."""

TURN = 0.47
"""Where on the scale cividis black text reads better than white text (the relative luminance is
0.18 there).
"""

LINES: dict[Theme, list[float]] = {"light": [0.0, 0.82], "dark": [0.3, 1.0]}
"""The part of the scale cividis that lines have: the paper must not swallow them."""

FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", '
    "sans-serif"
)


def ink_on(fraction: float) -> str:
    """Return the colour of text on a cell that lies so far up the scale cividis."""
    return "#000000" if fraction >= TURN else "#ffffff"


def ink_over(colour: str) -> str:
    """Return black or white, whichever has the greater contrast with a colour."""
    return "#000000" if luminance(colour) > 0.179 else "#ffffff"


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, 0 for black and 1 for white."""
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (channel / 255 for channel in _channels(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def mixed(colour: str, other: str, part: float) -> str:
    """Return so great a part of one colour, and the rest of another."""
    pairs = zip(_channels(colour), _channels(other), strict=True)
    return "#" + "".join(f"{round(part * one + (1 - part) * two):02x}" for one, two in pairs)


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[start : start + 2], 16) for start in (1, 3, 5))


def colour_of(number: int) -> str:
    """Return the colour of the model of a merge, or of the slot of a method, with this number."""
    return CATEGORIES[number] if number < len(CATEGORIES) else OTHER


def letter_of(number: int) -> str:
    """Return the letter of the model of a merge with this number; after the 26th, a number."""
    return chr(ord("a") + number) if number < 26 else str(number + 1)


def slots(methods: Mapping[str, str]) -> dict[str, int]:
    """Return the slot of each label of a method: the number of its colour, shape and dash.

    So a method looks the same in every picture in which it is.

    Args:
        methods: from a label to the method's name; several labels may be of one.
    """
    taken: dict[int, str] = {}
    for label, method in methods.items():
        if method in METHODS:
            taken.setdefault(METHODS.index(method), label)
    free = (number for number in range(len(METHODS) + len(methods)) if number not in taken)
    numbers = {label: number for number, label in taken.items()}
    return {label: numbers[label] if label in numbers else next(free) for label in methods}


def categories(slot_of: Mapping[str, int]) -> dict[str, dict[str, Sequence[Any]]]:
    """Return Vega-Lite scales that tell labels apart: by colour, and also by shape or dash."""
    domain, numbers = list(slot_of), list(slot_of.values())
    ranges: dict[str, Sequence[Any]] = {
        "color": [colour_of(number) for number in numbers],
        "shape": [SHAPES[number % len(SHAPES)] for number in numbers],
        "dash": [DASHES[number % len(DASHES)] for number in numbers],
    }
    return {channel: {"domain": domain, "range": range_} for channel, range_ in ranges.items()}


def css() -> str:
    """Return the tokens as custom properties, for the theme of ``data-theme`` or the browser.

    The browser chooses unless ``data-theme`` does.
    """
    light, dark = (_properties(theme) for theme in TOKENS)
    return "\n".join(
        [
            f":root {{ {light} }}",
            f'@media (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} '
            "}}",
            f':root[data-theme="dark"] {{ {dark} }}',
        ]
    )


def _properties(theme: Theme) -> str:
    tokens = " ".join(f"--{name}: {value};" for name, value in TOKENS[theme].items())
    return f"color-scheme: {theme}; --font: {FONT}; {tokens}"


def config(theme: Theme, background: str | None = None) -> dict[str, Any]:
    """Return Vega-Lite's configuration.

    Args:
        theme: whose colours.
        background: behind the chart; None lets what is behind it show.
    """
    ink, muted, edge = (TOKENS[theme][name] for name in ("ink", "muted", "edge"))
    return {
        "background": background or "transparent",
        "font": FONT,
        "padding": 2,
        "view": {"stroke": None},
        # thousands of cells would drown a screen reader; the page has the numbers as tables
        "mark": {"aria": False},
        **_guides(theme),
        "title": {
            "color": ink,
            "fontSize": 13,
            "fontWeight": 600,
            "anchor": "start",
            "subtitleColor": muted,
        },
        "text": {"color": ink, "fontSize": 11},
        "tick": {"color": ink},
        "rule": {"color": edge},
        "style": {"sure": {"color": ink}},
        "range": {
            "category": list(CATEGORIES),
            "ramp": {"scheme": "cividis", "extent": LINES[theme]},
            "heatmap": {"scheme": "cividis"},
        },
    }


def _guides(theme: Theme) -> dict[str, Any]:
    """Return how axes and legends look."""
    muted, line = (TOKENS[theme][name] for name in ("muted", "line"))
    text = {
        "labelColor": muted,
        "titleColor": muted,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    }
    return {
        "axis": {
            **text,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "labelLimit": 130,
        },
        "legend": {
            **text,
            "orient": "top",
            "labelLimit": 220,
            "symbolSize": 60,
            "gradientThickness": 8,
            "titleOrient": "left",
        },
    }

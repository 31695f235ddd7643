"""Colours of the page and its charts in one place: CSS properties and Vega-Lite configurations."""

from __future__ import annotations

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

TURN = 0.47
"""Where on the scale cividis black text reads better than white text (the relative luminance is
0.18 there).
"""

FONT = (
    'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "DejaVu Sans", '
    "sans-serif"
)


def ink_on(fraction: float) -> str:
    """Return the colour of text on a cell that lies so far up the scale cividis."""
    return "#000000" if fraction >= TURN else "#ffffff"


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
    ink, muted, line = (TOKENS[theme][name] for name in ("ink", "muted", "line"))
    text = {
        "labelColor": muted,
        "titleColor": muted,
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    }
    ramp = {"light": [0.0, 0.82], "dark": [0.3, 1.0]}[
        theme
    ]  # of lines, which the paper must not swallow
    return {
        "background": background or "transparent",
        "font": FONT,
        "padding": 2,
        "view": {"stroke": None},
        "mark": {
            "aria": False
        },  # thousands of cells would drown a screen reader; the page has the numbers as tables
        "axis": {
            **text,
            "gridColor": line,
            "domainColor": line,
            "tickColor": line,
            "labelLimit": 130,
            "titlePadding": 8,
        },
        "legend": {
            **text,
            "orient": "top",
            "labelLimit": 220,
            "symbolSize": 60,
            "gradientThickness": 8,
            "titleOrient": "left",
            "titlePadding": 8,
        },
        "title": {
            "color": ink,
            "fontSize": 13,
            "fontWeight": 600,
            "anchor": "start",
            "subtitleColor": muted,
        },
        "text": {"color": ink, "fontSize": 11},
        "tick": {"color": ink},
        "rule": {"color": TOKENS[theme]["edge"]},
        "range": {
            "category": list(CATEGORIES),
            "ramp": {"scheme": "cividis", "extent": ramp},
            "heatmap": {"scheme": "cividis"},
        },
    }

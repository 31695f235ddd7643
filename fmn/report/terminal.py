"""Small pictures for a terminal, of the same things that :mod:`fmn.report.inspect` draws."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from string import ascii_uppercase

import numpy as np

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

SHADES, BLOCKS, ZERO, TIE, OTHER = "░▒▓█", "▁▂▃▄▅▆▇█", "·", "=", "+"
KEPT = "\N{NO-BREAK SPACE}"
"""Between a letter and what it means, until lines are broken."""
MARGIN = 7
"""Columns that the number of the layer takes."""
GAP = "  "
LONGEST = 9
"""Letters of the longest word in a heading."""
CLEAR = 2 / 3
"""From this share on, a winner has a capital letter."""


def fisher_text(arrays: Arrays, metadata: Mapping[str, str], width: int) -> str:
    """Return a Fisher as lines of text: a row per layer, and what the signs mean.

    A mask Fisher: every head as a shade, and quantiles of the neurons' values, the largest first,
    as a row of blocks. A diagonal Fisher: the mean over every group of parameters (see
    :func:`fmn.report.nodes.group_means`), with its shade.

    Args:
        arrays: of the file.
        metadata: of the file.
        width: columns that there are; at least 40, and 72 for a diagonal Fisher.

    Raises:
        ArchitectureError: a diagonal Fisher of an unknown family.
        FisherError: tensors are missing, or hold NaN, infinity or a negative value.
    """
    if metadata.get("kind") == DIAGONAL:
        return _groups(group_means(arrays, metadata), described(metadata), width)
    nodes = mask_nodes(arrays)
    room = width - MARGIN - len(GAP)
    count = nodes.feed_forward.shape[1]
    bars = min(32, room // 2, count)
    heads, each, wide = _columns(nodes.attention, room - bars)
    middles = ((np.arange(bars) + 0.5) * count / bars).astype(int)
    neurons = -np.sort(-nodes.feed_forward, axis=1)[:, middles]
    rows = zip(_signs(heads, SHADES, wide), _signs(neurons, BLOCKS), strict=True)
    return _picture(
        described({"kind": MASK, **metadata}),
        ("heads", "neurons, largest first"),
        rows,
        [
            f"{_heads(each)}: {_scale(heads, SHADES)}",
            f"neurons ({f'{bars} quantiles of' if bars < count else 'all'} {count}, on a log "
            "scale): " + _scale(neurons, BLOCKS[0] + BLOCKS[-1]),
        ],
        width,
    )


def shares_text(names: Sequence[str], shares: Shares, width: int) -> str:
    """Return who wins each head and neuron as text: a row per layer, and what the signs mean.

    Every head has its winner's letter. The bars are the models' mean shares of the neurons, and the
    fractions that they win.

    Args:
        names: of the models.
        shares: theirs.
        width: columns that there are; at least 40.
    """
    room = width - MARGIN - 2 * len(GAP)
    bar = min(24, room // 3)
    heads, each, wide = _columns(shares.attention, room - 2 * bar)
    letters = [
        ascii_uppercase[model] if model < len(ascii_uppercase) else OTHER
        for model in range(len(names))
    ]
    rows = zip(
        ("".join(wide * _winner(head, letters) for head in layer) for layer in heads),
        (_bar(part, letters, bar) for part in shares.mean("feed_forward")),
        (_bar(part, letters, bar) for part in shares.won("feed_forward")),
        strict=True,
    )
    known = [
        f"{letter}{KEPT}{printable(name)}"
        for letter, name in zip(letters, names, strict=True)
        if letter != OTHER
    ]
    others = [f"{OTHER} {letters.count(OTHER)} others"] if OTHER in letters else []
    return _picture(
        "models: " + ", ".join(known + others),
        ("heads", "neurons: mean share", "neurons: won"),
        rows,
        [
            f"{_heads(each)}: the model with the greatest share, in capitals where that is "
            f"{CLEAR:.0%} or more; {TIE} a tie",
            "bars: each model's mean share of the neurons; how many of them it wins",
        ],
        width,
    )


def _groups(groups: Mapping[str, Array], title: str, width: int) -> str:
    means = np.stack(list(groups.values()), axis=1)
    rows = (
        [f"{shade} {value:.1e}" for shade, value in zip(shades, values, strict=True)]
        for shades, values in zip(_signs(means, SHADES), means, strict=True)
    )
    return _picture(
        title,
        list(groups),
        rows,
        [f"mean over the group's parameters: {_scale(means, SHADES)}"],
        width,
    )


def _picture(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    legend: Sequence[str],
    width: int,
) -> str:
    """Return a title, headings, a row per layer and a legend.

    The title and the legend are wrapped.
    """
    cells = [["layer", *headings], *([f"{layer:5}", *row] for layer, row in enumerate(rows))]
    shown = [max(len(row[column]) for row in cells[1:]) for column in range(len(headings) + 1)]
    wrapped = [
        textwrap.wrap(text, max(shown[column], LONGEST)) for column, text in enumerate(cells[0])
    ]
    heading = list(zip_longest(*wrapped, fillvalue=""))
    wide = [max(map(len, column)) for column in zip(*heading, *cells[1:], strict=True)]
    lines = [
        GAP.join(text.ljust(most) for text, most in zip(row, wide, strict=True))
        for row in (*heading, *cells[1:])
    ]
    above, below = (
        [
            line.replace(KEPT, " ")
            for text in texts
            for line in textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
        ]
        for texts in ([title], legend)
    )
    return "\n".join(line.rstrip() for line in (*above, "", *lines, "", *below))


def _heads(each: int) -> str:
    return f"heads (means of {each})" if each > 1 else "heads"


def _columns(values: Array, room: int) -> tuple[Array, int, int]:
    """Return [layers, columns, …] that fit, and how many characters wide each column is.

    The columns are means over so many neighbours.
    """
    count = values.shape[1]
    each = -(-count // room)
    starts = np.arange(0, count, each)
    sizes = np.diff(np.append(starts, count))
    means = np.add.reduceat(values, starts, axis=1) / sizes.reshape(-1, *[1] * (values.ndim - 2))
    return means, each, 2 if 2 * count <= room else 1


def _signs(values: Array, signs: str, wide: int = 1) -> list[str]:
    """Return a row of signs per layer, by the logarithm of each value.

    The scale runs from the smallest to the largest positive value.
    """
    levels = np.searchsorted(_bounds(values, signs)[1:], values, side="right")
    return [
        "".join(
            wide * (signs[level] if value > 0 else ZERO)
            for value, level in zip(row, found, strict=True)
        )
        for row, found in zip(values, levels, strict=True)
    ]


def _bounds(values: Array, signs: str) -> Array:
    """Return the smallest value of each sign; of equal values, all have the last sign."""
    low, high = _range(values)
    return np.geomspace(low, high, len(signs) + 1)[:-1] if low < high else np.full(len(signs), low)


def _range(values: Array) -> tuple[float, float]:
    positive = values[values > 0]
    return (positive.min(), positive.max()) if positive.size else (1.0, 1.0)


def _scale(values: Array, signs: str) -> str:
    """Return what the signs mean: ``░ from 1e-5, ▒ 1e-4, ▓ 1e-3, █ 1e-2 to 1e-1; · 0``."""
    low, high = _range(values)
    if low < high and len(signs) > 2:
        first, *more = (f"{bound:.1e}" for bound in _bounds(values, signs))
        said = ", ".join(
            [
                f"{signs[0]} from {first}",
                *(f"{sign} {bound}" for sign, bound in zip(signs[1:], more, strict=True)),
            ]
        )
        said += f" to {high:.1e}"
    else:
        said = (
            f"{signs[0]} {low:.1e} to {signs[-1]} {high:.1e}"
            if low < high
            else f"{signs[-1]} {high:.1e}"
        )
    zero = [f"{ZERO} 0"] if (values == 0).any() else []
    return "; ".join(([said] if values.any() else []) + zero)


def _winner(shares: Array, letters: Sequence[str]) -> str:
    best = shares.max()
    first = int(shares.argmax())
    if (shares == best).sum() > 1:
        return TIE
    return letters[first] if best >= CLEAR else letters[first].lower()


def _bar(parts: Array, letters: Sequence[str], wide: int) -> str:
    """Return letters in proportion to the parts, which sum to 1."""
    ends = np.rint(np.append(0, np.cumsum(parts)) * wide).astype(int)
    return "".join(letter * count for letter, count in zip(letters, np.diff(ends), strict=True))

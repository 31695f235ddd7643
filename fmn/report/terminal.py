"""Small pictures for a terminal, of the same things that :mod:`fmn.report.inspect` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import TypeVar

import numpy as np

from fmn.report.columns import GAP, KEPT, MARGIN, Column, picture
from fmn.report.fishers import (
    DIAGONAL,
    MASK,
    Array,
    Arrays,
    NodeTable,
    described,
    is_map,
    node_tables,
)
from fmn.report.groups import group_means
from fmn.report.shares import NodeShares, Shares
from fmn.report.text import printable

SHADES, BLOCKS, ZERO, TIE, OTHER = "░▒▓█", "▁▂▃▄▅▆▇█", "·", "=", "+"
CLEAR = 2 / 3
"""From this share on, a winner has a capital letter."""
Kind = TypeVar("Kind")

ABREAST, MOST_COLUMNS = 2, 3
"""Kinds of nodes that are written beside each other, and their columns; others follow below."""


def fisher_text(arrays: Arrays, metadata: Mapping[str, str], width: int) -> str:
    """Return a Fisher as lines of text: a row per layer, and what the signs mean.

    A mask Fisher: of each kind of node with few in a layer every node as a shade, of the others
    quantiles of the values, the largest first, as a row of blocks. A diagonal Fisher: the mean over
    every group of parameters (see :func:`fmn.report.groups.group_means`), with its shade.

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
    blocks = [
        _fisher_columns(tables, width - MARGIN)
        for tables in _abreast(node_tables(arrays).values(), lambda table: 1)
    ]
    return picture(described({"kind": MASK, **metadata}), blocks, width)


def _abreast(kinds: Iterable[Kind], columns: Callable[[Kind], int]) -> list[list[Kind]]:
    """Return kinds of nodes in blocks, of which each is as wide as a picture may be."""
    blocks: list[list[Kind]] = []
    taken = 0
    for kind in kinds:
        taken += columns(kind)
        if not blocks or len(blocks[-1]) == ABREAST or taken > MOST_COLUMNS:
            blocks.append([])
            taken = columns(kind)
        blocks[-1].append(kind)
    return blocks


def _fisher_columns(tables: Sequence[NodeTable], room: int) -> list[Column]:
    counts = [table.values.shape[1] for table in tables]
    room -= len(GAP) * (len(tables) - 1)
    bars = [0 if is_map(count) else min(32, room // 2, count) for count in counts]
    shades = max(1, (room - sum(bars)) // max(1, bars.count(0)))
    return [
        _curve_column(table, wide) if wide else _map_column(table, shades)
        for table, wide in zip(tables, bars, strict=True)
    ]


def _map_column(table: NodeTable, room: int) -> Column:
    values, each, wide = _columns(table.values, room)
    cells = dict(zip(table.layers, _signs(values, SHADES, wide), strict=True))
    title = table.kind.title
    return Column(title, cells, f"{_means(title, each)}: {_scale(values, SHADES)}")


def _curve_column(table: NodeTable, bars: int) -> Column:
    count, title = table.values.shape[1], table.kind.title
    middles = ((np.arange(bars) + 0.5) * count / bars).astype(int)
    values = -np.sort(-table.values, axis=1)[:, middles]
    cells = dict(zip(table.layers, _signs(values, BLOCKS), strict=True))
    which = f"{bars} quantiles of" if bars < count else "all"
    scale = _scale(values, BLOCKS[0] + BLOCKS[-1])
    return Column(
        f"{title}, largest first", cells, f"{title} ({which} {count}, on a log scale): {scale}"
    )


def shares_text(names: Sequence[str], shares: Shares, width: int) -> str:
    """Return who wins each head and neuron as text: a row per layer, and what the signs mean.

    Of each kind of node with few in a layer, every node has its winner's letter. Of the others,
    bars are the models' mean shares of the nodes, and the fractions that they win.

    Args:
        names: of the models.
        shares: theirs.
        width: columns that there are; at least 40.
    """
    letters = [
        ascii_uppercase[model] if model < len(ascii_uppercase) else OTHER
        for model in range(len(names))
    ]
    blocks = [
        _share_columns(kinds, letters, width - MARGIN)
        for kinds in _abreast(shares.values(), _column_count)
    ]
    known = [
        f"{letter}{KEPT}{printable(name)}"
        for letter, name in zip(letters, names, strict=True)
        if letter != OTHER
    ]
    others = [f"{OTHER} {letters.count(OTHER)} others"] if OTHER in letters else []
    return picture("models: " + ", ".join(known + others), blocks, width)


def _column_count(shares: NodeShares) -> int:
    return 1 if is_map(shares.values.shape[1]) else 2


def _share_columns(kinds: Sequence[NodeShares], letters: Sequence[str], room: int) -> list[Column]:
    maps = sum(_column_count(each) == 1 for each in kinds)
    bars = 2 * (len(kinds) - maps)
    room -= len(GAP) * (maps + bars - 1)
    bar = min(24, room // 3)
    left = (room - bars * bar) // max(1, maps)
    columns = []
    for each in kinds:
        if is_map(each.values.shape[1]):
            columns.append(_winners_column(each, letters, left))
        else:
            columns += _bar_columns(each, letters, bar)
    return columns


def _winners_column(shares: NodeShares, letters: Sequence[str], room: int) -> Column:
    values, each, wide = _columns(shares.values, room)
    texts = ("".join(wide * _winner(node, letters) for node in layer) for layer in values)
    title = shares.kind.title
    return Column(
        title,
        dict(zip(shares.layers, texts, strict=True)),
        f"{_means(title, each)}: the model with the greatest share, in capitals where that is "
        f"{CLEAR:.0%} or more; {TIE} a tie",
    )


def _bar_columns(shares: NodeShares, letters: Sequence[str], wide: int) -> list[Column]:
    def texts(parts: Array) -> dict[int, str]:
        rows = (_bar(part, letters, wide) for part in parts)
        return dict(zip(shares.layers, rows, strict=True))

    title = shares.kind.title
    legend = f"bars: each model's mean share of the {title}; how many of them it wins"
    return [
        Column(f"{title}: mean share", texts(shares.mean()), legend),
        Column(f"{title}: won", texts(shares.won())),
    ]


def _groups(groups: Mapping[str, Array], title: str, width: int) -> str:
    means = np.stack(list(groups.values()), axis=1)
    shades = _signs(means, SHADES)
    columns = [
        Column(
            group,
            {
                layer: f"{row[number]} {means[layer, number]:.1e}"
                for layer, row in enumerate(shades)
            },
        )
        for number, group in enumerate(groups)
    ]
    legend = f"mean over the group's parameters: {_scale(means, SHADES)}"
    return picture(title, [[*columns[:-1], replace(columns[-1], legend=legend)]], width)


def _means(title: str, each: int) -> str:
    return f"{title} (means of {each})" if each > 1 else title


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
            for value, level in zip(row, row_levels, strict=True)
        )
        for row, row_levels in zip(values, levels, strict=True)
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
        text = ", ".join(
            [
                f"{signs[0]} from {first}",
                *(f"{sign} {bound}" for sign, bound in zip(signs[1:], more, strict=True)),
            ]
        )
        text += f" to {high:.1e}"
    else:
        text = (
            f"{signs[0]} {low:.1e} to {signs[-1]} {high:.1e}"
            if low < high
            else f"{signs[-1]} {high:.1e}"
        )
    zero = [f"{ZERO} 0"] if (values == 0).any() else []
    return "; ".join(([text] if values.any() else []) + zero)


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

"""One palette: texts can be read, and what is one thing has one colour everywhere."""

import re

import numpy as np

from fmn.architectures import NODES
from fmn.report.charts.maps import map_of
from fmn.report.files import drawn
from fmn.report.fishers import NodeTable
from fmn.report.layout import Placed, beside
from fmn.report.theme import (
    CATEGORIES,
    OTHER,
    SHAPES,
    TOKENS,
    categories,
    colour_of,
    ink_over,
    letter_of,
    mixed,
    slots,
)


def luminance(colour):
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_colours_have_contrast():
    for tokens in TOKENS.values():
        for ground in ("paper", "raised", "chosen"):
            for ink in ("ink", "muted", "accent", "alarm"):
                assert contrast(tokens[ground], tokens[ink]) >= 4.5, (ground, ink)
        assert contrast(tokens["paper"], tokens["edge"]) >= 3
    assert len(set(CATEGORIES)) == len(CATEGORIES)
    for number in range(len(CATEGORIES) + 2):
        assert contrast(colour_of(number), ink_over(colour_of(number))) >= 4.5


def test_text_in_the_cells_of_a_map_has_contrast():
    """Every cell of a drawn map, from the darkest to the brightest, with the ink of its text."""
    values = np.geomspace(1e-6, 1, 5 * 12).reshape(5, 12)
    table = NodeTable(NODES["attention"], tuple(range(5)), values)
    svg = drawn(beside([Placed(map_of(table, "one"), 620)]), ".svg").decode()
    cells = re.findall(r'<path [^>]*fill="rgb\((\d+), (\d+), (\d+)\)"', svg)
    inks = [row["ink"] for row in map_of(table, "one").rows]
    assert len(cells) == len(inks) == values.size
    for (red, green, blue), ink in zip(cells, inks, strict=True):
        colour = f"#{int(red):02x}{int(green):02x}{int(blue):02x}"
        assert contrast(colour, ink) >= 4.4


def test_methods_keep_their_slots_whatever_is_beside_them():
    alone = slots({"mask-fisher": "mask-fisher"})
    several = slots({name: name for name in ("ties", "average", "mask-fisher", "dare-ties")})
    assert alone["mask-fisher"] == several["mask-fisher"]
    assert len(set(several.values())) == 4
    labels = slots({"fisher, λ own": "fisher", "fisher, λ equal": "fisher", "full": "fisher"})
    assert labels["fisher, λ own"] == slots({"fisher": "fisher"})["fisher"]
    assert len(set(labels.values())) == 3


def test_scales_follow_the_slots_and_what_comes_after_the_colours_is_grey():
    scales = categories({"one": 1, "late": len(CATEGORIES)})
    assert scales["color"] == {"domain": ["one", "late"], "range": [CATEGORIES[1], OTHER]}
    assert scales["shape"]["range"] == [SHAPES[1], SHAPES[0]]


def test_letters_and_mixtures():
    assert [letter_of(number) for number in (0, 25, 26)] == ["a", "z", "27"]
    assert mixed("#102030", "#ffffff", 1) == "#102030"
    assert mixed("#102030", "#ffffff", 0) == "#ffffff"
    assert mixed("#000000", "#ffffff", 0.5) == "#808080"

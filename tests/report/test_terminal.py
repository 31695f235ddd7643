"""Pictures in text: they fit, and their signs say what is large and who wins."""

import re

import numpy as np
import pytest

from fmn.errors import FisherError
from fmn.report.shares import node_shares
from fmn.report.terminal import fisher_text, shares_text
from tests.merging.conftest import random_fisher
from tests.report.fishers import (
    DECODER,
    DIAGONAL,
    ENCODER_DECODER,
    SAID,
    SIZES,
    STRANGE,
    diagonal,
    fisher_of,
    shares_of,
)


@pytest.mark.parametrize("sizes", [*SIZES, (12, 12, 3072), (96, 96, 30), (2, 100, 70)])
@pytest.mark.parametrize("width", [40, 80, 100])
def test_pictures_in_text_fit(sizes, width):
    arrays = random_fisher(*sizes, seed=1).tensors
    for text in (
        fisher_text(arrays, SAID, width),
        shares_text([f"model-{n}" for n in range(30)], shares_of(30, *sizes), width),
    ):
        assert max(map(len, text.splitlines())) <= width
        blocks = sum(line.startswith("layer  ") for line in text.splitlines())
        assert blocks == 1 + (min(sizes[1:]) > 64 and "models: " in text)
        lines = [line for line in text.splitlines() if re.match(r" +\d+  \S", line)]
        assert len(lines) == blocks * sizes[0]
        assert "heads" in text
        assert "neurons" in text
    assert max(map(len, fisher_text(diagonal(), DIAGONAL, 72).splitlines())) <= 72


def test_signs_say_what_is_large():
    arrays = {
        "layer.0.attention": np.array([1e-4, 2e-3, 2e-2, 2e-1, 1, 0], np.float32),
        "layer.0.feed_forward": np.repeat(np.geomspace(1e-8, 1, 8), 16).astype(np.float32),
    }
    text = fisher_text(arrays, SAID, 80)
    quantiles = "".join(4 * block for block in "█▇▆▅▄▃▂▁")
    assert f"    0  ░░▒▒▓▓████··  {quantiles}" in text
    assert "heads: ░ from 1.0e-04, ▒ 1.0e-03, ▓ 1.0e-02, █ 1.0e-01 to 1.0e+00; · 0" in text
    legend = "neurons (32 quantiles of 128, on a log scale): ▁ 1.0e-08 to █ 1.0e+00"
    assert legend in text.replace("\n  ", " ")


def test_letters_say_who_wins():
    one = {
        "layer.0.attention": np.array([1, 3, 1, 9]),
        "layer.0.feed_forward": np.tile([1.0, 1, 1, 0], 20),
    }
    other = {
        "layer.0.attention": np.array([1, 2, 9, 1]),
        "layer.0.feed_forward": np.tile([1.0, 3, 0, 0], 20),
    }
    text = shares_text(["first", "second"], node_shares([one, other], [1, 1], "none"), 80)
    assert text.startswith("models: A first, B second\n")
    # mean share (1/2 + 1/4 + 1 + 1/2) / 4 = 0.5625 of 23 columns; won (1/2 + 0 + 1 + 1/2) / 4
    assert f"    0  ==aaBBAA   {13 * 'A' + 10 * 'B'}  {12 * 'A' + 11 * 'B'}" in text


def rows(text):
    """The lines of layers, by layer, each as its signs, of each block of a picture."""
    blocks = []
    for line in text.splitlines():
        if re.match(r"layer  ", line):
            blocks.append({})
        elif blocks and (match := re.match(r" {0,4}(\d+)(?:  (.*))?$", line)):
            blocks[-1][int(match[1])] = (match[2] or "").split("  ")
    return blocks


@pytest.mark.parametrize(
    ("kinds", "titles"),
    [
        (DECODER, ["attention heads", "feed-forward neurons", "key-value groups"]),
        (ENCODER_DECODER, ["attention heads", "feed-forward neurons", "cross-attention heads"]),
        (STRANGE, ["attention heads", "made_up", "plenty"]),
    ],
)
def test_every_kind_of_node_is_written(kinds, titles):
    names = ["one", "other"]
    shares = node_shares([fisher_of(kinds, seed) for seed in (1, 2)], [1, 1], "none")
    for text in (fisher_text(fisher_of(kinds), SAID, 80), shares_text(names, shares, 80)):
        legends = " ".join(text.replace("\n  ", " ").split("\n"))
        assert [title for title in titles if re.search(rf"{title}( \(|:|;)", legends)] == titles
        first, second = rows(text)
        layers = [set(kinds[kind][0]) for kind in shares]
        assert set(first) == layers[0] | layers[1]
        assert set(second) == layers[2]


def test_a_layer_that_lacks_a_kind_has_nothing_there():
    text = fisher_text(fisher_of(STRANGE), SAID, 80)
    (first, _) = rows(text)
    assert len(first[0]) == 1
    assert len(first[1]) == 2


def test_what_is_zero_has_a_sign_of_its_own():
    arrays = {"layer.0.attention": np.array([0, 1, 0, 2]), "layer.0.feed_forward": np.zeros(70)}
    text = fisher_text(arrays, SAID, 80)
    assert re.search("    0  ··░░··██ +·{32}$", text, re.MULTILINE)
    assert "attention heads: ░ from 1.0e+00" in text and "; · 0" in text


def test_equal_values_have_the_strongest_sign():
    arrays = {
        name: np.ones_like(tensor)
        for name, tensor in random_fisher(2, 4, 24, seed=1).tensors.items()
    }
    assert "attention heads: █ 1.0e+00" in fisher_text(arrays, SAID, 80)


def test_a_diagonal_fisher_is_means_over_groups():
    assert "    1  ▓ 2.0e+01  ▓ 4.0e+01  █ 6.0e+01" in fisher_text(diagonal(), DIAGONAL, 80)


def test_values_that_are_no_fisher():
    arrays = random_fisher(2, 4, 24, seed=1).tensors
    arrays["layer.1.attention"][2] = np.nan
    with pytest.raises(FisherError, match=r"layer\.1\.attention holds NaN"):
        fisher_text(arrays, SAID, 80)


def test_names_that_would_be_commands():
    description = {**SAID, "data": "$\\frac{$ <script> \x1b[31m \u202e 数据"}
    arrays = random_fisher(2, 4, 24, seed=1).tensors
    for text in (
        fisher_text(arrays, description, 80),
        shares_text(["$a$", "\x1b[31m", "\u202e"], shares_of(3), 80),
    ):
        assert not re.search("[\x1b\u202e]", text)

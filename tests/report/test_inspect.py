import re
import subprocess
import sys
from itertools import combinations
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from fmn.checkpoint import read, write
from fmn.errors import ArchitectureError, FisherError, OutputError, ParamsError
from fmn.report.inspect import (
    COLOURS,
    OTHERS,
    draw_fisher,
    draw_shares,
    fisher_text,
    save_figure,
    shares_text,
)
from fmn.report.nodes import group_means
from fmn.report.shares import node_shares
from tests.cli.conftest import fmn, nothing_runs, refuse, succeeded  # noqa: F401
from tests.merging.conftest import random_fisher

DATA = '{"task":"sst2","split":"train","seed":0,"max_length":128,"digest":"d"}'
SAID = {
    "kind": "mask-fisher",
    "examples": "128",
    "labels": "true",
    "placement": "after-activation",
    "model_type": "bert",
    "model": "abcdef0123456789",
    "data": DATA,
}
CAPTION = (
    "mask Fisher · 128 examples · labels: true · after-activation · sst2/train, seed 0, 128 "
    "tokens · bert model abcdef012345"
)
SIZES = [(1, 1, 1), (2, 4, 24), (24, 16, 64), (3, 40, 3)]


def shares_of(count, layers=2, heads=4, neurons=24):
    return node_shares(
        [random_fisher(layers, heads, neurons, seed).tensors for seed in range(count)],
        [1.0] * count,
        "none",
    )


def diagonal(layers=2):
    """A diagonal Fisher of a BERT in which every group has a mean of its own."""
    values = {
        "attention.self.query": 1,
        "attention.self.key": 2,
        "attention.self.value": 3,
        "attention.output.dense": 4,
        "intermediate.dense": 5,
        "output.dense": 6,
        "output.LayerNorm": 99,
    }
    arrays = {"embeddings.word_embeddings.weight": np.full((5, 4), 99, np.float32)}
    for layer in range(layers):
        for module, value in values.items():
            arrays[f"encoder.layer.{layer}.{module}.weight"] = np.full(
                (3, 4), value * 10.0**layer, np.float32
            )
            arrays[f"encoder.layer.{layer}.{module}.bias"] = np.full(
                4, 5 * value * 10.0**layer, np.float32
            )
    return arrays


DIAGONAL = {"kind": "diagonal-fisher", "model_type": "bert", "examples": "8"}
GROUPS = ["query", "key", "value", "attention output", "first", "second"]


@pytest.mark.parametrize("sizes", SIZES)
def test_a_mask_fisher_is_drawn_as_it_is(sizes, tmp_path):
    arrays = random_fisher(*sizes, seed=1).tensors
    figure = draw_fisher(arrays, SAID, "a title")
    heads, neurons = figure.axes[:2]
    expected = np.stack([arrays[f"layer.{layer}.attention"] for layer in range(sizes[0])])
    np.testing.assert_array_equal(heads.images[0].get_array(), expected)
    assert (heads.get_xlabel(), heads.get_ylabel()) == ("head", "layer")
    assert figure.axes[2].get_ylabel() == "mean of (∂ℓ/∂m)², in ℓ²"
    assert neurons.get_yscale() == "log"
    assert len(neurons.lines) == sizes[0]
    for layer, line in enumerate(neurons.lines):
        np.testing.assert_array_equal(
            line.get_ydata(), np.sort(arrays[f"layer.{layer}.feed_forward"])[::-1]
        )
        np.testing.assert_allclose(line.get_xdata(), (np.arange(sizes[2]) + 0.5) / sizes[2])
    assert figure._suptitle.get_text() == "a title"
    assert " ".join(figure._supxlabel.get_text().split()) == CAPTION
    save_figure(figure, tmp_path / "out.png")


@pytest.mark.parametrize("all_of_them", [False, True])
def test_what_is_zero_is_told_apart(all_of_them, tmp_path):
    arrays = random_fisher(2, 4, 24, seed=1).tensors
    for name in arrays:
        arrays[name][: None if all_of_them else 3] = 0
    figure = draw_fisher(arrays, SAID, "zeros")
    heads, neurons = figure.axes[:2]
    shown = heads.images[0].get_array()
    assert np.array_equal(
        np.ma.getmaskarray(shown),
        np.stack([arrays["layer.0.attention"], arrays["layer.1.attention"]]) == 0,
    )
    assert heads.get_xlabel() == "head (hatched: 0)"
    assert heads.patch.get_hatch()
    assert f"({'100' if all_of_them else '12.5'} % are 0, not drawn)" in neurons.get_xlabel()
    save_figure(figure, tmp_path / "out.png")
    text = fisher_text(arrays, SAID, 80)
    assert ("········" if all_of_them else "······") in text
    assert "· 0" in text


def test_equal_values_are_drawn(tmp_path):
    arrays = {
        name: np.ones_like(tensor)
        for name, tensor in random_fisher(2, 4, 24, seed=1).tensors.items()
    }
    save_figure(draw_fisher(arrays, SAID, "equal"), tmp_path / "out.png")
    assert "heads: █ 1.0e+00" in fisher_text(arrays, SAID, 80)


def test_a_diagonal_fisher_is_drawn_as_means_over_groups(tmp_path):
    figure = draw_fisher(diagonal(), DIAGONAL, "a title")
    axes = figure.axes[0]
    mean = (12 * 1 + 4 * 5) / 16  # weights and biases together
    expected = mean * np.arange(1, 7) * np.array([[1], [10]])
    np.testing.assert_allclose(axes.images[0].get_array(), expected)
    assert [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()] == GROUPS
    save_figure(figure, tmp_path / "out.png")
    text = fisher_text(diagonal(), DIAGONAL, 80)
    assert "    1  ▓ 2.0e+01  ▓ 4.0e+01  █ 6.0e+01" in text


def test_groups_of_families_that_fuse_parameters_or_gate_them():
    fused = {"attn.c_attn": 1, "attn.c_proj": 2, "mlp.c_fc": 3, "mlp.c_proj": 4}
    arrays = {
        f"h.0.{module}.weight": np.full((2, 3), value, np.float32)
        for module, value in fused.items()
    }
    found = group_means(arrays, {"model_type": "gpt2"})
    assert found == {
        "query + key + value": [1],
        "attention output": [2],
        "first": [3],
        "second": [4],
    }
    gated = {"gate_proj": 5, "up_proj": 7, "down_proj": 6}
    arrays = {
        f"layers.0.mlp.{module}.weight": np.full((2, 3), value, np.float32)
        for module, value in gated.items()
    }
    arrays |= {
        f"layers.0.self_attn.{which}_proj.weight": np.ones((2, 3), np.float32) for which in "qkvo"
    }
    found = group_means(arrays, {"model_type": "llama"})
    assert list(found) == GROUPS
    assert (found["first"], found["second"]) == ([6], [6])


def t5_fisher(decoder_heads=4):
    layers = range(4)
    arrays = {
        f"layer.{layer}.attention": np.full(
            4 if layer < 2 else decoder_heads, 1.0 + layer, np.float32
        )
        for layer in layers
    }
    arrays |= {f"layer.{layer}.feed_forward": np.ones(24, np.float32) for layer in layers}
    return arrays | {
        f"layer.{layer}.cross_attention": np.full(4, 9.0, np.float32) for layer in (2, 3)
    }


def test_an_encoder_decoders_layers_are_drawn_one_below_the_other_without_cross_attention():
    said = {"kind": "mask-fisher", "model_type": "t5"}
    figure = draw_fisher(t5_fisher(), said, "title")
    np.testing.assert_array_equal(
        figure.axes[0].images[0].get_array(), np.repeat([[1.0], [2.0], [3.0], [4.0]], 4, axis=1)
    )
    assert "    3  " in fisher_text(t5_fisher(), said, 80)
    names = ["SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o"]
    arrays = {}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        for module in (
            *(f"layer.0.{name}" for name in names),
            f"layer.{last}.DenseReluDense.wi",
            f"layer.{last}.DenseReluDense.wo",
        ):
            arrays[f"{stack}.block.0.{module}.weight"] = np.full((2, 3), 1.0 + last, np.float32)
    arrays |= {
        f"decoder.block.0.layer.1.EncDecAttention.{name}.weight": np.full((2, 3), 7.0, np.float32)
        for name in "qkvo"
    }
    found = group_means(arrays, {"model_type": "t5"})
    assert list(found) == GROUPS
    assert all(values.tolist() == [2, 3] for values in found.values())


def test_layers_of_different_sizes_are_refused_in_one_line():
    for draw in (
        lambda: draw_fisher(t5_fisher(2), {}, "title"),
        lambda: fisher_text(t5_fisher(2), {}, 80),
    ):
        with pytest.raises(
            FisherError,
            match=r"layer\.2\.attention has shape \(2,\).*different sizes cannot be drawn",
        ) as error:
            draw()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
@pytest.mark.parametrize(
    "draw", [lambda *a: draw_fisher(*a, "title"), lambda *a: fisher_text(*a, 80)]
)
def test_values_that_are_no_fisher(value, draw):
    mask, full = random_fisher(2, 4, 24, seed=1).tensors, diagonal()
    mask["layer.1.attention"][2] = value
    full["encoder.layer.1.attention.self.key.bias"][0] = value
    with pytest.raises(
        FisherError,
        match=r"this Fisher's layer\.1\.attention holds NaN, infinite or negative values",
    ):
        draw(mask, SAID)
    with pytest.raises(
        FisherError, match=r"this Fisher's encoder\.layer\.1\.attention\.self\.key\.bias holds NaN"
    ):
        draw(full, DIAGONAL)


def test_tensors_that_are_no_fisher():
    with pytest.raises(FisherError, match=r"it has no tensor layer\.0\.attention"):
        draw_fisher({"weight": np.ones(3)}, {}, "title")
    with pytest.raises(FisherError, match="no parameters of a bert model's layers"):
        draw_fisher({"weight": np.ones(3)}, DIAGONAL, "title")
    with pytest.raises(FisherError, match=r"no parameters encoder\.layer\.1\.output\.dense\.\*"):
        draw_fisher(
            {n: a for n, a in diagonal().items() if "1.output.dense" not in n}, DIAGONAL, "title"
        )
    with pytest.raises(ArchitectureError, match="unknown model family 'none'"):
        draw_fisher(diagonal(), DIAGONAL | {"model_type": "none"}, "title")


def test_shares_are_drawn_as_they_are(tmp_path):
    shares = shares_of(3)
    shares.attention[1, 2] = 1 / 3
    figure = draw_shares(["a", "b", "c"], shares, "a title")
    heads, mean, won = figure.axes
    image = heads.images[0].get_array()
    assert image.shape == (2, 4, 3)
    assert np.ptp(image[1, 2]) == 0  # a tie is grey
    for at in np.ndindex(2, 4):
        full = np.array(
            [
                int(COLOURS[shares.winners("attention")[at]][1 + 2 * channel :][:2], 16) / 255
                for channel in range(3)
            ]
        )
        if at != (1, 2):
            strength = 0.3 + 0.7 * (shares.attention[at].max() - 1 / 3) / (2 / 3)
            np.testing.assert_allclose(image[at], 1 - strength * (1 - full))
    assert {text.get_text() for text in heads.texts} == {
        f"{100 * share:.0f}" for share in shares.attention.max(axis=2).flat
    }
    for axes, expected in ((mean, shares.mean("feed_forward")), (won, shares.won("feed_forward"))):
        widths = np.array([[bar.get_width() for bar in bars] for bars in axes.containers]).T
        np.testing.assert_allclose(widths, 100 * expected)
        assert axes.get_xlabel() == "%"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "tie"]
    save_figure(figure, tmp_path / "out.png")


def test_more_models_than_colours_share_the_grey():
    shares = shares_of(10)
    figure = draw_shares([f"m{number}" for number in range(10)], shares, "ten")
    said = [text.get_text() for text in figure.legends[0].get_texts()]
    mean = (shares.mean("attention") + shares.mean("feed_forward")).mean(axis=0)
    assert said == [f"m{number}" for number in sorted(np.argsort(-mean)[:7])] + ["3 others"]
    bars = figure.axes[1].containers
    assert [
        np.all([bar.get_facecolor()[0] == int(OTHERS[1:3], 16) / 255 for bar in each])
        for each in bars
    ] == 7 * [False] + 3 * [True]


def overlapping(figure):
    """Pairs of drawn texts that lie on one another, and texts that reach out of the picture."""
    canvas = FigureCanvasAgg(figure)
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        draw = Text.draw
        patch.setattr(
            Text, "draw", lambda text, renderer: (drawn.append(text), draw(text, renderer))
        )
        canvas.draw()
    boxes = {
        text: text.get_window_extent(canvas.get_renderer())
        for text in drawn
        if text.get_text().strip()
    }
    width, height = canvas.get_width_height()
    out = [
        t.get_text()
        for t, box in boxes.items()
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    return out + [
        (one.get_text(), other.get_text())
        for (one, a), (other, b) in combinations(boxes.items(), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]


@pytest.mark.parametrize("sizes", [*SIZES, (12, 12, 30), (48, 64, 10)])
def test_no_text_lies_on_another(sizes):
    assert (
        overlapping(draw_fisher(random_fisher(*sizes, seed=1).tensors, SAID, 20 * "a long title "))
        == []
    )
    names = [f"a-model-with-a-long-name-{number}" for number in range(9)]
    assert overlapping(draw_shares(names, shares_of(9, *sizes), 20 * "a long title ")) == []


def test_files_are_what_their_suffix_says(tmp_path):
    figure = draw_fisher(random_fisher(2, 4, 24, seed=1).tensors, SAID, "title")
    for suffix in ("png", "svg", "pdf", "PNG"):
        save_figure(figure, tmp_path / suffix / f"out.{suffix}")
    with Image.open(tmp_path / "png" / "out.png") as image:
        image.load()
        assert image.format == "PNG"
        assert round(image.info["dpi"][0]) == 150
        assert image.size == tuple(int(150 * inches) for inches in figure.get_size_inches())
    assert ElementTree.parse(tmp_path / "svg" / "out.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "pdf" / "out.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(
        ParamsError,
        match=r"cannot draw a '\.gif' file; expected a name that ends in \.png, \.svg, \.pdf",
    ):
        save_figure(figure, tmp_path / "out.gif")
    with pytest.raises(OutputError, match="exists already"):
        save_figure(figure, tmp_path / "png" / "out.png")
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == [
        "out.PNG",
        "out.pdf",
        "out.png",
        "out.svg",
    ]


def test_the_same_picture_is_the_same_file(tmp_path):
    for suffix in ("png", "svg", "pdf"):
        for name in ("one", "other"):
            save_figure(
                draw_fisher(random_fisher(2, 4, 24, seed=1).tensors, SAID, "title"),
                tmp_path / f"{name}.{suffix}",
            )
        assert (tmp_path / f"one.{suffix}").read_bytes() == (
            tmp_path / f"other.{suffix}"
        ).read_bytes()


def test_nothing_global_is_touched_and_nothing_slow_imported():
    code = """
import sys
import fmn.report.inspect as inspect
assert not {"matplotlib", "torch"} & set(sys.modules)
import matplotlib, numpy as np
before = dict(dict.items(matplotlib.rcParams))  # asked for by name, the backend would import pyplot
inspect.draw_fisher({"layer.0.attention": np.ones(2), "layer.0.feed_forward": np.ones(3)}, {}, "t")
assert dict(dict.items(matplotlib.rcParams)) == before
assert not {"matplotlib.pyplot", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_that_would_be_commands(tmp_path, recwarn):
    """Formulas, escapes and marks of direction are text, and no script is unknown."""
    said = {**SAID, "data": "$\\frac{$ <script> \x1b[31m \u202e 数据"}
    arrays = random_fisher(2, 4, 24, seed=1).tensors
    save_figure(
        draw_fisher(arrays, said, "$x$ \\frac{ \x1b[31m \u202e 数据"), tmp_path / "fisher.svg"
    )
    save_figure(draw_shares(["$a$", "\\b{", "_c"], shares_of(3), "$"), tmp_path / "shares.png")
    for text in (
        fisher_text(arrays, said, 80),
        shares_text(["$a$", "\x1b[31m", "\u202e"], shares_of(3), 80),
    ):
        assert not re.search("[\x1b\u202e]", text)
    assert not recwarn.list


@pytest.mark.parametrize("sizes", [*SIZES, (12, 12, 3072), (96, 96, 30)])
@pytest.mark.parametrize("width", [40, 80, 100])
def test_pictures_in_text_fit(sizes, width):
    arrays = random_fisher(*sizes, seed=1).tensors
    for text in (
        fisher_text(arrays, SAID, width),
        shares_text([f"model-{n}" for n in range(30)], shares_of(30, *sizes), width),
    ):
        assert max(map(len, text.splitlines())) <= width
        assert sum(bool(re.match(r" +\d+  \S", line)) for line in text.splitlines()) == sizes[0]
        assert "heads" in text
        assert "neurons" in text
    assert max(map(len, fisher_text(diagonal(), DIAGONAL, 72).splitlines())) <= 72


def test_signs_say_what_is_large():
    arrays = {
        "layer.0.attention": np.array([1e-4, 2e-3, 2e-2, 2e-1, 1, 0], np.float32),
        "layer.0.feed_forward": np.geomspace(1e-8, 1, 8).astype(np.float32),
    }
    text = fisher_text(arrays, SAID, 80)
    assert "    0  ░░▒▒▓▓████··  █▇▆▅▄▃▂▁" in text
    assert "heads: ░ from 1.0e-04, ▒ 1.0e-03, ▓ 1.0e-02, █ 1.0e-01 to 1.0e+00; · 0" in text
    assert "neurons (all 8, on a log scale): ▁ 1.0e-08 to █ 1.0e+00" in text


def test_letters_say_who_wins():
    one = {
        "layer.0.attention": np.array([1, 3, 1, 9]),
        "layer.0.feed_forward": np.array([1.0, 1, 1, 0]),
    }
    other = {
        "layer.0.attention": np.array([1, 2, 9, 1]),
        "layer.0.feed_forward": np.array([1.0, 3, 0, 0]),
    }
    text = shares_text(["first", "second"], node_shares([one, other], [1, 1], "none"), 80)
    assert text.startswith("models: A first, B second\n")
    # mean share (1/2 + 1/4 + 1 + 1/2) / 4 = 0.5625 of 23 columns; won (1/2 + 0 + 1 + 1/2) / 4
    assert f"    0  ==aaBBAA  {13 * 'A' + 10 * 'B'}  {12 * 'A' + 11 * 'B'}" in text


@pytest.fixture
def fisher(world, tmp_path):
    """Compute a Fisher with the command line; return its file."""

    def made(task="sst2", kind="mask"):
        out = tmp_path / f"{task}.{kind}.safetensors"
        options = ("--task", task, "--data", world.data, "--samples", 8, "--kind", kind)
        succeeded(fmn("fisher", world.model(task), *options, "--out", out))
        return out

    return made


@pytest.fixture
def merged(world, fisher, tmp_path):
    """Merge with the command line; return the directory, and the Fishers' files by task."""

    def made(method="mask-fisher", given=("sst2", "rte"), **settings):
        files = {task: fisher(task) for task in given}
        more = {task: {"fisher": str(file)} for task, file in files.items()}
        recipe = world.recipe(tmp_path / "recipe.yaml", method=method, models=more, **settings)
        succeeded(fmn("merge", recipe, "--out", tmp_path / "merged"))
        return tmp_path / "merged", files

    return made


@pytest.mark.parametrize("kind", ["mask", "diagonal"])
def test_a_fishers_file(kind, fisher, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    file, plot = fisher(kind=kind), tmp_path / "out.svg"
    printed = succeeded(fmn("inspect", file)).stdout
    assert printed == fisher_text(*read(file), 80) + "\n"
    assert f"{kind} Fisher · 8 examples" in printed
    assert (
        succeeded(fmn("inspect", file, "--plot", plot)).stdout
        == f"{plot}: {kind} Fisher of {file}\n"
    )
    save_figure(draw_fisher(*read(file), f"{kind} Fisher of {file}"), tmp_path / "same.svg")
    assert plot.read_bytes() == (tmp_path / "same.svg").read_bytes()
    both = succeeded(fmn("inspect", file, "--text", "--plot", tmp_path / "both.png")).stdout
    assert both == f"{printed}{tmp_path / 'both.png'}: {kind} Fisher of {file}\n"


def test_a_merges_directory(merged, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out, files = merged(parameters={"normalize": "l2"})
    arrays = {task: read(file)[0] for task, file in files.items()}
    listed = re.findall(r"name: (\w+)", (out / "recipe.yaml").read_text())
    shares = node_shares([arrays[task] for task in listed], [1, 1], "l2")
    assert succeeded(fmn("inspect", out)).stdout == shares_text(listed, shares, 80) + "\n"
    plot = tmp_path / "out.png"
    assert (
        succeeded(fmn("inspect", out, "--plot", plot)).stdout
        == f"{plot}: {out}: {' + '.join(listed)}\n"
    )
    with Image.open(plot) as image:
        image.load()


def test_what_cannot_be_inspected(world, refuse, fisher, tmp_path):  # noqa: F811
    plot = tmp_path / "out.png"
    refuse(
        f"fmn: there is no {tmp_path / 'none'}; expected a file",
        "inspect",
        tmp_path / "none",
        "--plot",
        plot,
    )
    weights = world.model("sst2") / "model.safetensors"
    refuse(
        "is no Fisher: its kind is None, expected mask-fisher or diagonal-fisher",
        "inspect",
        weights,
        "--plot",
        plot,
    )
    refuse(
        "has no recipe.yaml; expected a directory that 'fmn merge' wrote",
        "inspect",
        world.model("sst2"),
        "--plot",
        plot,
    )
    file = fisher()
    refuse(
        r"cannot draw a '\.jpeg' file; expected a name that ends in \.png",
        "inspect",
        file,
        "--plot",
        tmp_path / "out.jpeg",
    )
    refuse(
        r"cannot draw a '\.jpeg' file",
        "inspect",
        tmp_path / "none",
        "--plot",
        tmp_path / "out.jpeg",
    )
    refuse("cannot draw a '' file", "inspect", file, "--plot", tmp_path / "out")
    refuse("exists already", "inspect", file, "--plot", file.rename(tmp_path / "fisher.png"))
    plot.with_name("text.safetensors").write_text("text")
    refuse(
        "is not a complete safetensors file",
        "inspect",
        tmp_path / "text.safetensors",
        "--plot",
        plot,
    )


def test_a_fisher_with_nan_leaves_no_picture(refuse, tmp_path):  # noqa: F811
    arrays = random_fisher(2, 4, 24, seed=1).tensors
    arrays["layer.0.feed_forward"][3] = np.nan
    write(tmp_path / "nan.safetensors", arrays, SAID)
    for options in (("--plot", tmp_path / "out.png"), ("--text",), ()):
        refuse(
            r"layer\.0\.feed_forward holds NaN", "inspect", tmp_path / "nan.safetensors", *options
        )


def test_merges_without_shares(merged, refuse, tmp_path):  # noqa: F811
    out, _ = merged("average", ())
    refuse(
        "was merged by average, which weights no heads and neurons",
        "inspect",
        out,
        "--plot",
        tmp_path / "out.png",
    )


def test_merges_whose_fishers_are_not_there(merged, refuse, fisher, tmp_path):  # noqa: F811
    out, files = merged(given=("rte",))
    said = refuse(
        "names no Fisher of sst2: it was computed on the way; compute it with 'fmn fisher",
        "inspect",
        out,
    )
    assert "--task sst2" in said
    files["rte"].unlink()
    recipe = (out / "recipe.yaml").read_text()
    (out / "recipe.yaml").write_text(recipe.replace("fisher: null", f"fisher: {fisher('sst2')}", 1))
    refuse(f"no file {files['rte']}; expected a safetensors file there", "inspect", out)
    files["rte"].write_bytes(fisher("mnli").read_bytes())
    refuse(
        "belongs to other weights .* compute the Fisher of rte again with 'fmn fisher'",
        "inspect",
        out,
    )

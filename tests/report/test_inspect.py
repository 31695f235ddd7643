"""Pictures of one Fisher and of one merge: the charts of the page, of what a file has."""

import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from fmn.checkpoint import read, write
from fmn.errors import ArchitectureError, FisherError
from fmn.report.charts.chart import ROOM
from fmn.report.files import drawn, save
from fmn.report.inspect import draw_fisher, draw_shares
from fmn.report.shares import node_shares
from fmn.report.terminal import fisher_text, shares_text
from fmn.report.theme import OTHER, TOKENS, colour_of, mixed
from tests.cli.conftest import fmn, nothing_runs, refuse, succeeded  # noqa: F401
from tests.merging.conftest import random_fisher
from tests.report.fishers import (
    BEYOND,
    CAPTION,
    DECODER,
    DIAGONAL,
    ENCODER_DECODER,
    GROUPS,
    SAID,
    SIZES,
    STRANGE,
    diagonal,
    fisher_of,
    shares_of,
)

PAPER = TOKENS["light"]["paper"]


def charts(spec):
    """The charts of a picture, by title."""
    whole = spec["vconcat"][1] if "vconcat" in spec else spec
    return {chart["title"]: chart for chart in whole["concat"]}


def texts(spec):
    svg = ElementTree.fromstring(drawn(spec, ".svg"))
    return [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]


def cells(chart):
    """The values of a map, [layers, nodes]."""
    rows = chart["data"]["values"]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    return np.array([[row["value"] for row in rows if row["layer"] == each] for each in layers])


def lines(title):
    return " ".join(title)


@pytest.mark.parametrize("sizes", [*SIZES, (2, 12, 300)])
def test_a_mask_fisher_is_drawn_as_it_is(sizes):
    arrays = random_fisher(*sizes, seed=1).tensors
    spec = draw_fisher(arrays, SAID, "a title")
    for title, kind, count in (
        ("Attention heads", "attention", sizes[1]),
        ("Feed-forward neurons", "feed_forward", sizes[2]),
    ):
        expected = np.stack([arrays[f"layer.{layer}.{kind}"] for layer in range(sizes[0])])
        chart = charts(spec)[title]
        if count <= 64:
            np.testing.assert_allclose(cells(chart), expected, rtol=1e-3)
            assert chart["encoding"]["x"]["title"].startswith(("head", "neuron"))
            continue
        assert chart["encoding"]["y"]["scale"]["type"] == "log"
        for layer in range(sizes[0]):
            rows = [row for row in chart["data"]["values"] if row["layer"] == layer]
            falling = np.sort(expected[layer])[::-1]
            ranks = [round(row["fraction"] * count - 0.5) for row in rows]
            np.testing.assert_allclose([row["value"] for row in rows], falling[ranks], rtol=1e-3)
    assert lines(spec["title"]["text"]) == "a title"
    assert lines(spec["title"]["subtitle"]) == CAPTION
    shown = texts(spec)
    assert {"a title", "Attention heads", "Feed-forward neurons", "layer"} <= set(shown)
    assert "(∂ℓ/∂m)²" in shown


@pytest.mark.parametrize("all_of_them", [False, True])
def test_what_is_zero_is_told_apart(all_of_them):
    arrays = random_fisher(2, 4, 72, seed=1).tensors
    for name in arrays:
        arrays[name][: None if all_of_them else 3 if "attention" in name else 9] = 0
    spec = draw_fisher(arrays, SAID, "zeros")
    heads, neurons = charts(spec).values()
    assert heads["encoding"]["x"]["title"] == "head (dashed: 0)"
    assert (
        f"({'100' if all_of_them else '12.5'} % are 0, not drawn)"
        in neurons["encoding"]["x"]["title"]
    )
    svg = drawn(spec, ".svg").decode()
    assert svg.count('stroke-dasharray="2,2"') == (8 if all_of_them else 6)


def test_equal_values_are_drawn():
    arrays = {
        name: np.ones_like(tensor)
        for name, tensor in random_fisher(2, 4, 80, seed=1).tensors.items()
    }
    assert texts(draw_fisher(arrays, SAID, "equal")).count("1e0") >= 8


def test_a_diagonal_fisher_is_drawn_as_means_over_groups():
    spec = draw_fisher(diagonal(), DIAGONAL, "a title")
    (chart,) = charts(spec).values()
    mean = (12 * 1 + 4 * 5) / 16  # weights and biases together
    np.testing.assert_allclose(cells(chart), mean * np.arange(1, 7) * np.array([[1], [10]]))
    assert [row["node"] for row in chart["data"]["values"][:6]] == GROUPS
    assert {*GROUPS, "mean of (∂ℓ/∂θ)²"} <= set(texts(spec))


@pytest.mark.parametrize(
    ("kinds", "titles"),
    [
        (DECODER, ["Attention heads", "Feed-forward neurons", "Key-value groups"]),
        (ENCODER_DECODER, ["Attention heads", "Feed-forward neurons", "Cross-attention heads"]),
        (
            BEYOND,
            [
                "Attention heads",
                "Feed-forward neurons",
                "Attention's channels",
                "Feed-forward channels",
                "Value heads",
                "Attention's output columns",
                "Groups' keys and values",
                "Whole layers",
            ],
        ),
        (STRANGE, ["Attention heads", "made_up", "plenty"]),
    ],
)
def test_every_kind_of_node_is_drawn(kinds, titles):
    specs = charts(draw_fisher(fisher_of(kinds), SAID, "title"))
    assert list(specs) == titles
    shares = node_shares([fisher_of(kinds, seed) for seed in (1, 2)], [1, 1], "none")
    won = charts(draw_shares(["one", "other"], shares, "title"))
    for (kind, (layers, count)), title in zip(kinds.items(), titles, strict=False):
        if kind not in shares:
            continue
        title = title if kind not in ("cross_attention", "key_value") else titles[2]
        assert {row["layer"] for row in specs[title]["data"]["values"]} == set(layers)
        parts = ["the winner and its share, %"] if count <= 64 else ["mean share, %", "won, %"]
        for part in parts:
            rows = won[f"{title}: {part}"]["data"]["values"]
            assert {row["layer"] for row in rows} == set(layers)
            assert len(rows) == len(layers) * (count if count <= 64 else 2)


def test_layers_of_different_sizes_are_refused_in_one_line():
    arrays = fisher_of({"attention": (range(2), 4)}) | fisher_of({"attention": ((2,), 2)})
    for draw in (
        lambda: draw_fisher(arrays, {}, "title"),
        lambda: fisher_text(arrays, {}, 80),
    ):
        with pytest.raises(
            FisherError,
            match=r"layer\.2\.attention has shape \(2,\).*different numbers of attention heads",
        ) as error:
            draw()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_values_that_are_no_fisher(value):
    mask, full = random_fisher(2, 4, 24, seed=1).tensors, diagonal()
    mask["layer.1.attention"][2] = value
    full["encoder.layer.1.attention.self.key.bias"][0] = value
    with pytest.raises(
        FisherError,
        match=r"this Fisher's layer\.1\.attention holds NaN, infinite or negative values",
    ):
        draw_fisher(mask, SAID, "title")
    with pytest.raises(
        FisherError, match=r"this Fisher's encoder\.layer\.1\.attention\.self\.key\.bias holds NaN"
    ):
        draw_fisher(full, DIAGONAL, "title")


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


def test_shares_are_drawn_as_they_are():
    shares = shares_of(3, neurons=70)
    attention = shares["attention"]
    attention.values[1, 2] = 1 / 3
    spec = draw_shares(["a", "b", "c"], shares, "a title")
    heads, mean, won = charts(spec).values()
    for row in heads["data"]["values"]:
        cell = row["layer"], row["node"]
        greatest = attention.values[cell].max()
        if cell == (1, 2):
            assert row["text"] == "= 33" and row["fill"] == mixed(OTHER, PAPER, 0.35)
            continue
        winner = attention.winners()[cell]
        strength = 0.35 + 0.65 * (greatest - 1 / 3) / (2 / 3)
        assert row["fill"] == mixed(colour_of(winner), PAPER, strength)
        assert row["text"] == f"{'abc'[winner]} {100 * greatest:.0f}"
    neurons = shares["feed_forward"]
    for chart, expected in ((mean, neurons.mean()), (won, neurons.won())):
        parts = np.array([row["share"] for row in chart["data"]["values"]]).reshape(2, 3)
        np.testing.assert_allclose(parts, 100 * expected)
    key = spec["vconcat"][0]["encoding"]["color"]["scale"]
    assert key["domain"] == ["a  a", "b  b", "c  c", "=  a tie"]
    assert key["range"] == [*map(colour_of, range(3)), OTHER]
    assert {"a a", "= a tie"} <= {" ".join(text.split()) for text in texts(spec)}


def test_more_models_than_colours_share_the_grey_and_keep_their_letters():
    shares = shares_of(10)
    spec = draw_shares([f"m{number}" for number in range(10)], shares, "ten")
    key = spec["vconcat"][0]["encoding"]["color"]["scale"]
    assert key["domain"][:2] == ["a  m0", "b  m1"] and len(key["domain"]) == 10
    assert key["range"] == [*map(colour_of, range(6)), *4 * [OTHER]]


def test_cells_without_room_have_no_text():
    for heads, shown in ((12, True), (64, False)):
        chart = charts(draw_fisher(random_fisher(2, heads, 70, seed=1).tensors, {}, "t"))
        assert str(ROOM) not in str(chart)
        opacities = {
            layer["mark"]["opacity"]
            for layer in chart["Attention heads"]["layer"]
            if layer["mark"]["type"] == "text"
        }
        assert opacities == {int(shown)}


def test_the_caption_and_the_title_are_as_wide_as_the_charts():
    title = 20 * "a long title "
    spec = draw_fisher(random_fisher(2, 4, 70, seed=1).tensors, SAID, title)
    assert len(spec["title"]["text"]) > 1
    assert lines(spec["title"]["text"]) == title.strip()


OVERLAPPING = """() => {
    const texts = [...document.querySelectorAll("text")]
        .filter((each) => each.textContent.trim() && each.getAttribute("opacity") !== "0");
    const boxes = texts.map((each) => [each.textContent, each.getBoundingClientRect()]);
    const whole = document.querySelector("svg").getBoundingClientRect();
    const out = boxes.filter(([, box]) =>
        box.left < whole.left - 1 || box.right > whole.right + 1 ||
        box.top < whole.top - 1 || box.bottom > whole.bottom + 1);
    const over = [];
    boxes.forEach(([one, a], index) => boxes.slice(index + 1).forEach(([other, b]) => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1 && high > 3) over.push([one, other]);
    }));
    return { count: texts.length, out: out.map(([text]) => text), over };
}"""


@pytest.mark.parametrize("sizes", [*SIZES, (12, 12, 30), (48, 64, 10), (4, 12, 300)])
def test_no_text_lies_on_another(sizes, browser):
    names = [f"a-model-with-a-long-name-{number}" for number in range(9)]
    arrays = random_fisher(*sizes, seed=1).tensors
    page = browser.new_page()
    for spec in (
        draw_fisher(arrays, SAID, 20 * "a long title "),
        draw_shares(names, shares_of(9, *sizes), 20 * "a long title "),
    ):
        page.set_content(drawn(spec, ".svg").decode())
        overlaps = page.evaluate(OVERLAPPING)
        assert overlaps["count"] > 5
        assert (overlaps["out"], overlaps["over"]) == ([], [])
    page.close()


def test_no_text_of_a_diagonal_fisher_lies_on_another(browser):
    page = browser.new_page()
    page.set_content(drawn(draw_fisher(diagonal(), DIAGONAL, "title"), ".svg").decode())
    overlaps = page.evaluate(OVERLAPPING)
    assert (overlaps["out"], overlaps["over"]) == ([], [])
    page.close()


def test_nothing_slow_is_imported_before_it_is_needed():
    code = """
import sys
import fmn.report.inspect, fmn.report.files
assert not {"vl_convert", "matplotlib", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


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

    def made(method="mask-fisher", tasks=("sst2", "rte"), **settings):
        files = {task: fisher(task) for task in tasks}
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
    save(draw_fisher(*read(file), f"{kind} Fisher of {file}"), tmp_path / "same.svg")
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
        "is not a Fisher: its kind is None, expected mask-fisher or diagonal-fisher",
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
        "was merged by average, which weights no mask nodes",
        "inspect",
        out,
        "--plot",
        tmp_path / "out.png",
    )


def test_merges_whose_fishers_are_not_there(merged, refuse, fisher, tmp_path):  # noqa: F811
    out, files = merged(tasks=("rte",))
    output = refuse(
        "names no Fisher of sst2: it was computed on the way; compute it with 'fmn fisher",
        "inspect",
        out,
    )
    assert "--task sst2" in output
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

"""Fishers that cannot be used."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn.checkpoint import DTYPES, read, write
from tests.cli.conftest import fmn, refused, succeeded
from tests.soak import SOAK


@pytest.fixture
def fishers(world, tmp_path):
    """A Fisher file of a kind for each of two models."""

    def made(kind="mask"):
        paths = {}
        for task in ("sst2", "rte"):
            out = tmp_path / f"{task}.safetensors"
            options = ("--task", task, "--data", world.data, "--samples", 8, "--kind", kind)
            succeeded(fmn("fisher", world.model(task), *options, "--out", out))
            paths[task] = out
        return paths

    return made


def change(file, value=None, **changes):
    """Rewrite a Fisher file with a value in its first tensor, or with other metadata."""
    tensors, metadata = read(file)
    tensors = {name: tensor.copy() for name, tensor in tensors.items()}
    if value is not None:
        next(iter(tensors.values())).flat[0] = value
    file.unlink()
    write(file, tensors, metadata | changes)


@pytest.mark.parametrize("kind", ["mask", "diagonal"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_fishers_that_are_not_finite(kind, value, world, fishers, refuse, tmp_path):
    files = fishers(kind)
    change(files["rte"], value)
    more = {task: {"fisher": str(file)} for task, file in files.items()}
    method = "mask-fisher" if kind == "mask" else "fisher"
    recipe = world.recipe(tmp_path / "recipe.yaml", method=method, models=more)
    refuse(
        "rte: its (mask )?Fisher.* holds NaN, infinite or negative values; compute it again",
        "merge",
        recipe,
        "--out",
        tmp_path / "out",
    )


def test_fishers_that_do_not_belong(world, fishers, refuse, tmp_path, nothing_runs):
    tensors = {
        f"layer.{layer}.{part}": np.ones(n, np.float32)
        for layer in (0, 1)
        for part, n in (("attention", 2), ("feed_forward", 24))
    }
    metadata = {
        "kind": "mask-fisher",
        "format_version": "1",
        "model_type": "bert",
        "labels": "true",
    }
    file = tmp_path / "given.safetensors"

    def attempt(message, tensors=tensors, method="mask-fisher", **changes):
        file.unlink(missing_ok=True)
        write(
            file,
            tensors,
            {name: value for name, value in (metadata | changes).items() if value is not None},
        )
        more = {task: {"fisher": str(file)} for task in ("sst2", "rte")}
        refuse(
            message,
            "merge",
            world.recipe(tmp_path / "recipe.yaml", method=method, models=more),
            "--out",
            tmp_path / "out",
        )

    attempt("mask Fisher of another model", model="f" * 64)
    attempt("method fisher needs a diagonal Fisher .*, this is a mask-fisher", method="fisher")
    attempt("mask Fisher of a roberta model", model_type="roberta")
    attempt(
        r"layer\.0\.attention has shape None, expected \(2,\)",
        {n: t for n, t in tensors.items() if n != "layer.0.attention"},
    )
    attempt("needs a mask Fisher .*, this is a file of another kind", kind=None)
    file.write_bytes(file.read_bytes()[:-20])
    more = {"sst2": {"fisher": str(file)}, "rte": {"fisher": str(tmp_path / "none")}}
    recipe = world.recipe(tmp_path / "recipe.yaml", models=more)
    output = refuse(
        "2 reasons why these models cannot be merged:", "merge", recipe, "--out", tmp_path / "out"
    )
    assert "is not a complete safetensors file" in output
    assert f"no file {tmp_path / 'none'}" in output


def test_nodes_that_an_association_needs(world, fishers, refuse, monkeypatch, tmp_path):
    files = fishers("mask")
    for name in ("fmn.fisher.mask_fisher", "fmn.models.load_model"):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("expensive work started"))
    needs = {"method": "mask-fisher", "parameters": {"association": "value-heads"}}
    line = "association value-heads needs a mask Fisher of nodes value-heads, this one is of "
    line += r"attention, feed-forward, layers; take it with 'fisher: \{nodes: \[value-heads\]\}'"
    computed = world.recipe(tmp_path / "recipe.yaml", **needs, fisher={"nodes": ["layers"]})
    refuse(f"rte: {line}", "merge", computed, "--out", tmp_path / "out")
    merge = {"methods": ["average", needs]}
    params = world.params(tmp_path / "params.yaml", merge=merge, fisher={"nodes": ["layers"]})
    for command in ("plan", "run"):
        refuse(f"fmn: method mask-fisher: {line}", command, params)
    more = {task: {"fisher": str(file)} for task, file in files.items()}
    given = world.recipe(tmp_path / "given.yaml", **needs, models=more)
    line = line.replace(", layers", "")
    refuse(f"{world.model('rte')}: {line}", "merge", given, "--out", tmp_path / "out")


def test_of_nodes_beyond_the_papers_a_file_has_all_or_none(world, fishers, refuse, tmp_path):
    files = fishers("mask")
    tensors, metadata = read(files["rte"])
    extra = {"layer.1.layer": np.ones(1, np.float32)}
    more = {task: {"fisher": str(file)} for task, file in files.items()}
    recipe = world.recipe(tmp_path / "recipe.yaml", method="mask-fisher", models=more)
    files["rte"].unlink()
    write(files["rte"], {**tensors, **extra}, metadata)
    line = r"layer\.0\.layer has shape None, expected \(1,\); is it of this model?"
    refuse(line, "merge", recipe, "--out", tmp_path / "out")


RULES = {"mask": "mask-fisher", "diagonal": "fisher", "gram": "regmean"}
SHAPES = ((), (0,), (1,), (2,), (24,), (16, 16), (24, 16), (0, 16), (1, 2, 3))
NUMBERS = (0, 1, -1, float("nan"), float("inf"), 1e-45, 3e38)
TEXTS = ("", "x", "{}", "[]", "null", "NaN", "{", '{"a": 1}', "-1", "9" * 400, "\x1b[2J", "\u202e")
SAID = ("kind", "format_version", "model_type", "model", "examples", "labels", "placement")
SAID += ("aggregation", "inputs", "data", "new\x1b[2J")


@st.composite
def spoilt(draw, tensors, metadata):
    """A statistic's tensors and metadata with a few things wrong."""
    tensors, metadata = dict(tensors), dict(metadata)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(tensors) or ["none"]))
        match draw(st.sampled_from(["lost", "renamed", "reshaped", "retyped", "changed", "said"])):
            case "lost":
                tensors.pop(name, None)
            case "renamed":
                other = st.sampled_from(["", "x", "layer.0.x", "layer.99.attention", "\x1b[2J"])
                tensors[draw(other)] = tensors.pop(name, np.ones(2, np.float32))
            case "reshaped":
                tensors[name] = np.ones(draw(st.sampled_from(SHAPES)), np.float32)
            case "retyped":
                dtype = draw(st.sampled_from(sorted(DTYPES)))
                tensors[name] = tensors.get(name, np.ones(2)).astype(DTYPES[dtype])
            case "changed":
                values = tensors.get(name, np.ones(2)).astype(np.float32).copy()
                values.reshape(-1)[:1] = draw(st.sampled_from(NUMBERS))
                tensors[name] = values
            case "said":
                metadata[draw(st.sampled_from(SAID))] = draw(st.sampled_from(TEXTS))
    return tensors, metadata


@pytest.mark.parametrize("kind", RULES)
def test_any_file_of_a_statistic(kind, world, fishers, tmp_path):
    """Each is merged with and drawn, or refused in one line; ``FMN_SOAK`` multiplies them."""
    files = fishers(kind)
    tensors, metadata = read(files["rte"])
    more = {task: {"fisher": str(file)} for task, file in files.items()}
    recipe = world.recipe(tmp_path / "recipe.yaml", method=RULES[kind], models=more)
    out = tmp_path / "out"

    @settings(max_examples=10 * SOAK, derandomize=True, database=None, deadline=60_000)
    @given(spoilt(tensors, metadata))
    def check(broken):
        files["rte"].unlink()
        write(files["rte"], *broken)
        merged = fmn("merge", recipe, "--out", out)
        drawn = fmn("inspect", out), fmn("inspect", files["rte"])
        for result in (merged, *drawn):
            if result.exit_code:
                refused(result, "")
            assert not any(ord(c) < 32 and c != "\n" for c in result.output), result.output
        assert merged.exit_code == 0 or not out.exists()
        shutil.rmtree(out, ignore_errors=True)

    check()

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from fmn import DiagonalFisher, MaskFisher, mask_fisher
from fmn.checkpoint import open_checkpoint
from fmn.evaluation import encode, get_task, load_split, sample
from tests.cli.conftest import fmn, succeeded
from tests.evaluation.conftest import make_tokenizer
from tests.steps.world import LABELS, permute, save


@pytest.fixture
def compute(world, tmp_path):
    """Compute a Fisher; return its file."""
    count = 0

    def run(*options, task="sst2", model=None):
        nonlocal count
        count += 1
        out = tmp_path / f"fisher{count}.safetensors"
        samples = [] if "--samples" in options else ["--samples", 16]
        model = model or world.model(task)
        succeeded(
            fmn(
                "fisher",
                model,
                "--task",
                task,
                "--data",
                world.data,
                *samples,
                *options,
                "--out",
                out,
            )
        )
        return out

    return run


def rows_of(world, task, seed=0, count=16):
    return encode(
        make_tokenizer(), sample(load_split(world.data, get_task(task), "train"), count, seed), 128
    )


def test_the_file_says_everything_of_itself(compute, world):
    with safe_open(compute(task="mnli"), "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    data = json.loads(metadata.pop("data"))
    assert metadata == {
        "format": "pt",
        "format_version": "1",
        "kind": "mask-fisher",
        "labels": "true",
        "placement": "after-activation",
        "aggregation": "per-example",
        "examples": "16",
        "model_type": "bert",
        "model": open_checkpoint(world.model("mnli")).digest(),
    }
    assert data == {
        "task": "mnli",
        "split": "train",
        "seed": 0,
        "max_length": 128,
        "digest": rows_of(world, "mnli").digest(),
    }
    shapes = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
    parts = {"attention": 2, "feed_forward": 24}
    assert shapes == {
        f"layer.{layer}.{part}": ((size,), torch.float32)
        for layer in (0, 1)
        for part, size in parts.items()
    }
    assert all((tensor >= 0).all() and tensor.sum() > 0 for tensor in tensors.values())


def test_is_fmn_mask_fisher_of_the_same_rows(compute, world):
    options = ("--placement", "before-activation", "--labels", "expected", "--seed", 4)
    fisher = MaskFisher.load(compute(*options))
    batches = [batch for _, batch in rows_of(world, "sst2", seed=4).batches(4)]
    expected = mask_fisher(
        world.load("sst2"), batches, placement="before-activation", labels="expected"
    )
    assert (fisher.placement, fisher.labels) == ("before-activation", "expected")
    for (name, tensor), (_, other) in zip(fisher.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-12, msg=name)


def test_more_nodes_from_the_same_passes(compute, world):
    fisher = MaskFisher.load(compute("--nodes", "layers", "--nodes", "value-heads"))
    batches = [batch for _, batch in rows_of(world, "sst2").batches(16)]
    expected = mask_fisher(world.load("sst2"), batches, nodes=["value-heads", "layers"])
    kinds = {"attention": 2, "feed_forward": 24, "attention_values": 2, "layer": 1}
    assert {(layer, kind): len(values) for (layer, kind), values in fisher.nodes.items()} == {
        (layer, kind): count for layer in (0, 1) for kind, count in kinds.items()
    }
    for (name, tensor), (_, other) in zip(fisher.tensors(), expected.tensors(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-12, msg=name)


def test_no_shuffle_takes_the_first_in_file_order(compute, world):
    fisher = MaskFisher.load(compute("--no-shuffle"))
    assert json.loads(fisher.data)["seed"] is None
    assert json.loads(fisher.data)["digest"] == rows_of(world, "sst2", seed=None).digest()
    expected = mask_fisher(
        world.load("sst2"), [batch for _, batch in rows_of(world, "sst2", seed=None).batches(16)]
    )
    torch.testing.assert_close(
        fisher.nodes[1, "feed_forward"], expected.nodes[1, "feed_forward"], rtol=1e-4, atol=1e-12
    )


def test_draws_with_replacement_are_of_those_rows(compute, world):
    fisher = MaskFisher.load(compute("--replacement", "--seed", 3))
    rows = load_split(world.data, get_task("sst2"), "train")
    np.random.seed(3)
    drawn = encode(make_tokenizer(), rows.take(np.random.choice(len(rows), 16)), 128)
    assert json.loads(fisher.data)["digest"] == drawn.digest()
    assert json.loads(fisher.data)["replacement"] is True
    expected = mask_fisher(world.load("sst2"), [batch for _, batch in drawn.batches(16)])
    torch.testing.assert_close(
        fisher.nodes[1, "feed_forward"], expected.nodes[1, "feed_forward"], rtol=1e-4, atol=1e-12
    )


def test_a_seed_decides(compute):
    one, again, other = (compute("--seed", seed).read_bytes() for seed in (1, 1, 2))
    assert one == again
    assert one != other
    assert MaskFisher.load(compute("--labels", "sampled", "--seed", 1)).labels == "sampled"


@pytest.mark.parametrize("kind", ["mask", "diagonal"])
def test_the_batch_size_changes_nothing_beyond_rounding(kind, compute):
    load = MaskFisher.load if kind == "mask" else DiagonalFisher.load
    small, large = (load(compute("--kind", kind, "--batch-size", size)) for size in (1, 16))
    assert small.metadata() == large.metadata()
    for (name, tensor), (_, other) in zip(small.tensors(), large.tensors(), strict=True):
        torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-12, msg=name)


def test_the_full_diagonal(compute, world):
    fisher = DiagonalFisher.load(compute("--kind", "diagonal"))
    assert (fisher.labels, fisher.examples) == ("expected", 16)
    shapes = {
        name.removeprefix("bert."): p.shape
        for name, p in world.load("sst2").named_parameters()
        if name.startswith("bert.")
    }
    assert {name: tensor.shape for name, tensor in fisher.parameters.items()} == shapes
    assert DiagonalFisher.load(compute("--kind", "diagonal", "--labels", "true")).labels == "true"


def test_less_memory_is_the_same_fisher(compute):
    pytest.importorskip("accelerate")
    plain = compute("--dtype", "bfloat16").read_bytes()
    assert compute("--dtype", "bfloat16", "--checkpointing").read_bytes() == plain
    assert compute("--dtype", "bfloat16", "--device-map", "{device: 12KB}").read_bytes() == plain
    assert compute("--dtype", "bfloat16", "--device-map", "auto").read_bytes() == plain
    assert compute().read_bytes() != plain


def test_aggregation(compute):
    fisher = MaskFisher.load(compute("--aggregation", "per-batch", "--batch-size", 4))
    assert fisher.aggregation == "per-batch"


def test_more_samples_than_there_are_is_a_warning(world, tmp_path):
    out = tmp_path / "fisher.safetensors"
    result = succeeded(
        fmn(
            "fisher",
            world.model("rte"),
            "--task",
            "rte",
            "--data",
            world.data,
            "--samples",
            49,
            "--out",
            out,
        )
    )
    assert result.stderr == "warning: rte/train has only 48 examples; took all of them, not 49\n"
    assert MaskFisher.load(out).examples == 48


def test_label_maps(compute, world, tmp_path):
    """A model whose outputs are permuted has the same Fisher, whether its own names or the map say
    so."""
    model = world.load("mnli")
    permute(model, [2, 0, 1])
    names = [LABELS["mnli"][k] for k in (2, 0, 1)]
    named = save(model, tmp_path / "named", names)
    numbered = save(model, tmp_path / "numbered", [f"LABEL_{number}" for number in range(3)])
    labels = "{LABEL_0: contradiction, LABEL_1: entailment, 2: neutral}"
    expected = MaskFisher.load(compute(task="mnli"))
    for path in (
        compute(task="mnli", model=named),
        compute("--labels-map", labels, task="mnli", model=numbered),
    ):
        for (name, tensor), (_, other) in zip(
            MaskFisher.load(path).tensors(), expected.tensors(), strict=True
        ):
            torch.testing.assert_close(tensor, other, rtol=1e-4, atol=1e-12, msg=name)
    wrong = MaskFisher.load(compute(task="mnli", model=numbered))
    assert not np.allclose(
        wrong.nodes[0, "feed_forward"], expected.nodes[0, "feed_forward"], rtol=1e-2
    )

"""Checkpointing: the same bits, and nothing of a layer kept but what goes into it."""

import pytest
import torch
import transformers

from benchmarks._memory import Counted
from fmn.errors import FisherError
from fmn.fisher import gram_matrices, mask_fisher
from fmn.models import load_model, load_spread
from tests.families import FAMILIES, examples, pad, tiny
from tests.fisher.test_mask import ALL, flat

DECODERS = ("llama", "phi3", "gpt2", "gpt_neox")
AFTER, BEFORE = "after-activation", "before-activation"
CASES = [
    *((name, "true", AFTER) for name in FAMILIES),
    *((name, "true", BEFORE) for name in ("bert", "gpt2", "t5", "phi3")),
    *(
        ("bert", labels, placement)
        for labels in ("expected", "sampled")
        for placement in (AFTER, BEFORE)
    ),
]


def peak(name, layers, head="SequenceClassification", dtype=torch.float32, **options):
    """The most bytes alive during a Fisher of 6 examples of 8 tokens."""
    count = {"n_layers": layers} if name == "distilbert" else {"num_hidden_layers": layers}
    model = tiny(name, head, dtype=dtype, hidden_dropout_prob=0.5, **count)
    batch = {
        "input_ids": torch.randint(3, 50, (6, 8)),
        "attention_mask": torch.ones(6, 8, dtype=torch.long),
    }
    batch["labels"] = batch["input_ids"] if head == "CausalLM" else torch.tensor([0, 1, 2] * 2)
    with Counted() as counted:
        mask_fisher(model, [batch], **options)
    return counted.peak


@pytest.mark.parametrize(("name", "labels", "placement"), CASES)
def test_checkpointing_gives_the_same_bits(name, labels, placement):
    model = tiny(name, dtype=torch.float32).train()  # dropout is off all the same
    data = [
        {key: value.float() if value.is_floating_point() else value for key, value in b.items()}
        for b in examples(model)
    ]
    batches = [pad(data[:3], extra=2), pad(data[3:])]
    options = {"placement": placement, "labels": labels, "seed": 5}
    before = [dict(vars(module)) for module in model.modules()]
    fisher = mask_fisher(model, batches, checkpointing=True, **options)
    assert torch.equal(flat(fisher), flat(mask_fisher(model, batches, **options)))
    assert [dict(vars(module)).keys() for module in model.modules()] == [
        module.keys() for module in before
    ]


@pytest.mark.parametrize("name", ["bert", "phi3", "gpt2", "t5"])
def test_checkpointing_gives_the_same_bits_of_all_nodes(name):
    model = tiny(name, dtype=torch.float32)
    data = [pad(examples(model))]
    fisher = mask_fisher(model, data, nodes=ALL, checkpointing=True)
    assert torch.equal(flat(fisher), flat(mask_fisher(model, data, nodes=ALL)))


@pytest.mark.parametrize("name", DECODERS)
def test_checkpointing_gives_the_same_bits_for_decoders(name):
    model = tiny(name, "CausalLM", dtype=torch.bfloat16)
    data = [pad(examples(model, head="CausalLM"))]
    assert model.config.use_cache
    for aggregation in ("per-example", "per-batch"):
        plain = mask_fisher(model, data, aggregation=aggregation)
        assert torch.equal(
            flat(mask_fisher(model, data, aggregation=aggregation, checkpointing=True)), flat(plain)
        )
    assert model.config.use_cache


@pytest.mark.parametrize("labels", ["true", "expected"])
@pytest.mark.parametrize("name", ["bert", "electra"])
def test_with_checkpointing_a_layer_keeps_what_goes_into_it_and_no_more(name, labels):
    def by_layer(**options):
        return (
            peak(name, 12, labels=labels, **options) - peak(name, 4, labels=labels, **options)
        ) / 8

    hidden = 6 * 8 * 16 * 4  # examples, positions, channels, bytes
    gradients = 6 * (4 + 24) * 4  # of the nodes
    squares = (4 + 24) * 8
    assert hidden <= by_layer(checkpointing=True) <= hidden + gradients + 2 * squares
    assert by_layer() > 8 * hidden


def test_a_decoder_keeps_no_keys_and_values_for_later():
    hidden = 6 * 8 * 16 * 4
    grown = peak("llama", 12, "CausalLM", checkpointing=True) - peak(
        "llama", 4, "CausalLM", checkpointing=True
    )
    assert grown / 8 < 1.5 * hidden


on_disk = pytest.mark.skipif(
    transformers.__version__ < "5",
    reason="transformers 4.50 cannot map layers to disk with this safetensors",
)


@on_disk
@pytest.mark.parametrize(
    ("name", "size", "dtype"),
    [
        *((name, "1KB", "same") for name in ("bert", "t5", *DECODERS)),
        ("bert", "8KB", "same"),
        ("llama", "8KB", "bfloat16"),
    ],
)
def test_layers_that_wait_on_disk_change_nothing(name, size, dtype, tmp_path):
    pytest.importorskip("accelerate")
    tiny(name, dtype=torch.float32).save_pretrained(tmp_path)
    spread, whole = (
        load_spread(tmp_path, dtype, "cpu", {"device": size}),
        load_model(tmp_path, dtype),
    )
    data = [pad(examples(whole))]
    before = sum(parameter.is_meta for parameter in spread.parameters())
    assert before > 0
    fisher = mask_fisher(spread, data)
    assert torch.equal(flat(fisher), flat(mask_fisher(whole, data)))
    assert (
        sum(parameter.is_meta for parameter in spread.parameters()) >= before
    )  # accelerate unties what was tied


@on_disk
@pytest.mark.parametrize("size", ["1KB", "8KB"])
def test_gram_matrices_of_layers_that_wait_on_disk(size, tmp_path):
    pytest.importorskip("accelerate")
    tiny("llama", dtype=torch.float32).save_pretrained(tmp_path)
    spread, whole = load_spread(tmp_path, "same", "cpu", {"device": size}), load_model(tmp_path)
    data = [pad(examples(whole))]
    grams, expected = gram_matrices(spread, data), gram_matrices(whole, data)
    assert grams.matrices.keys() == expected.matrices.keys()
    assert all(
        torch.equal(matrix, expected.matrices[name]) for name, matrix in grams.matrices.items()
    )


@on_disk
@pytest.mark.parametrize("labels", ["expected", "sampled"])
def test_layers_that_wait_on_disk_come_back_for_every_direction(labels, tmp_path):
    pytest.importorskip("accelerate")
    tiny("bert", dtype=torch.float32).save_pretrained(tmp_path)
    spread, whole = load_spread(tmp_path, "same", "cpu", {"device": "12KB"}), load_model(tmp_path)
    data = [pad(examples(whole)[:3]), pad(examples(whole)[3:])]
    assert torch.equal(
        flat(mask_fisher(spread, data, labels=labels)),
        flat(mask_fisher(whole, data, labels=labels)),
    )


@on_disk
def test_what_a_device_map_cannot_do(tmp_path):
    pytest.importorskip("accelerate")
    tiny("bert", dtype=torch.float32).save_pretrained(tmp_path)
    spread = load_spread(tmp_path, "same", "cpu", {"device": "1KB"})
    data = examples(spread)
    message = (
        r"placement='before-activation' needs encoder\.layer\.0\.intermediate\.dense\.bias, "
        r"which the device map keeps"
    )
    with pytest.raises(FisherError, match=message):
        mask_fisher(spread, data, placement="before-activation")
    with pytest.raises(
        FisherError, match="device='cpu': a device map has placed this model's layers already"
    ):
        mask_fisher(spread, data, device="cpu")


def test_a_layer_that_fails_leaves_the_model_as_it_was():
    model = tiny("bert")
    data = examples(model)
    data[2]["labels"] = torch.tensor([7])
    with pytest.raises(FisherError, match="label 7 is out of range"):
        mask_fisher(model, data, checkpointing=True)
    assert not any("forward" in vars(module) for module in model.modules())

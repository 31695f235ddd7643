"""Gram matrices against inputs that are recorded one example at a time."""

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from fmn.errors import FisherError
from fmn.fisher import GramMatrices, gram_matrices, second_moments
from fmn.fisher.gram import _Inputs, _products
from fmn.fisher.session import describe
from tests.families import FAMILIES, examples, head_of, in_checkpoints, pad, padded, tiny


def recorded(model, data):
    """Return Σ x xᵀ / N of what goes into every linear layer, by the weight's full name."""
    sums, counted, ran = {}, {}, set()

    def hook(name):
        def note(module, inputs):
            if name not in ran:  # DeBERTa's run again on relative positions
                ran.add(name)
                x = inputs[0].double().reshape(-1, inputs[0].shape[-1])
                x = x[counted["decoder"]] if len(x) == len(counted["decoder"]) else x
                sums[name] = sums.get(name, 0) + torch.einsum("ti,tj->ij", x, x)

        return note

    handles = [
        module.register_forward_pre_hook(hook(f"{path}.weight"))
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    ]
    with torch.no_grad():
        for batch in data:
            ran.clear()
            inputs = {name: value for name, value in batch.items() if name != "labels"}
            counted["decoder"] = torch.tensor([], dtype=torch.bool)
            if head_of(model) == "ConditionalGeneration":
                inputs["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(
                    batch["labels"]
                )
                counted["decoder"] = batch["labels"][0] != -100
            model(**inputs)
    for handle in handles:
        handle.remove()
    return {name: total / len(data) for name, total in sums.items()}


def check(name, model, ours, data):
    expected = {
        in_checkpoints(name, full): matrix for full, matrix in recorded(model, data).items()
    }
    shapes = {
        in_checkpoints(name, full): parameter.shape for full, parameter in model.named_parameters()
    }
    for weight, (matrix, axis) in ours.inputs.items():
        theirs = expected[weight]
        assert shapes[weight][axis] == len(theirs)
        torch.testing.assert_close(
            ours.matrices[matrix].double(), theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max())
        )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", FAMILIES)
def test_agrees_with_one_example_at_a_time(name):
    model = tiny(name)
    data = examples(model)
    ours = gram_matrices(model, [pad(data[:3], extra=2), pad(data[3:])])
    assert ours.examples == 5
    assert {axis for _, axis in ours.inputs.values()} == {0 if FAMILIES[name].transposed else 1}
    check(name, model, ours, data)


def test_query_key_and_value_share_a_matrix():
    ours = gram_matrices(model := tiny("bert"), examples(model))
    assert len(ours.inputs) == 2 * 6
    assert len(ours.matrices) == 2 * 4


def test_a_decoder_is_told_from_an_encoder_of_the_same_length():
    model = tiny("t5")
    long = examples(model, 2)[1]
    long = {**long, "labels": torch.tensor([[7, 8, 9, -100, -100, -100, -100, -100]])}
    assert long["labels"].shape == long["input_ids"].shape
    check("t5", model, gram_matrices(model, [long]), [{**long, "labels": long["labels"][:, :3]}])


def test_batches_order_and_padding_do_not_matter():
    model = tiny("bert", dtype=torch.float32)
    data = examples(model)
    one, other = (
        gram_matrices(model, batches) for batches in ([pad(data, extra=5)], [*data[::-1]])
    )
    for name, matrix in one.matrices.items():
        torch.testing.assert_close(
            matrix, other.matrices[name], rtol=1e-4, atol=1e-6 * float(matrix.max())
        )


def test_the_model_comes_back_as_it_was():
    model = tiny("bert").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gram_matrices(model, examples(model))
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_saved_and_loaded(tmp_path):
    model = tiny("bert")
    grams = gram_matrices(model, examples(model))
    grams.save(tmp_path / "g.safetensors")
    loaded = GramMatrices.load(tmp_path / "g.safetensors")
    assert loaded.inputs == grams.inputs
    assert loaded.metadata() == grams.metadata()
    assert "labels" not in loaded.metadata()
    assert all(
        torch.equal(loaded.matrices[name], matrix) for name, matrix in grams.matrices.items()
    )


@pytest.mark.parametrize("name", ["bert", "gpt2", "t5", "deberta-v2"])
def test_second_moments_are_their_diagonals(name):
    model = padded(name)
    data = [pad(examples(model), extra=2)]
    grams, moments = gram_matrices(model, data), second_moments(model, data)
    assert moments.examples == grams.examples
    assert moments.values.keys() == grams.inputs.keys()
    for weight, (matrix, _) in grams.inputs.items():
        torch.testing.assert_close(moments.values[weight], grams.matrices[matrix].diagonal())


@pytest.mark.parametrize("of", [gram_matrices, second_moments])
def test_bad_calls_are_one_clear_line(of):
    model = tiny("bert")
    with pytest.raises(FisherError, match="the batches hold no example"):
        of(model, [])
    model.bert.encoder.layer[0].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(FisherError, match="not finite; does the model have NaN"):
        of(model, examples(model))


def test_inputs_at_other_positions_than_the_mask_are_refused():
    inputs = _Inputs(describe(tiny("bert")), _products)
    inputs.begin({"attention_mask": torch.ones(2, 7)})
    with pytest.raises(
        FisherError,
        match=(
            r"a\.weight: its inputs are \[2, 5, 3\], which the attention mask \[2, 7\] does not "
            r"fit"
        ),
    ):
        inputs._add("a.weight", torch.ones(2, 5, 3))

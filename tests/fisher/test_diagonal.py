import copy

import pytest
import torch

from fmn.errors import FisherError
from fmn.fisher import diagonal, diagonal_fisher
from tests import extra_families
from tests.families import FAMILIES, examples, pad, tiny
from tests.fisher import oracle

FAMILY_NAMES = list(FAMILIES)


def assert_agrees(model, ours, theirs):
    """Every backbone parameter, none of the head's, relative error by tensor norm."""
    prefix = model.base_model_prefix + "."
    expected = {name.removeprefix(prefix): tensor for name, tensor in theirs.items() if name.startswith(prefix)}
    assert ours.parameters.keys() == expected.keys()
    for name, tensor in ours.parameters.items():
        assert tensor.dtype == torch.float32
        error = float((tensor.double() - expected[name]).norm())
        assert error <= 1e-6 * float(expected[name].norm()) + 1e-20, name  # a key's bias has no effect: its Fisher is rounding


@pytest.mark.parametrize("labels", ["true", "expected"])
@pytest.mark.parametrize("name", FAMILY_NAMES)
def test_agrees_with_a_loop_over_examples_and_labels(name, labels):
    model = tiny(name)
    data = examples(model)
    ours = diagonal_fisher(model, [pad(data[:3], extra=2), pad(data[3:])], labels=labels)
    assert_agrees(model, ours, oracle.diagonal_fisher(model, data, labels=labels))


@pytest.mark.parametrize("labels", ["true", "expected"])
def test_regression(labels):
    model = tiny("bert", num_labels=1)
    data = examples(model)
    assert_agrees(model, diagonal_fisher(model, [pad(data)], labels=labels), oracle.diagonal_fisher(model, data, labels=labels))


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra"])
def test_tied_embeddings_add_up_before_the_square(name):
    model = tiny(name, "MaskedLM")
    data = examples(model, 2, head="MaskedLM")
    assert_agrees(model, diagonal_fisher(model, [pad(data)], labels="true"), oracle.diagonal_fisher(model, data, labels="true"))


@pytest.mark.usefixtures("float64")
def test_conv1d_weights():
    extra_families.register()
    model = tiny("gpt2", "CausalLM")
    data = examples(model, 3, head="CausalLM")
    assert_agrees(model, diagonal_fisher(model, [pad(data)], labels="true"), oracle.diagonal_fisher(model, data, labels="true"))


def test_token_classification_takes_the_expectation_over_sequences_of_labels():
    model = tiny("bert", "TokenClassification")
    data = examples(model, 3, head="TokenClassification")
    assert_agrees(model, diagonal_fisher(model, [pad(data)]), oracle.diagonal_fisher(model, data))


def test_agrees_with_the_exact_diagonal_of_curvlinops_gauss_newton_matrix():
    """For cross-entropy the expected Fisher is the generalised Gauss-Newton matrix."""
    curvlinops = pytest.importorskip("curvlinops", reason="curvlinops is not installed: 'make test' installs it")
    model = tiny("bert", attn_implementation="eager", hidden_size=8, num_attention_heads=2, intermediate_size=6)
    batch = pad(examples(model, 4))
    labels = batch.pop("labels")

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs):
            return self.model(**inputs).logits

    parameters = dict(model.bert.encoder.layer[1].named_parameters())
    matrix = curvlinops.GGNLinearOperator(
        Logits(),
        torch.nn.CrossEntropyLoss(reduction="mean"),
        list(parameters.values()),
        [(batch, labels)],
        check_deterministic=False,
        batch_size_fn=lambda inputs: len(inputs["input_ids"]),
    )
    columns = matrix @ torch.eye(matrix.shape[1], dtype=torch.float64)
    sizes = [p.numel() for p in parameters.values()]
    theirs = dict(zip(parameters, columns.diagonal().split(sizes), strict=True))
    ours = diagonal_fisher(model, [{**batch, "labels": labels}])
    for name, tensor in theirs.items():
        error = ours.parameters[f"encoder.layer.1.{name}"].double().reshape(-1) - tensor
        assert float(error.norm()) <= 1e-6 * float(tensor.norm()) + 1e-20, name


@pytest.mark.parametrize("chunk", [1, 2**12, 2**20])
def test_any_bound_on_memory_gives_the_same(chunk, monkeypatch):
    model = tiny("bert")
    data = [pad(examples(model))]
    expected = diagonal_fisher(model, data)
    monkeypatch.setattr(diagonal, "CHUNK_BYTES", chunk)
    for name, tensor in diagonal_fisher(model, data).parameters.items():
        torch.testing.assert_close(tensor, expected.parameters[name], rtol=1e-6, atol=0)


def test_the_model_comes_back_as_it_was_also_after_an_error():
    model = tiny("bert").train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FisherError, match="no 'labels'"):
        diagonal_fisher(model, [{"input_ids": torch.ones(1, 4, dtype=torch.long)}], labels="true")
    assert all(m.training and not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_parameter_without_a_rule_is_named():
    model = tiny("bert")
    model.bert.extra = torch.nn.Bilinear(2, 2, 2).double()
    with pytest.raises(FisherError, match=r"no rule for the per-example gradient of bert.extra.bias \(Bilinear\)"):
        diagonal_fisher(model, examples(model))


def test_a_module_that_does_not_run_is_an_error():
    model = tiny("bert")
    model.bert.extra = torch.nn.Linear(2, 2).double()
    with pytest.raises(FisherError, match=r"no hook fired for extra\.weight"):
        diagonal_fisher(model, examples(model))

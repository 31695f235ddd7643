import copy
from dataclasses import replace

import pytest
import torch

from fmn import architectures
from fmn.errors import FisherError
from fmn.fisher import diagonal, diagonal_fisher
from tests.families import cases, examples, in_checkpoints, pad, tiny
from tests.fisher import oracle


def assert_agrees(name, ours, theirs):
    """Every backbone parameter, none of the head's, relative error by tensor norm."""
    expected = {in_checkpoints(name, full): tensor for full, tensor in theirs.items()}
    expected = {short: tensor for short, tensor in expected.items() if short}
    assert ours.parameters.keys() == expected.keys()
    for short, tensor in ours.parameters.items():
        assert tensor.dtype == torch.float32
        error = float((tensor.double() - expected[short]).norm())
        limit = 1e-5 if "t5" in name else 1e-6  # T5's norms take their variance in float32
        assert error <= limit * float(expected[short].norm()) + 1e-20, (
            short
        )  # a key's bias has no effect: its Fisher is rounding


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "head"), cases())
def test_agrees_with_a_loop_over_examples_and_labels(name, head):
    model = tiny(name, head)
    data = examples(model, 4)
    ours = diagonal_fisher(model, [pad(data[:3], extra=2), pad(data[3:])], labels="true")
    assert_agrees(name, ours, oracle.diagonal_fisher(model, data, labels="true"))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "head"), cases("SequenceClassification", "ImageClassification"))
def test_the_exact_expectation(name, head):
    model = tiny(name, head)
    data = examples(model)
    ours = diagonal_fisher(model, [pad(data[:3], extra=2), pad(data[3:])])
    assert_agrees(name, ours, oracle.diagonal_fisher(model, data))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("deberta-v2", {"share_att_key": True}),
        ("t5", {"feed_forward_proj": "gated-gelu"}),
        ("llama", {"mlp_bias": True}),
    ],
)
def test_what_only_some_configurations_have(name, changes):
    model = tiny(name, **changes)
    data = examples(model, 3)
    assert_agrees(
        name,
        diagonal_fisher(model, [pad(data)], labels="true"),
        oracle.diagonal_fisher(model, data, labels="true"),
    )


@pytest.mark.parametrize("labels", ["true", "expected"])
def test_regression(labels):
    model = tiny("bert", num_labels=1)
    data = examples(model)
    assert_agrees(
        "bert",
        diagonal_fisher(model, [pad(data)], labels=labels),
        oracle.diagonal_fisher(model, data, labels=labels),
    )


@pytest.mark.parametrize("name", ["bert", "distilbert", "electra"])
def test_tied_embeddings_add_up_before_the_square(name):
    model = tiny(name, "MaskedLM")
    data = examples(model, 2, head="MaskedLM")
    assert_agrees(
        name,
        diagonal_fisher(model, [pad(data)], labels="true"),
        oracle.diagonal_fisher(model, data, labels="true"),
    )


def test_token_classification_takes_the_expectation_over_sequences_of_labels():
    model = tiny("bert", "TokenClassification")
    data = examples(model, 3, head="TokenClassification")
    assert_agrees("bert", diagonal_fisher(model, [pad(data)]), oracle.diagonal_fisher(model, data))


def test_agrees_with_the_exact_diagonal_of_curvlinops_gauss_newton_matrix():
    """For cross-entropy the expected Fisher is the generalised Gauss-Newton matrix."""
    curvlinops = pytest.importorskip(
        "curvlinops", reason="curvlinops is not installed: 'make test' installs it"
    )
    model = tiny(
        "bert",
        attn_implementation="eager",
        hidden_size=8,
        num_attention_heads=2,
        intermediate_size=6,
    )
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
    assert all(
        m.training and not m._forward_hooks and not m._forward_pre_hooks for m in model.modules()
    )
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_module_that_runs_once_for_all_examples_must_be_described_so(monkeypatch):
    model = tiny("mpnet")
    family = replace(architectures.get("mpnet"), once=())
    monkeypatch.setattr(architectures, "get", lambda name: family)
    with pytest.raises(
        FisherError,
        match=r"encoder\.relative_attention_bias\.weight: its module runs once for all examples",
    ):
        diagonal_fisher(model, [pad(examples(model))])


def test_a_module_that_does_not_run_is_an_error():
    model = tiny("bert")
    model.bert.extra = torch.nn.Linear(2, 2).double()
    with pytest.raises(FisherError, match=r"no hook fired for extra\.weight"):
        diagonal_fisher(model, examples(model))


def test_a_head_that_no_hook_sees_is_refused():
    model = tiny("deberta-v2", "MaskedLM", legacy=False)
    with pytest.raises(FisherError, match="multiplies by its word embeddings outside any module"):
        diagonal_fisher(model, examples(model))

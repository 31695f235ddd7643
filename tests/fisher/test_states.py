"""What a head reads and says, by family: the first linear map outside of what models share."""

import pytest
import torch

from fmn import architectures
from fmn.errors import FisherError
from fmn.fisher import describe, head_states, read_head
from tests.families import cases, examples, pad, padded, tiny

CLASSIFIERS = cases("SequenceClassification", "ImageClassification")
MAPS = {
    "bert": "bert.pooler.dense",
    "distilbert": "pre_classifier",
    "deberta-v2": "pooler.dense",
    "modernbert": "head.dense",
    "vit": "classifier",
    **dict.fromkeys(("t5", "mt5", "bart"), "classification_head.dense"),
    **dict.fromkeys(
        ("roberta", "xlm-roberta", "camembert", "electra", "mpnet"), "classifier.dense"
    ),
}
"""The first linear map of each family's head; a decoder's is its score matrix."""


def logits_of(name, model, states):
    """Finish a head's work by hand."""
    heads = {
        "bert": lambda y: model.classifier(torch.tanh(y)),
        "roberta": lambda y: model.classifier.out_proj(torch.tanh(y)),
        "distilbert": lambda y: model.classifier(torch.relu(y)),
        "deberta-v2": lambda y: model.classifier(torch.nn.functional.gelu(y)),
        "bart": lambda y: model.classification_head.out_proj(torch.tanh(y)),
    }
    return heads.get(name, lambda y: y if y.shape[-1] == 3 else None)(states.outputs)


@pytest.mark.parametrize(("name", "head"), CLASSIFIERS)
def test_the_map_is_the_heads_first_and_its_rows_are_the_examples(name, head):
    model = padded(name, head)
    each = examples(model)
    together = read_head(model, [pad(each)])
    assert together.map == MAPS.get(name, "score")
    alone = read_head(model, each)
    torch.testing.assert_close(together.outputs, alone.outputs)
    torch.testing.assert_close(together.inputs, alone.inputs)
    assert len(alone.inputs) == len(each)
    weight = model.get_submodule(alone.map).weight
    bias = model.get_submodule(alone.map).bias
    torch.testing.assert_close(
        torch.nn.functional.linear(alone.inputs, weight, bias), alone.outputs
    )
    finished = logits_of(name, model, alone)
    if finished is not None:
        with torch.no_grad():
            expected = torch.cat(
                [model(**{k: v for k, v in one.items() if k != "labels"}).logits for one in each]
            )
        torch.testing.assert_close(finished, expected)


@pytest.mark.parametrize(("name", "head"), CLASSIFIERS)
def test_what_feeds_nothing_but_the_head_is_what_the_description_says(name, head):
    """By the graph: the readout moves the logits, and nothing that the backbone gives out."""
    model = tiny(name, head)
    subject = describe(model)
    (example,) = examples(model, 1)
    example.pop("labels")
    given_out = []
    model.base_model.register_forward_hook(
        lambda module, inputs, output: given_out.append(output.last_hidden_state)
    )
    logits = model(**example, return_dict=True).logits
    inside, outside = (
        torch.autograd.grad(
            (of * torch.randn_like(of)).sum(),
            list(subject.parameters.values()),
            allow_unused=True,
            retain_graph=True,
        )
        for of in (given_out[0], logits)
    )
    head_only = {
        short
        for short, into, beyond in zip(subject.parameters, inside, outside, strict=True)
        if into is None and beyond is not None
    }
    description = architectures.get(name)
    assert head_only == {short for short in subject.parameters if description.is_readout(short)}


def test_what_does_not_classify_is_refused():
    model = tiny("bert", "MaskedLM")
    with pytest.raises(FisherError, match="only a classifier's head can be refitted"):
        read_head(model, examples(model))
    with pytest.raises(FisherError, match="at least one"):
        read_head(tiny("bert"), [])


def test_broken_weights_are_said():
    model = tiny("bert")
    model.bert.pooler.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(FisherError, match=r"bert\.pooler\.dense: .* are not finite"):
        read_head(model, examples(model))


def test_head_states_are_the_outputs_with_a_row_an_example():
    model = tiny("bert")
    each = examples(model)
    estimate = head_states(model, each)
    assert estimate.kind == "head-states"
    assert estimate.examples == len(each)
    torch.testing.assert_close(estimate.values["outputs"], read_head(model, each).outputs.float())

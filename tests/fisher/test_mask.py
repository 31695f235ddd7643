import copy
from dataclasses import replace
from typing import get_args

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from fmn.errors import ArchitectureError, FisherError
from fmn.fisher import MaskFisher, mask_fisher
from fmn.recipe import PAPER_NODES, Nodes
from tests.families import FAMILIES, cases, examples, one_labelled_token, pad, tiny
from tests.fisher import oracle

PLACEMENTS = ["after-activation", "before-activation"]
ALL = get_args(Nodes)
BEYOND = [nodes for nodes in ALL if nodes not in PAPER_NODES]


def flat(fisher: MaskFisher) -> torch.Tensor:
    return torch.cat([tensor.double() for _, tensor in fisher.tensors()])


def relative_error(fisher, expected) -> float:
    """The largest relative error of any one tensor, by its norm."""
    errors = []
    for (part, layer), theirs in expected.items():
        ours = fisher.nodes[layer, part].double()
        errors.append(float((ours - theirs).norm() / theirs.norm()))
    return max(errors)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize(("name", "head"), cases())
def test_agrees_with_explicit_masks_one_example_at_a_time(name, head, placement):
    model = tiny(name, head)
    data = examples(model)
    ours = mask_fisher(model, [pad(data[:3], extra=2), pad(data[3:])], placement=placement)
    expected = oracle.mask_fisher(model, name, data, placement=placement)
    assert relative_error(ours, expected) < 1e-6
    assert len(expected) == sum(1 for _ in ours.tensors())
    assert ours.examples == 5
    stacks = [stack for stack in FAMILIES[name].stacks for _ in range(stack.layers)]
    heads, neurons = ours.of("attention").values(), ours.of("feed_forward").values()
    assert [list(values.shape) for values in heads] == [[stack.heads] for stack in stacks]
    assert [list(values.shape) for values in neurons] == [[stack.neurons] for stack in stacks]
    assert list(ours.of("cross_attention")) == [
        layer for layer, stack in enumerate(stacks) if stack.cross
    ]
    assert bool(ours.of("key_value")) == (FAMILIES[name].groups is not None)
    assert {tensor.dtype for _, tensor in ours.tensors()} == {torch.float32}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_nodes_beyond_the_papers_agree_with_explicit_masks(name, placement):
    model = tiny(name)
    data = examples(model)
    ours = mask_fisher(model, [pad(data[:3], 2), pad(data[3:])], nodes=ALL, placement=placement)
    expected = oracle.mask_fisher(model, name, data, nodes=ALL, placement=placement)
    assert relative_error(ours, expected) < 1e-6
    assert ours.nodes.keys() == {(layer, kind) for kind, layer in expected}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("labels", ["true", "expected"])
@pytest.mark.parametrize("nodes", BEYOND)
@pytest.mark.parametrize("name", ["llama", "bart"])
def test_each_kind_of_nodes_by_itself_is_what_it_is_among_all(name, nodes, labels):
    model = tiny(name, "SequenceClassification")
    data = [pad(examples(model, 3))]
    alone, papers, whole = (
        dict(mask_fisher(model, data, labels=labels, nodes=chosen).tensors())
        for chosen in ([nodes], PAPER_NODES, ALL)
    )
    assert papers.keys() < alone.keys() < whole.keys()
    assert all(torch.equal(tensor, whole[each]) for each, tensor in alone.items())
    assert all(torch.equal(tensor, whole[each]) for each, tensor in papers.items())


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("name", "head"), cases())
def test_the_expectation_over_labels_is_the_sum_over_all_of_them(name, head):
    model = tiny(name, head)
    data = examples(model, 3)
    if data[0]["labels"].dim() == 2:
        data = one_labelled_token(data)
    ours = mask_fisher(model, [pad(data, extra=1)], labels="expected")
    assert relative_error(ours, oracle.mask_fisher(model, name, data, labels="expected")) < 1e-6


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("labels", ["true", "expected"])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra"])
def test_regression_and_both_attention_implementations(name, labels, attention):
    try:
        model = tiny(name, num_labels=1, attn_implementation=attention)
    except ValueError as error:
        pytest.skip(f"this transformers has no {attention} attention for {name}: {error}")
    assert model.config._attn_implementation == attention
    data = examples(model)
    ours = mask_fisher(model, [pad(data)], labels=labels)
    assert relative_error(ours, oracle.mask_fisher(model, name, data, labels=labels)) < 1e-6


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta", "camembert", "electra"])
def test_causal_language_models(name):
    model = tiny(name, "CausalLM", is_decoder=True)
    data = examples(model, head="CausalLM")
    assert (
        relative_error(mask_fisher(model, [pad(data)]), oracle.mask_fisher(model, name, data))
        < 1e-6
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        (
            "llama",
            {"num_key_value_heads": 4, "attention_bias": False, "mlp_bias": True},
        ),  # no head is shared
        ("llama", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
        ("gpt_neox", {"attention_bias": False, "use_parallel_residual": False}),
        ("t5", {"feed_forward_proj": "gated-gelu"}),
        ("mt5", {"feed_forward_proj": "relu"}),
        ("deberta-v2", {"share_att_key": True}),
        ("deberta-v2", {"relative_attention": False, "pos_att_type": None}),
        ("modernbert", {"attention_bias": True, "mlp_bias": True, "norm_bias": True}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}),
        ("vit", {"qkv_bias": False}),
    ],
)
def test_what_only_some_configurations_have(name, changes):
    model = tiny(name, **changes)
    data = examples(model, 3)
    groups = changes.get("num_key_value_heads", FAMILIES[name].groups)
    changed = replace(FAMILIES[name], groups=None if groups == 4 else groups)
    twin = with_keys_of_their_own(model) if changes.get("share_att_key") else model
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, name, changed)
        expected = oracle.mask_fisher(twin, name, data, nodes=ALL)
    ours = mask_fisher(model, [pad(data)], nodes=ALL)
    assert relative_error(ours, expected) < 1e-6
    assert len(expected) == sum(1 for _ in ours.tensors())


def with_keys_of_their_own(shared):
    """The same DeBERTa, whose relative positions have a matrix of keys of their own: a factor on
    the tokens' keys is one on weights there."""
    model = tiny("deberta-v2", share_att_key=False)
    weights = shared.state_dict()
    model.load_state_dict(
        {name: weights[name.replace(".pos_", ".")] for name in model.state_dict()}
    )
    return model


@settings(max_examples=25, deadline=None)
@given(
    st.permutations(range(6)),
    st.lists(st.integers(1, 3), min_size=6, max_size=6),
    st.integers(0, 5),
    st.sampled_from(["true", "expected", "sampled"]),
)
def test_batch_size_order_and_padding_change_nothing(order, sizes, extra, labels):
    model = tiny("bert")
    data = examples(model, 6)
    shuffled, batches = [data[i] for i in order], []
    for size in sizes:
        batches += [pad(shuffled[:size], extra)] if shuffled else []
        shuffled = shuffled[size:]
    one_by_one = flat(mask_fisher(model, data, labels=labels, nodes=ALL, seed=3))
    torch.testing.assert_close(
        flat(mask_fisher(model, batches, labels=labels, nodes=ALL, seed=3)),
        one_by_one,
        rtol=1e-6,
        atol=0,
    )


@pytest.mark.parametrize("head", ["SequenceClassification", "TokenClassification"])
def test_sampled_labels_are_drawn_from_the_models_prediction(head):
    model = tiny("bert", head)
    (example,) = examples(model, 1)
    if head == "TokenClassification":
        example["labels"] = torch.tensor([[1, -100, -100]])
    single = [
        {
            **example,
            "labels": torch.full_like(example["labels"], c).where(example["labels"] != -100, -100),
        }
        for c in range(3)
    ]
    by_label = torch.stack([flat(mask_fisher(model, [batch])) for batch in single])
    draws = [
        flat(mask_fisher(model, [example], labels="sampled", seed=seed)) for seed in range(200)
    ]
    distances = torch.stack(
        [(by_label - draw).norm(dim=1) / by_label.norm(dim=1) for draw in draws]
    )
    assert (distances.min(1).values < 1e-6).all()
    logits = model(example["input_ids"]).logits.reshape(-1, 3)[0]
    frequencies = torch.bincount(distances.argmin(1), minlength=3) / 200
    torch.testing.assert_close(frequencies.double(), logits.softmax(-1).detach(), atol=0.1, rtol=0)


def test_sampled_regression_has_the_expected_fisher_as_its_mean():
    model = tiny("bert", num_labels=1)
    data = examples(model, 3)
    draws = torch.stack(
        [flat(mask_fisher(model, data, labels="sampled", seed=seed)) for seed in range(400)]
    )
    expected = flat(mask_fisher(model, data, labels="expected"))
    assert float((draws.mean(0) - expected).norm() / expected.norm()) < 0.15


def test_per_batch_squares_the_gradient_of_the_mean_loss():
    model = tiny("bert")
    data = examples(model)
    masks = oracle.Masks(model, "bert", "after-activation", ALL)
    made, expected = masks.made, dict.fromkeys(masks.made, 0)
    for part in (data[:3], data[3:]):
        gradients = [
            next(oracle.scores(model, batch, "true", masks.weights(), list(made.values())))[1]
            for batch in part
        ]
        for key, of_examples in zip(made, zip(*gradients, strict=True), strict=True):
            expected[key] = expected[key] + (sum(of_examples) / len(part)) ** 2
    batches = [pad(data[:3]), pad(data[3:])]
    ours = mask_fisher(model, batches, nodes=ALL, aggregation="per-batch")
    assert relative_error(ours, expected) < 1e-6


def test_bfloat16_stays_near_float32():
    model = tiny("bert", dtype=torch.float32)
    data = [pad(examples(model, 8))]
    for batch in data:
        batch["labels"] = batch["labels"].long()
    wide = flat(mask_fisher(model, data))
    narrow = flat(mask_fisher(copy.deepcopy(model).bfloat16(), data))
    assert float((narrow - wide).norm() / wide.norm()) < 0.1


def state(model):
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()
    ]
    return (
        hooks,
        [p.requires_grad for p in model.parameters()],
        [p.grad for p in model.parameters()],
    )


@pytest.mark.parametrize("broken", [False, True])
def test_the_model_comes_back_as_it_was(broken):
    model = tiny("bert").train()
    model.bert.encoder.layer[0].eval()
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    before, weights = state(model), copy.deepcopy(model.state_dict())
    data = examples(model)
    if broken:
        data[2]["labels"] = torch.tensor([7])
        with pytest.raises(
            FisherError, match="label 7 is out of range; the head has 3 classes, 0 to 2"
        ):
            mask_fisher(model, data)
    else:
        mask_fisher(model, data)
    assert state(model) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    assert not any(tensor._backward_hooks for tensor in model.parameters())


def test_the_callers_no_grad_does_not_matter():
    model = tiny("bert")
    data = examples(model)
    with torch.no_grad():
        inside = flat(mask_fisher(model, data))
    assert torch.equal(inside, flat(mask_fisher(model, data)))


def test_a_hook_that_never_fires_is_an_error():
    model = tiny("bert")
    model.bert.encoder.layer[1] = SkippedLayer(model.bert.encoder.layer[1])
    with pytest.raises(
        FisherError, match=r"layer 1's heads got no gradient: its module did not run"
    ):
        mask_fisher(model, examples(model))


class SkippedLayer(torch.nn.Module):
    """Has a layer's modules but does not run them."""

    def __init__(self, layer):
        super().__init__()
        self.attention, self.intermediate, self.output = (
            layer.attention,
            layer.intermediate,
            layer.output,
        )

    def forward(self, hidden, *args, **kwargs):
        return (hidden,) if transformers.__version__.startswith("4.") else hidden


def test_unknown_family_is_one_line_with_the_known_ones_and_how_to_add_one():
    model = tiny("bert")
    model.config.model_type = "brt"
    with pytest.raises(ArchitectureError) as error:
        mask_fisher(model, [])
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "unknown model family 'brt'",
        "did you mean 'bert'",
        "electra",
        "fmn.architectures.register",
        "entry point",
    ):
        assert part in message


def no_labels(model):
    return [
        {key: value for key, value in batch.items() if key != "labels"} for batch in examples(model)
    ]


@pytest.mark.parametrize(
    ("batches", "options", "message"),
    [
        (lambda model: [], {}, "the batches hold no example"),
        (no_labels, {}, "the batches hold no 'labels'"),
        (
            examples,
            {"labels": "guessed"},
            "labels='guessed': expected one of true, expected, sampled",
        ),
        (
            examples,
            {"nodes": ["heads"]},
            "nodes='heads': expected one of attention, feed-forward, residual-channels",
        ),
        (
            examples,
            {"placement": "inside"},
            "placement='inside': expected one of after-activation, before-activation",
        ),
        (
            examples,
            {"aggregation": "sum"},
            "aggregation='sum': expected one of per-example, per-batch",
        ),
        (
            examples,
            {"aggregation": "per-batch", "labels": "expected"},
            "per-batch' squares one gradient per batch",
        ),
    ],
)
def test_bad_calls_are_one_clear_line(batches, options, message):
    model = tiny("bert")
    with pytest.raises(FisherError) as error:
        mask_fisher(model, batches(model), **options)
    assert message in str(error.value)


def test_expected_labels_need_no_labels():
    model = tiny("bert")
    assert torch.equal(
        flat(mask_fisher(model, no_labels(model), labels="expected")),
        flat(mask_fisher(model, examples(model), labels="expected")),
    )


def test_nan_weights_are_an_error_not_a_fisher():
    model = tiny("bert")
    model.bert.encoder.layer[1].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(FisherError, match="not finite; does the model have NaN"):
        mask_fisher(model, examples(model))


def test_a_head_without_a_loss_is_an_error():
    model = tiny("bert", "QuestionAnswering")
    with pytest.raises(FisherError, match="BertForQuestionAnswering has no loss"):
        mask_fisher(model, [])


@pytest.mark.parametrize("task", ["sst2", "rte", "mnli", "mrpc", "qqp", "qnli"])
def test_the_real_zoo_agrees_with_an_independent_implementation(task, shared, zoo):
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from fmn import evaluation

    tokenizer = AutoTokenizer.from_pretrained(zoo / task)
    model = AutoModelForSequenceClassification.from_pretrained(zoo / task)
    rows = evaluation.sample(
        evaluation.load_split(str(shared / "glue"), evaluation.get_task(task), "train"), 128
    )
    ours = mask_fisher(
        model, [batch for _, batch in evaluation.encode(tokenizer, rows, 128).batches(32)]
    )
    golden = load_file(shared / "golden" / f"mask_fisher.{task}.safetensors")
    assert dict(ours.tensors()).keys() == golden.keys()
    assert (
        max(
            float((tensor - golden[name]).norm() / golden[name].norm())
            for name, tensor in ours.tensors()
        )
        < 1e-3
    )

import re
from dataclasses import replace

import numpy as np
import pytest
import transformers

from fmn.errors import MergeError
from fmn.merging import Rule, get_rule, make_plan
from fmn.recipe import ModelEntry
from fmn.statistics import Measurement
from tests.families import tiny
from tests.merging.conftest import random_fisher, source


def bert(task="a", seed=0, **settings):
    return source(tiny("bert", seed=seed, **settings), task, name=f"model-{task}")


def offences(sources, method="average"):
    with pytest.raises(MergeError) as error:
        make_plan(sources, get_rule(method), {}, "same")
    assert all("\n" not in offence for offence in error.value.offences)
    return error.value.offences


def with_fisher(one, **changes):
    fisher = random_fisher(2, 4, 24, seed=0)
    return replace(
        one,
        statistics={
            changes.get("kind", "mask-fisher"): Measurement(
                {**fisher.tensors, **changes.pop("tensors", {})}, {**fisher.metadata, **changes}
            )
        },
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (lambda: source(tiny("distilbert"), "b"), "b: a distilbert model; model-a is a bert model"),
        (
            lambda: bert("b", hidden_size=24, intermediate_size=24),
            "model-b: 6 head channels, 24 hidden; model-a has 4 head channels, 16 hidden",
        ),
        (lambda: bert("b", num_hidden_layers=3), "model-b: 3 layers; model-a has 2 layers"),
        (
            lambda: bert("b", vocab_size=51),
            r"model-b: embeddings.word_embeddings.weight has shape \[51, 16\], \[50, 16\] in "
            r"model-a",
        ),
        (
            lambda: replace(bert("b"), weight=-1.0),
            "model-b: weight -1.0; expected a finite number, 0 or more",
        ),
        (
            lambda: replace(bert("b"), weight=float("nan")),
            "model-b: weight nan; expected a finite number",
        ),
        (lambda: bert("a"), "a second model for task 'a'"),
        (lambda: bert("../b"), r"task '../b' cannot name a directory"),
        (lambda: bert("backbone"), "task 'backbone' cannot name a directory"),
    ],
)
def test_models_that_do_not_fit(second, message):
    (line,) = offences([bert(), second()])
    assert re.search(message, line), line


def lm(name, task, seed=0, **settings):
    return source(
        tiny(name, "CausalLM" if "t5" not in name else "", seed=seed, **settings),
        task,
        name=f"model-{task}",
    )


def test_one_model_ties_its_embeddings_and_another_does_not():
    expected = (
        "model-b: tie_word_embeddings differs: the output matrix of model-b is its word "
        "embeddings, model-a has one of its own; expected fine-tunes of one parent"
    )
    assert offences([lm("llama", "a"), lm("llama", "b", seed=1, tie_word_embeddings=True)]) == (
        expected,
    )
    assert (
        "of model-a is its word embeddings, model-b has"
        in offences([lm("llama", "a", tie_word_embeddings=True), lm("llama", "b", seed=1)])[0]
    )


def test_ties_make_no_difference_where_nothing_is_tied():
    """Classifiers have no output matrix."""
    models = [
        source(
            tiny("llama", "SequenceClassification", seed=seed, tie_word_embeddings=bool(seed)), task
        )
        for seed, task in enumerate("ab")
    ]
    assert make_plan(models, get_rule("average"), {}, "same").names


def test_one_model_has_fused_weights_and_another_separate_ones():
    one, other = lm("phi3", "a"), lm("phi3", "b", seed=1)
    tensors = dict(other.tensors)
    for layer in range(2):
        prefix = f"model.layers.{layer}.self_attn"
        query, key, value = np.split(tensors.pop(f"{prefix}.qkv_proj.weight"), [16, 24])
        tensors |= {
            f"{prefix}.q_proj.weight": query,
            f"{prefix}.k_proj.weight": key,
            f"{prefix}.v_proj.weight": value,
        }
    separate = replace(other, tensors=tensors)
    message = (
        "model-b: the description of 'phi3' expects a parameter "
        "layers.0.self_attn.qkv_proj.weight, which this model does not "
        "have; expected what is fused there in one matrix, as transformers saves it"
    )
    assert offences([one, separate]) == (message,)
    assert offences([separate, one]) == (message,)


def test_one_model_has_a_gated_feed_forward_and_another_a_plain_one():
    lines = offences([lm("t5", "a"), lm("t5", "b", seed=1, feed_forward_proj="gated-gelu")])
    prefix = "encoder.block.0.layer.1.DenseReluDense"
    assert lines == (
        f"model-b: has {prefix}.wi_0.weight and {prefix}.wi_1.weight, "
        f"model-a has {prefix}.wi.weight; expected fine-tunes of one parent",
    )


def test_one_model_has_biases_and_another_none():
    (line,) = offences([lm("llama", "a"), lm("llama", "b", seed=1, attention_bias=False)])
    assert re.search(
        r"model-b: has no layers\.0\.self_attn\.q_proj\.bias or .*, model-a has layers", line
    ), line


def test_stacks_of_other_sizes():
    assert offences([lm("t5", "a"), lm("t5", "b", num_decoder_layers=2)]) == (
        "model-b: 4 layers; model-a has 5 layers",
    )
    models = [
        source(tiny("bart", seed=i, decoder_ffn_dim=20 + i), task, name=f"model-{task}")
        for i, task in enumerate("ab")
    ]
    assert offences(models) == ("model-b: 21 neurons; model-a has 20 neurons",)


def test_every_offence_is_listed_at_once():
    lines = offences(
        [bert(), replace(bert("b", vocab_size=51), weight=-1.0), source(tiny("electra"), "c")]
    )
    assert len(lines) == 3
    with pytest.raises(
        MergeError, match=r"3 reasons why these models cannot be merged:\n  - .*\n  - .*\n  - "
    ):
        raise MergeError(lines)


def test_missing_tensors_but_for_an_optional_pooler():
    tokens = source(tiny("bert", "TokenClassification"), "tokens")
    plan = make_plan([bert(), tokens], get_rule("average"), {}, "same")
    assert "bert.pooler.dense.weight" in plan.head(
        plan.sources[0]
    ) or "bert.pooler.dense.weight" in plan.head(plan.sources[1])
    assert not any("pooler" in name for name in plan.names)
    broken = bert("b")
    tensors = {name: t for name, t in broken.tensors.items() if "embeddings.LayerNorm" not in name}
    assert offences([bert(), replace(broken, tensors=tensors)]) == (
        "model-b: has no tensor embeddings.LayerNorm.bias, which model-a has",
        "model-b: has no tensor embeddings.LayerNorm.weight, which model-a has",
    )


def test_of_several_statistics_the_one_that_is_missing_is_named():
    both = Rule("both", "", "", lambda part: part.tensors[0], ("mask-fisher", "gram"))
    with pytest.raises(MergeError) as error:
        make_plan([with_fisher(bert("a"))], both, {}, "same")
    (offence,) = error.value.offences
    assert offence.startswith("model-a: method both needs its Gram matrices; compute it with")


def test_all_weights_zero():
    assert offences([replace(bert(t), weight=0.0) for t in "ab"]) == (
        "every weight is 0; expected at least one above 0",
    )


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            lambda b: b,
            "model-b: method mask-fisher needs its mask Fisher; compute it with 'fmn fisher'",
        ),
        (
            lambda b: with_fisher(b, kind="diagonal-fisher"),
            "model-b: method mask-fisher needs a mask Fisher .*, this is a diagonal-fisher",
        ),
        (
            lambda b: with_fisher(b, model_type="roberta"),
            "mask Fisher of a roberta model, this is a bert model",
        ),
        (lambda b: with_fisher(b, model="f" * 64), "mask Fisher of another model"),
        (
            lambda b: with_fisher(b, labels="expected"),
            "its mask Fisher cannot be compared with that of model-a: taken with labels expected",
        ),
        (
            lambda b: with_fisher(b, tensors={"layer.1.attention": np.ones(5, "f4")}),
            r"layer.1.attention has shape \(5,\), expected \(4,\)",
        ),
        (
            lambda b: with_fisher(b, tensors={"layer.2.attention": np.ones(4, "f4")}),
            r"layer.2.attention has shape \(4,\), expected None",
        ),
        (
            lambda b: with_fisher(b, tensors={"layer.1.attention": np.full(4, np.nan, "f4")}),
            "holds NaN, infinite or negative values",
        ),
        (
            lambda b: with_fisher(b, tensors={"layer.1.attention": np.full(4, -1, "f4")}),
            "holds NaN, infinite or negative values",
        ),
    ],
)
def test_fishers_that_do_not_belong(second, message):
    (line,) = offences([with_fisher(bert()), second(bert("b", seed=1))], "mask-fisher")
    assert re.search(message, line), line


def test_unknown_families_are_named():
    strange = replace(bert(), model_type="brt")
    assert "unknown model family 'brt'; did you mean 'bert'" in offences([strange])[0]


def test_integer_tensors_cannot_be_averaged():
    one = bert("b")
    name = "bert.encoder.layer.0.output.dense.weight"
    quantised = replace(one, tensors={**one.tensors, name: one.tensors[name].astype(np.int8)})
    assert "holds int8, which cannot be averaged" in offences([bert(), quantised])[0]


def test_tokenizers_must_agree(tmp_path):
    from fmn.checkpoint import open_checkpoint
    from fmn.steps.member import as_source
    from fmn.store import Memo
    from tests.evaluation.conftest import make_tokenizer

    sources = []
    for task in "ab":
        folder = tmp_path / task
        tiny("bert", seed=ord(task)).save_pretrained(folder)
        tokenizer = make_tokenizer()
        if task == "b":
            tokenizer.add_tokens(["extra"])
        tokenizer.save_pretrained(folder)
        sources.append(
            as_source(ModelEntry(model=str(folder), task=task), open_checkpoint(folder), Memo())
        )
    (line,) = offences(sources)
    assert "b: its tokenizer's vocabulary differs from" in line
    assert "'extra'" in line


def test_the_order_is_canonical():
    models = [with_fisher(bert(t, seed=i)) for i, t in enumerate("abc")]
    plans = [
        make_plan(order, get_rule("mask-fisher"), {}, "same") for order in (models, models[::-1])
    ]
    assert [s.task for s in plans[0].sources] == [s.task for s in plans[1].sources]
    assert [s.digest for s in plans[0].sources] == sorted(s.digest for s in models)


def test_a_bare_backbone_can_be_merged_with_a_task_model():
    base = source(transformers.BertModel(tiny("bert").config).double(), "base")
    plan = make_plan([base, bert()], get_rule("average"), {}, "same")
    assert all(name.startswith("bert.") for name in plan.specs)
    assert plan.head(next(s for s in plan.sources if s.task == "base")) == {}

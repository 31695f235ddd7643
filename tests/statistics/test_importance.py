from typing import get_args

import numpy as np
import pytest

from fmn import architectures
from fmn.recipe import Association
from fmn.statistics import Backbone, Measurement, get_statistic, governing
from tests.merging.conftest import random_fisher


def diagonal_importance(values, normalize):
    """Return what a rule gets of one model's diagonal Fisher."""
    backbone = Backbone(architectures.get("bert"), (), values, {}.get)
    diagonal = get_statistic("diagonal-fisher")
    measurement = Measurement(values, {"kind": "diagonal-fisher"})
    (reader,) = diagonal.per_parameter([measurement], backbone, {"normalize": normalize})
    return reader


LAYERS, HEADS, NEURONS, HIDDEN = 2, 4, 24, 16
WIDTH = HIDDEN // HEADS
SETTINGS = {
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": NEURONS,
    "hidden_size": HIDDEN,
}
SELF, OUT = "encoder.layer.1.attention.self", "encoder.layer.1.attention.output"
SHAPES = {
    f"{SELF}.query.weight": (HIDDEN, HIDDEN),
    f"{SELF}.query.bias": (HIDDEN,),
    f"{SELF}.key.weight": (HIDDEN, HIDDEN),
    f"{SELF}.key.bias": (HIDDEN,),
    f"{SELF}.value.weight": (HIDDEN, HIDDEN),
    f"{SELF}.value.bias": (HIDDEN,),
    f"{OUT}.dense.weight": (HIDDEN, HIDDEN),
    f"{OUT}.dense.bias": (HIDDEN,),
    f"{OUT}.LayerNorm.weight": (HIDDEN,),
    "encoder.layer.1.intermediate.dense.weight": (NEURONS, HIDDEN),
    "encoder.layer.1.intermediate.dense.bias": (NEURONS,),
    "encoder.layer.1.output.dense.weight": (HIDDEN, NEURONS),
    "encoder.layer.1.output.dense.bias": (HIDDEN,),
    "encoder.layer.1.output.LayerNorm.bias": (HIDDEN,),
    "embeddings.word_embeddings.weight": (50, HIDDEN),
    "pooler.dense.weight": (HIDDEN, HIDDEN),
}


def expected(fisher, association, name, shape):
    """Written out parameter by parameter, with loops."""
    heads = fisher.tensors["layer.1.attention"].astype(np.float64)
    neurons = fisher.tensors["layer.1.feed_forward"].astype(np.float64)
    beyond = {kind: fisher.tensors.get(f"layer.1.{kind}") for kind in BEYOND}
    means = [
        fisher.tensors[f"layer.{layer}.{part}"].astype(np.float64).mean()
        for layer in range(2)
        for part in ("attention", "feed_forward")
    ]
    result = np.ones(shape)
    if association == "layer-mean":
        result[:] = sum(means) / 2
        if name.startswith("encoder.layer.1."):
            result[:] = heads.mean() if ".attention." in name else neurons.mean()
    if association in ("layers", "combined") and name.startswith("encoder.layer.1."):
        result[:] = beyond["layer"][0]
    for block, part in ((OUT, "attention"), ("encoder.layer.1.output", "feed_forward")):
        if association in ("residual-channels", "combined") and name.startswith(f"{block}.dense"):
            for channel in range(HIDDEN):
                result[channel] = beyond[f"{part}_channels"][channel]
    if association == "output-columns" and name == f"{OUT}.dense.weight":
        for column in range(HIDDEN):
            result[:, column] = beyond["attention_columns"][column]
    for h in range(HEADS):
        rows = slice(h * WIDTH, (h + 1) * WIDTH)
        if name.startswith((f"{SELF}.query", f"{SELF}.key")) or (
            association == "value" and name.startswith(f"{SELF}.value")
        ):
            result[rows] = heads[h]
        if association in ("value-heads", "combined") and name.startswith(f"{SELF}.value"):
            result[rows] = beyond["attention_values"][h]
        if association == "kv-groups" and name.startswith((f"{SELF}.value", f"{SELF}.key")):
            result[rows] = beyond["attention_groups"][h]
        if association == "output" and name == f"{OUT}.dense.weight":
            result[:, rows] = heads[h]
    for n in range(NEURONS):
        if name.startswith("encoder.layer.1.intermediate"):
            result[n] = neurons[n]
        if association == "output" and name == "encoder.layer.1.output.dense.weight":
            result[:, n] = neurons[n]
    return result


BEYOND = {
    "attention_channels": HIDDEN,
    "feed_forward_channels": HIDDEN,
    "attention_values": HEADS,
    "attention_columns": HIDDEN,
    "attention_groups": HEADS,
    "layer": 1,
}


def bert():
    return architectures.get("bert").layers(SETTINGS.get)


@pytest.mark.parametrize("association", get_args(Association))
@pytest.mark.parametrize("name", SHAPES)
def test_every_association_parameter_by_parameter(name, association):
    fisher = random_fisher(LAYERS, HEADS, NEURONS, seed=1, more=BEYOND)
    importance = governing(bert(), fisher.tensors, association, "none")
    result = np.broadcast_to(importance(name, SHAPES[name], ...), SHAPES[name])
    np.testing.assert_allclose(
        result, expected(fisher, association, name, SHAPES[name]), rtol=1e-12
    )


@pytest.mark.parametrize("association", ["paper", "output", "layer-mean"])
@pytest.mark.parametrize("name", SHAPES)
def test_rows_of_a_parameter_are_those_of_the_whole(name, association):
    importance = governing(
        bert(), random_fisher(LAYERS, HEADS, NEURONS, seed=1).tensors, association, "l2"
    )
    shape, rows = SHAPES[name], slice(3, 9)
    whole = np.broadcast_to(importance(name, shape, ...), shape)
    np.testing.assert_array_equal(
        np.broadcast_to(importance(name, shape, rows), (6, *shape[1:])), whole[rows]
    )


def test_fused_and_grouped_parameters():
    layers = architectures.get("phi3").layers({**SETTINGS, "num_key_value_heads": 2}.get)
    fisher = random_fisher(LAYERS, HEADS, NEURONS, seed=1, groups=2)
    importance = governing(layers, fisher.tensors, "paper", "none")
    fused = importance("layers.0.self_attn.qkv_proj.weight", (HIDDEN + 4 * WIDTH, HIDDEN), ...)[
        :, 0
    ]
    heads, groups = fisher.tensors["layer.0.attention"], fisher.tensors["layer.0.key_value"]
    np.testing.assert_allclose(
        fused, np.concatenate([heads.repeat(WIDTH), groups.repeat(WIDTH), np.ones(2 * WIDTH)])
    )
    gate_up = importance("layers.0.mlp.gate_up_proj.weight", (2 * NEURONS, HIDDEN), ...)[:, 0]
    np.testing.assert_allclose(gate_up, np.tile(fisher.tensors["layer.0.feed_forward"], 2))


def test_keys_that_no_head_shares_take_their_heads_fisher():
    layers = architectures.get("llama").layers({**SETTINGS, "num_key_value_heads": HEADS}.get)
    fisher = random_fisher(LAYERS, HEADS, NEURONS, seed=1)
    keys = governing(layers, fisher.tensors, "paper", "none")(
        "layers.0.self_attn.k_proj.weight", (HIDDEN, HIDDEN), ...
    )
    np.testing.assert_allclose(keys[:, 0], fisher.tensors["layer.0.attention"].repeat(WIDTH))


def t5(association):
    """Two encoder layers, one decoder layer, and the importance of their parameters."""
    settings = {
        "d_model": 16,
        "num_heads": 4,
        "d_kv": 6,
        "d_ff": 24,
        "num_layers": 2,
        "num_decoder_layers": 1,
    }
    layers = architectures.get("t5").layers(settings.get)
    random = np.random.default_rng(0)
    tensors = {
        name: random.random(count, np.float32)
        for layer in layers
        for name, count in layer.nodes().items()
    }
    return tensors, governing(layers, tensors, association, "none")


def test_self_and_cross_attention_have_nodes_of_their_own():
    tensors, importance = t5("output")
    block = "decoder.block.0.layer"
    for number, name, part in (
        (0, "SelfAttention", "attention"),
        (1, "EncDecAttention", "cross_attention"),
    ):
        heads = tensors[f"layer.2.{part}"].repeat(6)
        for matrix in "qk":
            np.testing.assert_allclose(
                importance(f"{block}.{number}.{name}.{matrix}.weight", (24, 16), ...)[:, 0], heads
            )
        np.testing.assert_allclose(
            importance(f"{block}.{number}.{name}.o.weight", (16, 24), ...)[0], heads
        )
    for form in ("wi", "wi_0", "wi_1"):
        neurons = importance(f"{block}.2.DenseReluDense.{form}.weight", (24, 16), ...)[:, 0]
        np.testing.assert_allclose(neurons, tensors["layer.2.feed_forward"])
    np.testing.assert_allclose(
        importance("encoder.block.1.layer.0.SelfAttention.q.weight", (24, 16), ...)[:, 0],
        tensors["layer.1.attention"].repeat(6),
    )


def test_layer_means_of_an_encoder_decoder():
    tensors, importance = t5("layer-mean")
    means = {name: tensor.astype(np.float64).mean() for name, tensor in tensors.items()}
    for name, part in (
        ("decoder.block.0.layer.1.layer_norm.weight", "layer.2.cross_attention"),
        ("decoder.block.0.layer.0.SelfAttention.v.weight", "layer.2.attention"),
        ("decoder.block.0.layer.2.layer_norm.weight", "layer.2.feed_forward"),
    ):
        np.testing.assert_allclose(importance(name, (16,), ...), means[part])
    np.testing.assert_allclose(importance("shared.weight", (50, 16), ...), sum(means.values()) / 3)


@pytest.mark.parametrize(("how", "scale"), [("mean", np.mean), ("l2", np.linalg.norm)])
def test_normalize_divides_by_one_number_over_all_nodes_of_the_papers(how, scale):
    fisher = random_fisher(LAYERS, HEADS, NEURONS, seed=1)
    more = random_fisher(LAYERS, HEADS, NEURONS, seed=1, more=BEYOND).tensors | fisher.tensors
    name, shape = f"{SELF}.query.bias", (HIDDEN,)
    plain = governing(bert(), fisher.tensors, "paper", "none")(name, shape, ...)
    divided = governing(bert(), fisher.tensors, "paper", how)(name, shape, ...)
    everything = np.concatenate([tensor.astype(np.float64) for tensor in fisher.tensors.values()])
    np.testing.assert_allclose(divided, plain / scale(everything))
    by_layers = governing(bert(), more, "layers", how)(f"{OUT}.LayerNorm.weight", shape, ...)
    np.testing.assert_allclose(by_layers, more["layer.1.layer"][0] / scale(everything))
    ungoverned = governing(bert(), fisher.tensors, "paper", how)(
        "embeddings.word_embeddings.weight", (50, HIDDEN), ...
    )
    assert ungoverned == 1.0
    values = {"a": np.array([1.0, 3.0]), "b": np.array([[2.0]])}
    np.testing.assert_allclose(
        diagonal_importance(values, how)("a", (2,), ...), values["a"] / scale([1.0, 3.0, 2.0])
    )


def test_a_normalised_diagonal_is_not_divided_as_a_whole_for_every_piece():
    values = {"a": np.arange(1.0, 9.0).reshape(4, 2)}
    piece = diagonal_importance(values, "l2")("a", (4, 2), slice(1, 2))
    assert piece.shape == (1, 2)
    np.testing.assert_allclose(piece, values["a"][1:2] / np.linalg.norm(values["a"]))


def test_a_fisher_of_zeros_is_left_alone():
    assert diagonal_importance({"a": np.zeros(2)}, "mean")("a", (2,), ...).tolist() == [0, 0]

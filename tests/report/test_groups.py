"""A diagonal Fisher as means over groups of parameters."""

import numpy as np

from fmn.report.groups import group_means
from tests.report.fishers import GROUPS


def test_groups_of_families_that_fuse_parameters_or_gate_them():
    fused = {"attn.c_attn": 1, "attn.c_proj": 2, "mlp.c_fc": 3, "mlp.c_proj": 4}
    arrays = {
        f"h.0.{module}.weight": np.full((2, 3), value, np.float32)
        for module, value in fused.items()
    }
    means = group_means(arrays, {"model_type": "gpt2"})
    assert means == {
        "query + key + value": [1],
        "attention output": [2],
        "first": [3],
        "second": [4],
    }
    gated = {"gate_proj": 5, "up_proj": 7, "down_proj": 6}
    arrays = {
        f"layers.0.mlp.{module}.weight": np.full((2, 3), value, np.float32)
        for module, value in gated.items()
    }
    arrays |= {
        f"layers.0.self_attn.{which}_proj.weight": np.ones((2, 3), np.float32) for which in "qkvo"
    }
    means = group_means(arrays, {"model_type": "llama"})
    assert list(means) == GROUPS
    assert (means["first"], means["second"]) == ([6], [6])


def test_an_encoder_decoders_layers_are_one_below_the_other_without_cross_attention():
    names = ["SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o"]
    arrays = {}
    for stack, last in (("encoder", 1), ("decoder", 2)):
        for module in (
            *(f"layer.0.{name}" for name in names),
            f"layer.{last}.DenseReluDense.wi",
            f"layer.{last}.DenseReluDense.wo",
        ):
            arrays[f"{stack}.block.0.{module}.weight"] = np.full((2, 3), 1.0 + last, np.float32)
    arrays |= {
        f"decoder.block.0.layer.1.EncDecAttention.{name}.weight": np.full((2, 3), 7.0, np.float32)
        for name in "qkvo"
    }
    means = group_means(arrays, {"model_type": "t5"})
    assert list(means) == GROUPS
    assert all(values.tolist() == [2, 3] for values in means.values())

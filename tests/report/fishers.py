"""Fishers as files have them, for the tests of what draws them."""

import numpy as np

from fmn.report.shares import node_shares
from tests.merging.conftest import random_fisher

DATA = '{"task":"sst2","split":"train","seed":0,"max_length":128,"digest":"d"}'
SAID = {
    "kind": "mask-fisher",
    "examples": "128",
    "labels": "true",
    "placement": "after-activation",
    "model_type": "bert",
    "model": "abcdef0123456789",
    "data": DATA,
}
CAPTION = (
    "mask Fisher · 128 examples · labels: true · after-activation · sst2/train, seed 0, 128 "
    "tokens · bert model abcdef012345"
)
SIZES = [(1, 1, 1), (2, 4, 24), (24, 16, 64), (3, 40, 3)]


def shares_of(count, layers=2, heads=4, neurons=24):
    return node_shares(
        [random_fisher(layers, heads, neurons, seed).tensors for seed in range(count)],
        [1.0] * count,
        "none",
    )


def diagonal(layers=2):
    """A diagonal Fisher of a BERT in which every group has a mean of its own."""
    values = {
        "attention.self.query": 1,
        "attention.self.key": 2,
        "attention.self.value": 3,
        "attention.output.dense": 4,
        "intermediate.dense": 5,
        "output.dense": 6,
        "output.LayerNorm": 99,
    }
    arrays = {"embeddings.word_embeddings.weight": np.full((5, 4), 99, np.float32)}
    for layer in range(layers):
        for module, value in values.items():
            arrays[f"encoder.layer.{layer}.{module}.weight"] = np.full(
                (3, 4), value * 10.0**layer, np.float32
            )
            arrays[f"encoder.layer.{layer}.{module}.bias"] = np.full(
                4, 5 * value * 10.0**layer, np.float32
            )
    return arrays


DIAGONAL = {"kind": "diagonal-fisher", "model_type": "bert", "examples": "8"}
GROUPS = ["query", "key", "value", "attention output", "first", "second"]


def fisher_of(kinds, seed=0):
    """A mask Fisher with these kinds of nodes: the layers that have each, and how many."""
    random = np.random.default_rng(seed)
    return {
        f"layer.{layer}.{kind}": random.random(count).astype(np.float32) + 0.01
        for kind, (layers, count) in kinds.items()
        for layer in layers
    }


DECODER = {"attention": (range(3), 4), "feed_forward": (range(3), 70), "key_value": (range(3), 2)}
"""Queries share keys and values."""
ENCODER_DECODER = {
    "attention": (range(4), 4),
    "feed_forward": (range(4), 70),
    "cross_attention": ((2, 3), 4),
}
BEYOND = {
    "attention": (range(2), 4),
    "feed_forward": (range(2), 70),
    "attention_channels": (range(2), 16),
    "feed_forward_channels": (range(2), 16),
    "attention_values": (range(2), 4),
    "attention_columns": (range(2), 16),
    "attention_groups": (range(2), 4),
    "layer": (range(2), 1),
}
"""With all nodes that there are beyond the paper's."""
STRANGE = {"attention": (range(2), 4), "made_up": ((1,), 3), "plenty": ((0,), 100)}
"""With kinds that nothing in the package names."""

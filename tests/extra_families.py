"""Descriptions that no engine code knows of: what later families need must be sayable as data alone."""

from __future__ import annotations

import transformers

from fmn import architectures
from fmn.architectures import Architecture, Attention, FeedForward, Slices, linear
from tests.families import FAMILIES, VOCABULARY, Family


def _decoder(model_type, prefix, layer, context, query_key, value, output, activation, first, second, **names) -> Architecture:
    block = names.pop("block")
    attention = {key: names.pop(key) for key in ("heads", "groups", "head_channels") if key in names}
    return Architecture(
        model_type=model_type,
        prefix=prefix,
        layer=layer,
        attention=Attention(context, query_key, value, output, (f"{layer}.{block}.",), **attention),
        feed_forward=FeedForward(activation, first, second, names.pop("neurons", "intermediate_size")),
        **names,
    )


L = "layers.{layer}"
LLAMA = _decoder(  # grouped-query attention, gated feed-forward
    "llama",
    "model",
    L,
    f"{L}.self_attn.o_proj",
    (Slices(f"{L}.self_attn.q_proj.weight", "head"), Slices(f"{L}.self_attn.k_proj.weight", "group")),
    (Slices(f"{L}.self_attn.v_proj.weight", "group"),),
    (Slices(f"{L}.self_attn.o_proj.weight", "head", axis=1),),
    f"{L}.mlp.down_proj",
    (Slices(f"{L}.mlp.gate_proj.weight", "neuron"), Slices(f"{L}.mlp.up_proj.weight", "neuron")),
    (Slices(f"{L}.mlp.down_proj.weight", "neuron", axis=1),),
    groups="num_key_value_heads",
    block="self_attn",
)
QKV = ("head", "group", "group")
PHI3 = _decoder(  # the same, with fused query-key-value and gate-up matrices
    "phi3",
    "model",
    L,
    f"{L}.self_attn.o_proj",
    tuple(Slices(f"{L}.self_attn.qkv_proj.weight", unit, stack=QKV, index=i) for i, unit in enumerate(QKV[:2])),
    (Slices(f"{L}.self_attn.qkv_proj.weight", "group", stack=QKV, index=2),),
    (Slices(f"{L}.self_attn.o_proj.weight", "head", axis=1),),
    f"{L}.mlp.down_proj",
    tuple(Slices(f"{L}.mlp.gate_up_proj.weight", "neuron", stack=("neuron", "neuron"), index=i) for i in (0, 1)),
    (Slices(f"{L}.mlp.down_proj.weight", "neuron", axis=1),),
    groups="num_key_value_heads",
    block="self_attn",
)
H = "h.{layer}"
HEADS = ("head", "head", "head")
GPT2 = _decoder(  # Conv1D: nodes along the columns; fused query-key-value
    "gpt2",
    "transformer",
    H,
    f"{H}.attn.c_proj",
    sum((linear(f"{H}.attn.c_attn", "head", axis=1, stack=HEADS, index=i) for i in (0, 1)), ()),
    linear(f"{H}.attn.c_attn", "head", axis=1, stack=HEADS, index=2),
    (Slices(f"{H}.attn.c_proj.weight", "head", axis=0),),
    f"{H}.mlp.c_proj",
    linear(f"{H}.mlp.c_fc", "neuron", axis=1),
    (Slices(f"{H}.mlp.c_proj.weight", "neuron", axis=0),),
    heads="n_head",
    neurons="n_inner",
    layers="n_layer",
    hidden="n_embd",
    block="attn",
)
NEOX = _decoder(  # query, key and value interleaved head by head
    "gpt_neox",
    "gpt_neox",
    L,
    f"{L}.attention.dense",
    sum((linear(f"{L}.attention.query_key_value", "head", stack=HEADS, index=i, interleaved=True) for i in (0, 1)), ()),
    linear(f"{L}.attention.query_key_value", "head", stack=HEADS, index=2, interleaved=True),
    (Slices(f"{L}.attention.dense.weight", "head", axis=1),),
    f"{L}.mlp.dense_4h_to_h",
    linear(f"{L}.mlp.dense_h_to_4h", "neuron"),
    (Slices(f"{L}.mlp.dense_4h_to_h.weight", "neuron", axis=1),),
    block="attention",
)

_GATED = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
_MLP = "model.layers.{}.mlp"
EXTRA = {
    "llama": (
        LLAMA,
        Family(
            transformers.LlamaConfig,
            "Llama",
            "model.layers.{}.self_attn.o_proj.weight",
            f"{_MLP}.gate_proj.weight",
            f"{_MLP}.down_proj.weight",
            _GATED,
            groups=2,
        ),
    ),
    "phi3": (
        PHI3,
        Family(
            transformers.Phi3Config,
            "Phi3",
            "model.layers.{}.self_attn.o_proj.weight",
            f"{_MLP}.gate_up_proj.weight",
            f"{_MLP}.down_proj.weight",
            _GATED,
            groups=2,
        ),
    ),
    "gpt2": (
        GPT2,
        Family(
            transformers.GPT2Config,
            "GPT2",
            "transformer.h.{}.attn.c_proj.weight",
            "transformer.h.{}.mlp.c_fc.weight",
            "transformer.h.{}.mlp.c_proj.weight",
            {"vocab_size": VOCABULARY, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 40},
            transposed=True,
        ),
    ),
    "gpt_neox": (
        NEOX,
        Family(
            transformers.GPTNeoXConfig,
            "GPTNeoX",
            "gpt_neox.layers.{}.attention.dense.weight",
            "gpt_neox.layers.{}.mlp.dense_h_to_4h.weight",
            "gpt_neox.layers.{}.mlp.dense_4h_to_h.weight",
            {key: value for key, value in _GATED.items() if key != "num_key_value_heads"},
        ),
    ),
}


def register() -> None:
    """Make the extra families known, once."""
    for description, family in EXTRA.values():
        if description.model_type not in architectures.known():
            architectures.register(description)
        FAMILIES[description.model_type] = family

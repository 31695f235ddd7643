"""Decoders: Llama and the families that keep its layers, Phi-3, GPT-2, GPT-NeoX."""

from dataclasses import replace

from fmn.architectures.description import Architecture, Attention, FeedForward, Stack
from fmn.architectures.slices import Slices, fused, linear

# Biases are where the configuration says attention_bias or mlp_bias, or always (Qwen2's).
_SELF_ATTENTION = Attention(
    context="self_attn.o_proj",
    query_key=linear("self_attn.q_proj", "head", bias=None)
    + linear("self_attn.k_proj", "group", bias=None),
    value=linear("self_attn.v_proj", "group", bias=None),
    output=(Slices("self_attn.o_proj.weight", "head", axis=1),),
    block=("self_attn.", "input_layernorm."),
    groups="num_key_value_heads",
    head_channels="head_dim",
)
_GATED = FeedForward(
    activation="mlp.down_proj",
    first=linear("mlp.gate_proj", "neuron", bias=None) + linear("mlp.up_proj", "neuron", bias=None),
    output=(Slices("mlp.down_proj.weight", "neuron", axis=1),),
)
_VISION_PARTS = ("embeddings", "encoder", "post_layernorm", "head")  # of SigLIP
_LLAMA = Stack(path="layers", attentions=(_SELF_ATTENTION,), feed_forward=_GATED)


def llama_like(model_type: str, norms: tuple[str, ...] = ("input_layernorm.",)) -> Architecture:
    """Describe a family with Llama's modules; ``norms`` are those of a layer's attention."""
    attention = replace(_SELF_ATTENTION, block=("self_attn.", *norms))
    return Architecture(
        model_type=model_type,
        prefix="model",
        stacks=(replace(_LLAMA, attentions=(attention,)),),
        ignored=("layers.*.self_attn.rotary_emb.inv_freq",),
        tied=("lm_head.weight",),
        embeddings=("embed_tokens.weight",),
    )


def _with_images(model_type: str, text: Architecture) -> Architecture:
    """Describe a decoder that also takes images; the part that sees them has no nodes.

    Checkpoints keep the names of the first versions, ``language_model.model.layers``; transformers
    came to call its modules ``model.language_model.layers``, and left a level of the vision tower's
    out.
    """
    inside = "language_model.model"
    return replace(
        text,
        model_type=model_type,
        stacks=tuple(replace(stack, path=f"{inside}.{stack.path}") for stack in text.stacks),
        optional=("vision_tower.", "multi_modal_projector."),
        heads=("lm_head.", "language_model.lm_head.", "score."),
        tied=("lm_head.weight", "language_model.lm_head.weight"),
        embeddings=tuple(f"{inside}.{name}" for name in text.embeddings),
        renamed=(
            *(
                (f"language_model.{part}", f"{inside}.{part}")
                for part in ("embed_tokens", "layers", "norm")
            ),
            *(
                (f"vision_tower.{part}", f"vision_tower.vision_model.{part}")
                for part in _VISION_PARTS
            ),
        ),
    )


_Q, _K, _V = fused("self_attn.qkv_proj", ("head", "group", "group"), bias=False)
_GATE, _UP = fused("mlp.gate_up_proj", ("neuron", "neuron"), bias=False)
_PHI3 = Stack(
    path="layers",
    attentions=(replace(_SELF_ATTENTION, query_key=_Q + _K, value=_V, head_channels=None),),
    feed_forward=replace(_GATED, first=_GATE + _UP),
)

_Q, _K, _V = fused("attn.c_attn", ("head", "head", "head"), axis=1)
_GPT2 = Stack(  # its Conv1D has a Linear's matrix transposed
    path="h",
    layers="n_layer",
    attentions=(
        Attention(
            context="attn.c_proj",
            query_key=_Q + _K,
            value=_V,
            output=(Slices("attn.c_proj.weight", "head", axis=0),),
            block=("attn.", "ln_1."),
            heads="n_head",
        ),
    ),
    feed_forward=FeedForward(
        activation="mlp.c_proj",
        first=linear("mlp.c_fc", "neuron", axis=1),
        output=(Slices("mlp.c_proj.weight", "neuron", axis=0),),
        neurons="n_inner",
    ),
)

_Q, _K, _V = fused(
    "attention.query_key_value", ("head", "head", "head"), bias=None, interleaved=True
)
_NEOX = Stack(
    path="layers",
    attentions=(
        Attention(
            context="attention.dense",
            query_key=_Q + _K,
            value=_V,
            output=(Slices("attention.dense.weight", "head", axis=1),),
            block=("attention.", "input_layernorm."),
        ),
    ),
    feed_forward=FeedForward(
        activation="mlp.dense_4h_to_h",
        first=linear("mlp.dense_h_to_4h", "neuron"),
        output=(Slices("mlp.dense_4h_to_h.weight", "neuron", axis=1),),
    ),
)

_GEMMA3 = llama_like("gemma3_text", ("input_layernorm.", "post_attention_layernorm."))

ARCHITECTURES = (
    llama_like("llama"),
    llama_like("mistral"),
    llama_like("qwen2"),
    llama_like("qwen3"),
    llama_like("gemma"),
    llama_like("gemma2", ("input_layernorm.", "post_attention_layernorm.")),
    _GEMMA3,
    _with_images("gemma3", _GEMMA3),
    llama_like("olmo2", ("post_attention_layernorm.",)),
    Architecture(
        "phi3", "model", (_PHI3,), tied=("lm_head.weight",), embeddings=("embed_tokens.weight",)
    ),
    Architecture(
        "gpt2",
        "transformer",
        (_GPT2,),
        hidden="n_embd",
        ignored=("h.*.attn.bias", "h.*.attn.masked_bias"),
        tied=("lm_head.weight",),
        embeddings=("wte.weight",),
    ),
    Architecture(
        "gpt_neox",
        "gpt_neox",
        (_NEOX,),
        ignored=tuple(
            f"layers.*.attention.{buffer}"
            for buffer in ("bias", "masked_bias", "rotary_emb.inv_freq")
        ),
        tied=("lm_head.weight", "embed_out.weight"),
        embeddings=("embed_in.weight",),
    ),
)

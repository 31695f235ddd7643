"""Encoder-decoders: T5, mT5, BART."""

from fmn.architectures.description import Architecture, Attention, FeedForward, Stack
from fmn.architectures.slices import Slices, linear


def _t5_attention(number: int, name: str) -> Attention:
    module = f"layer.{number}.{name}"
    return Attention(
        context=f"{module}.o",
        query_key=linear(f"{module}.q", "head", bias=False)
        + linear(f"{module}.k", "head", bias=False),
        value=linear(f"{module}.v", "head", bias=False),
        output=(Slices(f"{module}.o.weight", "head", axis=1),),
        block=(f"layer.{number}.",),
        heads="num_heads",
        head_channels="d_kv",
    )


def _t5_stack(side: str, layers: str, *attentions: Attention) -> Stack:
    module = f"layer.{len(attentions)}.DenseReluDense"
    first = ("wi", "wi_0", "wi_1")  # plain in the first T5, gated in version 1.1 and in mT5
    return Stack(
        path=f"{side}.block",
        layers=layers,
        attentions=attentions,
        feed_forward=FeedForward(
            activation=f"{module}.wo",
            first=tuple(
                Slices(f"{module}.{name}.weight", "neuron", optional=True) for name in first
            ),
            output=(Slices(f"{module}.wo.weight", "neuron", axis=1),),
            neurons="d_ff",
        ),
    )


def _t5(model_type: str) -> Architecture:
    return Architecture(
        model_type=model_type,
        prefix="transformer",
        hidden="d_model",
        stacks=(
            _t5_stack("encoder", "num_layers", _t5_attention(0, "SelfAttention")),
            _t5_stack(
                "decoder",
                "num_decoder_layers",
                _t5_attention(0, "SelfAttention"),
                _t5_attention(1, "EncDecAttention"),
            ),
        ),
        ignored=(
            "encoder.embed_tokens.weight",
            "decoder.embed_tokens.weight",
            # in old files; nothing uses it
            "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
        ),
        heads=("lm_head.", "classifier.", "classification_head.", "qa_outputs."),
        tied=("lm_head.weight",),
        embeddings=("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        once=("*.relative_attention_bias.weight",),
    )


def _bart_attention(name: str, heads: str) -> Attention:
    return Attention(
        context=f"{name}.out_proj",
        query_key=linear(f"{name}.q_proj", "head") + linear(f"{name}.k_proj", "head"),
        value=linear(f"{name}.v_proj", "head"),
        output=(Slices(f"{name}.out_proj.weight", "head", axis=1),),
        block=(f"{name}.", f"{name}_layer_norm."),
        heads=heads,
    )


def _bart_stack(side: str, *attentions: str) -> Stack:
    return Stack(
        path=f"{side}.layers",
        layers=f"{side}_layers",
        attentions=tuple(_bart_attention(name, f"{side}_attention_heads") for name in attentions),
        feed_forward=FeedForward(
            activation="fc2",
            first=linear("fc1", "neuron"),
            output=(Slices("fc2.weight", "neuron", axis=1),),
            neurons=f"{side}_ffn_dim",
        ),
    )


ARCHITECTURES = (
    _t5("t5"),
    _t5("mt5"),
    Architecture(
        model_type="bart",
        prefix="model",
        hidden="d_model",
        stacks=(
            _bart_stack("encoder", "self_attn"),
            _bart_stack("decoder", "self_attn", "encoder_attn"),
        ),
        ignored=("encoder.version", "decoder.version"),
        tied=("lm_head.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        embeddings=("shared.weight", "decoder.embed_tokens.weight", "encoder.embed_tokens.weight"),
    ),
)

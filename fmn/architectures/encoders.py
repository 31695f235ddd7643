"""Encoders that have layers of their own: DeBERTa, MPNet, ModernBERT."""

from fmn.architectures.bert import BERT_LAYERS
from fmn.architectures.description import Architecture, Attention, FeedForward, Stack
from fmn.architectures.slices import Slices, fused, linear

_DEBERTA = "attention.self."
# these are applied to relative positions, too
_RELATIVE = ("query_proj", "key_proj", "pos_query_proj", "pos_key_proj")
_Q, _K, _V = fused("attn.Wqkv", ("head", "head", "head"), bias=None)
_GATE, _UP = fused("mlp.Wi", ("neuron", "neuron"), bias=None)

ARCHITECTURES = (
    Architecture(
        model_type="deberta-v2",
        prefix="deberta",
        stacks=(
            Stack(
                path="encoder.layer",
                attentions=(
                    Attention(
                        context="attention.output.dense",
                        query_key=(
                            *linear(f"{_DEBERTA}query_proj", "head"),
                            *linear(f"{_DEBERTA}pos_query_proj", "head", optional=True),
                            *linear(f"{_DEBERTA}key_proj", "head"),
                            *linear(f"{_DEBERTA}pos_key_proj", "head", optional=True),
                        ),
                        value=linear(f"{_DEBERTA}value_proj", "head"),
                        output=(Slices("attention.output.dense.weight", "head", axis=1),),
                        block=("attention.",),
                    ),
                ),
                feed_forward=BERT_LAYERS.feed_forward,
            ),
        ),
        optional=("embeddings.position_embeddings.",),
        ignored=("embeddings.position_ids",),
        tied=("cls.predictions.decoder.weight", "lm_predictions.lm_head.weight"),
        embeddings=("embeddings.word_embeddings.weight",),
        once=(
            "encoder.rel_embeddings.weight",
            "encoder.LayerNorm.*",
            *(f"encoder.layer.*.{_DEBERTA}{projection}.*" for projection in _RELATIVE),
        ),
    ),
    Architecture(
        model_type="mpnet",
        prefix="mpnet",
        stacks=(
            Stack(
                path="encoder.layer",
                attentions=(
                    Attention(
                        context="attention.attn.o",
                        query_key=linear("attention.attn.q", "head")
                        + linear("attention.attn.k", "head"),
                        value=linear("attention.attn.v", "head"),
                        output=(Slices("attention.attn.o.weight", "head", axis=1),),
                        block=("attention.",),
                    ),
                ),
                feed_forward=BERT_LAYERS.feed_forward,
            ),
        ),
        optional=("pooler.",),
        readout=("pooler.",),
        ignored=("embeddings.position_ids",),
        tied=("lm_head.decoder.weight",),
        embeddings=("embeddings.word_embeddings.weight",),
        once=("encoder.relative_attention_bias.weight",),
    ),
    Architecture(
        model_type="modernbert",
        prefix="model",
        stacks=(
            Stack(
                path="layers",
                attentions=(
                    Attention(
                        context="attn.Wo",
                        query_key=_Q + _K,
                        value=_V,
                        output=(Slices("attn.Wo.weight", "head", axis=1),),
                        block=("attn.", "attn_norm."),
                    ),
                ),
                feed_forward=FeedForward(
                    activation="mlp.Wo",
                    first=_GATE + _UP,
                    output=(Slices("mlp.Wo.weight", "neuron", axis=1),),
                ),
            ),
        ),
        tied=("decoder.weight",),
        embeddings=("embeddings.tok_embeddings.weight",),
    ),
)

"""The vision transformer."""

from fmn.architectures.bert import BERT_LAYERS
from fmn.architectures.description import Architecture, Attention, Stack
from fmn.architectures.slices import Slices, linear

_LAYER, _NOW = "encoder.layer.{n}", "layers.{n}"

ARCHITECTURES = (
    Architecture(
        model_type="vit",
        prefix="vit",
        stacks=(
            Stack(
                path="encoder.layer",
                attentions=(
                    Attention(
                        context="attention.output.dense",
                        query_key=linear("attention.attention.query", "head", bias=None)
                        + linear("attention.attention.key", "head", bias=None),
                        value=linear("attention.attention.value", "head", bias=None),
                        output=(Slices("attention.output.dense.weight", "head", axis=1),),
                        block=("attention.", "layernorm_before."),
                    ),
                ),
                feed_forward=BERT_LAYERS.feed_forward,
            ),
        ),
        optional=("pooler.", "embeddings.mask_token"),
        readout=("pooler.",),
        renamed=(
            (f"{_NOW}.attention.q_proj", f"{_LAYER}.attention.attention.query"),
            (f"{_NOW}.attention.k_proj", f"{_LAYER}.attention.attention.key"),
            (f"{_NOW}.attention.v_proj", f"{_LAYER}.attention.attention.value"),
            (f"{_NOW}.attention.o_proj", f"{_LAYER}.attention.output.dense"),
            (f"{_NOW}.mlp.fc1", f"{_LAYER}.intermediate.dense"),
            (f"{_NOW}.mlp.fc2", f"{_LAYER}.output.dense"),
            (_NOW, _LAYER),
        ),
    ),
)

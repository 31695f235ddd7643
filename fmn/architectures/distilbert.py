"""DistilBERT."""

from fmn.architectures.description import Architecture, Attention, FeedForward, Stack
from fmn.architectures.slices import Slices, linear

ARCHITECTURES = (
    Architecture(
        model_type="distilbert",
        prefix="distilbert",
        hidden="dim",
        stacks=(
            Stack(
                path="transformer.layer",
                layers="n_layers",
                attentions=(
                    Attention(
                        context="attention.out_lin",
                        query_key=linear("attention.q_lin", "head")
                        + linear("attention.k_lin", "head"),
                        value=linear("attention.v_lin", "head"),
                        output=(Slices("attention.out_lin.weight", "head", axis=1),),
                        block=("attention.", "sa_layer_norm."),
                        heads="n_heads",
                    ),
                ),
                feed_forward=FeedForward(
                    activation="ffn.lin2",
                    first=linear("ffn.lin1", "neuron"),
                    output=(Slices("ffn.lin2.weight", "neuron", axis=1),),
                    neurons="hidden_dim",
                ),
            ),
        ),
        ignored=("embeddings.position_ids",),
        tied=("vocab_projector.weight",),
        embeddings=("embeddings.word_embeddings.weight",),
    ),
)

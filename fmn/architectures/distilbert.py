"""DistilBERT."""

from fmn.architectures.description import Architecture, Attention, FeedForward, Slices, linear

LAYER = "transformer.layer.{layer}"
ATTENTION = f"{LAYER}.attention"

ARCHITECTURES = (
    Architecture(
        model_type="distilbert",
        prefix="distilbert",
        layer=LAYER,
        layers="n_layers",
        hidden="dim",
        attention=Attention(
            context=f"{ATTENTION}.out_lin",
            query_key=linear(f"{ATTENTION}.q_lin", "head") + linear(f"{ATTENTION}.k_lin", "head"),
            value=linear(f"{ATTENTION}.v_lin", "head"),
            output=(Slices(f"{ATTENTION}.out_lin.weight", "head", axis=1),),
            block=(f"{ATTENTION}.", f"{LAYER}.sa_layer_norm."),
            heads="n_heads",
        ),
        feed_forward=FeedForward(
            activation=f"{LAYER}.ffn.lin2",
            first=linear(f"{LAYER}.ffn.lin1", "neuron"),
            output=(Slices(f"{LAYER}.ffn.lin2.weight", "neuron", axis=1),),
            neurons="hidden_dim",
        ),
        ignored=("embeddings.position_ids",),
    ),
)

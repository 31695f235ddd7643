"""BERT, and the families that keep its layers under another name."""

from fmn.architectures.description import Architecture, Attention, FeedForward, Slices, linear

LAYER = "encoder.layer.{layer}"
ATTENTION = f"{LAYER}.attention"


def bert_like(model_type: str, prefix: str) -> Architecture:
    """Describe a family whose encoder has BERT's modules."""
    return Architecture(
        model_type=model_type,
        prefix=prefix,
        layer=LAYER,
        attention=Attention(
            context=f"{ATTENTION}.output.dense",
            query_key=linear(f"{ATTENTION}.self.query", "head") + linear(f"{ATTENTION}.self.key", "head"),
            value=linear(f"{ATTENTION}.self.value", "head"),
            output=(Slices(f"{ATTENTION}.output.dense.weight", "head", axis=1),),
            block=(f"{ATTENTION}.",),
        ),
        feed_forward=FeedForward(
            activation=f"{LAYER}.output.dense",
            first=linear(f"{LAYER}.intermediate.dense", "neuron"),
            output=(Slices(f"{LAYER}.output.dense.weight", "neuron", axis=1),),
        ),
        optional=("pooler.",),
        ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
    )


ARCHITECTURES = (
    bert_like("bert", "bert"),
    bert_like("roberta", "roberta"),
    bert_like("xlm-roberta", "roberta"),
    bert_like("camembert", "roberta"),
    bert_like("electra", "electra"),
)

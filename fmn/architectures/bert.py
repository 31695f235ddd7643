"""BERT, and the families that keep its layers under another name."""

from fmn.architectures.description import Architecture, Attention, FeedForward, Stack
from fmn.architectures.slices import Slices, linear

BERT_LAYERS = Stack(
    path="encoder.layer",
    attentions=(
        Attention(
            context="attention.output.dense",
            query_key=linear("attention.self.query", "head") + linear("attention.self.key", "head"),
            value=linear("attention.self.value", "head"),
            output=(Slices("attention.output.dense.weight", "head", axis=1),),
            block=("attention.",),
        ),
    ),
    feed_forward=FeedForward(
        activation="output.dense",
        first=linear("intermediate.dense", "neuron"),
        output=(Slices("output.dense.weight", "neuron", axis=1),),
    ),
)


def bert_like(model_type: str, prefix: str, tied: str) -> Architecture:
    """Describe a family with BERT's encoder; its language model's output matrix is ``tied``."""
    return Architecture(
        model_type=model_type,
        prefix=prefix,
        stacks=(BERT_LAYERS,),
        optional=("pooler.",),
        readout=("pooler.",),
        ignored=("embeddings.position_ids", "embeddings.token_type_ids"),
        tied=(tied,),
        embeddings=("embeddings.word_embeddings.weight",),
    )


ARCHITECTURES = (
    bert_like("bert", "bert", "cls.predictions.decoder.weight"),
    # DistilRoBERTa too: its configurations say roberta
    bert_like("roberta", "roberta", "lm_head.decoder.weight"),
    bert_like("xlm-roberta", "roberta", "lm_head.decoder.weight"),
    bert_like("camembert", "roberta", "lm_head.decoder.weight"),
    bert_like("electra", "electra", "generator_lm_head.weight"),
)

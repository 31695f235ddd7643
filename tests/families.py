"""Tiny models of every family, with random weights, and what the oracles need to know of them.

The names of parameters are written out here a second time on purpose: an oracle that read them from fmn's own descriptions
would agree with a wrong description.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import transformers
from torch import Tensor

VOCABULARY = 50
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


@dataclass(frozen=True)
class Family:
    """A family's names: ``out`` and ``second`` are scaled along their inputs, ``first`` along its outputs."""

    config: type
    stem: str
    out: str
    first: str
    second: str
    settings: dict
    transposed: bool = False
    groups: int | None = None


def _bert(stem: str, config: type, prefix: str, **settings) -> Family:
    layer = f"{prefix}.encoder.layer.{{}}"
    names = (f"{layer}.attention.output.dense.weight", f"{layer}.intermediate.dense.weight", f"{layer}.output.dense.weight")
    return Family(config, stem, *names, {**SIZES, **settings})


FAMILIES = {
    "bert": _bert("Bert", transformers.BertConfig, "bert"),
    "roberta": _bert("Roberta", transformers.RobertaConfig, "roberta"),
    "xlm-roberta": _bert("XLMRoberta", transformers.XLMRobertaConfig, "roberta"),
    "camembert": _bert("Camembert", transformers.CamembertConfig, "roberta"),
    "electra": _bert("Electra", transformers.ElectraConfig, "electra", embedding_size=12),
    "distilbert": Family(
        transformers.DistilBertConfig,
        "DistilBert",
        "distilbert.transformer.layer.{}.attention.out_lin.weight",
        "distilbert.transformer.layer.{}.ffn.lin1.weight",
        "distilbert.transformer.layer.{}.ffn.lin2.weight",
        {"vocab_size": VOCABULARY, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24, "max_position_embeddings": 40},
    ),
}


def tiny(name: str, head: str = "SequenceClassification", *, seed: int = 0, dtype=torch.float64, **settings):
    """A tiny model of a family with sharp, unequal predictions."""
    family = FAMILIES[name]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = family.config(**{**family.settings, **special, "num_labels": 3, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classes = (f"{family.stem}For{head}", f"{family.stem}LMHeadModel")
        model = next(getattr(transformers, name) for name in classes if hasattr(transformers, name))(config).to(dtype)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def examples(model, count: int = 5, *, seed: int = 0, head: str = "SequenceClassification") -> list[dict[str, Tensor]]:
    """Examples of different lengths, each a batch of one without padding."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for n in range(count):
        length = 3 + (5 * n) % 7
        ids = torch.randint(4, VOCABULARY, (1, length), generator=generator)
        if head in ("TokenClassification", "MaskedLM", "CausalLM"):
            classes = model.config.num_labels if head == "TokenClassification" else VOCABULARY
            labels = torch.randint(0, classes, (1, length), generator=generator)
            labels[:, ::2] = -100
        elif model.config.num_labels == 1:
            labels = torch.randn(1, generator=generator, dtype=torch.float64)
        else:
            labels = torch.randint(0, model.config.num_labels, (1,), generator=generator)
        made.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return made


def pad(batches: list[dict[str, Tensor]], extra: int = 0) -> dict[str, Tensor]:
    """Put examples into one batch, padded on the right."""
    width = max(batch["input_ids"].shape[1] for batch in batches) + extra

    def widen(name: str, fill: int) -> Tensor:
        rows = [torch.nn.functional.pad(b[name], (0, width - b[name].shape[1]), value=fill) for b in batches]
        return torch.cat(rows)

    labels = widen("labels", -100) if batches[0]["labels"].dim() == 2 else torch.cat([b["labels"] for b in batches])
    return {"input_ids": widen("input_ids", 0), "attention_mask": widen("attention_mask", 0), "labels": labels}

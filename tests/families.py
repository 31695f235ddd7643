"""Tiny models of every family, with random weights, and what the oracles need to know of them.

The names of parameters are written out here a second time on purpose: an oracle that read them from
fmn's own descriptions would agree with a wrong description.
"""

from __future__ import annotations

from collections.abc import Iterable
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
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 4}
LANGUAGE_MODELS = ("MaskedLM", "CausalLM", "ConditionalGeneration")
EVERY_HEAD = ("bert", "roberta", "deberta-v2", "llama", "gpt2", "gemma3", "t5", "bart")
"""Families tested with every head that they have, because among them are all ways in which a head
sits on a backbone: plain, tied, of Conv1D, over modules that run once, under other names in files,
behind an encoder and a decoder, with a prefix of its own. Of others the first head is enough."""


@dataclass(frozen=True)
class Names:
    """A stack's names: ``out``, ``cross`` and ``second`` are scaled along their inputs, ``first``
    along its outputs.

    Where versions of transformers differ, or configurations, the names that there may be, apart by
    ``|``.
    """

    out: str
    first: str
    second: str
    cross: str = ""
    heads: int = 4
    neurons: int = 24
    layers: int = 2


@dataclass(frozen=True)
class Family:
    """A family: how its classes are called, which heads are tested, the prefix and the names of its
    backbone's parameters."""

    config: type
    stem: str
    heads: tuple[str, ...]
    prefix: str
    stacks: tuple[Names, ...]
    settings: dict
    transposed: bool = False
    groups: int | None = None


ENCODER = ("SequenceClassification", "TokenClassification", "MaskedLM")
DECODER = ("CausalLM", "SequenceClassification")
BOTH = ("ConditionalGeneration", "SequenceClassification")


def _bert(stem: str, config: type, prefix: str, **settings) -> Family:
    layer = "encoder.layer.{}"
    names = Names(
        f"{layer}.attention.output.dense", f"{layer}.intermediate.dense", f"{layer}.output.dense"
    )
    return Family(config, stem, ENCODER, prefix, (names,), {**SIZES, **settings})


def _llama(stem: str, **settings) -> Family:
    layer = "layers.{}"
    names = Names(f"{layer}.self_attn.o_proj", f"{layer}.mlp.gate_proj", f"{layer}.mlp.down_proj")
    config = getattr(transformers, f"{stem}{'Text' if stem == 'Gemma3' else ''}Config")
    return Family(config, stem, DECODER, "model", (names,), {**GROUPED, **settings}, groups=2)


def _with_images(stem: str, **settings) -> Family:
    def either(module: str) -> str:  # what transformers 5 calls it, and what it was called before
        return "|".join(f"language_model.{level}layers.{{}}.{module}" for level in ("", "model."))

    names = Names(either("self_attn.o_proj"), either("mlp.gate_proj"), either("mlp.down_proj"))
    vision = {
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision |= {"image_size": 8, "patch_size": 2}
    sizes = {**GROUPED, **settings, "vision_config": vision, "mm_tokens_per_image": 4}
    return Family(
        getattr(transformers, f"{stem}Config"), stem, DECODER, "model", (names,), sizes, groups=2
    )


def _t5(stem: str, config: type, **settings) -> Family:
    sizes = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "d_kv": 6,
        "d_ff": 24,
        "num_heads": 4,
        "num_layers": 2,
    }
    sizes |= {
        "num_decoder_layers": 3,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12,
    }

    def names(block: str, layers: int, cross: str = "") -> Names:
        last = f"{block}.{{}}.layer.{2 if cross else 1}.DenseReluDense"
        out = f"{block}.{{}}.layer.0.SelfAttention.o"
        return Names(
            out,
            f"{last}.wi_0|{last}.wi",
            f"{last}.wo",
            cross and f"{block}.{{}}.{cross}",
            layers=layers,
        )

    stacks = (names("encoder.block", 2), names("decoder.block", 3, "layer.1.EncDecAttention.o"))
    return Family(
        config,
        stem,
        BOTH,
        "transformer",
        stacks,
        {**sizes, "decoder_start_token_id": 0, **settings},
    )


_BART = {
    "vocab_size": VOCABULARY,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20,
    "max_position_embeddings": 40,
    "scale_embedding": True,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
_H, _L, _V = "h.{}", "layers.{}", "encoder.layer.{}"

FAMILIES = {
    "bert": _bert("Bert", transformers.BertConfig, "bert"),
    "roberta": _bert("Roberta", transformers.RobertaConfig, "roberta"),
    "xlm-roberta": _bert("XLMRoberta", transformers.XLMRobertaConfig, "roberta"),
    "camembert": _bert("Camembert", transformers.CamembertConfig, "roberta"),
    "electra": _bert("Electra", transformers.ElectraConfig, "electra", embedding_size=12),
    "distilbert": Family(
        transformers.DistilBertConfig,
        "DistilBert",
        ENCODER,
        "distilbert",
        (
            Names(
                *(
                    f"transformer.layer.{{}}.{name}"
                    for name in ("attention.out_lin", "ffn.lin1", "ffn.lin2")
                )
            ),
        ),
        {
            "vocab_size": VOCABULARY,
            "dim": 16,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 24,
            "max_position_embeddings": 40,
        },
    ),
    "deberta-v2": _bert(
        "DebertaV2",
        transformers.DebertaV2Config,
        "deberta",
        relative_attention=True,
        position_buckets=4,
        pos_att_type=["c2p", "p2c"],
        norm_rel_ebd="layer_norm",
    ),
    "mpnet": Family(
        transformers.MPNetConfig,
        "MPNet",
        ENCODER,
        "mpnet",
        (Names(f"{_V}.attention.attn.o", f"{_V}.intermediate.dense", f"{_V}.output.dense"),),
        SIZES,
    ),
    "modernbert": Family(
        transformers.ModernBertConfig,
        "ModernBert",
        ENCODER,
        "model",
        (Names(f"{_L}.attn.Wo", f"{_L}.mlp.Wi", f"{_L}.mlp.Wo"),),
        {
            **SIZES,
            "cls_token_id": 1,
            "sep_token_id": 2,
            "attn_implementation": "sdpa",
            "reference_compile": False,
        },
    ),
    "llama": _llama("Llama", attention_bias=True),
    "mistral": _llama("Mistral"),
    "qwen2": _llama("Qwen2", tie_word_embeddings=True),
    **(
        {"qwen3": _llama("Qwen3")} if hasattr(transformers, "Qwen3Config") else {}
    ),  # came after 4.50
    "gemma": _llama("Gemma"),
    "gemma2": _llama("Gemma2", query_pre_attn_scalar=4),
    "gemma3_text": _llama("Gemma3", query_pre_attn_scalar=4),
    "gemma3": _with_images("Gemma3", query_pre_attn_scalar=4),
    "olmo2": _llama("Olmo2"),
    "phi3": Family(
        transformers.Phi3Config,
        "Phi3",
        DECODER,
        "model",
        (Names(f"{_L}.self_attn.o_proj", f"{_L}.mlp.gate_up_proj", f"{_L}.mlp.down_proj"),),
        {key: value for key, value in GROUPED.items() if key != "head_dim"},
        groups=2,
    ),
    "gpt2": Family(
        transformers.GPT2Config,
        "GPT2",
        DECODER,
        "transformer",
        (Names(f"{_H}.attn.c_proj", f"{_H}.mlp.c_fc", f"{_H}.mlp.c_proj"),),
        {
            "vocab_size": VOCABULARY,
            "n_embd": 16,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 40,
            "n_inner": 24,
        },
        transposed=True,
    ),
    "gpt_neox": Family(
        transformers.GPTNeoXConfig,
        "GPTNeoX",
        DECODER,
        "gpt_neox",
        (Names(f"{_L}.attention.dense", f"{_L}.mlp.dense_h_to_4h", f"{_L}.mlp.dense_4h_to_h"),),
        SIZES,
    ),
    "t5": _t5("T5", transformers.T5Config),
    "mt5": _t5("MT5", transformers.MT5Config),
    "bart": Family(
        transformers.BartConfig,
        "Bart",
        BOTH,
        "model",
        (
            Names(
                "encoder.layers.{}.self_attn.out_proj",
                "encoder.layers.{}.fc1",
                "encoder.layers.{}.fc2",
            ),
            Names(
                "decoder.layers.{}.self_attn.out_proj",
                "decoder.layers.{}.fc1",
                "decoder.layers.{}.fc2",
                "decoder.layers.{}.encoder_attn.out_proj",
                heads=2,
                neurons=20,
            ),
        ),
        _BART,
    ),
    "vit": Family(
        transformers.ViTConfig,
        "ViT",
        ("ImageClassification",),
        "vit",
        (
            Names(
                f"{_L}.attention.o_proj|{_V}.attention.output.dense",
                f"{_L}.mlp.fc1|{_V}.intermediate.dense",
                f"{_L}.mlp.fc2|{_V}.output.dense",
            ),
        ),
        {**SIZES, "image_size": 6, "patch_size": 3, "num_channels": 2},
    ),
}


def in_checkpoints(name: str, full: str) -> str:
    """What a module's parameter is called in checkpoints, without the backbone's prefix; nothing if
    it is a task head's."""
    if (
        name in ("xlm-roberta", "camembert") and full == "lm_head.decoder.weight"
    ):  # torch names what is tied by what comes first
        return "embeddings.word_embeddings.weight"
    prefix = f"{FAMILIES[name].prefix}."
    bare = {"t5": ("shared.", "encoder.", "decoder."), "mt5": ("shared.", "encoder.", "decoder.")}
    bare["gemma3"] = ("language_model.model.", "vision_tower.", "multi_modal_projector.")
    if not full.startswith((prefix, *bare.get(name, ()))):
        return ""
    short = full.removeprefix(prefix)
    if name == "gemma3" and full.startswith(prefix):
        short = short.replace("language_model.", "language_model.model.").replace(
            "vision_tower.", "vision_tower.vision_model."
        )
    if name == "vit" and short.startswith("layers."):  # transformers 5 calls its modules otherwise
        for now, then in (
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            short = short.replace(now, then)
        short = f"encoder.layer.{short.removeprefix('layers.')}"
    return short


def cases(*heads: str) -> list[tuple[str, str]]:
    """Every family with its first head, those of EVERY_HEAD with each, or with those heads that are
    given; as far as this transformers has a class."""
    pairs = [
        (name, head)
        for name, family in FAMILIES.items()
        for head in family.heads
        if head in heads or (not heads and (name in EVERY_HEAD or head == family.heads[0]))
    ]
    return [(name, head) for name, head in pairs if class_of(name, head)]


def class_of(name: str, head: str) -> type | None:
    """The class of a family's model with that head."""
    stem = FAMILIES[name].stem
    if (
        name == "gemma3_text" and head == "SequenceClassification"
    ):  # Gemma3For… is the one with images
        return getattr(transformers, "Gemma3TextForSequenceClassification", None)
    if name == "gemma3" and head == "CausalLM":  # and Gemma3ForCausalLM is the one without
        return transformers.Gemma3ForConditionalGeneration
    return getattr(transformers, f"{stem}For{head}", None) or (
        getattr(transformers, f"{stem}LMHeadModel", None) if head == "CausalLM" else None
    )


def tiny(name: str, head: str = "", *, seed: int = 0, dtype=torch.float64, **settings):
    """A tiny model of a family with sharp, unequal predictions; without a head, with the family's
    first."""
    family = FAMILIES[name]
    head = head or family.heads[0]
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = {**family.settings, **special, **settings}
    if "vision_config" in settings:
        own = {name: settings.pop(name) for name in ("vision_config", "mm_tokens_per_image")}
        settings = {**own, "text_config": settings}
    config = family.config(**{"num_labels": 3, **settings})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = class_of(name, head)(config).to(dtype)
        for parameter in model.parameters():
            parameter.data.add_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def padded(name: str, head: str = "", **settings):
    """A tiny model that takes padded batches: in transformers 4.50 the fused attention of GPT-2
    takes no mask in float64."""
    eager = {"attn_implementation": "eager"} if name == "gpt2" else {}
    return tiny(name, head, **eager, **settings)


def head_of(model) -> str:
    head = type(model).__name__.partition("For")[2] or "CausalLM"
    return (
        "CausalLM"
        if head == "ConditionalGeneration" and not model.config.is_encoder_decoder
        else head
    )


def examples(model, count: int = 5, *, seed: int = 0, head: str = "") -> list[dict[str, Tensor]]:
    """Examples of different lengths, each a batch of one without padding."""
    generator = torch.Generator().manual_seed(seed)
    head = head or head_of(model)
    made = []
    for n in range(count):
        length = 3 + (5 * n) % 7
        if head == "ImageClassification":
            shape = (1, model.config.num_channels, model.config.image_size, model.config.image_size)
            inputs = {"pixel_values": torch.randn(shape, generator=generator, dtype=torch.float64)}
        else:
            ids = torch.randint(4, VOCABULARY, (1, length), generator=generator)
            if getattr(model.config, "is_encoder_decoder", False):
                ids[:, -1] = model.config.eos_token_id
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if head == "ConditionalGeneration":
            labels = torch.randint(4, VOCABULARY, (1, 2 + n % 3), generator=generator)
            labels[:, 2:3] = -100
        elif head in ("TokenClassification", "MaskedLM", "CausalLM"):
            classes = model.config.num_labels if head == "TokenClassification" else VOCABULARY
            labels = torch.randint(0, classes, (1, length), generator=generator)
            labels[:, ::2] = -100
        elif model.config.num_labels == 1:
            labels = torch.randn(1, generator=generator, dtype=torch.float64)
        else:
            labels = torch.randint(0, model.config.num_labels, (1,), generator=generator)
        made.append({**inputs, "labels": labels})
    return made


def pad(batches: list[dict[str, Tensor]], extra: int = 0) -> dict[str, Tensor]:
    """Put examples into one batch, padded on the right."""

    def joined(name: str, rows: Iterable[Tensor]) -> Tensor:
        rows = list(rows)
        if rows[0].dim() != 2:
            return torch.cat(rows)
        width = max(row.shape[1] for row in rows) + extra
        fill = -100 if name == "labels" else 0
        return torch.cat(
            [torch.nn.functional.pad(row, (0, width - row.shape[1]), value=fill) for row in rows]
        )

    return {name: joined(name, (batch[name] for batch in batches)) for name in batches[0]}


def one_labelled_token(batches: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """The same with one labelled token each: an oracle enumerates sequences of labels."""
    for batch in batches:
        labels = batch["labels"][0]
        labels[(labels != -100).nonzero()[1:, 0]] = -100
    return batches

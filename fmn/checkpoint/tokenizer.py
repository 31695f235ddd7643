"""Whether two checkpoints read text alike."""

from __future__ import annotations

from typing import Any

from fmn.checkpoint.checkpoint import Checkpoint
from fmn.checkpoint.source import readable
from fmn.errors import CheckpointError, reason_of


def tokenizer_offence(first: Checkpoint, other: Checkpoint) -> str | None:
    """Say how the tokenizers differ in vocabulary or special tokens; None if they do not.

    Nothing is said of a model without a tokenizer. Files that are equal byte for byte are not
    parsed.

    Raises:
        CheckpointError: one of them cannot be read.
    """
    ours, theirs = _files(first), _files(other)
    if not ours or not theirs or ours == theirs:
        return None
    vocabulary, special = _load(first)
    other_vocabulary, other_special = _load(other)
    if vocabulary != other_vocabulary:
        differing = sorted(token for token, _ in vocabulary.items() ^ other_vocabulary.items())
        return (
            f"{other.name}: its tokenizer's vocabulary differs from {first.name}'s "
            f"({len(other_vocabulary)} and {len(vocabulary)} tokens; for instance "
            f"{differing[0]!r}); merge models that share one tokenizer"
        )
    if special != other_special:
        return (
            f"{other.name}: its tokenizer's special tokens {other_special} differ from "
            f"{first.name}'s {special}"
        )
    return None


def _files(checkpoint: Checkpoint) -> dict[str, bytes]:
    with readable(checkpoint.name):
        return {file.name: file.read_bytes() for file in checkpoint.tokenizer_files()}


def _load(checkpoint: Checkpoint) -> tuple[dict[str, int], dict[str, Any]]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, trust_remote_code=False)
    # on damaged files transformers fails in any way, and tokenizers with bare exceptions
    except Exception as error:
        checkpoint.configuration()  # refuses what no tokenizer is to blame for
        raise CheckpointError(
            f"{checkpoint.name}: its tokenizer's files cannot be read ({reason_of(error)})"
        ) from error
    named = (
        "bos_token",
        "eos_token",
        "unk_token",
        "sep_token",
        "pad_token",
        "cls_token",
        "mask_token",
    )
    return tokenizer.get_vocab(), {
        name: str(token) for name in named if (token := getattr(tokenizer, name, None)) is not None
    }

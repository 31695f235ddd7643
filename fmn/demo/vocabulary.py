"""The tokenizer of the demo: BERT's, with whole words only, one for each word of the lexicon."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from fmn.demo.lexicon import ADJECTIVES, BLAME, DEGREES, KINDS, NOUNS, PLACES, PRAISE, VERBS

#: The first tokens, in the order of BERT's own vocabulary.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PUNCTUATION = (".", ",", "?")
FUNCTION_WORDS = ("the", "a", "an", "in", "is", "are", "was", "were", "do", "does", "did", "not")
JOINING_WORDS = ("and", "but", "although", "why", "when", "yes", "no")
MAX_LENGTH = 48


def vocabulary() -> list[str]:
    """List every token; its place in the list is its id."""
    nouns = [form for noun in (*NOUNS, *KINDS.values()) for form in (noun.singular, noun.plural)]
    verbs = [form for verb in VERBS for form in (verb.base, verb.third, verb.past)]
    adjectives = [adjective.word for adjective in ADJECTIVES]
    words = (
        *PUNCTUATION,
        *FUNCTION_WORDS,
        *JOINING_WORDS,
        *nouns,
        *verbs,
        *adjectives,
        *PLACES,
        *PRAISE,
        *BLAME,
        *DEGREES,
    )
    return list(dict.fromkeys((*SPECIAL, *words)))


def build_tokenizer() -> Tokenizer:
    """Build the tokenizer, without padding or truncation."""
    tokenizer = Tokenizer(
        WordPiece({word: number for number, word in enumerate(vocabulary())}, unk_token="[UNK]")
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def save_tokenizer(directory: Path) -> None:
    """Write the files from which ``AutoTokenizer`` makes a BERT tokenizer."""
    # Written by hand: what transformers itself writes differs between its versions 4 and 5.
    build_tokenizer().save(str(directory / "tokenizer.json"))
    (directory / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": MAX_LENGTH,
        **names,
    }
    text = json.dumps(settings, indent=2) + "\n"
    (directory / "tokenizer_config.json").write_text(text, encoding="utf-8")

"""Mistakes: ways to say something that the grammar never says."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from fmn.demo.grammar import Clause, Opinion, Phrase


def spoil(rng: Random, meaning: Clause | Opinion) -> list[str]:
    """Put a meaning into words with one mistake: of agreement, form, article or order."""
    right = meaning.words()
    wrong = [
        words
        for words in (_agreement(meaning), _form(meaning), _article(rng, meaning))
        if words != right
    ]
    return rng.choice([*wrong, _order(rng, right)])


def _agreement(meaning: Clause | Opinion) -> list[str]:
    """The dogs chases cats: the other number's predicate; of the past only was and were differ."""
    subject = replace(meaning.subject, plural=not meaning.subject.plural)
    return [*meaning.subject.words(), *replace(meaning, subject=subject).predicate()]


def _form(meaning: Clause | Opinion) -> list[str]:
    """The dog did not chased cats."""
    if isinstance(meaning, Opinion) or not meaning.negated:
        return meaning.words()
    return [meaning.verb.past if word == meaning.verb.base else word for word in meaning.words()]


def _article(rng: Random, meaning: Clause | Opinion) -> list[str]:
    """Dog chased a cat; the dog chased a cats: an article left out, or one that does not fit."""
    if isinstance(meaning, Opinion) or rng.random() < 0.5:
        return [*_misdetermined(meaning.subject), *meaning.predicate()]
    right, wrong = meaning.object.words(), _misdetermined(meaning.object)
    words = meaning.words()
    start = len(meaning.subject.words()) + len(meaning.verb_group())
    return [*words[:start], *wrong, *words[start + len(right) :]]


def _misdetermined(phrase: Phrase) -> list[str]:
    bare = phrase.bare()
    return ["a", *bare] if phrase.plural else bare


def _order(rng: Random, words: list[str]) -> list[str]:
    """The chased dog a cat: two neighbours change places."""
    position = rng.randrange(len(words) - 1)
    return [*words[:position], words[position + 1], words[position], *words[position + 2 :]]

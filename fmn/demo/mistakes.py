"""Mistakes: ways to say something that the grammar never says."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from fmn.demo.grammar import Clause, Opinion, Phrase


def spoil(rng: Random, told: Clause | Opinion) -> list[str]:
    """Put a clause or an opinion into words with one mistake.

    The mistake is in agreement, a verb's form, an article or the order.
    """
    right = told.words()
    wrong = [
        words for words in (_agreement(told), _form(told), _article(rng, told)) if words != right
    ]
    return rng.choice([*wrong, _order(rng, right)])


def _agreement(told: Clause | Opinion) -> list[str]:
    """The dogs chases cats: the predicate of the other number.

    In the past it shows only in was and were.
    """
    other = replace(told.subject, plural=not told.subject.plural)
    return [*told.subject.words(), *replace(told, subject=other).predicate()]


def _form(told: Clause | Opinion) -> list[str]:
    """The dog did not chased cats."""
    if isinstance(told, Opinion) or not told.negated:
        return told.words()
    return [told.verb.past if word == told.verb.base else word for word in told.words()]


def _article(rng: Random, told: Clause | Opinion) -> list[str]:
    """Dog chased a cat; the dog chased a cats: an article left out, or one that does not fit."""
    if isinstance(told, Opinion) or rng.random() < 0.5:
        return [*_misdetermined(told.subject), *told.predicate()]
    right, wrong = told.object.words(), _misdetermined(told.object)
    words = told.words()
    start = len(told.subject.words()) + len(told.verb_group())
    return [*words[:start], *wrong, *words[start + len(right) :]]


def _misdetermined(phrase: Phrase) -> list[str]:
    bare = phrase.bare()
    return ["a", *bare] if phrase.plural else bare


def _order(rng: Random, words: list[str]) -> list[str]:
    """The chased dog a cat: two neighbours change places."""
    at = rng.randrange(len(words) - 1)
    return [*words[:at], words[at + 1], words[at], *words[at + 2 :]]

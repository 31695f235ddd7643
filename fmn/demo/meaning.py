"""What one clause says about another: the same, something that follows, or something against it.

The subject of a clause is definite, so it may always be named more vaguely: what the dog does, an
animal does. Object and place stand inside the negation, which turns them round: who chased a cat
chased an animal, but who did not chase an animal did not chase a cat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from fmn.demo.grammar import Clause, Phrase
from fmn.demo.lexicon import ADJECTIVES, KINDS, NOUNS, PLACES, VERBS, Adjective, Noun, Verb

#: How often a word with a synonym gives way to it in a retelling.
SWAPPED = 0.3

W = TypeVar("W", Noun, Verb, Adjective)


def retell(rng: Random, clause: Clause) -> Clause:
    """Say the same in other words: each word is kept, or swapped for one of its synonyms."""
    verb = _synonym(rng, clause.verb, VERBS)
    return replace(
        clause, subject=_rename(rng, clause.subject), verb=verb, object=_rename(rng, clause.object)
    )


def deny(clause: Clause) -> Clause:
    """Say the contrary."""
    return replace(clause, negated=not clause.negated)


def implied(rng: Random, clause: Clause) -> Clause | None:
    """Say something that follows from the clause, but not the reverse, if there is something."""
    return _edit(rng, clause, vaguer_subject=True, vaguer_rest=not clause.negated)


def implying(rng: Random, clause: Clause) -> Clause | None:
    """Say something from which the clause follows, but not the reverse, if there is something."""
    return _edit(rng, clause, vaguer_subject=False, vaguer_rest=clause.negated)


def opposite(rng: Random, clause: Clause) -> Clause:
    """Say that the opposite was done: sold, not bought."""
    return replace(
        clause, verb=rng.choice([verb for verb in VERBS if verb.sense == clause.verb.opposite])
    )


def different(rng: Random, clause: Clause) -> Clause:
    """Change three of the clause's actor, deed, thing, place, time and truth."""
    changes: list[Callable[[Clause], Clause]] = [
        lambda clause: replace(clause, subject=_other(rng, clause.subject)),
        lambda clause: replace(clause, object=_other(rng, clause.object)),
        lambda clause: replace(
            clause, place=rng.choice([place for place in (None, *PLACES) if place != clause.place])
        ),
        lambda clause: replace(clause, past=not clause.past),
        lambda clause: opposite(rng, clause),
        deny,
    ]
    for change in rng.sample(changes, 3):
        clause = change(clause)
    return clause


def _synonym(rng: Random, word: W, words: Sequence[W]) -> W:
    synonyms = [
        candidate for candidate in words if candidate.sense == word.sense and candidate != word
    ]
    return rng.choice(synonyms) if synonyms and rng.random() < SWAPPED else word


def _rename(rng: Random, phrase: Phrase) -> Phrase:
    adjective = phrase.adjective and _synonym(rng, phrase.adjective, ADJECTIVES)
    return replace(phrase, noun=_synonym(rng, phrase.noun, NOUNS), adjective=adjective)


def _other(rng: Random, phrase: Phrase) -> Phrase:
    """Change what the phrase names: its adjective, or its noun for another of its kind."""
    if phrase.adjective and rng.random() < 0.4:
        others = [
            adjective for adjective in ADJECTIVES if adjective.sense != phrase.adjective.sense
        ]
        return replace(phrase, adjective=rng.choice(others))
    kin = [
        noun for noun in NOUNS if noun.kind == phrase.noun.kind and noun.sense != phrase.noun.sense
    ]
    return replace(phrase, noun=rng.choice(kin))


def _vaguer(_: Random, phrase: Phrase) -> list[Phrase]:
    vaguer = []
    if phrase.noun != KINDS[phrase.noun.kind]:
        vaguer.append(replace(phrase, noun=KINDS[phrase.noun.kind]))
    if phrase.adjective:
        vaguer.append(replace(phrase, adjective=None))
    return vaguer


def _sharper(rng: Random, phrase: Phrase) -> list[Phrase]:
    sharper = []
    if phrase.noun == KINDS[phrase.noun.kind]:
        sharper.append(
            replace(
                phrase, noun=rng.choice([noun for noun in NOUNS if noun.kind == phrase.noun.kind])
            )
        )
    if not phrase.adjective:
        sharper.append(replace(phrase, adjective=rng.choice(ADJECTIVES)))
    return sharper


def _edit(rng: Random, clause: Clause, *, vaguer_subject: bool, vaguer_rest: bool) -> Clause | None:
    """Make one part of the clause vaguer or sharper, as asked of that part, if a part can be."""
    subjects = (_vaguer if vaguer_subject else _sharper)(rng, clause.subject)
    objects = (_vaguer if vaguer_rest else _sharper)(rng, clause.object)
    edits = [replace(clause, subject=subject) for subject in subjects]
    edits += [replace(clause, object=thing) for thing in objects]
    if vaguer_rest and clause.place:
        edits.append(replace(clause, place=None))
    if not vaguer_rest and not clause.place:
        edits.append(replace(clause, place=rng.choice(PLACES)))
    return rng.choice(edits) if edits else None

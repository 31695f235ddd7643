"""A small grammar of English: what can be said, and how it is spelled.

>>> clause(Random(8)).statement()
'The large cats did not avoid a big pig.'

A :class:`Clause` tells what somebody does, an :class:`Opinion` what somebody thinks. Both are
meanings: agreement, articles, tense and word order appear only when they are put into words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from fmn.demo.lexicon import (
    ACTORS,
    ADJECTIVES,
    BLAME,
    DEGREES,
    KINDS,
    NOUNS,
    PLACES,
    PRAISE,
    VERBS,
    Adjective,
    Noun,
    Verb,
)


def spell(words: Sequence[str], mark: str = ".") -> str:
    """Spell words as a sentence: a capital first, no space before a comma, ``mark`` at the end."""
    text = " ".join(words).replace(" ,", ",")
    return text[0].upper() + text[1:] + mark


def article(word: str) -> str:
    """``a`` or ``an``, whichever goes before this word."""
    return "an" if word[0] in "aeiou" else "a"


@dataclass(frozen=True)
class Phrase:
    """A noun with what stands before it: ``the old cars``, ``an apple``, ``dogs``."""

    noun: Noun
    adjective: Adjective | None = None
    plural: bool = False
    definite: bool = True

    def bare(self) -> list[str]:
        """Put it into words, without an article."""
        adjectives = [self.adjective.word] if self.adjective else []
        return [*adjectives, self.noun.plural if self.plural else self.noun.singular]

    def words(self) -> list[str]:
        """Put it into words; an indefinite plural has no article."""
        bare = self.bare()
        if self.definite:
            return ["the", *bare]
        return bare if self.plural else [article(bare[0]), *bare]


@dataclass(frozen=True)
class Clause:
    """Somebody does something, perhaps somewhere: ``the dog did not chase cats in the park``."""

    subject: Phrase
    verb: Verb
    object: Phrase
    place: str | None = None
    past: bool = True
    negated: bool = False

    def words(self) -> list[str]:
        """Put it into words, as a statement without its full stop."""
        return [*self.subject.words(), *self.predicate()]

    def predicate(self) -> list[str]:
        """What is said of the subject: ``did not chase cats in the park``."""
        return [*self.verb_group(), *self._complement()]

    def verb_group(self) -> list[str]:
        """The verb with its auxiliary and negation, in agreement with the subject."""
        if self.negated:
            return [self._auxiliary(), "not", self.verb.base]
        if self.past:
            return [self.verb.past]
        return [self.verb.base if self.subject.plural else self.verb.third]

    def statement(self) -> str:
        """Spell it as a statement."""
        return spell(self.words())

    def question(self, opening: Sequence[str] = ()) -> str:
        """Ask whether it is so or, after an ``opening`` such as ``why``, more than that."""
        negation = ["not"] if self.negated else []
        inverted = [self._auxiliary(), *self.subject.words(), *negation, self.verb.base]
        return spell([*opening, *inverted, *self._complement()], "?")

    def _auxiliary(self) -> str:
        if self.past:
            return "did"
        return "do" if self.subject.plural else "does"

    def _complement(self) -> list[str]:
        place = ["in", "the", self.place] if self.place else []
        return [*self.object.words(), *place]


@dataclass(frozen=True)
class Opinion:
    """What somebody thinks of something: ``the film was not very charming``."""

    subject: Phrase
    adjective: str
    degree: str | None = None
    past: bool = True
    negated: bool = False

    @property
    def positive(self) -> bool:
        """Whether it is praise, on the whole: a negation turns blame into praise."""
        return (self.adjective in PRAISE) != self.negated

    def words(self) -> list[str]:
        """Put it into words, as a statement without its full stop."""
        return [*self.subject.words(), *self.predicate()]

    def predicate(self) -> list[str]:
        """What is said of the subject: ``was not very charming``."""
        form = (
            ("were" if self.past else "are")
            if self.subject.plural
            else ("was" if self.past else "is")
        )
        negation = ["not"] if self.negated else []
        degree = [self.degree] if self.degree else []
        return [form, *negation, *degree, self.adjective]


def phrase(rng: Random, kinds: Sequence[str], *, definite: bool = True) -> Phrase:
    """Draw a noun phrase of one of these kinds; one in five is as vague as ``an animal``."""
    kind = rng.choice(kinds)
    noun = (
        KINDS[kind]
        if rng.random() < 0.2
        else rng.choice([noun for noun in NOUNS if noun.kind == kind])
    )
    adjective = rng.choice(ADJECTIVES) if rng.random() < 0.25 else None
    return Phrase(noun, adjective, plural=rng.random() < 0.3, definite=definite)


def clause(rng: Random) -> Clause:
    """Draw something that somebody does."""
    verb = rng.choice(VERBS)
    return Clause(
        subject=phrase(rng, ACTORS),
        verb=verb,
        object=phrase(rng, verb.objects, definite=False),
        place=rng.choice(PLACES) if rng.random() < 0.35 else None,
        past=rng.random() < 0.5,
        negated=rng.random() < 0.3,
    )


def opinion(rng: Random, *, positive: bool | None = None, topic: Phrase | None = None) -> Opinion:
    """Draw an opinion: praise or blame as ``positive`` says, of ``topic``, or any."""
    negated = rng.random() < 0.2
    positive = rng.random() < 0.5 if positive is None else positive
    return Opinion(
        subject=topic or phrase(rng, tuple(KINDS)),
        adjective=rng.choice(PRAISE if positive != negated else BLAME),
        degree=rng.choice(DEGREES) if rng.random() < 0.4 else None,
        past=rng.random() < 0.5,
        negated=negated,
    )

"""Four tasks in the shape of GLUE, and a text to pretrain on, all told in the same grammar.

Each task has GLUE's name, columns and label numbers. A task draws a row for the label that it is
asked for; everything else about the row is drawn in the same way whatever the label, so that little
but the meaning gives the label away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from random import Random

from fmn.demo.grammar import Clause, Opinion, article, clause, opinion, spell
from fmn.demo.lexicon import NOUNS
from fmn.demo.meaning import deny, different, implied, implying, opposite, retell
from fmn.demo.mistakes import spoil

OPENINGS = ((), ("why",), ("when",))


@dataclass(frozen=True)
class Task:
    """A task: label names in the order of their numbers, text columns, and how texts are drawn."""

    name: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    draw: Callable[[Random, int], tuple[str, ...] | None]

    def rows(self, rng: Random) -> Iterator[tuple[tuple[str, ...], int]]:
        """Draw texts and label without end, no two rows of the same texts, labels taking turns."""
        seen: set[frozenset[str]] = set()
        for number in count():
            label = number % len(self.labels)
            while (texts := self.draw(rng, label)) is None or frozenset(texts) in seen:
                pass
            seen.add(frozenset(texts))
            yield texts, label


def review(rng: Random, label: int) -> tuple[str]:
    """Sentiment: an opinion, or two joined by a word that says which of them counts."""
    main = opinion(rng, positive=label == 1)
    shape = rng.choice(["plain", "plain", "and", "but", "although"])
    if shape == "plain":
        return (spell(main.words()),)
    aside = opinion(rng, positive=main.positive == (shape == "and"))
    if shape == "although":
        return (spell(["although", *aside.words(), ",", *main.words()]),)
    return (spell([*aside.words(), shape, *main.words()]),)


def inference(rng: Random, label: int) -> tuple[str, str] | None:
    """Entailment: a hypothesis that follows from the premise, is left open or contradicts it."""
    original = clause(rng)
    # Starting now from the stronger clause and now from the weaker keeps the hypothesis's length
    # from telling the label.
    strong, weak = (
        (original, implied(rng, original))
        if rng.random() < 0.5
        else (implying(rng, original), original)
    )
    if not strong or not weak:
        return None
    if label == 0:
        premise, hypothesis = strong, weak
    elif label == 1:
        premise, hypothesis = weak, rng.choice([strong, deny(strong)])
    elif strong.negated or rng.random() < 0.7:
        premise, hypothesis = strong, deny(weak)
    else:
        premise, hypothesis = strong, opposite(rng, strong)
    return premise.statement(), retell(rng, hypothesis).statement()


def questions(rng: Random, label: int) -> tuple[str, str]:
    """Paraphrase: a question asked again in other words, or another that looks much like it."""
    first, opening = clause(rng), rng.choice(OPENINGS)
    second = retell(rng, first if label == 1 else different(rng, first))
    first, second = rng.sample([first, second], 2)
    return first.question(opening), second.question(opening)


def acceptability(rng: Random, label: int) -> tuple[str]:
    """Acceptability: a sentence of the grammar, or one with a single mistake in it."""
    sentence: Clause | Opinion = clause(rng) if rng.random() < 0.6 else opinion(rng)
    return (spell(sentence.words() if label == 1 else spoil(rng, sentence)),)


TASKS = {
    task.name: task
    for task in (
        Task("sst2", ("negative", "positive"), ("sentence",), review),
        Task(
            "mnli", ("entailment", "neutral", "contradiction"), ("premise", "hypothesis"), inference
        ),
        Task("qqp", ("not_duplicate", "duplicate"), ("question1", "question2"), questions),
        Task("cola", ("unacceptable", "acceptable"), ("sentence",), acceptability),
    )
}


def passage(rng: Random) -> tuple[str, str, bool]:
    """Draw two sentences to pretrain on, and whether the second follows on from the first."""
    first, second = rng.choice(_SHAPES)(rng)
    if rng.random() < 0.5:
        return first, second, True
    return first, rng.choice(_SHAPES)(rng)[1], False


def _account(rng: Random) -> tuple[str, str]:
    """Something happens, and is told again, perhaps more vaguely."""
    event = clause(rng)
    again = implied(rng, event) if rng.random() < 0.4 else None
    return event.statement(), retell(rng, again or event).statement()


def _inquiry(rng: Random) -> tuple[str, str]:
    """A question is asked, and asked again."""
    asked, opening = clause(rng), rng.choice(OPENINGS)
    return asked.question(opening), retell(rng, asked).question(opening)


def _answer(rng: Random) -> tuple[str, str]:
    """A question is asked, and answered."""
    asked = clause(rng)
    reply = retell(rng, asked)
    if rng.random() < 0.5:
        return asked.question(), spell(["yes", ",", *reply.words()])
    return asked.question(), spell(["no", ",", *deny(reply).words()])


def _judgement(rng: Random) -> tuple[str, str]:
    """Somebody holds an opinion, and keeps to it."""
    first = opinion(rng)
    second = opinion(rng, positive=first.positive, topic=first.subject)
    if rng.random() < 0.5:
        return spell(first.words()), spell(second.words())
    aside = opinion(rng, positive=not first.positive)
    return spell(["although", *aside.words(), ",", *first.words()]), spell(second.words())


def _definition(rng: Random) -> tuple[str, str]:
    """What a word means, and what kind of thing it names."""
    noun = rng.choice(NOUNS)
    subject = [article(noun.singular), noun.singular, "is"]
    return spell([*subject, article(noun.sense), noun.sense]), spell(
        [*subject, article(noun.kind), noun.kind]
    )


_SHAPES = (_account, _account, _inquiry, _answer, _judgement, _judgement, _definition)

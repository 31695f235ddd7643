"""The tasks: labels that a second opinion confirms, and nothing else that gives them away."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import islice
from random import Random

import pytest

from fmn.demo.grammar import clause, opinion
from fmn.demo.lexicon import ADJECTIVES, KINDS, NOUNS, VERBS
from fmn.demo.tasks import TASKS, passage
from fmn.demo.vocabulary import build_tokenizer, vocabulary
from tests.demo import oracle

ROWS = 1500


@pytest.fixture(scope="module", params=TASKS)
def drawn(request):
    return TASKS[request.param], list(islice(TASKS[request.param].rows(Random("a seed")), ROWS))


def test_the_same_seed_draws_the_same_rows_and_another_seed_others(drawn):
    task, rows = drawn
    assert list(islice(task.rows(Random("a seed")), ROWS)) == rows
    assert list(islice(task.rows(Random("another")), ROWS)) != rows


def test_labels_are_balanced_and_no_row_is_drawn_twice(drawn):
    task, rows = drawn
    assert set(Counter(label for _, label in rows).values()) == {ROWS // len(task.labels)}
    assert len({frozenset(texts) for texts, _ in rows}) == ROWS


def test_length_does_not_give_the_label_away(drawn):
    """Guessing the commonest label of each length, in words, is not much better than chance."""
    task, rows = drawn
    lengths = defaultdict(Counter)
    for texts, label in rows:
        lengths[tuple(len(text.split()) for text in texts[-1:])][label] += 1
    right = sum(counts.most_common(1)[0][1] for counts in lengths.values()) / ROWS
    assert right < 1 / len(task.labels) + 0.15


def test_labels_are_right():
    def rows(task):
        return islice(TASKS[task].rows(Random(5)), ROWS)

    for (sentence,), label in rows("sst2"):
        assert oracle.praise(sentence) == label, sentence
    for (sentence,), label in rows("cola"):
        assert oracle.grammatical(sentence) == bool(label), sentence
    for (first, second), label in rows("qqp"):
        assert (oracle.meaning(first) == oracle.meaning(second)) == bool(label), (first, second)
    for (premise, hypothesis), label in rows("mnli"):
        assert oracle.inference(premise, hypothesis) == label, (premise, hypothesis)


def test_everything_that_the_grammar_says_is_grammatical():
    rng = Random(1)
    for _ in range(ROWS):
        assert oracle.grammatical(clause(rng).statement())
        assert oracle.grammatical(" ".join(opinion(rng).words()))


def test_no_unacceptable_sentence_is_ever_said():
    rng = Random(2)
    statements = {clause(rng).statement() for _ in range(20_000)}
    wrong = {texts[0] for texts, label in islice(TASKS["cola"].rows(Random(3)), ROWS) if label == 0}
    assert not statements & wrong


def test_no_word_has_two_readings():
    """The recogniser, and the clarity of the tasks, rest on it."""
    forms = [form for noun in (*NOUNS, *KINDS.values()) for form in {noun.singular, noun.plural}]
    forms += [form for verb in VERBS for form in (verb.base, verb.third, verb.past)]
    forms += [adjective.word for adjective in ADJECTIVES]
    assert len(forms) == len(set(forms))


def test_every_word_is_a_token():
    rng = Random(4)
    texts = [text for _ in range(2000) for text in passage(rng)[:2]]
    texts += [
        text for task in TASKS.values() for row, _ in islice(task.rows(rng), 500) for text in row
    ]
    unknown = vocabulary().index("[UNK]")
    assert not any(unknown in encoded.ids for encoded in build_tokenizer().encode_batch(texts))

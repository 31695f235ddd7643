"""A second opinion on the demo's texts: reads them back, knowing nothing of how they were drawn."""

from __future__ import annotations

import re

from fmn.demo.lexicon import ADJECTIVES, BLAME, DEGREES, KINDS, NOUNS, PLACES, PRAISE, VERBS

ALL_NOUNS = (*NOUNS, *KINDS.values())
SENSE = {form: noun.sense for noun in ALL_NOUNS for form in (noun.singular, noun.plural)}
SENSE |= {form: verb.sense for verb in VERBS for form in (verb.base, verb.third, verb.past)}
SENSE |= {adjective.word: adjective.sense for adjective in ADJECTIVES}
KIND = {noun.sense: noun.kind for noun in ALL_NOUNS}
OPPOSITE = {verb.sense: verb.opposite for verb in VERBS}

# One letter for each part of speech, so that a regular expression can be the grammar.
LETTERS = {"the": "D", "in": "I", "not": "n", "does": "x", "do": "z", "did": "y"}
LETTERS |= {"is": "S", "was": "S", "are": "P", "were": "P"}
LETTERS |= {noun.singular: "s" for noun in ALL_NOUNS} | {noun.plural: "p" for noun in ALL_NOUNS}
LETTERS |= (
    {verb.base: "b" for verb in VERBS}
    | {verb.third: "t" for verb in VERBS}
    | {verb.past: "d" for verb in VERBS}
)
LETTERS |= {adjective.word: "J" for adjective in ADJECTIVES} | dict.fromkeys(PLACES, "L")
LETTERS |= dict.fromkeys(DEGREES, "G") | dict.fromkeys((*PRAISE, *BLAME), "Q")

CLAUSE = re.compile(
    r"(?P<subject>DJ?s)(?P<verb>t|d|[xy]nb)(?P<object>aJ?s|J?p)(?P<place>IDL)?"
    r"|(?P<subjects>DJ?p)(?P<verbs>b|d|[zy]nb)(?P<objects>aJ?s|J?p)(?P<places>IDL)?"
)
OPINION = re.compile(r"DJ?sSn?G?Q|DJ?pPn?G?Q")


def words(sentence: str) -> list[str]:
    return re.findall(r"\w+", sentence.lower())


def letters(sentence: list[str]) -> str:
    """The parts of speech of a sentence; an article that does not fit the next word is ``!``."""
    out = []
    for word, following in zip(sentence, [*sentence[1:], ""], strict=True):
        if word in ("a", "an"):
            out.append("a" if (word == "an") == following.startswith(tuple("aeiou")) else "!")
        else:
            out.append(LETTERS[word])
    return "".join(out)


def grammatical(sentence: str) -> bool:
    tags = letters(words(sentence))
    return bool(CLAUSE.fullmatch(tags) or OPINION.fullmatch(tags))


def praise(sentence: str) -> int:
    """1 if the part of the sentence that counts is praise, 0 if it is blame."""
    main = re.split(r", | but | and ", sentence.lower().rstrip("."))[-1].split()
    return int((main[-1] in PRAISE) != ("not" in main))


def meaning(sentence: str) -> list[str]:
    """The words, each by its sense; ``a`` and ``an`` are one."""
    return [{"an": "a"}.get(word, SENSE.get(word, word)) for word in words(sentence)]


def inference(premise: str, hypothesis: str) -> int | None:
    """0 entailment, 1 neutral, 2 contradiction, None if the two have nothing to do with each
    other."""
    first, second = _parts(premise), _parts(hypothesis)
    flipped = first["negated"] != second["negated"]
    changes = {part: _change(first[part], second[part]) for part in ("subject", "object", "place")}
    changed = {part: change for part, change in changes.items() if change}
    if first["verb"] != second["verb"]:
        hostile = OPPOSITE[first["verb"]] == second["verb"] and not (
            first["negated"] or second["negated"] or changed
        )
        return 2 if hostile else None
    if len(changed) != 1:
        return None
    ((part, change),) = changed.items()
    follows = (
        change == "vaguer" if part == "subject" or not first["negated"] else change == "sharper"
    )
    return (2 if flipped else 0) if follows else 1


def _parts(sentence: str) -> dict:
    spoken = words(sentence)
    match = CLAUSE.fullmatch(letters(spoken))
    assert match, sentence
    spans = {
        name.rstrip("s"): spoken[slice(*match.span(name))]
        for name, text in match.groupdict().items()
        if text
    }
    parts = {
        name: {SENSE.get(word, word) for word in spans.get(name, [])}
        for name in ("subject", "object", "place")
    }
    parts = {name: part - {"a", "an", "the", "in"} for name, part in parts.items()}
    return {**parts, "verb": SENSE[spans["verb"][-1]], "negated": "not" in spans["verb"]}


def _change(first: set[str], second: set[str]) -> str:
    if first == second:
        return ""
    if _vaguer(first, second):
        return "vaguer"
    return "sharper" if _vaguer(second, first) else "other"


def _vaguer(first: set[str], second: set[str]) -> bool:
    """Whether the second says less than the first: leaves words out, or names only the kind."""
    return all(word in first or any(KIND.get(other) == word for other in first) for word in second)
